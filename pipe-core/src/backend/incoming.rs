use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::{Addr, PeerIdentity};

/// A raw connection before its handshake, and the data known about its peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Incoming {
    remote: Option<SocketAddr>,
    identity: Option<PeerIdentity>,
}

impl Incoming {
    /// Creates the description of an unknown peer.
    pub fn unknown() -> Self {
        Self::default()
    }

    /// Creates the description of a peer at this address, in its canonical form (an IPv4 address
    /// mapped into IPv6 is an IPv4 address).
    pub fn from_socket(remote: SocketAddr) -> Self {
        Self {
            remote: Some(SocketAddr::new(remote.ip().to_canonical(), remote.port())),
            identity: None,
        }
    }

    /// Creates the description of a peer with this address, whose host may be an IP address.
    pub fn from_addr(remote: &Addr) -> Self {
        let ip = remote
            .host()
            .and_then(|host| host.trim_matches(['[', ']']).parse::<IpAddr>().ok());
        match (ip, remote.port()) {
            (Some(ip), Some(port)) => Self::from_socket(SocketAddr::new(ip, port)),
            _ => Self::unknown(),
        }
    }

    /// Sets the identity of the peer, where it is known without a handshake.
    #[must_use]
    pub fn with_identity(mut self, identity: Option<PeerIdentity>) -> Self {
        self.identity = identity;
        self
    }

    /// Returns the address that the peer comes from. `None` where there is none, as on a Unix socket.
    pub fn remote(&self) -> Option<SocketAddr> {
        self.remote
    }

    /// Returns the identity of the peer, where it is known without a handshake: the credentials of
    /// a Unix socket.
    pub fn identity(&self) -> Option<&PeerIdentity> {
        self.identity.as_ref()
    }

    pub(super) fn source(&self) -> Source {
        match (self.remote.map(|remote| remote.ip()), &self.identity) {
            (Some(IpAddr::V4(ip)), _) => Source::V4(ip.to_bits()),
            // The smallest network that one user is given (RFC 6177).
            (Some(IpAddr::V6(ip)), _) => Source::V6((ip.to_bits() >> 64) as u64),
            (None, Some(PeerIdentity::Unix(user))) => Source::User(user.uid),
            (None, _) => Source::Unknown,
        }
    }
}

/// Those whose handshakes count together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Source {
    V4(u32),
    /// The first 64 bits of the address.
    V6(u64),
    User(u32),
    Unknown,
}

/// The decision about a raw connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Admit {
    /// Its handshake starts.
    Accept,
    /// Close it before its handshake.
    Refuse,
}

/// Decides before the handshake whether a raw connection is accepted. Accepts all by default.
#[derive(Clone, Default)]
pub struct Admission(Option<Arc<Decide>>);

type Decide = dyn Fn(&Incoming) -> Admit + Send + Sync;

impl Admission {
    /// Decides with a function. It is called by the task that accepts, and must not block.
    pub fn new(decide: impl Fn(&Incoming) -> Admit + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(decide)))
    }

    /// Returns whether this raw connection is accepted.
    pub fn admits(&self, incoming: &Incoming) -> bool {
        match &self.0 {
            Some(decide) => decide(incoming) == Admit::Accept,
            None => true,
        }
    }
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.0.is_some() { "custom" } else { "all" };
        f.debug_tuple("Admission").field(&kind).finish()
    }
}
