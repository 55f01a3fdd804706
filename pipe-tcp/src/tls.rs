//! `tls://host:port`, and what it takes to say who a side is and whom it trusts.

pub use pipe_tls::{CertSha256, Identity, Roots, TlsOptions};

pub use crate::tls_transport::TlsTransport;
pub use crate::{MuxConn, MuxListener, MuxStream, SocketOptions, Wire};
