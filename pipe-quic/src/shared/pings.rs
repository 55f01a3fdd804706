use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;

/// Maximum number of pings in flight. Further ones wait.
pub(super) const MAX_PINGS: usize = 64;

/// A ping with a waiting caller.
pub(super) struct Ping {
    pub(super) answer: oneshot::Sender<()>,
    pub(super) started: Instant,
    pub(super) _place: OwnedSemaphorePermit,
}
