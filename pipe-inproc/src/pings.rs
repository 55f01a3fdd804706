use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Instant;

/// Maximum number of pings of one side in flight. Further ones wait.
const MAX_UNDER_WAY: usize = 64;

/// The unanswered pings of one side.
///
/// A ping whose caller has gone keeps its place until its answer comes, so that a link that is cut
/// never holds more than the limit.
pub(crate) struct Pings {
    places: Arc<Semaphore>,
    next_token: AtomicU64,
    /// Absent once the side has ended.
    waiting: Mutex<Option<HashMap<u64, Waiting>>>,
    last_round_trip: Mutex<Option<Duration>>,
}

struct Waiting {
    answer: oneshot::Sender<()>,
    _place: OwnedSemaphorePermit,
}

/// A ping that is to be sent.
pub(crate) struct Ping<'a> {
    pub(crate) token: u64,
    pings: &'a Pings,
    started: Instant,
    answer: oneshot::Receiver<()>,
}

impl Pings {
    /// Token of a ping without a caller.
    pub(crate) const KEEP_ALIVE: u64 = 0;

    pub(crate) fn new() -> Self {
        Self {
            places: Arc::new(Semaphore::new(MAX_UNDER_WAY)),
            next_token: AtomicU64::new(Self::KEEP_ALIVE + 1),
            waiting: Mutex::new(Some(HashMap::new())),
            last_round_trip: Mutex::new(None),
        }
    }

    /// Registers a ping. `None` once the side has ended.
    pub(crate) async fn start(&self) -> Option<Ping<'_>> {
        let place = self.places.clone().acquire_owned().await.ok()?;
        let token = self.next_token.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        let started = Instant::now();
        self.waiting.lock().as_mut()?.insert(
            token,
            Waiting {
                answer: sender,
                _place: place,
            },
        );
        Some(Ping {
            token,
            pings: self,
            started,
            answer,
        })
    }

    /// Notes that the answer to a ping has come.
    pub(crate) fn answer(&self, token: u64) {
        let waiting = self.waiting.lock().as_mut().and_then(|w| w.remove(&token));
        if let Some(Waiting { answer, .. }) = waiting {
            // The caller may have gone.
            let _ = answer.send(());
        }
    }

    /// Ends all pings, now and later.
    pub(crate) fn fail(&self) {
        self.places.close();
        let waiting = self.waiting.lock().take();
        drop(waiting);
    }

    pub(crate) fn last_round_trip(&self) -> Option<Duration> {
        *self.last_round_trip.lock()
    }
}

impl Ping<'_> {
    /// Waits for the answer and returns the round trip. `None` once the side has ended.
    pub(crate) async fn finish(self) -> Option<Duration> {
        self.answer.await.ok()?;
        // A clock that stands still, as a paused one does, shows no time between two events.
        let round_trip = self.started.elapsed().max(Duration::from_nanos(1));
        *self.pings.last_round_trip.lock() = Some(round_trip);
        Some(round_trip)
    }
}
