use std::future::Future;
use std::sync::Arc;

use pipe_core::{Addr, Config, Result, Wire};
use pipe_mux::{Mux, MuxBuilder, MuxListener};
use pipe_net::{HostPort, Reception, SharedSocket, SocketOptions, TcpDialer};
use tokio::net::{TcpListener, TcpStream};

use crate::door::{Door, Upgrade};

/// The settings of connections that `tcp://` and `tls://` have in common.
#[derive(Clone, Debug, Default)]
pub(crate) struct Setup {
    pub(crate) config: Config,
    pub(crate) options: SocketOptions,
    pub(crate) reception: Reception,
    pub(crate) dialer: TcpDialer,
}

impl Setup {
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
        to: &HostPort,
        dial: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let limit = self.config.handshake_timeout;
        self.dialer.within(limit, addr, to, dial).await
    }

    /// Accepts connections over a socket.
    pub(crate) fn listener<U: Upgrade>(
        &self,
        socket: TcpListener,
        upgrade: U,
        local: Addr,
    ) -> MuxListener {
        let admission = self.reception.at_accept();
        MuxListener::new(Door::new(socket), upgrade, local, &self.config, admission)
    }
}

/// Binds the first of the host's addresses that can be.
pub(crate) async fn bind(addr: &Addr, on: &HostPort) -> Result<TcpListener> {
    pipe_net::bind(addr, on, TcpListener::bind).await
}
