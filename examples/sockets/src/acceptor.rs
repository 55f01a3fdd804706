use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;

use parking_lot::Mutex;
use pipe_core::backend::{Accept, Progress};
use pipe_core::{Error, ErrorKind, Incoming, Result};
use tokio::net::{TcpListener, TcpStream};

// ANCHOR: acceptor
/// Accepts sockets for a [`HandshakeQueue`](pipe_core::backend::HandshakeQueue).
pub(crate) struct Acceptor<U> {
    listener: Mutex<Option<TcpListener>>,
    upgrade: U,
}

/// Makes something of a socket whose peer has sent its first byte.
pub(crate) trait Upgrade: Send + Sync + 'static {
    type Conn: Send + 'static;

    fn upgrade(&self, socket: TcpStream) -> impl Future<Output = Result<Self::Conn>> + Send;
}

impl<U> Acceptor<U> {
    pub(crate) fn new(listener: TcpListener, upgrade: U) -> Self {
        let listener = Mutex::new(Some(listener));
        Self { listener, upgrade }
    }
}

impl<U: Upgrade> Accept for Acceptor<U> {
    type Raw = (TcpStream, SocketAddr);
    type Conn = U::Conn;

    async fn accept(&self) -> Result<Self::Raw> {
        poll_fn(|cx| match &*self.listener.lock() {
            Some(listener) => listener.poll_accept(cx).map_err(Error::from),
            None => Poll::Ready(Err(Error::new(ErrorKind::Closed, "the listener is closed"))),
        })
        .await
    }

    fn incoming(&self, (_, peer): &Self::Raw) -> Incoming {
        Incoming::from_socket(*peer)
    }

    async fn handshake(
        self: Arc<Self>,
        (socket, _): Self::Raw,
        progress: Progress,
    ) -> Result<U::Conn> {
        socket.set_nodelay(true)?;
        progress
            .first_byte(async { socket.peek(&mut [0]).await.map(drop) })
            .await?;
        self.upgrade.upgrade(socket).await
    }

    fn close(&self) {
        drop(self.listener.lock().take());
    }
}
// ANCHOR_END: acceptor
