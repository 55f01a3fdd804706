//! The progress of the handshakes of a listener.

use std::fmt;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

use super::accept_queue::Places;
use super::handshakes::{Displaced, Handshakes};
use super::incoming::{Incoming, Source};
use super::turns::{Attention, STEP, Turns};
use crate::{Error, ErrorKind, Result};

/// Time limit for the first byte of a handshake, where that is less than
/// [`Config::handshake_timeout`](crate::Config::handshake_timeout).
pub const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(3);

/// Reports the progress of a handshake to the queue.
#[derive(Clone)]
pub struct Progress {
    pub(super) under_way: Arc<UnderWay>,
    pub(super) id: u64,
    pub(super) source: Source,
    pub(super) limit: Duration,
    pub(super) stage: Arc<Mutex<Stage>>,
}

/// The progress of a raw connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Its handshake has not begun.
    Waiting,
    /// Has a place among the handshakes.
    Placed,
    /// Its handshake has begun.
    Begun,
}

/// The handshakes in progress.
pub(super) struct UnderWay {
    pub(super) tables: Mutex<Tables>,
    /// Maximum number of handshakes in progress.
    pub(super) places: usize,
    /// Minimum time that a handshake is kept.
    pub(super) grace: Duration,
    /// Notified when a raw connection has ended or begun, or has been inspected.
    pub(super) changed: Notify,
    /// Queue of finished connections.
    pub(super) backlog: Arc<Places>,
}

pub(super) struct Tables {
    /// Raw connections whose handshakes have not begun.
    pub(super) silent: Handshakes<AbortHandle>,
    /// Handshakes.
    pub(super) begun: Handshakes<AbortHandle>,
    pub(super) next_id: u64,
    /// Number of further handshakes that may begin.
    pub(super) free: usize,
    /// Number of handshakes that were displaced and have not ended.
    pub(super) ending: usize,
    pub(super) turns: Turns,
    pub(super) clock: Attention,
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

    /// Counts the raw connection as one of this peer, where its first bytes tell of another one than its socket does. It
    /// is for one whose handshake has not [begun](Self::begin).
    pub fn comes_from(&self, incoming: &Incoming) {
        let mut tables = self.under_way.tables.lock();
        tables.silent.set_source(self.id, incoming.source());
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
        let source = self.under_way.tables.lock().silent.source(self.id);
        let turn = Turn::new(&self.under_way, source.unwrap_or(self.source));
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
    pub(super) fn try_begin(&self, turn: u64) -> Result<(), Option<Duration>> {
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
                tracing::debug!("a handshake is dropped for a newer one");
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
    pub(super) fn new(under_way: &'a UnderWay, source: Source) -> Self {
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
    pub(super) fn now(&mut self) -> Instant {
        let watched = !self.turns.is_empty();
        self.clock.now(watched)
    }

    /// Wakes the next in line, so that it looks for a place.
    pub(super) fn tell_next(&self) {
        self.turns.tell_next(|source| self.begun.count(source));
    }

    /// Moves a raw connection whose handshake begins, unless it has gone.
    pub(super) fn begin(&mut self, id: u64) {
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
    pub(super) fn end(&mut self, id: u64, stage: Stage) {
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

    pub(super) fn set_handle(&mut self, id: u64, handle: AbortHandle) {
        // It has one place only; where it has begun at once, that is the second.
        if self.silent.has(id) {
            self.silent.set_handle(id, handle);
        } else {
            self.begun.set_handle(id, handle);
        }
    }
}

/// Counts a handshake until it is over.
pub(super) struct Running {
    pub(super) progress: Progress,
    pub(super) first_look: Duration,
}

impl Running {
    pub(super) fn looked(&self) {
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
