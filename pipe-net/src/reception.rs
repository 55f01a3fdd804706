use std::net::SocketAddr;

use pipe_core::backend::{Admission, FIRST_BYTE_TIMEOUT, Progress};
use pipe_core::{Admit, Error, ErrorKind, Incoming, Result};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::proxy_protocol::ProxyProtocol;

/// How a listener over TCP finds out who its peers are, and which of them are admitted.
///
/// Without the PROXY protocol, the queue of handshakes asks the application about the address of the socket. With it, the
/// queue asks whether the socket is a proxy's, and the application is asked about the address in the header, once that has
/// come. Until then the connection counts as one of the proxy's, among those whose peers have sent nothing, and then as one
/// of the client's.
#[derive(Clone, Debug, Default)]
pub struct Reception {
    admission: Admission,
    proxies: Option<ProxyProtocol>,
}

impl Reception {
    /// Sets what decides which peers are admitted.
    #[must_use]
    pub fn with_admission(mut self, admission: Admission) -> Self {
        self.admission = admission;
        self
    }

    /// Requires the PROXY protocol.
    #[must_use]
    pub fn with_proxy_protocol(mut self, from: ProxyProtocol) -> Self {
        self.proxies = Some(from);
        self
    }

    /// Returns what decides which peers are admitted.
    pub fn admission(&self) -> &Admission {
        &self.admission
    }

    /// Returns what the queue of handshakes asks about a raw connection.
    pub fn at_accept(&self) -> Admission {
        let Some(proxies) = self.proxies.clone() else {
            return self.admission.clone();
        };
        Admission::new(move |incoming| match incoming.remote() {
            Some(remote) if proxies.is_from(remote.ip()) => Admit::Accept,
            _ => Admit::Refuse,
        })
    }

    /// Returns the address of the peer of a raw connection, whose socket is at `peer`, and takes the header of the PROXY
    /// protocol off the socket, if there is one. Before anything else is read.
    ///
    /// # Errors
    ///
    /// [`Handshake`](ErrorKind::Handshake) for a peer that sends no header,
    /// [`TimedOut`](ErrorKind::TimedOut) where it has not come within [`FIRST_BYTE_TIMEOUT`],
    /// [`Refused`](ErrorKind::Refused) for a client that is not admitted, and [`Io`](ErrorKind::Io).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses what has come of the header.
    pub async fn peer(
        &self,
        socket: &mut TcpStream,
        peer: SocketAddr,
        progress: &Progress,
    ) -> Result<SocketAddr> {
        let Some(proxies) = &self.proxies else {
            return Ok(peer);
        };
        let client = timeout(FIRST_BYTE_TIMEOUT, proxies.client(socket, peer)).await;
        let client = client.unwrap_or_else(|_| {
            let why = format!("refused {peer}: no PROXY header came within {FIRST_BYTE_TIMEOUT:?}");
            Err(Error::new(ErrorKind::TimedOut, why))
        })?;
        let incoming = Incoming::from_socket(client);
        if !self.admission.admits(&incoming) {
            let why = format!("refused {client}, which came by {peer}: it is not admitted");
            return Err(Error::new(ErrorKind::Refused, why));
        }
        progress.comes_from(&incoming);
        Ok(client)
    }
}
