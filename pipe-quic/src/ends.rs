use std::net::SocketAddr;

use parking_lot::Mutex;
use pipe_core::Addr;

use crate::addr::AddrForm;

/// The addresses of the ends of a connection.
pub(crate) struct Ends {
    pub(crate) form: AddrForm,
    /// The hash of the listener's certificate, and whether this side is the listener.
    pub(crate) pin: Option<pipe_tls::CertSha256>,
    pub(crate) listens: bool,
    pub(crate) local: SocketAddr,
    /// Endpoint, as long as the connection lives.
    pub(crate) endpoint: Mutex<Option<quinn::Endpoint>>,
}

impl Ends {
    pub(crate) fn local_addr(&self, conn: &quinn::Connection) -> Addr {
        let endpoint = self.endpoint.lock().clone();
        let port = endpoint
            .and_then(|endpoint| endpoint.local_addr().ok())
            .map_or_else(|| self.local.port(), |addr| addr.port());
        let ip = conn.local_ip().unwrap_or_else(|| self.local.ip());
        let pin = self.pin.filter(|_| self.listens);
        self.form.end(SocketAddr::new(ip, port), pin)
    }

    pub(crate) fn remote_addr(&self, conn: &quinn::Connection) -> Addr {
        let pin = self.pin.filter(|_| !self.listens);
        self.form.end(conn.remote_address(), pin)
    }
}
