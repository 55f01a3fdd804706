use std::fmt;
use std::task::Waker;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::backend::{PingWaiter, StreamSlot};

/// Actions that follow from events of a session once no lock is held. `S` refers to a stream.
pub struct Deferred<S, D> {
    /// Tasks to wake.
    pub wakers: Vec<Waker>,
    /// Slots to free.
    pub slots: Vec<StreamSlot>,
    /// Opens that waited, and their streams.
    pub opened: Vec<(oneshot::Sender<S>, S)>,
    /// What the transport drops.
    pub dropped: Vec<D>,
    pub(super) pongs: Vec<(PingWaiter, Duration)>,
    pub(super) lost_pings: Vec<PingWaiter>,
    /// Bytes that count against the peer's connection window no more.
    pub(super) room: u64,
    pub(super) is_idle: bool,
    pub(super) is_draining: bool,
    pub(super) nudges: bool,
    /// The peer was silent for too long.
    pub(super) is_lost: bool,
    /// The peer closed the connection.
    pub(super) is_closed: bool,
}

impl<S, D> Default for Deferred<S, D> {
    fn default() -> Self {
        Self {
            wakers: Vec::new(),
            slots: Vec::new(),
            opened: Vec::new(),
            dropped: Vec::new(),
            pongs: Vec::new(),
            lost_pings: Vec::new(),
            room: 0,
            is_idle: false,
            is_draining: false,
            nudges: false,
            is_lost: false,
            is_closed: false,
        }
    }
}

impl<S, D> fmt::Debug for Deferred<S, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deferred")
            .field("wakers", &self.wakers.len())
            .finish_non_exhaustive()
    }
}
