use std::task::{Context, Waker};

use parking_lot::Mutex;

/// What all streams of one direction of a connection may have under way or unread together.
///
/// Writers wait in no order: each that finds room takes it, and all that waited are woken when there
/// is some again. Their number is bounded by that of the streams.
pub(crate) struct ConnWindow(Mutex<State>);

struct State {
    free: u64,
    waiting: Vec<Waker>,
}

impl ConnWindow {
    pub(crate) fn new(size: u64) -> Self {
        Self(Mutex::new(State {
            free: size,
            waiting: Vec::new(),
        }))
    }

    /// Takes up to `want` bytes of room. With none left it takes nothing and wakes the task when
    /// there is some again.
    pub(crate) fn take(&self, want: usize, cx: &Context<'_>) -> usize {
        let mut state = self.0.lock();
        let got = state.free.min(want as u64);
        state.free -= got;
        if got == 0 && !state.waiting.iter().any(|w| w.will_wake(cx.waker())) {
            state.waiting.push(cx.waker().clone());
        }
        got as usize
    }

    pub(crate) fn give(&self, count: u32) {
        if count == 0 {
            return;
        }
        let mut state = self.0.lock();
        state.free += u64::from(count);
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        for waker in waiting {
            waker.wake();
        }
    }
}
