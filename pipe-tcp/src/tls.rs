//! `tls://host:port`, with the types for the identity of a side and the certificates that it
//! trusts.

pub use pipe_tls::{CertSha256, Identity, Roots, TlsOptions};

pub use crate::tls_transport::TlsTransport;
pub use crate::{
    HostPort, MuxConn, MuxListener, MuxStream, NoProxy, Proxy, ProxyProtocol, SocketOptions,
    TcpDialer, Wire,
};
