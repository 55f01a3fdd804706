use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinSet, consume_budget};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::accept::{Accept, MAX_SILENT};
use super::accept_queue::AcceptQueue;
use super::handshakes::{Displaced, Handshakes};
use super::incoming::Admission;
use super::progress::{Progress, Running, Stage, Tables, UnderWay};
use super::turns::{Attention, Turns};
use crate::{Addr, Config, Conn, Error, ErrorKind, Listener, Result};

/// Pause after a failed accept, as when the process is short of file descriptors.
const PAUSE: Duration = Duration::from_millis(50);

/// Accepts connections, with their handshakes side by side.
///
/// # Limits
///
/// - At most [`Config::max_handshakes`] handshakes run at once, each within [`Config::handshake_timeout`]. At
///   the limit a newcomer takes the place of one that is under way: of the source that has the most (an
///   address; of IPv6, a network of 64 bits; a user of a Unix socket) the one that has not got on for
///   longest. Each has [a little time](Accept::GRACE) in any case, in which this side itself was not held up;
///   where none has had it, the newcomer waits. Of those that wait, the next is one of the source that has the
///   fewest under way, the newest and the oldest by turns; where no newcomer waits, only a handshake that has
///   not got on for a second makes room.
/// - A handshake begins with the first byte of its peer. Up to [`MAX_SILENT`] raw connections wait for that,
///   each for [`FIRST_BYTE_TIMEOUT`](super::FIRST_BYTE_TIMEOUT); beyond, the oldest of the source that has the most goes. So silent peers
///   neither keep others out nor hold them up.
/// - Up to [`Config::accept_backlog`] connections wait to be accepted. While that many wait, no raw
///   connection is taken in, so that peers wait in their dial. Handshakes that are under way then still
///   finish: nothing is lost, and [`Config::max_handshakes`] more may wait.
///
/// Handshakes that fail are logged and forgotten. Closing the queue or dropping it ends those that are under
/// way.
///
/// It is a [`Listener`] by itself, where no more is to be said about one.
///
/// A task runs it. If the task's runtime goes away, [`accept`](Self::accept) gives
/// [`Failed`](ErrorKind::Failed).
pub struct HandshakeQueue<C> {
    waiting: Arc<AcceptQueue<C>>,
    close: Box<dyn Fn() + Send + Sync>,
    worker: AbortHandle,
}

impl<C: Send + 'static> HandshakeQueue<C> {
    /// Accepts by `source` until the queue is closed. `addr` is the listener's address, for errors.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn spawn<A: Accept<Conn = C>>(
        source: Arc<A>,
        addr: Addr,
        config: &Config,
        admission: Admission,
    ) -> Self {
        let waiting = Arc::new(AcceptQueue::new(addr, config.accept_backlog));
        let worker = Worker {
            source: source.clone(),
            waiting: waiting.clone(),
            under_way: Arc::new(UnderWay {
                tables: Mutex::new(Tables {
                    silent: Handshakes::new(),
                    begun: Handshakes::new(),
                    next_id: 0,
                    free: config.max_handshakes as usize,
                    ending: 0,
                    turns: Turns::default(),
                    clock: Attention::new(),
                }),
                places: config.max_handshakes as usize,
                grace: A::GRACE,
                changed: Notify::new(),
                backlog: waiting.places(),
            }),
            most: config.max_handshakes as usize + MAX_SILENT,
            limit: config.handshake_timeout,
            admission,
        };
        Self {
            waiting,
            close: Box::new(move || source.close()),
            worker: tokio::spawn(worker.run()).abort_handle(),
        }
    }
}

impl<C> HandshakeQueue<C> {
    /// Waits for the next connection whose handshake is over.
    ///
    /// # Errors
    ///
    /// [`Closed`](ErrorKind::Closed) once the queue is closed; [`Failed`](ErrorKind::Failed) when its task
    /// has gone with its runtime, or the error that the source has ended with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no connection.
    pub async fn accept(&self) -> Result<C> {
        self.waiting.accept().await
    }

    /// Stops to listen, ends the handshakes that are under way, and drops the connections that wait.
    pub fn close(&self) {
        // First, so that the end of the task is no failure.
        self.waiting.close();
        (self.close)();
        self.worker.abort();
    }
}

impl<C: Conn> Listener for HandshakeQueue<C> {
    type Conn = C;

    async fn accept(&self) -> Result<C> {
        self.accept().await
    }

    fn local_addr(&self) -> Addr {
        self.waiting.addr().clone()
    }

    fn close(&self) {
        self.close();
    }
}

impl<C> Drop for HandshakeQueue<C> {
    fn drop(&mut self) {
        self.close();
    }
}

impl<C> fmt::Debug for HandshakeQueue<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandshakeQueue")
            .field("waiting", &self.waiting)
            .finish_non_exhaustive()
    }
}

/// The task that accepts.
struct Worker<A: Accept> {
    source: Arc<A>,
    waiting: Arc<AcceptQueue<A::Conn>>,
    under_way: Arc<UnderWay>,
    most: usize,
    limit: Duration,
    admission: Admission,
}

impl<A: Accept> Worker<A> {
    async fn run(self) {
        // Handshakes that are under way end with the task.
        let mut running = JoinSet::new();
        while self.waiting.has_room().await {
            // Where many come, others have their turns as well.
            consume_budget().await;
            match self.next(&mut running).await {
                Ok(raw) if self.admission.admits(&self.source.incoming(&raw)) => {
                    self.make_room().await;
                    self.start(raw, &mut running);
                    // One that was displaced holds its raw connection until it has ended.
                    while running.len() > self.most && running.join_next().await.is_some() {}
                }
                Ok(raw) => self.source.refuse(raw),
                Err(error) if matches!(error.kind(), ErrorKind::Closed | ErrorKind::Failed) => {
                    self.waiting.fail(error);
                    return;
                }
                Err(error) => {
                    tracing::warn!(addr = %self.waiting.addr(), %error, "accepting a connection failed");
                    // Silent peers may hold the descriptors that are missing.
                    self.displace_silent();
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// Waits for the next raw connection. What is left of tasks that have ended goes meanwhile: it is as large as a
    /// handshake at its largest.
    async fn next(&self, running: &mut JoinSet<()>) -> Result<A::Raw> {
        let mut accepting = pin!(self.source.accept());
        poll_fn(|cx| {
            let accepted = accepting.as_mut().poll(cx);
            while let Poll::Ready(Some(_)) = running.poll_join_next(cx) {}
            accepted
        })
        .await
    }

    /// Lets a silent raw connection go where there are too many for another one.
    async fn make_room(&self) {
        while self.under_way.tables.lock().silent.len() >= MAX_SILENT {
            if let Displaced::Wait(until) = self.displace_silent() {
                let changed = self.under_way.changed.notified();
                match until {
                    None => changed.await,
                    Some(until) => drop(timeout_at(until, changed).await),
                }
            }
        }
    }

    fn displace_silent(&self) -> Displaced<()> {
        let now = Instant::now();
        let displaced = self
            .under_way
            .tables
            .lock()
            .silent
            .displace(now, Duration::ZERO);
        match displaced {
            Displaced::One(handle) => {
                tracing::debug!(addr = %self.waiting.addr(), "a silent connection is dropped for a newer one");
                handle.abort();
                Displaced::One(())
            }
            Displaced::Wait(until) => Displaced::Wait(until),
        }
    }

    fn start(&self, raw: A::Raw, running: &mut JoinSet<()>) {
        let source = self.source.incoming(&raw).source();
        let id = {
            let mut tables = self.under_way.tables.lock();
            let id = tables.next_id;
            tables.next_id += 1;
            tables.silent.insert(id, source);
            id
        };
        let progress = Progress {
            under_way: self.under_way.clone(),
            id,
            source,
            limit: self.limit,
            stage: Arc::new(Mutex::new(Stage::Waiting)),
        };
        let counted = Running {
            progress: progress.clone(),
            first_look: A::FIRST_LOOK,
        };
        let handshake = self.source.clone().handshake(raw, progress);
        let waiting = self.waiting.clone();
        let handle = running.spawn(run(handshake, counted, self.limit, waiting));
        self.under_way.tables.lock().set_handle(id, handle);
    }
}

async fn run<C>(
    handshake: impl Future<Output = Result<C>>,
    running: Running,
    limit: Duration,
    waiting: Arc<AcceptQueue<C>>,
) {
    let mut handshake = pin!(timeout(limit, handshake));
    let made = match timeout(running.first_look, handshake.as_mut()).await {
        Ok(made) => made,
        Err(_) => {
            running.looked();
            handshake.await
        }
    };
    let made = made.unwrap_or_else(|_| {
        let why = format!("the handshake was not over within {limit:?}");
        Err(Error::new(ErrorKind::TimedOut, why))
    });
    drop(running);
    match made {
        // A queue that has ended drops the connection, which closes it.
        Ok(conn) => drop(waiting.push(conn)),
        Err(error) => tracing::debug!(addr = %waiting.addr(), %error, "a handshake failed"),
    }
}

impl<A: Accept> Drop for Worker<A> {
    fn drop(&mut self) {
        let addr = self.waiting.addr();
        let why = format!("the task of the listener on {addr} has stopped");
        self.waiting.fail(Error::new(ErrorKind::Failed, why));
    }
}
