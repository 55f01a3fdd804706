use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use pipe_core::Error;

use super::referral::Referral;

/// Something that has happened to a relay.
#[derive(Clone, Debug)]
pub(crate) enum TurnEvent {
    Allocated(Relayed),
    /// The server does not relay to this address of the peer, and why.
    PeerRefused(IpAddr, Error),
    /// The server gives no relay, and refers to another one. Nothing follows.
    Referred(Referral),
    /// There is no relay, or it is lost. Nothing follows.
    Failed(Error),
    /// The server has ended the allocation, as it was asked to. Nothing follows.
    Closed,
}

/// The addresses of a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Relayed {
    /// The address at which peers reach this side: a relayed candidate.
    pub(crate) addr: SocketAddr,
    /// The address at which the server sees this side, if it has sent one: a server-reflexive candidate, if
    /// the server is reached over UDP.
    pub(crate) mapped: Option<SocketAddr>,
}

/// What a message of the server was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TurnInput {
    /// A packet of a peer: where it is within the message.
    Data {
        peer: SocketAddr,
        range: Range<usize>,
    },
    /// It is dealt with.
    Handled,
    /// It is not one of this relay.
    Unknown,
}
