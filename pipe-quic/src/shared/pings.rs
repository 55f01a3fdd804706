use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;

/// How many pings may be under way. Further ones wait.
pub(super) const MAX_PINGS: usize = 64;

/// A ping that somebody waits for.
pub(super) struct Ping {
    pub(super) answer: oneshot::Sender<()>,
    pub(super) started: Instant,
    pub(super) _place: OwnedSemaphorePermit,
}
