use std::error::Error as StdError;
use std::fmt::Write as _;

use tracing::debug;

use super::winners::Winners;
use crate::backend::{furthest, race};
use crate::{Addr, Error, ErrorKind, Result};

/// Dials the addresses of a list, that at each place with `dial`, and returns the first connection. The one that connected
/// last time is tried first.
///
/// # Errors
///
/// When none connects, an error that names each with its own, of the kind of the one that came
/// [furthest].
///
/// # Cancel safety
///
/// Dropping the future drops the dials.
pub(super) async fn dial_list<C, F>(
    list: &Addr,
    winners: &Winners,
    dial: impl Fn(usize) -> F,
) -> Result<C>
where
    F: Future<Output = Result<C>>,
{
    let addrs = list.alternatives();
    let won = race(winners.order(list), |at| {
        let dialed = dial(at);
        async move {
            let mut attempt = Attempt {
                addr: &addrs[at],
                is_over: false,
            };
            let dialed = dialed.await;
            attempt.is_over = true;
            dialed.map(|conn| (at, conn)).map_err(|error| {
                debug!(addr = %addrs[at], error = with_causes(&error), "an address of a list failed");
                (at, error)
            })
        }
    });
    match won.await {
        Ok((at, conn)) => {
            winners.won(list, at);
            Ok(conn)
        }
        Err(failed) => Err(all_failed(addrs, failed)),
    }
}

/// A dial under way. That it is dropped before its end is logged.
struct Attempt<'a> {
    addr: &'a Addr,
    is_over: bool,
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            debug!(addr = %self.addr, "the dial of an address of a list is given up");
        }
    }
}

/// Creates the error of a list, from those of its addresses in the order in which they failed.
fn all_failed(addrs: &[Addr], mut failed: Vec<(usize, Error)>) -> Error {
    let kind = furthest(failed.iter().map(|(_, error)| error)).map(Error::kind);
    failed.sort_by_key(|(at, _)| *at);
    let mut text = "no address of the list connects".to_owned();
    for (at, error) in &failed {
        let sign = if *at == 0 { ":" } else { ";" };
        let _ = write!(text, "{sign} {}", about(&addrs[*at], error));
    }
    Error::new(kind.unwrap_or(ErrorKind::Unreachable), text)
}

/// Returns the text of an error, which names its address.
pub(super) fn about(addr: &Addr, error: &Error) -> String {
    let text = with_causes(error);
    if text.contains(addr.as_str()) {
        text
    } else {
        format!("{addr}: {text}")
    }
}

/// Returns the text of an error with those of its causes that it does not have already.
fn with_causes(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let why = cause.to_string();
        if !text.contains(&why) {
            let _ = write!(text, ": {why}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::future::pending;
    use std::io;
    use std::time::Duration;

    use tokio::time::{Instant, advance, sleep};

    use super::*;

    /// How long a dial runs by itself.
    const DELAY: Duration = Duration::from_millis(250);

    /// What becomes of the dial of an address, which has it as its path.
    async fn fate(addr: &Addr) -> Result<String> {
        let fail = |kind| Err(Error::new(kind, "that failed"));
        match addr.path() {
            "/hangs" => pending().await,
            "/refuses" => fail(ErrorKind::Refused),
            "/unreachable" => fail(ErrorKind::Unreachable),
            "/unknown" => fail(ErrorKind::AddrUnsupported),
            "/late" => {
                sleep(DELAY + DELAY / 2).await;
                Ok(addr.to_string())
            }
            _ => Ok(addr.to_string()),
        }
    }

    fn list(parts: &[&str]) -> Addr {
        Addr::list(parts.iter().copied()).unwrap()
    }

    /// Dials a list. Returns the outcome, what was dialed in what order, and how long it took.
    async fn dial(winners: &Winners, list: &Addr) -> (Result<String>, Vec<String>, Duration) {
        let tried = RefCell::new(Vec::new());
        let started = Instant::now();
        let dialed = dial_list(list, winners, |at| {
            let addr = &list.alternatives()[at];
            tried.borrow_mut().push(addr.to_string());
            fate(addr)
        });
        let dialed = dialed.await;
        (dialed, tried.into_inner(), started.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_are_tried_in_order_and_join_after_the_delay() {
        let winners = Winners::default();
        let list = list(&["a:///hangs", "b:///hangs", "c:///well", "d:///well"]);
        let (dialed, tried, took) = dial(&winners, &list).await;
        assert_eq!(dialed.unwrap(), "c:///well");
        assert_eq!(tried, ["a:///hangs", "b:///hangs", "c:///well"]);
        assert_eq!(took, 2 * DELAY);
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_address_follows_a_failure_at_once() {
        let winners = Winners::default();
        let list = list(&["a:///refuses", "b:///unknown", "c:///well"]);
        let (dialed, tried, took) = dial(&winners, &list).await;
        assert_eq!(dialed.unwrap(), "c:///well");
        assert_eq!(tried.len(), 3);
        assert_eq!(took, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn the_address_that_connected_is_tried_first_and_forgotten_later() {
        let winners = Winners::default();
        let list = list(&["a:///hangs", "b:///well"]);
        let first = ["a:///hangs", "b:///well"];
        let again = ["b:///well"];
        let minutes = |count: u64| Duration::from_secs(60 * count);
        for (wait, expected, time) in [
            (minutes(0), &first[..], DELAY),
            (minutes(5), &again, Duration::ZERO),
            (minutes(4), &again, Duration::ZERO),
            (minutes(1), &first, DELAY),
            (minutes(1), &again, Duration::ZERO),
        ] {
            advance(wait).await;
            let (dialed, tried, took) = dial(&winners, &list).await;
            assert_eq!(dialed.unwrap(), "b:///well");
            assert_eq!(tried, expected);
            assert_eq!(took, time);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_others_join_a_remembered_address_that_fails_or_takes_long() {
        for (remembered, winner, expected, time) in [
            (
                "b:///refuses",
                "c:///well",
                &["b:///refuses", "a:///hangs", "c:///well"][..],
                DELAY,
            ),
            (
                "b:///hangs",
                "c:///well",
                &["b:///hangs", "a:///hangs", "c:///well"],
                2 * DELAY,
            ),
            (
                "b:///late",
                "b:///late",
                &["b:///late", "a:///hangs"],
                DELAY + DELAY / 2,
            ),
        ] {
            let winners = Winners::default();
            let list = list(&["a:///hangs", remembered, "c:///well"]);
            winners.won(&list, 1);
            let (dialed, tried, took) = dial(&winners, &list).await;
            assert_eq!(dialed.unwrap(), winner);
            assert_eq!(tried, expected);
            assert_eq!(took, time);
            // The winner takes its place.
            let (_, tried, _) = dial(&winners, &list).await;
            assert_eq!(tried[0], winner);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn when_all_fail_each_is_named_and_the_furthest_gives_the_kind() {
        let winners = Winners::default();
        for (parts, kind) in [
            (
                &["a:///refuses", "b:///unknown", "c:///unreachable"][..],
                ErrorKind::Refused,
            ),
            (
                &["a:///unknown", "b:///unknown"],
                ErrorKind::AddrUnsupported,
            ),
        ] {
            let (dialed, _, took) = dial(&winners, &list(parts)).await;
            let error = dialed.unwrap_err();
            assert_eq!(error.kind(), kind);
            let parts: Vec<_> = parts.iter().map(|p| format!("{p}: that failed")).collect();
            let text = format!("no address of the list connects: {}", parts.join("; "));
            assert_eq!(error.to_string(), text);
            assert_eq!(took, Duration::ZERO);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_that_overtakes_another_stands_in_its_place_in_the_error() {
        let winners = Winners::default();
        let list = list(&["a://", "b://"]);
        winners.won(&list, 1);
        let dialed = dial_list(&list, &winners, async |at| {
            let cause = io::Error::other("the cause");
            let why = format!("no way to {}", list.alternatives()[at]);
            Result::<()>::Err(Error::with_source(ErrorKind::Unreachable, why, cause))
        });
        let text =
            "no address of the list connects: no way to a://: the cause; no way to b://: the cause";
        assert_eq!(dialed.await.unwrap_err().to_string(), text);
    }

    #[tokio::test(start_paused = true)]
    async fn a_dial_that_is_dropped_drops_all_and_remembers_nothing() {
        let winners = Winners::default();
        let list = list(&["a:///hangs", "b:///hangs", "c:///well"]);
        let held = std::rc::Rc::new(());
        let dialed = dial_list(&list, &winners, |at| {
            let held = held.clone();
            let addr = &list.alternatives()[at];
            async move {
                let made = fate(addr).await;
                drop(held);
                made
            }
        });
        let dropped = tokio::time::timeout(DELAY + DELAY / 2, dialed).await;
        assert!(dropped.is_err());
        assert_eq!(std::rc::Rc::strong_count(&held), 1);
        assert_eq!(winners.order(&list), [0, 1, 2]);
    }
}
