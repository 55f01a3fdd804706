use std::collections::BTreeMap;
use std::task::{Context, Waker};

use crate::sync::Mutex;

/// Flow control that all streams of one direction of a connection share: how many bytes they may have
/// under way or unread together.
///
/// Streams wait in a queue. Room that comes back wakes them all if they are few or there is much of it, and
/// else as many as it can serve: a peer that returns room byte by byte does not wake a thousand writers each
/// time.
#[derive(Debug)]
pub struct ConnWindow {
    size: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    free: u64,
    /// By how many bytes the window has grown.
    growth: u64,
    /// What is to be kept from the room that comes back, since the window has shrunk.
    withheld: u64,
    /// Streams that wait, by their tickets: the longest wait comes first.
    waiting: BTreeMap<u64, Waker>,
    next_ticket: u64,
}

/// The place of one stream in the queue of a [`ConnWindow`]. Each stream keeps its own.
#[derive(Debug, Default)]
pub struct WindowTicket(u64);

/// Minimum credit for each stream that is woken beyond the first, in bytes.
const SHARE: u64 = 1024;

/// Number of streams that are woken in any case.
const FEW: usize = 32;

impl ConnWindow {
    /// Creates a window of so many bytes.
    pub fn new(size: u64) -> Self {
        let state = State {
            free: size,
            growth: 0,
            withheld: 0,
            waiting: BTreeMap::new(),
            next_ticket: 1,
        };
        Self {
            size,
            state: Mutex::new(state),
        }
    }

    /// Takes up to `want` bytes of credit. With none left it takes nothing, and wakes the task when
    /// it is the turn of the stream that `ticket` belongs to. Other waiting streams are woken if
    /// credit is left.
    pub fn take(&self, want: usize, ticket: &mut WindowTicket, cx: &Context<'_>) -> usize {
        let mut state = self.state.lock();
        let got = state.free.min(want as u64);
        state.free -= got;
        if got == 0 && want > 0 {
            state.wait(ticket, cx);
            return 0;
        }
        state.waiting.remove(&ticket.0);
        let next = if state.free > 0 { state.pop() } else { None };
        drop(state);
        if let Some(waker) = next {
            waker.wake();
        }
        got as usize
    }

    /// Gives room back and wakes streams that wait for it.
    pub fn give(&self, count: u64) {
        if count == 0 {
            return;
        }
        let mut state = self.state.lock();
        let size = self.size.saturating_add(state.growth);
        let withheld = count.min(state.withheld);
        state.withheld -= withheld;
        state.free = state.free.saturating_add(count - withheld).min(size);
        let most = if state.free == 0 {
            0
        } else if state.waiting.len() <= FEW || state.free >= size / 2 {
            state.waiting.len()
        } else {
            1 + (count / SHARE) as usize
        };
        let woken: Vec<Waker> = std::iter::from_fn(|| state.pop()).take(most).collect();
        drop(state);
        woken.into_iter().for_each(Waker::wake);
    }

    /// Has the window be larger by `growth` bytes than it began. What it grows by is there at once; what it shrinks by
    /// is kept from the room that comes back, where it is in use.
    pub fn set_growth(&self, growth: u64) {
        let mut state = self.state.lock();
        let before = std::mem::replace(&mut state.growth, growth);
        if growth <= before {
            let less = before - growth;
            let taken = less.min(state.free);
            state.free -= taken;
            state.withheld += less - taken;
            return;
        }
        drop(state);
        self.give(growth - before);
    }

    /// Wakes one more stream if there is room and some wait. A stream that was woken may have lost
    /// interest; the owner of the window calls this now and then, so that the next one gets its turn.
    pub fn nudge(&self) {
        let mut state = self.state.lock();
        let next = if state.free > 0 { state.pop() } else { None };
        drop(state);
        if let Some(waker) = next {
            waker.wake();
        }
    }
}

impl State {
    fn wait(&mut self, ticket: &mut WindowTicket, cx: &Context<'_>) {
        if let Some(waker) = self.waiting.get_mut(&ticket.0) {
            waker.clone_from(cx.waker());
            return;
        }
        ticket.0 = self.next_ticket;
        self.next_ticket += 1;
        self.waiting.insert(ticket.0, cx.waker().clone());
    }

    fn pop(&mut self) -> Option<Waker> {
        self.waiting.pop_first().map(|(_, waker)| waker)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Wake};

    use futures::task::noop_waker_ref;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Creates a window of which nothing is left, and streams that wait for it.
    fn full_window(streams: usize) -> (ConnWindow, Vec<(Arc<Count>, WindowTicket)>) {
        let window = ConnWindow::new(1 << 20);
        let cx = Context::from_waker(noop_waker_ref());
        assert_eq!(
            window.take(1 << 20, &mut WindowTicket::default(), &cx),
            1 << 20
        );
        let waiting = (0..streams)
            .map(|_| {
                let (count, mut ticket) = (Arc::<Count>::default(), WindowTicket::default());
                let waker = Waker::from(count.clone());
                assert_eq!(window.take(1, &mut ticket, &Context::from_waker(&waker)), 0);
                (count, ticket)
            })
            .collect();
        (window, waiting)
    }

    fn woken(waiting: &[(Arc<Count>, WindowTicket)]) -> usize {
        waiting.iter().map(|w| w.0.0.load(Ordering::Relaxed)).sum()
    }

    #[test]
    fn room_is_taken_and_given_back() {
        let cx = Context::from_waker(noop_waker_ref());
        let ticket = &mut WindowTicket::default();
        let window = ConnWindow::new(10);
        assert_eq!(window.take(7, ticket, &cx), 7);
        assert_eq!(window.take(7, ticket, &cx), 3);
        assert_eq!(window.take(1, ticket, &cx), 0);
        window.give(4);
        assert_eq!(window.take(9, ticket, &cx), 4);
    }

    #[test]
    fn a_peer_cannot_give_more_than_the_window() {
        let cx = Context::from_waker(noop_waker_ref());
        let window = ConnWindow::new(10);
        window.give(u64::MAX);
        assert_eq!(window.take(100, &mut WindowTicket::default(), &cx), 10);
    }

    #[test]
    fn a_window_grows_at_once_and_shrinks_as_room_comes_back() {
        let cx = Context::from_waker(noop_waker_ref());
        let window = ConnWindow::new(100);
        let take = || window.take(usize::MAX, &mut WindowTicket::default(), &cx);
        assert_eq!(take(), 100);
        window.set_growth(50);
        assert_eq!(take(), 50);
        window.give(10);
        window.set_growth(0);
        // 10 were free, and 40 are missing.
        assert_eq!(take(), 0);
        window.give(30);
        assert_eq!(take(), 0);
        window.set_growth(5);
        assert_eq!(take(), 0);
        window.give(30);
        assert_eq!(take(), 25);
        window.give(u64::MAX);
        assert_eq!(take(), 105);

        let (window, waiting) = full_window(3);
        window.set_growth(1);
        assert_eq!(woken(&waiting), 3);
    }

    #[test]
    fn room_that_comes_byte_by_byte_wakes_one_of_many_streams_at_a_time() {
        let (window, waiting) = full_window(1000);
        for _ in 0..27 {
            window.give(1);
        }
        assert_eq!(woken(&waiting), 27);
        window.give(100 * 1024);
        assert_eq!(woken(&waiting), 27 + 101);
        window.give(1 << 19);
        assert_eq!(woken(&waiting), 1000);
    }

    #[test]
    fn few_streams_are_all_woken() {
        let (window, waiting) = full_window(FEW);
        window.give(1);
        assert_eq!(woken(&waiting), FEW);
    }

    #[test]
    fn a_stream_that_leaves_room_wakes_the_next() {
        let (window, mut waiting) = full_window(100);
        window.give(10);
        assert_eq!(woken(&waiting), 1);
        let cx = Context::from_waker(noop_waker_ref());
        assert_eq!(window.take(4, &mut waiting[0].1, &cx), 4);
        assert_eq!(woken(&waiting), 2);
    }

    #[test]
    fn a_nudge_gives_the_turn_of_a_stream_that_lost_interest_to_the_next() {
        let (window, waiting) = full_window(100);
        window.nudge();
        assert_eq!(woken(&waiting), 0);
        window.give(10);
        window.nudge();
        assert_eq!(woken(&waiting), 2);
    }

    #[test]
    fn a_stream_that_asks_again_keeps_its_place() {
        let (window, mut waiting) = full_window(100);
        let waker = Waker::from(waiting[0].0.clone());
        for _ in 0..10 {
            let cx = Context::from_waker(&waker);
            assert_eq!(window.take(1, &mut waiting[0].1, &cx), 0);
        }
        window.give(1);
        window.give(1);
        assert_eq!(woken(&waiting[..1]), 1);
        assert_eq!(woken(&waiting), 2);
    }
}
