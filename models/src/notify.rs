use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use loom::sync::{Mutex, MutexGuard};

/// tokio's `Notify`, as far as it is documented: `notify_one` wakes one future that waits, or leaves a permit;
/// `notify_waiters` wakes every future that was made before, polled or not, and leaves none.
#[derive(Debug)]
pub(crate) struct Notify(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    permit: bool,
    /// How often all were woken.
    rounds: usize,
    next: usize,
    /// Those that wait, the longest wait first.
    waiting: VecDeque<(usize, Waker)>,
    /// Those that were woken one by one and have not noticed yet.
    woken: Vec<usize>,
}

/// Waits for a [`Notify`].
pub(crate) struct Notified<'a> {
    notify: &'a Notify,
    /// The rounds before it was made.
    rounds: usize,
    ticket: Option<usize>,
}

impl Default for Notify {
    fn default() -> Self {
        Self::new()
    }
}

impl Notify {
    pub(crate) fn new() -> Self {
        Self(Mutex::default())
    }

    pub(crate) fn notified(&self) -> Notified<'_> {
        Notified {
            notify: self,
            rounds: self.lock().rounds,
            ticket: None,
        }
    }

    pub(crate) fn notify_one(&self) {
        let mut state = self.lock();
        let Some((ticket, waker)) = state.waiting.pop_front() else {
            state.permit = true;
            return;
        };
        state.woken.push(ticket);
        drop(state);
        waker.wake();
    }

    pub(crate) fn notify_waiters(&self) {
        let mut state = self.lock();
        state.rounds += 1;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_iter().for_each(|(_, waker)| waker.wake());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("a sound lock")
    }
}

impl Future for Notified<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let mut state = this.notify.lock();
        if state.rounds != this.rounds {
            return Poll::Ready(());
        }
        let Some(ticket) = this.ticket else {
            if std::mem::take(&mut state.permit) {
                return Poll::Ready(());
            }
            let ticket = state.next;
            state.next += 1;
            state.waiting.push_back((ticket, cx.waker().clone()));
            this.ticket = Some(ticket);
            return Poll::Pending;
        };
        if let Some(at) = state.woken.iter().position(|woken| *woken == ticket) {
            state.woken.remove(at);
            this.ticket = None;
            return Poll::Ready(());
        }
        if let Some((_, waker)) = state
            .waiting
            .iter_mut()
            .find(|(waiting, _)| *waiting == ticket)
        {
            waker.clone_from(cx.waker());
        }
        Poll::Pending
    }
}

impl Drop for Notified<'_> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        let mut state = self.notify.lock();
        state.waiting.retain(|(waiting, _)| *waiting != ticket);
        let woken = state.woken.len();
        state.woken.retain(|woken| *woken != ticket);
        let unused = state.woken.len() < woken;
        drop(state);
        if unused {
            self.notify.notify_one();
        }
    }
}
