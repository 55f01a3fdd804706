use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use tokio::sync::Notify;
use tokio::task::spawn_blocking;

/// Runs the future on threads outside the runtime's own: each poll on one of the blocking threads.
///
/// While a poll runs, paused time stands still; while the future waits, it goes on, as for any task.
/// (A thread that blocked on the future would hold paused time for as long as it waits, and a
/// simulated link would never deliver.)
pub(crate) async fn on_other_threads<F>(future: F) -> F::Output
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let woken = Arc::new(Woken(Notify::new()));
    let mut future = Box::pin(future);
    loop {
        let waker = Waker::from(woken.clone());
        let poll = spawn_blocking(move || {
            let poll = future.as_mut().poll(&mut Context::from_waker(&waker));
            (future, poll)
        });
        match poll.await.expect("a poll on another thread panicked") {
            (_, Poll::Ready(output)) => return output,
            (waiting, Poll::Pending) => future = waiting,
        }
        woken.0.notified().await;
    }
}

struct Woken(Notify);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_future_runs_elsewhere_and_paused_time_goes_on() {
        let here = thread::current().id();
        let (mut a, mut b) = tokio::io::duplex(1);
        let reader = on_other_threads(async move {
            assert_ne!(thread::current().id(), here);
            let mut got = Vec::new();
            b.read_to_end(&mut got).await.unwrap();
            got
        });
        let writer = on_other_threads(async move {
            tokio::time::sleep(Duration::from_secs(3600)).await;
            a.write_all(b"far away").await.unwrap();
        });
        let (got, ()) = tokio::join!(reader, writer);
        assert_eq!(got, b"far away");
    }
}
