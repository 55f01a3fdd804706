use std::cell::RefCell;
use std::fmt;
use std::panic::{self, PanicHookInfo};
use std::sync::{Arc, Mutex, Once, PoisonError};

use tokio::sync::Notify;

thread_local! {
    static COLLECTOR: RefCell<Option<Panics>> = const { RefCell::new(None) };
}

/// The panics on the threads of one run of a case.
///
/// They are collected instead of printed, with their places, and from background tasks as well as
/// from the case: a transport whose task panics has failed, even if nothing waits for the task.
#[derive(Clone)]
pub(crate) struct Panics(Arc<State>);

#[derive(Default)]
struct State {
    messages: Mutex<Vec<String>>,
    news: Notify,
}

impl Panics {
    /// A collector without panics. The first one installs the hook, in front of the one in place.
    pub(crate) fn new() -> Self {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let others = panic::take_hook();
            panic::set_hook(Box::new(move |info| {
                match COLLECTOR.try_with(|c| c.borrow().clone()) {
                    Ok(Some(collector)) => collector.add(info),
                    Ok(None) | Err(_) => others(info),
                }
            }));
        });
        Self(Arc::default())
    }

    /// From now on collects the panics of the current thread.
    pub(crate) fn watch_this_thread(&self) {
        COLLECTOR.set(Some(self.clone()));
    }

    /// Waits for a panic.
    pub(crate) async fn panicked(&self) {
        loop {
            let news = self.0.news.notified();
            if !self.messages().is_empty() {
                return;
            }
            news.await;
        }
    }

    /// What the panics said, in their order; `None` if there were none.
    pub(crate) fn report(&self) -> Option<String> {
        let messages = self.messages();
        (!messages.is_empty()).then(|| messages.join("\n"))
    }

    fn add(&self, info: &PanicHookInfo<'_>) {
        let backtrace = std::backtrace::Backtrace::capture();
        let message = match backtrace.status() {
            std::backtrace::BacktraceStatus::Captured => format!("{info}\n{backtrace}"),
            _ => info.to_string(),
        };
        self.messages().push(message);
        self.0.news.notify_waiters();
    }

    fn messages(&self) -> impl std::ops::DerefMut<Target = Vec<String>> + '_ {
        self.0
            .messages
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Panics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Panics").field(&*self.messages()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[tokio::test]
    async fn panics_of_watched_threads_are_collected_with_their_places() {
        let panics = Panics::new();
        assert_eq!(panics.report(), None);
        let watched = panics.clone();
        let thread = thread::spawn(move || {
            watched.watch_this_thread();
            panic!("the hull is leaking");
        });
        panics.panicked().await;
        assert!(thread.join().is_err());
        let report = panics.report().unwrap();
        assert!(report.contains("the hull is leaking"), "{report}");
        assert!(report.contains("panics.rs"), "{report}");
    }
}
