use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;

use parking_lot::Mutex;
use pipe_core::backend::{Accept, Progress};
use pipe_core::{Error, ErrorKind, Incoming, Result};
use tokio::net::{TcpListener, TcpStream};

// ANCHOR: acceptor
/// Accepts sockets, and makes something of each whose peer has sent its first byte.
pub(crate) struct Acceptor<F> {
    listener: Mutex<Option<TcpListener>>,
    make: F,
}

impl<F> Acceptor<F> {
    pub(crate) fn new(listener: TcpListener, make: F) -> Arc<Self> {
        let listener = Mutex::new(Some(listener));
        Arc::new(Self { listener, make })
    }
}

impl<F, M, C> Accept for Acceptor<F>
where
    F: Fn(TcpStream) -> M + Send + Sync + 'static,
    M: Future<Output = Result<C>> + Send + 'static,
    C: Send + 'static,
{
    type Raw = (TcpStream, SocketAddr);
    type Conn = C;

    async fn accept(&self) -> Result<Self::Raw> {
        let closed = || Error::new(ErrorKind::Closed, "the listener is closed");
        poll_fn(|cx| match &*self.listener.lock() {
            Some(listener) => listener.poll_accept(cx).map_err(Error::from),
            None => Poll::Ready(Err(closed())),
        })
        .await
    }

    fn incoming(&self, (_, peer): &Self::Raw) -> Incoming {
        Incoming::from_socket(*peer)
    }

    async fn handshake(self: Arc<Self>, raw: Self::Raw, progress: Progress) -> Result<C> {
        let (socket, _) = raw;
        socket.set_nodelay(true)?;
        let first = async { socket.peek(&mut [0]).await.map(drop) };
        progress.first_byte(first).await?;
        (self.make)(socket).await
    }

    fn close(&self) {
        drop(self.listener.lock().take());
    }
}
// ANCHOR_END: acceptor
