use std::task::Waker;
use std::time::Duration;

use pipe_core::backend::{PingWaiter, StreamSlot};

/// Actions that follow from events once no lock is held.
#[derive(Default)]
pub(crate) struct Deferred {
    /// An event was acted on.
    pub(crate) has_events: bool,
    pub(crate) wakers: Vec<Waker>,
    pub(crate) slots: Vec<StreamSlot>,
    pub(crate) pongs: Vec<(PingWaiter, Duration)>,
    pub(crate) lost_pings: Vec<PingWaiter>,
    /// Bytes that count against the peer's connection window no more.
    pub(crate) room: u64,
    pub(crate) is_idle: bool,
    pub(crate) is_draining: bool,
    pub(crate) is_lost: bool,
    /// The peer closed the connection.
    pub(crate) is_ended: bool,
}
