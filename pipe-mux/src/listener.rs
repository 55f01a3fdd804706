use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use pipe_core::{Addr, Backlog, Config, Error, ErrorKind, Listener, Result};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::conn::MuxConn;

/// How long to wait after the system could not accept, as when it is short of file descriptors.
const PAUSE: Duration = Duration::from_millis(50);

/// What a [`MuxListener`] listens on: it takes in raw connections, and each becomes a [`MuxConn`].
pub trait Acceptor: Send + Sync + 'static {
    /// A connection that has said nothing yet.
    type Raw: Send + 'static;
    /// What a raw connection is turned into a [`MuxConn`] with; shared by all handshakes.
    type Upgrade: Send + Sync + 'static;

    /// The next raw connection.
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Self::Raw>>;

    /// Turns a raw connection into one with streams. It is given up after
    /// [`Config::handshake_timeout`].
    fn upgrade(
        upgrade: &Self::Upgrade,
        raw: Self::Raw,
    ) -> impl Future<Output = Result<MuxConn>> + Send;
}

/// Accepts connections over a socket, with their handshakes side by side.
///
/// At most [`Config::max_handshakes`] of them run at once, each within
/// [`Config::handshake_timeout`], and one that fails is logged and forgotten. Up to
/// [`Config::accept_backlog`] connections wait to be accepted; beyond that, peers wait in their dial.
pub struct MuxListener {
    addr: Addr,
    door: Arc<dyn Door>,
    waiting: Arc<Backlog<Waiting>>,
}

struct Waiting {
    conn: MuxConn,
    /// Held until the connection is accepted.
    _place: OwnedSemaphorePermit,
}

/// The socket, which closing takes away from the task that accepts.
struct Guard<A> {
    state: Mutex<GuardState<A>>,
}

struct GuardState<A> {
    acceptor: Option<A>,
    waker: Option<Waker>,
}

trait Door: Send + Sync {
    fn shut(&self);
}

impl<A: Acceptor> Door for Guard<A> {
    fn shut(&self) {
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

impl<A: Acceptor> Guard<A> {
    /// The next raw connection; `None` once the door is shut.
    async fn accept(&self) -> Option<io::Result<A::Raw>> {
        poll_fn(|cx| {
            let mut state = self.state.lock();
            let Some(acceptor) = &state.acceptor else {
                return Poll::Ready(None);
            };
            let raw = acceptor.poll_accept(cx);
            if raw.is_pending() {
                state.waker = Some(cx.waker().clone());
            }
            raw.map(Some)
        })
        .await
    }
}

impl MuxListener {
    /// Listens through `acceptor`. `addr` is what [`local_addr`](Listener::local_addr) tells.
    pub fn new<A: Acceptor>(acceptor: A, upgrade: A::Upgrade, addr: Addr, config: &Config) -> Self {
        let state = GuardState {
            acceptor: Some(acceptor),
            waker: None,
        };
        let door = Arc::new(Guard {
            state: Mutex::new(state),
        });
        let waiting = Arc::new(Backlog::new());
        let work = Work {
            door: door.clone(),
            upgrade: Arc::new(upgrade),
            waiting: waiting.clone(),
            places: Arc::new(Semaphore::new(config.accept_backlog as usize)),
            handshakes: Arc::new(Semaphore::new(config.max_handshakes as usize)),
            limit: config.handshake_timeout,
            addr: addr.clone(),
        };
        tokio::spawn(work.run());
        Self {
            addr,
            door,
            waiting,
        }
    }
}

/// The task that accepts.
struct Work<A: Acceptor> {
    door: Arc<Guard<A>>,
    upgrade: Arc<A::Upgrade>,
    waiting: Arc<Backlog<Waiting>>,
    places: Arc<Semaphore>,
    handshakes: Arc<Semaphore>,
    limit: Duration,
    addr: Addr,
}

impl<A: Acceptor> Work<A> {
    async fn run(self) {
        let mut running = JoinSet::new();
        loop {
            while running.try_join_next().is_some() {}
            let Ok(place) = self.places.clone().acquire_owned().await else {
                break;
            };
            let Ok(turn) = self.handshakes.clone().acquire_owned().await else {
                break;
            };
            match self.door.accept().await {
                None => break,
                Some(Ok(raw)) => {
                    running.spawn(self.handshake(raw, place, turn));
                }
                Some(Err(error)) => {
                    tracing::warn!(addr = %self.addr, %error, "could not accept");
                    sleep(PAUSE).await;
                }
            }
        }
        // Handshakes that are under way end with the listener.
        running.shutdown().await;
    }

    fn handshake(
        &self,
        raw: A::Raw,
        place: OwnedSemaphorePermit,
        turn: OwnedSemaphorePermit,
    ) -> impl Future<Output = ()> + Send + use<A> {
        let (upgrade, waiting) = (self.upgrade.clone(), self.waiting.clone());
        let (limit, addr) = (self.limit, self.addr.clone());
        async move {
            let done = timeout(limit, A::upgrade(&upgrade, raw))
                .await
                .unwrap_or_else(|_| {
                    let why = format!("the handshake was not over within {limit:?}");
                    Err(Error::new(ErrorKind::TimedOut, why))
                });
            drop(turn);
            match done {
                // A queue that is closed drops the connection, which closes it.
                Ok(conn) => drop(waiting.push(Waiting {
                    conn,
                    _place: place,
                })),
                Err(error) => tracing::debug!(%addr, %error, "a handshake failed"),
            }
        }
    }
}

impl Listener for MuxListener {
    type Conn = MuxConn;

    async fn accept(&self) -> Result<MuxConn> {
        match self.waiting.pop().await {
            Some(Waiting { conn, .. }) => Ok(conn),
            None => {
                let why = format!("the listener on {} is closed", self.addr);
                Err(Error::new(ErrorKind::Closed, why))
            }
        }
    }

    fn local_addr(&self) -> Addr {
        self.addr.clone()
    }

    fn close(&self) {
        self.door.shut();
        drop(self.waiting.close());
    }
}

impl Drop for MuxListener {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for MuxListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MuxListener")
            .field("addr", &self.addr)
            .finish_non_exhaustive()
    }
}
