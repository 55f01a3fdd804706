use std::collections::VecDeque;
use std::sync::atomic::AtomicBool;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::half::StreamPair;

/// The events that wake acceptors besides new streams.
#[derive(Default)]
pub(super) struct Arrivals {
    /// Streams of the peer that were looked at before they were accepted. Bounded by quinn's limit.
    pub(super) waiting: Mutex<VecDeque<StreamPair>>,
    /// Whether there may be some.
    pub(super) has_waiting: AtomicBool,
    /// Notified when there are some, and when the connection has ended.
    pub(super) news: Notify,
}
