use std::future::Future;
use std::sync::Arc;

use pipe_core::backend::{Admission, dial_within};
use pipe_core::{Addr, Config, Result, Wire};
use pipe_mux::{Mux, MuxBuilder, MuxListener};
use pipe_net::{HostPort, SharedSocket, connect_error, race, resolve};
use tokio::net::{TcpListener, TcpStream};

use crate::door::{Door, Upgrade};
use crate::socket::SocketOptions;

/// The settings of connections that `tcp://` and `tls://` have in common.
#[derive(Clone, Debug, Default)]
pub(crate) struct Setup {
    pub(crate) config: Config,
    pub(crate) options: SocketOptions,
    pub(crate) admission: Admission,
}

impl Setup {
    /// Connects to the first of the host's addresses that answers.
    pub(crate) async fn connect(&self, addr: &Addr, to: &HostPort) -> Result<TcpStream> {
        let found = resolve(addr, to).await?;
        let attempt = async |socket| {
            let connected = TcpStream::connect(socket).await;
            let context = format_args!("could not connect to {addr}");
            connected.map_err(|error| connect_error(context, error))
        };
        race(&found, attempt).await
    }

    /// Sets a socket up, for the multiplexer and for the application to look at.
    pub(crate) fn share(
        &self,
        socket: TcpStream,
        wire: Wire,
    ) -> Result<(SharedSocket<TcpStream>, MuxBuilder)> {
        self.options.apply(&socket)?;
        let socket = Arc::new(socket);
        let mux = Mux::builder()
            .config(self.config.clone())
            .wire(wire)
            .inner(socket.clone());
        Ok((SharedSocket::new(socket), mux))
    }

    /// Waits for a dial no longer than a handshake may take.
    pub(crate) async fn in_time<T>(
        &self,
        addr: &Addr,
        dial: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        dial_within(addr, self.config.handshake_timeout, dial).await
    }

    /// Accepts connections over a socket.
    pub(crate) fn listener<U: Upgrade>(
        &self,
        socket: TcpListener,
        upgrade: U,
        local: Addr,
    ) -> MuxListener {
        let admission = self.admission.clone();
        MuxListener::new(Door::new(socket), upgrade, local, &self.config, admission)
    }
}

/// Binds the first of the host's addresses that can be.
pub(crate) async fn bind(addr: &Addr, on: &HostPort) -> Result<TcpListener> {
    pipe_net::bind(addr, on, TcpListener::bind).await
}
