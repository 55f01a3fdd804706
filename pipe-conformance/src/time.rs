//! Time limits that a stalled machine does not break.

use std::future::Future;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

/// The unit in which a limit is counted.
const TICK: Duration = Duration::from_millis(50);

/// Waits for the future, for so long at most.
///
/// The time is counted in ticks that the process was awake for: if the machine stalls the process for
/// five seconds, that is one tick.
///
/// A tick does not poll the future: one that is never woken is not over, even if it could be.
pub(crate) async fn within<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
    let mut future = FuturesUnordered::from_iter([future]);
    let mut clock = interval_at(Instant::now() + TICK, TICK);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for _ in 0..ticks(limit) {
        tokio::select! {
            biased;
            Some(output) = future.next() => return Some(output),
            _ = clock.tick() => {}
        }
    }
    None
}

fn ticks(limit: Duration) -> u128 {
    limit.as_nanos().div_ceil(TICK.as_nanos()).max(1)
}

/// Returns the output of a future, or `None` when it does not come for a while.
pub(crate) async fn unless_stuck<F: Future>(future: F) -> Option<F::Output> {
    within(Duration::from_millis(500), future).await
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Poll;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_future_that_is_ready_in_time_gives_its_output() {
        let in_time = tokio::time::sleep(Duration::from_millis(990));
        assert!(within(Duration::from_secs(1), in_time).await.is_some());
        let late = tokio::time::sleep(Duration::from_millis(1010));
        assert!(within(Duration::from_secs(1), late).await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stall_counts_as_one_tick() {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let stall = async {
            tokio::time::advance(Duration::from_secs(100)).await;
            for _ in 0..15 {
                tokio::time::sleep(TICK).await;
            }
            let _ = sender.send(());
        };
        let (waited, ()) = tokio::join!(within(Duration::from_secs(1), receiver), stall);
        assert!(waited.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_wake_up_is_not_made_up_for() {
        let mut polls = 0;
        let forgetful = poll_fn(|_| {
            polls += 1;
            if polls == 1 {
                Poll::Pending
            } else {
                Poll::Ready(())
            }
        });
        assert!(within(Duration::from_secs(1), forgetful).await.is_none());
        assert_eq!(polls, 1);
    }
}
