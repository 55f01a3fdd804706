use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use pipe_core::backend::{Accept, Admission, HandshakeQueue, Progress};
use pipe_core::{Addr, Config, Error, ErrorKind, Incoming, Listener, Result};

use crate::conn::MuxConn;

/// Accepts raw connections for a [`MuxListener`], and upgrades each to a [`MuxConn`].
pub trait Acceptor: Send + Sync + 'static {
    /// Raw connection, before the first byte of its handshake.
    type Raw: Send + 'static;
    /// Context for the upgrade of raw connections, shared by all handshakes.
    type Upgrade: Send + Sync + 'static;

    /// Polls for the next raw connection.
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Self::Raw>>;

    /// Returns the data known about the peer of a raw connection.
    fn incoming(raw: &Self::Raw) -> Incoming;

    /// Upgrades a raw connection to a [`MuxConn`]. The upgrade is cancelled after
    /// [`Config::handshake_timeout`], and when a newcomer displaces it; `progress` reports the
    /// messages of the peer.
    fn upgrade(
        upgrade: &Self::Upgrade,
        raw: Self::Raw,
        progress: &Progress,
    ) -> impl Future<Output = Result<MuxConn>> + Send;
}

/// Accepts connections over a socket, with their handshakes side by side and bounded: see
/// [`HandshakeQueue`].
pub struct MuxListener {
    addr: Addr,
    queue: HandshakeQueue<MuxConn>,
}

/// The socket, which closing takes away from the task that accepts.
struct Socket<A: Acceptor> {
    state: Mutex<SocketState<A>>,
    upgrade: A::Upgrade,
}

struct SocketState<A> {
    acceptor: Option<A>,
    waker: Option<Waker>,
}

impl<A: Acceptor> Accept for Socket<A> {
    type Raw = A::Raw;
    type Conn = MuxConn;

    async fn accept(&self) -> Result<A::Raw> {
        poll_fn(|cx| {
            let mut state = self.state.lock();
            let Some(acceptor) = &state.acceptor else {
                let why = "the listener is closed";
                return Poll::Ready(Err(Error::new(ErrorKind::Closed, why)));
            };
            let raw = acceptor.poll_accept(cx);
            if raw.is_pending() {
                state.waker = Some(cx.waker().clone());
            }
            raw.map_err(Error::from)
        })
        .await
    }

    fn incoming(&self, raw: &A::Raw) -> Incoming {
        A::incoming(raw)
    }

    async fn handshake(self: Arc<Self>, raw: A::Raw, progress: Progress) -> Result<MuxConn> {
        A::upgrade(&self.upgrade, raw, &progress).await
    }

    fn close(&self) {
        let mut state = self.state.lock();
        let acceptor = state.acceptor.take();
        let waker = state.waker.take();
        drop(state);
        drop(acceptor);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl MuxListener {
    /// Listens through `acceptor`, and accepts the peers that `admission` admits.
    /// [`local_addr`](Listener::local_addr) returns `addr`.
    pub fn new<A: Acceptor>(
        acceptor: A,
        upgrade: A::Upgrade,
        addr: Addr,
        config: &Config,
        admission: Admission,
    ) -> Self {
        let state = SocketState {
            acceptor: Some(acceptor),
            waker: None,
        };
        let socket = Arc::new(Socket::<A> {
            state: Mutex::new(state),
            upgrade,
        });
        Self {
            queue: HandshakeQueue::spawn(socket, addr.clone(), config, admission),
            addr,
        }
    }
}

impl Listener for MuxListener {
    type Conn = MuxConn;

    async fn accept(&self) -> Result<MuxConn> {
        self.queue.accept().await
    }

    fn local_addr(&self) -> Addr {
        self.addr.clone()
    }

    fn close(&self) {
        self.queue.close();
    }
}

impl fmt::Debug for MuxListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MuxListener")
            .field("addr", &self.addr)
            .finish_non_exhaustive()
    }
}
