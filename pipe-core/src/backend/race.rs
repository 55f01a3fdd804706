use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::sleep;

use crate::{Error, ErrorKind};

/// How long one attempt runs by itself before the next one joins it (RFC 8305, section 5).
const DELAY: Duration = Duration::from_millis(250);

/// Tries candidates in their order, and returns what the first attempt that succeeds has made.
///
/// The next attempt starts 250 ms after the one before, or at once when one has failed. Of several that succeed at once,
/// the one that started first wins. Those that are not needed any more are dropped, finished or not.
///
/// # Errors
///
/// When all attempts fail, their errors in the order in which they failed; none without a candidate.
/// [`furthest`] picks one.
///
/// # Cancel safety
///
/// Dropping the future drops the attempts.
pub async fn race<C, T, E, F>(
    candidates: impl IntoIterator<Item = C>,
    attempt: impl Fn(C) -> F,
) -> Result<T, Vec<E>>
where
    F: Future<Output = Result<T, E>>,
{
    let mut rest = candidates.into_iter().peekable();
    let mut running = Attempts(Vec::new());
    let mut failed = Vec::new();
    loop {
        if let Some(next) = rest.next() {
            running.0.push(Box::pin(attempt(next)));
        }
        if running.0.is_empty() {
            return Err(failed);
        }
        tokio::select! {
            biased;
            done = poll_fn(|cx| running.poll_next(cx)) => match done {
                Ok(made) => return Ok(made),
                Err(error) => failed.push(error),
            },
            () = sleep(DELAY), if rest.peek().is_some() => {}
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

/// Returns the error of the attempt that came furthest, of errors in the order in which they came: that of a peer that was
/// reached goes before [`Refused`](ErrorKind::Refused), which goes before [`TimedOut`](ErrorKind::TimedOut) and
/// [`Unreachable`](ErrorKind::Unreachable), and these go before that of an address with which nothing was tried. A later one
/// goes before an earlier one of the same kind.
pub fn furthest<'a>(errors: impl IntoIterator<Item = &'a Error>) -> Option<&'a Error> {
    errors.into_iter().max_by_key(|error| match error.kind() {
        ErrorKind::AddrUnsupported => 0,
        ErrorKind::AddrInvalid | ErrorKind::ConfigInvalid => 1,
        ErrorKind::Unreachable => 2,
        ErrorKind::TimedOut => 3,
        ErrorKind::Refused => 4,
        _ => 5,
    })
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::future::pending;
    use std::rc::Rc;

    use tokio::time::Instant;

    use super::*;

    /// What becomes of an attempt.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Fate {
        Hangs,
        Fails(ErrorKind),
        /// Connects after so long.
        Answers(Duration),
    }

    use Fate::{Answers, Fails, Hangs};

    const AT_ONCE: Fate = Answers(Duration::ZERO);
    const REFUSES: Fate = Fails(ErrorKind::Refused);
    const UNREACHABLE: Fate = Fails(ErrorKind::Unreachable);
    const TIMES_OUT: Fate = Fails(ErrorKind::TimedOut);
    const BREAKS_RULES: Fate = Fails(ErrorKind::Handshake);

    async fn attempt(fate: Fate) -> Result<Fate, Error> {
        match fate {
            Hangs => pending().await,
            Fails(kind) => Err(Error::new(kind, "failed")),
            Answers(after) => {
                sleep(after).await;
                Ok(fate)
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_attempt_joins_one_that_hangs_and_replaces_one_that_failed() {
        let started = Instant::now();
        let won = race([REFUSES, Hangs, Hangs, AT_ONCE], attempt).await;
        assert_eq!(won.unwrap(), AT_ONCE);
        assert_eq!(started.elapsed(), 2 * DELAY);
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_goes_on_while_others_join_it() {
        let started = Instant::now();
        let late = Answers(2 * DELAY + DELAY / 2);
        let list = [late, Hangs, UNREACHABLE, Hangs];
        assert_eq!(race(list, attempt).await.unwrap(), late);
        assert_eq!(started.elapsed(), 2 * DELAY + DELAY / 2);
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_after_the_first_that_succeeds_are_not_made() {
        let tried = RefCell::new(Vec::new());
        let won = race([AT_ONCE, REFUSES], |fate| {
            tried.borrow_mut().push(fate);
            attempt(fate)
        });
        assert_eq!(won.await.unwrap(), AT_ONCE);
        assert_eq!(tried.into_inner(), [AT_ONCE]);
    }

    #[tokio::test(start_paused = true)]
    async fn of_two_that_succeed_at_once_the_one_that_started_first_wins() {
        let (first, second) = (Answers(2 * DELAY), Answers(DELAY));
        let won = race([Hangs, first, second], attempt).await;
        assert_eq!(won.unwrap(), first);
    }

    #[tokio::test(start_paused = true)]
    async fn the_attempts_that_lost_are_dropped() {
        let held = Rc::new(());
        let won = race([Hangs, Hangs, AT_ONCE], |fate| {
            let held = held.clone();
            async move {
                let made = attempt(fate).await;
                drop(held);
                made
            }
        });
        assert_eq!(won.await.unwrap(), AT_ONCE);
        assert_eq!(Rc::strong_count(&held), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn the_error_is_that_of_the_attempt_that_came_furthest() {
        let unsupported = Fails(ErrorKind::AddrUnsupported);
        for (fates, kind) in [
            (&[REFUSES, UNREACHABLE][..], Some(ErrorKind::Refused)),
            (&[UNREACHABLE, REFUSES], Some(ErrorKind::Refused)),
            (&[TIMES_OUT, UNREACHABLE], Some(ErrorKind::TimedOut)),
            (
                &[REFUSES, BREAKS_RULES, TIMES_OUT],
                Some(ErrorKind::Handshake),
            ),
            (&[UNREACHABLE, unsupported], Some(ErrorKind::Unreachable)),
            (
                &[unsupported, unsupported],
                Some(ErrorKind::AddrUnsupported),
            ),
            (&[], None),
        ] {
            let failed = race(fates.iter().copied(), attempt).await.unwrap_err();
            assert_eq!(failed.len(), fates.len());
            assert_eq!(furthest(&failed).map(Error::kind), kind, "{fates:?}");
        }
    }

    #[test]
    fn of_errors_of_one_kind_the_last_is_the_furthest() {
        let errors = ["a", "b"].map(|text| Error::new(ErrorKind::Refused, text));
        assert_eq!(furthest(&errors).unwrap().to_string(), "b");
    }
}
