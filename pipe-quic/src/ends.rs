use std::net::SocketAddr;

use parking_lot::Mutex;
use pipe_core::Addr;
use pipe_tls::CertPins;

use crate::addr::AddrForm;

/// The addresses of the ends of a connection.
pub(crate) struct Ends {
    pub(crate) form: AddrForm,
    /// The hashes of the listener's certificate, and whether this side is the listener.
    pub(crate) pins: CertPins,
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
        let pins = if self.listens {
            self.pins
        } else {
            CertPins::default()
        };
        self.form.end(SocketAddr::new(ip, port), pins)
    }

    pub(crate) fn remote_addr(&self, conn: &quinn::Connection) -> Addr {
        let pins = if self.listens {
            CertPins::default()
        } else {
            self.pins
        };
        self.form.end(conn.remote_address(), pins)
    }
}
