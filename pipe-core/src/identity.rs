use std::sync::Arc;

use bytes::Bytes;

/// The identity that the peer of a connection has proved.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PeerIdentity {
    /// The peer's certificate chain, each in DER, its own certificate first. The handshake verified
    /// it against the roots of this side.
    Certificates(Arc<[Bytes]>),
    /// Self-signed certificates of the peer, each in DER, its own first: those of DTLS under
    /// WebRTC. The peer holds the key, and the signalling carried its fingerprint. The names in
    /// them are not verified.
    SelfSigned(Arc<[Bytes]>),
    /// The credentials that the kernel vouches for on a Unix socket.
    Unix(UnixCredentials),
}

/// The process on the other end of a Unix socket, as it was when it connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct UnixCredentials {
    /// Process id, where the system reports it.
    pub pid: Option<i32>,
    /// Its effective user id.
    pub uid: u32,
    /// Its effective group id.
    pub gid: u32,
}

impl UnixCredentials {
    /// Creates the credentials of a process.
    pub fn new(pid: Option<i32>, uid: u32, gid: u32) -> Self {
        Self { pid, uid, gid }
    }
}
