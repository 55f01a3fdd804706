use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use pipe_core::{Error, ErrorKind, Result};
use tokio::time::sleep;

/// How long one attempt runs by itself before the next one joins it (RFC 8305, section 5).
const DELAY: Duration = Duration::from_millis(250);

/// Tries addresses in their order, and returns what the first attempt that succeeds has made.
///
/// The next attempt starts 250 ms after the one before, or at once when one has failed. Those that are not
/// needed any more are dropped.
///
/// # Errors
///
/// When all attempts fail, the error of the one that came furthest: that of a peer that was reached goes
/// before [`Refused`](ErrorKind::Refused), which goes before [`TimedOut`](ErrorKind::TimedOut) and
/// [`Unreachable`](ErrorKind::Unreachable), and a later one before an earlier one of the same kind.
///
/// # Cancel safety
///
/// Dropping the future drops the attempts.
pub async fn race<T, F: Future<Output = Result<T>>>(
    addrs: &[SocketAddr],
    attempt: impl Fn(SocketAddr) -> F,
) -> Result<T> {
    let mut rest = addrs.iter().copied();
    let mut running = Attempts(Vec::new());
    let mut failed: Option<Error> = None;
    loop {
        if let Some(next) = rest.next() {
            running.0.push(Box::pin(attempt(next)));
        }
        if running.0.is_empty() {
            let none = || Error::new(ErrorKind::Unreachable, "there is no address to try");
            return Err(failed.unwrap_or_else(none));
        }
        tokio::select! {
            done = poll_fn(|cx| running.poll_next(cx)) => match done {
                Ok(made) => return Ok(made),
                Err(error) => failed = Some(further(failed, error)),
            },
            () = sleep(DELAY), if rest.len() > 0 => {}
        }
    }
}

/// The attempts under way. They are few, so that all are polled when one of them may go on.
struct Attempts<F>(Vec<Pin<Box<F>>>);

impl<F: Future> Attempts<F> {
    /// Waits until one of them is done, and takes it out.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<F::Output> {
        for at in 0..self.0.len() {
            if let Poll::Ready(done) = self.0[at].as_mut().poll(cx) {
                drop(self.0.remove(at));
                return Poll::Ready(done);
            }
        }
        Poll::Pending
    }
}

/// Returns the error of two that came further.
fn further(before: Option<Error>, now: Error) -> Error {
    let reached = |error: &Error| match error.kind() {
        ErrorKind::Unreachable => 0,
        ErrorKind::TimedOut => 1,
        ErrorKind::Refused => 2,
        _ => 3,
    };
    match before {
        Some(before) if reached(&before) > reached(&now) => before,
        _ => now,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::future::pending;
    use std::rc::Rc;

    use tokio::time::Instant;

    use super::*;

    /// Addresses with these ports, which say what becomes of an attempt.
    fn addrs(ports: &[u16]) -> Vec<SocketAddr> {
        let addr = |port: &u16| ([127, 0, 0, 1], *port).into();
        ports.iter().map(addr).collect()
    }

    const HANGS: u16 = 1;
    const UNREACHABLE: u16 = 2;
    const REFUSES: u16 = 3;
    const TIMES_OUT: u16 = 4;
    const BREAKS_RULES: u16 = 5;
    const ANSWERS: u16 = 80;
    const ANSWERS_LATE: u16 = 81;

    async fn attempt(addr: SocketAddr) -> Result<u16> {
        let kind = match addr.port() {
            HANGS => pending().await,
            UNREACHABLE => ErrorKind::Unreachable,
            REFUSES => ErrorKind::Refused,
            TIMES_OUT => ErrorKind::TimedOut,
            BREAKS_RULES => ErrorKind::Handshake,
            ANSWERS_LATE => {
                sleep(2 * DELAY + DELAY / 2).await;
                return Ok(ANSWERS_LATE);
            }
            port => return Ok(port),
        };
        Err(Error::new(kind, format!("{addr}")))
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_attempt_joins_one_that_hangs_and_replaces_one_that_failed() {
        let started = Instant::now();
        let won = race(&addrs(&[REFUSES, HANGS, HANGS, ANSWERS]), attempt).await;
        assert_eq!(won.unwrap(), ANSWERS);
        assert_eq!(started.elapsed(), 2 * DELAY);
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_goes_on_while_others_join_it() {
        let started = Instant::now();
        let list = addrs(&[ANSWERS_LATE, HANGS, UNREACHABLE, HANGS]);
        assert_eq!(race(&list, attempt).await.unwrap(), ANSWERS_LATE);
        assert_eq!(started.elapsed(), 2 * DELAY + DELAY / 2);
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_after_the_first_that_succeeds_are_not_made() {
        let tried = RefCell::new(Vec::new());
        let list = addrs(&[ANSWERS, REFUSES]);
        let won = race(&list, |addr| {
            tried.borrow_mut().push(addr.port());
            attempt(addr)
        });
        assert_eq!(won.await.unwrap(), ANSWERS);
        assert_eq!(tried.into_inner(), [ANSWERS]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_attempts_that_lost_are_dropped() {
        let held = Rc::new(());
        let list = addrs(&[HANGS, HANGS, ANSWERS]);
        let won = race(&list, |addr| {
            let held = held.clone();
            async move {
                let made = attempt(addr).await;
                drop(held);
                made
            }
        });
        assert_eq!(won.await.unwrap(), ANSWERS);
        assert_eq!(Rc::strong_count(&held), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn the_error_is_that_of_the_attempt_that_came_furthest() {
        for (ports, kind) in [
            (&[REFUSES, UNREACHABLE][..], ErrorKind::Refused),
            (&[UNREACHABLE, REFUSES], ErrorKind::Refused),
            (&[TIMES_OUT, UNREACHABLE], ErrorKind::TimedOut),
            (&[REFUSES, BREAKS_RULES, TIMES_OUT], ErrorKind::Handshake),
            (&[], ErrorKind::Unreachable),
        ] {
            let error = race(&addrs(ports), attempt).await.unwrap_err();
            assert_eq!(error.kind(), kind, "{ports:?}");
        }
    }
}
