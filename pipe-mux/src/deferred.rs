use std::task::Waker;
use std::time::Duration;

use pipe_core::backend::{PingWaiter, StreamSlot};
use tokio::sync::oneshot;

use crate::opens::Opens;
use crate::stream_inner::StreamRef;

/// Actions that follow from events once no lock is held.
#[derive(Default)]
pub(crate) struct Deferred {
    pub(crate) wakers: Vec<Waker>,
    pub(crate) slots: Vec<StreamSlot>,
    /// Opens that waited, and their streams.
    pub(crate) opened: Vec<(oneshot::Sender<StreamRef>, StreamRef)>,
    pub(crate) pongs: Vec<(PingWaiter, Duration)>,
    pub(crate) lost_pings: Vec<PingWaiter>,
    /// Bytes that count against the peer's connection window no more.
    pub(crate) room: u64,
    pub(crate) is_idle: bool,
    pub(crate) is_draining: bool,
    pub(crate) nudges: bool,
    pub(crate) is_lost: bool,
    /// The peer closed the connection, with these opens under way.
    pub(crate) ended: Option<Opens>,
}
