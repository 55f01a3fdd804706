use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};

use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::task::AbortHandle;
use tokio::task::coop::unconstrained;

use super::inbox::{Inbox, Pushed};
use super::table::Table;
use crate::engine::own::outgoing::Batch;
use crate::engine::own::socket::Socket;

/// Number of datagrams after which other tasks run, those of the connections among them.
const MAX_READ: usize = 256;

/// Datagrams of a port that reached no connection.
#[derive(Debug, Default)]
pub(super) struct Drops {
    /// Those that no connection was found for.
    pub(super) strangers: AtomicU64,
    /// Those of connections that did not keep up.
    pub(super) overflowed: AtomicU64,
}

/// A socket of several connections. A task of its own reads it and puts each datagram into the inbox of
/// its connection; sending is up to the connections.
///
/// The socket is closed when this is dropped.
#[derive(Debug)]
pub(in crate::engine::own) struct PortSocket {
    inner: Arc<Inner>,
    reader: AbortHandle,
}

#[derive(Debug)]
struct Inner {
    socket: Socket,
    table: Mutex<Table>,
    drops: Arc<Drops>,
    /// Whether nothing reads it any more, as when its runtime has ended.
    is_over: AtomicBool,
}

impl PortSocket {
    /// Binds a socket, with buffers of this length in bytes or as much as the system grants.
    pub(super) fn bind(addr: SocketAddr, buffer: u32, drops: Arc<Drops>) -> io::Result<Self> {
        let inner = Arc::new(Inner {
            socket: Socket::bind(addr, buffer)?,
            table: Mutex::default(),
            drops,
            is_over: AtomicBool::new(false),
        });
        // It does not keep the socket.
        let reader = Reader(Arc::downgrade(&inner));
        let reader = tokio::spawn(unconstrained(reader.run())).abort_handle();
        Ok(Self { inner, reader })
    }

    pub(in crate::engine::own) fn addr(&self) -> SocketAddr {
        self.inner.socket.addr()
    }

    pub(in crate::engine::own) fn max_segments(&self) -> usize {
        self.inner.socket.max_segments()
    }

    pub(super) fn table(&self) -> &Mutex<Table> {
        &self.inner.table
    }

    pub(super) fn is_over(&self) -> bool {
        self.inner.is_over.load(Ordering::Relaxed)
    }
}

impl Drop for PortSocket {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// The task that reads a socket.
struct Reader(Weak<Inner>);

impl Reader {
    async fn run(self) {
        let mut touched = Vec::new();
        poll_fn(|cx| match self.0.upgrade() {
            Some(inner) => inner.poll_read(cx, &mut touched),
            None => Poll::Ready(()),
        })
        .await;
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some(inner) = self.0.upgrade() {
            inner.is_over.store(true, Ordering::Relaxed);
        }
    }
}

impl Inner {
    /// Reads what has come, and wakes each connection once for each call of the system that has brought it
    /// something.
    fn poll_read(&self, cx: &mut Context<'_>, touched: &mut Vec<Arc<Inbox>>) -> Poll<()> {
        let mut total = 0;
        while total < MAX_READ {
            let mut table = None;
            let received = self.socket.poll_receive(cx, |from, datagram| {
                let table = table.get_or_insert_with(|| self.table.lock());
                self.distribute(table, from, datagram, touched);
            });
            drop(table);
            for inbox in touched.drain(..) {
                inbox.wake();
            }
            match ready!(received) {
                Ok(count) => total += count.max(1),
                // An error that the system reports of an earlier datagram, as of a closed port.
                Err(error) => {
                    tracing::debug!(%error, "reading the socket of a port failed");
                    total += 1;
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn distribute(
        &self,
        table: &Table,
        from: SocketAddr,
        datagram: &[u8],
        touched: &mut Vec<Arc<Inbox>>,
    ) {
        let Some((inbox, socket)) = table.route(from, datagram) else {
            self.drops.strangers.fetch_add(1, Ordering::Relaxed);
            return;
        };
        match inbox.push(socket, from, datagram) {
            Pushed::First => touched.push(inbox.clone()),
            Pushed::Further => {}
            Pushed::Dropped => {
                self.drops.overflowed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// The sending side of a [`PortSocket`] for one connection.
pub(in crate::engine::own) struct PortSender {
    socket: Arc<PortSocket>,
    /// Waits for room in the socket's buffer, which other connections may wait for too.
    blocked: Option<BoxFuture<'static, io::Result<()>>>,
}

impl PortSender {
    pub(in crate::engine::own) fn new(socket: Arc<PortSocket>) -> Self {
        Self {
            socket,
            blocked: None,
        }
    }

    /// Returns how many datagrams one call sends at most.
    pub(in crate::engine::own) fn max_segments(&self) -> usize {
        self.socket.max_segments()
    }

    /// Sends a batch. A datagram that the system refuses is lost.
    pub(in crate::engine::own) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        batch: &Batch,
    ) -> Poll<()> {
        let Self { socket, blocked } = self;
        let mut poll_ready = || {
            let waiting = blocked.get_or_insert_with(|| {
                let inner = socket.inner.clone();
                async move { inner.socket.writable().await }.boxed()
            });
            let ready = ready!(waiting.poll_unpin(cx));
            *blocked = None;
            Poll::Ready(ready)
        };
        socket.inner.socket.poll_send_with(batch, &mut poll_ready)
    }
}
