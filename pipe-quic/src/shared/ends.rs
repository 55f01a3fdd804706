//! Where the ends of a connection are.

use std::net::SocketAddr;

use crate::addr::AddrForm;
use parking_lot::Mutex;

/// The addresses of the ends.
pub(crate) struct Ends {
    pub(crate) form: AddrForm,
    /// The hash of the listener's certificate, and whether this side is the listener.
    pub(crate) pin: Option<pipe_tls::CertSha256>,
    pub(crate) listens: bool,
    pub(crate) local: SocketAddr,
    /// Endpoint, as long as the connection lives.
    pub(crate) endpoint: Mutex<Option<quinn::Endpoint>>,
}
