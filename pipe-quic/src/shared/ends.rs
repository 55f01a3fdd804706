//! Where the ends of a connection are.

use std::net::SocketAddr;

use parking_lot::Mutex;
use pipe_core::Addr;

use super::Shared;
use crate::addr::AddrForm;

/// The addresses of the ends.
pub(crate) struct Ends {
    pub(crate) form: AddrForm,
    /// The hash of the listener's certificate, and whether this side is the listener.
    pub(crate) pin: Option<pipe_tls::CertSha256>,
    pub(crate) listens: bool,
    pub(crate) local: SocketAddr,
    /// As long as the connection lives.
    pub(crate) endpoint: Mutex<Option<quinn::Endpoint>>,
}

impl Shared {
    pub(crate) fn endpoint(&self) -> Option<quinn::Endpoint> {
        self.ends.endpoint.lock().clone()
    }

    /// Lets the endpoint go once the connection is over.
    pub(crate) fn take_endpoint(&self) -> Option<quinn::Endpoint> {
        self.ends.endpoint.lock().take()
    }

    pub(crate) fn local_addr(&self) -> Addr {
        let Ends {
            form,
            pin,
            listens,
            local,
            endpoint,
        } = &self.ends;
        let port = endpoint
            .lock()
            .as_ref()
            .and_then(|endpoint| endpoint.local_addr().ok())
            .map_or_else(|| local.port(), |addr| addr.port());
        let ip = self.quinn.local_ip().unwrap_or_else(|| local.ip());
        form.end(SocketAddr::new(ip, port), pin.filter(|_| *listens))
    }

    pub(crate) fn remote_addr(&self) -> Addr {
        let Ends {
            form, pin, listens, ..
        } = &self.ends;
        form.end(self.quinn.remote_address(), pin.filter(|_| !*listens))
    }
}
