use std::sync::Arc;
use std::time::Duration;

use pipe_proto::PingBytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::common::random_ping;
use super::status::ConnStatus;
use crate::{Error, ErrorKind, Result};

/// Maximum number of unanswered pings of the application. Further ones wait.
const MAX_PINGS: usize = 64;

/// Sends the pings of the application, of which 64 are under way at once.
#[derive(Debug)]
pub struct Pings {
    permits: Arc<Semaphore>,
}

/// A caller that waits for the answer to a ping. A drop reports that none comes.
#[derive(Debug)]
pub struct PingWaiter {
    answer: oneshot::Sender<Duration>,
    _permit: OwnedSemaphorePermit,
}

impl Default for Pings {
    fn default() -> Self {
        Self::new()
    }
}

impl Pings {
    /// Creates the pings of a new connection.
    pub fn new() -> Self {
        Self {
            permits: Arc::new(Semaphore::new(MAX_PINGS)),
        }
    }

    /// Measures a round trip: waits until few enough pings are under way, calls `send` with new random bytes, and waits
    /// for the answer.
    ///
    /// # Errors
    ///
    /// That of the connection, once it has ended.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop. A ping that was sent counts until it is answered.
    pub async fn round_trip(
        &self,
        status: &ConnStatus,
        send: impl FnOnce(PingBytes, PingWaiter),
    ) -> Result<Duration> {
        status.check()?;
        let ended = || {
            let error = status.error();
            error.unwrap_or_else(|| {
                Error::new(
                    ErrorKind::Failed,
                    "the connection ended before the answer to a ping",
                )
            })
        };
        let permit = self.permits.clone().acquire_owned().await;
        let permit = permit.map_err(|_| ended())?;
        let (answer, answered) = oneshot::channel();
        let waiter = PingWaiter {
            answer,
            _permit: permit,
        };
        send(random_ping()?, waiter);
        answered.await.map_err(|_| ended())
    }

    /// Ends the wait of callers whose pings were not sent yet, after the end of the connection.
    pub fn close(&self) {
        self.permits.close();
    }
}

impl PingWaiter {
    /// Answers the caller, which may have given up.
    pub fn answer(self, round_trip: Duration) {
        let _ = self.answer.send(round_trip);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use futures::FutureExt;

    use super::*;
    use crate::CloseReason;

    #[tokio::test]
    async fn pings_beyond_the_limit_wait_for_answers_and_end_with_the_connection() {
        let (pings, status) = (Pings::new(), ConnStatus::new());
        let sent = RefCell::new(Vec::new());
        let ping = || {
            pings.round_trip(&status, |bytes, waiter| {
                sent.borrow_mut().push((bytes, waiter));
            })
        };
        let mut waiting: Vec<_> = (0..=MAX_PINGS).map(|_| Box::pin(ping())).collect();
        for ping in &mut waiting {
            assert!(ping.as_mut().now_or_never().is_none());
        }
        assert_eq!(sent.borrow().len(), MAX_PINGS);
        let trip = Duration::from_millis(3);
        sent.borrow_mut().remove(0).1.answer(trip);
        assert_eq!(waiting.remove(0).await.unwrap(), trip);
        let mut last = waiting.pop().unwrap();
        assert!(last.as_mut().now_or_never().is_none());
        assert_eq!(sent.borrow().len(), MAX_PINGS);

        let mut late = Box::pin(ping());
        assert!(late.as_mut().now_or_never().is_none());
        status.end(CloseReason::remote(7, "over"));
        pings.close();
        sent.borrow_mut().clear();
        for ping in waiting.into_iter().chain([last, late]) {
            assert_eq!(ping.await.unwrap_err().code(), Some(7));
        }
        assert_eq!(ping().await.unwrap_err().code(), Some(7));
    }
}
