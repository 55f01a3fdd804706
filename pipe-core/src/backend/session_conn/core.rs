use std::fmt;
use std::ops::Deref;

use parking_lot::Mutex;
use pipe_proto::Session;
use tokio::sync::{Notify, Semaphore};

use super::stream_ref::{StreamRef, StreamState};
use crate::Config;
use crate::backend::{Backlog, ConnStatus, PingWaiter, Pings, StreamSlots};

/// What the handles, the streams and the driver of a connection share, whatever carries its bytes.
pub struct SessionCore<T: StreamState, X> {
    /// The configuration of this side.
    pub config: Config,
    /// The state and the end of the connection.
    pub status: ConnStatus,
    /// The streams that the peer lets this side open.
    pub slots: StreamSlots,
    /// The streams of the peer that wait to be accepted.
    pub backlog: Backlog<StreamRef<T>>,
    /// Notified when the last stream is over, of every step of a drain, and of the end.
    pub idle: Notify,
    /// Closed once the driver has ended: all frames have been sent, or cannot be.
    pub left: Semaphore,
    /// The pings of the application.
    pub pings: Pings,
    /// The session. Its lock comes before those of streams, and no task is woken while one is held.
    pub state: Apart<Mutex<SessionState<T, X>>>,
}

/// A session, and the part of a transport behind the same lock.
pub struct SessionState<T: StreamState, X> {
    /// The rules of the connection.
    pub session: Session<StreamRef<T>, PingWaiter>,
    /// The part of the transport.
    pub extra: X,
}

/// Fields that many threads change, apart from those that they only read, so that a change does not
/// invalidate the latter in the others' caches: 128 bytes are two lines of a cache, which some
/// processors fetch together.
#[derive(Debug)]
#[repr(align(128))]
pub struct Apart<T>(T);

impl<T: StreamState, X> SessionCore<T, X> {
    /// Creates the shared state of a new connection.
    pub fn new(config: Config, session: Session<StreamRef<T>, PingWaiter>, extra: X) -> Self {
        Self {
            status: ConnStatus::new(),
            slots: StreamSlots::new(config.max_streams),
            config,
            backlog: Backlog::new(),
            idle: Notify::new(),
            left: Semaphore::new(0),
            pings: Pings::new(),
            state: Apart(Mutex::new(SessionState { session, extra })),
        }
    }
}

impl<T> Deref for Apart<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: StreamState, X> fmt::Debug for SessionCore<T, X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionCore")
            .field("config", &self.config)
            .field("state", &self.status.state())
            .finish_non_exhaustive()
    }
}

impl<T: StreamState, X> fmt::Debug for SessionState<T, X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionState")
            .field("totals", &self.session.totals())
            .finish_non_exhaustive()
    }
}
