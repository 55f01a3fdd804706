use std::net::SocketAddr;

use bytes::Bytes;

/// A datagram that is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Transmit {
    /// The address of the socket that it goes out of.
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    pub(crate) payload: Bytes,
}
