//! How a case ends a future or a task in the middle of what it does.

use std::future::Future;
use std::time::Duration;

use futures::FutureExt;
use tokio::task::{JoinError, yield_now};
use tokio::time::sleep;

use crate::time::within;

/// Lets the future run until it has been polled so often, was ready, or had nothing to do for a
/// while. It is not polled any more after that.
pub(crate) async fn advance<F: Future + Unpin>(future: &mut F, polls: usize) -> Option<F::Output> {
    let mut polled = 0;
    let steps = std::future::poll_fn(|cx| {
        polled += 1;
        match future.poll_unpin(cx) {
            std::task::Poll::Pending if polled < polls => std::task::Poll::Pending,
            std::task::Poll::Pending => std::task::Poll::Ready(None),
            std::task::Poll::Ready(output) => std::task::Poll::Ready(Some(output)),
        }
    });
    within(Duration::from_millis(100), steps).await.flatten()
}

/// Lets a moment pass: none, a few turns of the runtime, or up to two round trips.
pub(crate) async fn pause(round: usize, trip: Duration) {
    if round.is_multiple_of(2) {
        for _ in 0..round / 2 % 8 {
            yield_now().await;
        }
    } else {
        sleep(trip * (round as u32 / 2 % 8) / 4).await;
    }
}

/// Returns the result of a task, or nothing if it was aborted before.
pub(crate) fn unless_aborted<R>(joined: Result<R, JoinError>) -> Option<R> {
    match joined {
        Ok(output) => Some(output),
        Err(e) if e.is_cancelled() => None,
        Err(e) => std::panic::resume_unwind(e.into_panic()),
    }
}
