use std::future::Future;
use std::io;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::task::{Context, Poll};

use pipe_core::backend::Progress;
use pipe_core::{Incoming, Result};
use pipe_mux::{Acceptor, MuxConn};
use tokio::net::{TcpListener, TcpStream};

/// Upgrades accepted sockets; shared by all handshakes of a listener.
pub(crate) trait Upgrade: Send + Sync + 'static {
    /// Makes a connection of a socket with its peer's address.
    fn upgrade(
        &self,
        socket: TcpStream,
        peer: SocketAddr,
        progress: &Progress,
    ) -> impl Future<Output = Result<MuxConn>> + Send;
}

/// A TCP socket that listens, and the upgrade of its connections.
pub(crate) struct Door<U> {
    socket: TcpListener,
    upgrade: PhantomData<fn() -> U>,
}

impl<U> Door<U> {
    pub(crate) fn new(socket: TcpListener) -> Self {
        Self {
            socket,
            upgrade: PhantomData,
        }
    }
}

impl<U: Upgrade> Acceptor for Door<U> {
    type Raw = (TcpStream, SocketAddr);
    type Upgrade = U;

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Self::Raw>> {
        self.socket.poll_accept(cx)
    }

    fn incoming((_, peer): &Self::Raw) -> Incoming {
        Incoming::from_socket(*peer)
    }

    async fn upgrade(
        upgrade: &U,
        (socket, peer): Self::Raw,
        progress: &Progress,
    ) -> Result<MuxConn> {
        upgrade.upgrade(socket, peer, progress).await
    }
}
