use std::task::Waker;
use std::time::Duration;

use pipe_core::backend::{PingWaiter, StreamSlot};
use tokio::sync::oneshot;

use super::open::Open;
use crate::stream_core::StreamRef;

/// Actions that follow from events once no lock is held.
#[derive(Default)]
pub(super) struct Deferred {
    pub(super) wakers: Vec<Waker>,
    pub(super) slots: Vec<StreamSlot>,
    /// Opens that waited, and their streams.
    pub(super) opened: Vec<(oneshot::Sender<StreamRef>, StreamRef)>,
    pub(super) pongs: Vec<(PingWaiter, Duration)>,
    pub(super) lost_pings: Vec<PingWaiter>,
    /// Opens that come to nothing.
    pub(super) given_up: Vec<Open>,
    /// Bytes that count against the peer's connection window no more.
    pub(super) room: u64,
    pub(super) is_idle: bool,
    pub(super) is_draining: bool,
}
