use std::fmt;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinSet, consume_budget};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::accept_queue::{AcceptQueue, Places};
use super::handshakes::{Displaced, Handshakes};
use super::incoming::{Admission, Incoming, Source};
use super::turns::{Attention, STEP, Turns};
use crate::{Addr, Config, Conn, Error, ErrorKind, Listener, Result};

/// Time limit for the first byte of a handshake, where that is less than
/// [`Config::handshake_timeout`].
pub const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(3);

/// Maximum number of raw connections whose peers have sent nothing. They cost a socket and little
/// more, and do not count as handshakes, so that an honest peer among them need not wait.
pub const MAX_SILENT: usize = 512;

/// Pause after a failed accept, as when the process is short of file descriptors.
const PAUSE: Duration = Duration::from_millis(50);

/// Accepts raw connections and upgrades them, for a [`HandshakeQueue`].
pub trait Accept: Send + Sync + 'static {
    /// A connection before its handshake. A drop closes it.
    type Raw: Send + 'static;
    /// Connection after the upgrade.
    type Conn: Send + 'static;

    /// Minimum time that a raw connection is kept until its handshake [begins](Progress::begin):
    /// long enough to look at the bytes that came with it. With [`MAX_SILENT`] of them, a newcomer
    /// waits for it.
    const FIRST_LOOK: Duration = Duration::from_millis(1);
    /// Minimum time that a handshake is kept after its peer sent a message: enough for a peer that
    /// makes progress to send the next one.
    const GRACE: Duration = Duration::from_millis(50);

    /// Waits for the next raw connection.
    ///
    /// # Errors
    ///
    /// [`Closed`](ErrorKind::Closed) or [`Failed`](ErrorKind::Failed) when none will come any more, which
    /// ends the listener. After any other error, as of too many open files, it is called again a little
    /// later.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may lose no raw connection but by closing it.
    fn accept(&self) -> impl Future<Output = Result<Self::Raw>> + Send;

    /// Returns the data known about the peer of a raw connection.
    fn incoming(&self, raw: &Self::Raw) -> Incoming;

    /// Makes a connection of a raw one. It is given up after [`Config::handshake_timeout`], and where a
    /// newcomer needs its place: the future is dropped then.
    fn handshake(
        self: Arc<Self>,
        raw: Self::Raw,
        progress: Progress,
    ) -> impl Future<Output = Result<Self::Conn>> + Send;

    /// Refuses a raw connection that is not admitted. A drop by default.
    fn refuse(&self, raw: Self::Raw) {
        drop(raw);
    }

    /// Stops to listen, at once. [`accept`](Self::accept) is not called any more.
    fn close(&self);
}

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
///   each for [`FIRST_BYTE_TIMEOUT`]; beyond, the oldest of the source that has the most goes. So silent peers
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

/// Reports the progress of a handshake to the queue.
#[derive(Clone)]
pub struct Progress {
    under_way: Arc<UnderWay>,
    id: u64,
    source: Source,
    limit: Duration,
    stage: Arc<Mutex<Stage>>,
}

/// The progress of a raw connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Its handshake has not begun.
    Waiting,
    /// Has a place among the handshakes.
    Placed,
    /// Its handshake has begun.
    Begun,
}

/// The handshakes in progress.
struct UnderWay {
    tables: Mutex<Tables>,
    /// Maximum number of handshakes in progress.
    places: usize,
    /// Minimum time that a handshake is kept.
    grace: Duration,
    /// Notified when a raw connection has ended or begun, or has been inspected.
    changed: Notify,
    /// Queue of finished connections.
    backlog: Arc<Places>,
}

struct Tables {
    /// Raw connections whose handshakes have not begun.
    silent: Handshakes<AbortHandle>,
    /// Handshakes.
    begun: Handshakes<AbortHandle>,
    next_id: u64,
    /// Number of further handshakes that may begin.
    free: usize,
    /// Number of handshakes that were displaced and have not ended.
    ending: usize,
    turns: Turns,
    clock: Attention,
}

/// A turn among those that wait for a place. A drop leaves it to the next one.
struct Turn<'a> {
    under_way: &'a UnderWay,
    number: u64,
    told: Arc<Notify>,
}

impl Progress {
    /// Notes that the peer has got the handshake on, after it has [begun](Self::begin).
    pub fn heard(&self) {
        let mut tables = self.under_way.tables.lock();
        let now = tables.now();
        tables.begun.heard(self.id, now);
    }

    /// Returns whether the peer may be sent the message that completes the connection at its side
    /// before the handshake is over here. If so, the handshake is kept for a second at least.
    /// Returns false where more than half of the places are taken: a connection that is complete at
    /// the peer should not be displaced.
    pub fn promise(&self) -> bool {
        let mut tables = self.under_way.tables.lock();
        let half_free = tables.free >= self.under_way.places / 2;
        if half_free {
            let now = tables.now();
            tables.begun.promised(self.id, now);
        }
        half_free
    }

    /// Notes that the peer may take the connection as made from now on, as it was sent the message that completes
    /// the connection at its side. The handshake is kept for a second at least. Where that message costs the peer
    /// little, [`promise`](Self::promise) is asked first.
    pub fn promised(&self) {
        let mut tables = self.under_way.tables.lock();
        let now = tables.now();
        tables.begun.promised(self.id, now);
    }

    /// Begins the handshake: waits for a place among those under way, and takes that of another one which
    /// has not got on for long, if need be.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future takes no place.
    pub async fn begin(&self) {
        if *self.stage.lock() != Stage::Waiting {
            return;
        }
        let turn = Turn::new(&self.under_way, self.source);
        loop {
            let waits = match self.under_way.try_begin(turn.number) {
                Ok(()) => break,
                Err(waits) => waits,
            };
            let told = turn.told.notified();
            match waits {
                None => told.await,
                Some(waits) => drop(timeout(waits, told).await),
            }
        }
        // From here on, the end of the handshake gives the place back.
        *self.stage.lock() = Stage::Placed;
        drop(turn);
        // A connection that begins now can be accepted; those in progress may be more, by their
        // number.
        self.under_way.backlog.has_room().await;
        *self.stage.lock() = Stage::Begun;
        self.under_way.tables.lock().begin(self.id);
        self.under_way.changed.notify_one();
    }

    /// Waits for the first byte of the peer with `first`, and [begins](Self::begin) the handshake.
    /// `first` has to read or peek: a socket that a runtime calls readable need not be.
    ///
    /// # Errors
    ///
    /// That of `first`; [`TimedOut`](ErrorKind::TimedOut) after [`FIRST_BYTE_TIMEOUT`].
    pub async fn first_byte(&self, first: impl Future<Output = io::Result<()>>) -> Result<()> {
        let limit = self.limit.min(FIRST_BYTE_TIMEOUT);
        let Ok(first) = timeout(limit, first).await else {
            let why = format!("the peer sent nothing within {limit:?}");
            return Err(Error::new(ErrorKind::TimedOut, why));
        };
        first?;
        self.begin().await;
        Ok(())
    }
}

impl UnderWay {
    /// Takes a free place, or ends the handshake that is displaced. Returns the time to wait
    /// otherwise, unless it is notified before.
    fn try_begin(&self, turn: u64) -> Result<(), Option<Duration>> {
        let mut guard = self.tables.lock();
        let tables = &mut *guard;
        let now = tables.now();
        if !tables
            .turns
            .is_next(turn, |source| tables.begun.count(source))
        {
            return Err(None);
        }
        if tables.free > 0 {
            tables.free -= 1;
            tables.turns.taken();
            return Ok(());
        }
        if tables.ending > 0 {
            return Err(None);
        }
        let grace = tables.turns.grace(now, self.grace);
        match tables.begun.displace(now, grace) {
            Displaced::One(handle) => {
                tracing::debug!("a handshake makes room");
                tables.ending += 1;
                drop(guard);
                handle.abort();
                Err(None)
            }
            Displaced::Wait(until) => Err(until.map(|until| (until - now).min(STEP))),
        }
    }
}

impl<'a> Turn<'a> {
    fn new(under_way: &'a UnderWay, source: Source) -> Self {
        let mut tables = under_way.tables.lock();
        let now = tables.now();
        let (number, told) = tables.turns.add(source, now);
        Self {
            under_way,
            number,
            told,
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut tables = self.under_way.tables.lock();
        // Connections inspected up to here count as such.
        tables.now();
        tables.turns.remove(self.number);
        tables.tell_next();
    }
}

impl Tables {
    /// The time, for how long peers have kept this side waiting.
    fn now(&mut self) -> Instant {
        let watched = !self.turns.is_empty();
        self.clock.now(watched)
    }

    /// Wakes the next in line, so that it looks for a place.
    fn tell_next(&self) {
        self.turns.tell_next(|source| self.begun.count(source));
    }

    /// Moves a raw connection whose handshake begins, unless it has gone.
    fn begin(&mut self, id: u64) {
        let Some((source, handle)) = self.silent.remove(id) else {
            // It was displaced among the silent ones, and is about to end.
            self.ending += 1;
            return;
        };
        let now = self.now();
        self.begun.insert(id, source);
        if let Some(handle) = handle {
            self.begun.set_handle(id, handle);
        }
        self.begun.heard(id, now);
        // Its place can be had after a while.
        self.tell_next();
    }

    /// Notes that a raw connection has gone, or its handshake is over.
    fn end(&mut self, id: u64, stage: Stage) {
        self.now();
        self.silent.remove(id);
        let displaced = self.begun.remove(id).is_none();
        if stage == Stage::Begun && displaced {
            self.ending -= 1;
        }
        if stage != Stage::Waiting {
            self.free += 1;
            self.tell_next();
        }
    }

    fn set_handle(&mut self, id: u64, handle: AbortHandle) {
        // It has one place only; where it has begun at once, that is the second.
        if self.silent.has(id) {
            self.silent.set_handle(id, handle);
        } else {
            self.begun.set_handle(id, handle);
        }
    }
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
            while running.try_join_next().is_some() {}
            // Where many come, others have their turns as well.
            consume_budget().await;
            match self.source.accept().await {
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
                    tracing::warn!(addr = %self.waiting.addr(), %error, "could not accept");
                    // Silent peers may hold the descriptors that are missing.
                    self.displace_silent();
                    sleep(PAUSE).await;
                }
            }
        }
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
                tracing::debug!(addr = %self.waiting.addr(), "a silent connection makes room");
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

/// Counts a handshake until it is over.
struct Running {
    progress: Progress,
    first_look: Duration,
}

impl Running {
    fn looked(&self) {
        let Progress { under_way, id, .. } = &self.progress;
        under_way.tables.lock().silent.looked(*id);
        under_way.changed.notify_one();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Progress {
            under_way,
            id,
            stage,
            ..
        } = &self.progress;
        let stage = *stage.lock();
        under_way.tables.lock().end(*id, stage);
        under_way.changed.notify_one();
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Progress")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
