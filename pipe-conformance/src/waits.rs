//! The waits of a run that are open, so that a time limit can name them.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt::{self, Debug, Write};
use std::future::Future;
use std::panic::Location;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::time::within;

/// The most waits that a report lists.
const LISTED: usize = 12;

thread_local! {
    static CURRENT: RefCell<Option<Waits>> = const { RefCell::new(None) };
}

/// The open waits on the threads of one run of a case.
#[derive(Clone, Default)]
pub(crate) struct Waits(Arc<Mutex<Table>>);

#[derive(Default)]
struct Table {
    next: u64,
    /// In no order.
    open: Vec<Entry>,
}

struct Entry {
    id: u64,
    what: Cow<'static, str>,
    place: &'static Location<'static>,
    since: Instant,
    /// How many of how many bytes have come, for a wait for bytes.
    bytes: Option<(usize, usize)>,
}

/// A wait that is open until the drop. On a thread without [`Waits`] it does nothing.
pub(crate) struct Wait(Option<(Waits, u64)>);

impl Waits {
    /// From now on collects the waits of the current thread.
    pub(crate) fn watch_this_thread(&self) {
        CURRENT.set(Some(self.clone()));
    }

    /// Lists the open waits, the oldest first; `None` if there are none.
    pub(crate) fn report(&self) -> Option<String> {
        self.report_without(None)
    }

    fn report_without(&self, left_out: Option<u64>) -> Option<String> {
        let table = self.table();
        let others = table.open.iter().filter(|entry| Some(entry.id) != left_out);
        let mut open: Vec<&Entry> = others.collect();
        open.sort_by_key(|entry| entry.id);
        if open.is_empty() {
            return None;
        }
        let mut report = String::new();
        for entry in open.iter().take(LISTED) {
            let _ = write!(report, "\n  {entry}");
        }
        if open.len() > LISTED {
            let _ = write!(report, "\n  and {} more", open.len() - LISTED);
        }
        Some(report)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn find(&mut self, id: u64) -> Option<&mut Entry> {
        self.open.iter_mut().rev().find(|entry| entry.id == id)
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.what)?;
        if let Some((done, total)) = self.bytes {
            write!(f, " ({done} of {total} bytes)")?;
        }
        write!(f, ", for {:.1?}, at {}", self.since.elapsed(), self.place)
    }
}

impl Wait {
    /// Opens a wait on the current thread's run.
    pub(crate) fn begin(
        what: impl Into<Cow<'static, str>>,
        place: &'static Location<'static>,
    ) -> Self {
        let waits = CURRENT.try_with(|current| current.borrow().clone());
        let Ok(Some(waits)) = waits else {
            return Self(None);
        };
        let (what, since) = (what.into(), Instant::now());
        let mut table = waits.table();
        let id = table.next;
        table.next += 1;
        table.open.push(Entry {
            id,
            what,
            place,
            since,
            bytes: None,
        });
        drop(table);
        Self(Some((waits, id)))
    }

    /// Notes how many bytes of how many have come.
    pub(crate) fn bytes(&self, done: usize, total: usize) {
        if let Some((waits, id)) = &self.0
            && let Some(entry) = waits.table().find(*id)
        {
            entry.bytes = Some((done, total));
        }
    }

    /// Lists the other open waits of the run.
    fn others(&self) -> Option<String> {
        let (waits, id) = self.0.as_ref()?;
        waits.report_without(Some(*id))
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        if let Some((waits, id)) = &self.0 {
            let mut table = waits.table();
            // What was opened last is over first, mostly.
            if let Some(at) = table.open.iter().rposition(|entry| entry.id == *id) {
                drop(table.open.swap_remove(at));
            }
        }
    }
}

/// Waits for the future, for so long at most, and panics if it is not over by then: `what` is what the
/// message says, with the time, the place of the caller and the other open waits.
#[track_caller]
pub(crate) fn in_time<F: Future>(
    what: impl Into<Cow<'static, str>>,
    limit: Duration,
    future: F,
) -> impl Future<Output = F::Output> {
    let (what, place) = (what.into(), Location::caller());
    async move {
        let wait = Wait::begin(what.clone(), place);
        let mut future = pin!(future);
        if let Some(output) = within(limit, &mut future).await {
            return output;
        }
        // While the future lives, and with it the waits inside.
        let others = wait
            .others()
            .map_or_else(String::new, |others| format!("; other open waits:{others}"));
        panic!("waited {limit:?} in vain for {what}, at {place}{others}");
    }
}

/// Gives waits names, by which a time limit that runs out meanwhile tells them.
pub(crate) trait Named: Future + Sized {
    /// The same future, as a wait with this name.
    #[track_caller]
    fn named(self, what: &'static str) -> impl Future<Output = Self::Output> {
        let place = Location::caller();
        async move {
            let _wait = Wait::begin(what, place);
            self.await
        }
    }

    /// Waits for a result with this name, and panics if it is an error.
    #[track_caller]
    fn expect_ok<R, E: Debug>(self, what: &'static str) -> impl Future<Output = R>
    where
        Self: Future<Output = Result<R, E>>,
    {
        let place = Location::caller();
        async move {
            let _wait = Wait::begin(what, place);
            match self.await {
                Ok(output) => output,
                Err(error) => panic!("{what} failed, at {place}: {error:?}"),
            }
        }
    }
}

impl<F: Future> Named for F {}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn open_waits_are_listed_with_their_times_and_places_until_they_are_over() {
        let waits = Waits::default();
        waits.watch_this_thread();
        assert_eq!(waits.report(), None);
        let outer = async {
            tokio::join!(
                pending::<()>().named("the tide"),
                async {
                    let wait = Wait::begin("water", Location::caller());
                    wait.bytes(3, 10);
                    pending::<()>().await;
                },
                ready(()).named("a wait that is over"),
            )
        };
        assert!(within(Duration::from_secs(2), outer).await.is_none());
        assert_eq!(waits.report(), None, "what was dropped is not waited for");

        let listed = async {
            let open = [
                Wait::begin("the tide", Location::caller()),
                Wait::begin("water", Location::caller()),
            ];
            open[1].bytes(3, 10);
            tokio::time::sleep(Duration::from_secs(2)).await;
            waits.report().expect("two waits")
        };
        let report = listed.await;
        assert!(report.contains("the tide, for 2.0s, at "), "{report}");
        assert!(report.contains("water (3 of 10 bytes), for"), "{report}");
        assert!(report.contains("waits.rs"), "{report}");
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "waited 3s in vain for high water, at ")]
    async fn a_time_limit_names_the_wait_and_its_length() {
        in_time("high water", Duration::from_secs(3), pending::<()>()).await;
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "other open waits:\n  the moon, for 3.0s, at ")]
    async fn a_time_limit_names_the_waits_inside() {
        Waits::default().watch_this_thread();
        let inside = async {
            let _never: () = pending().named("the moon").await;
        };
        in_time("high water", Duration::from_secs(3), inside).await;
    }

    #[tokio::test]
    #[should_panic(expected = "a haul failed, at ")]
    async fn an_error_is_told_with_the_name_and_place_of_the_wait() {
        let _: () = ready(Err::<(), _>("torn")).expect_ok("a haul").await;
    }
}
