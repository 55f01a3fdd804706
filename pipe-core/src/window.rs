use std::task::{Context, Waker};

use parking_lot::Mutex;

/// What all streams of one direction of a connection may have under way or unread together.
///
/// Writers wait in no order: each that finds room takes it, and all that waited are woken when there
/// is some again. Their number is bounded by that of the streams.
#[derive(Debug)]
pub struct ConnWindow(Mutex<State>);

#[derive(Debug)]
struct State {
    free: u64,
    waiting: Vec<Waker>,
}

impl ConnWindow {
    /// A window of so many bytes.
    pub fn new(size: u64) -> Self {
        Self(Mutex::new(State {
            free: size,
            waiting: Vec::new(),
        }))
    }

    /// Takes up to `want` bytes of room. With none left it takes nothing and wakes the task when
    /// there is some again.
    pub fn take(&self, want: usize, cx: &Context<'_>) -> usize {
        let mut state = self.0.lock();
        let got = state.free.min(want as u64);
        state.free -= got;
        if got == 0 && !state.waiting.iter().any(|w| w.will_wake(cx.waker())) {
            state.waiting.push(cx.waker().clone());
        }
        got as usize
    }

    /// Gives room back and wakes those who wait for it.
    pub fn give(&self, count: u32) {
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

#[cfg(test)]
mod tests {
    use std::task::Context;

    use futures::task::noop_waker_ref;

    use super::*;

    #[test]
    fn room_is_taken_and_given_back() {
        let cx = Context::from_waker(noop_waker_ref());
        let window = ConnWindow::new(10);
        assert_eq!(window.take(7, &cx), 7);
        assert_eq!(window.take(7, &cx), 3);
        assert_eq!(window.take(1, &cx), 0);
        window.give(4);
        assert_eq!(window.take(9, &cx), 4);
    }
}
