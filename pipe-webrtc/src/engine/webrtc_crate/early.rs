use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Waker};

use parking_lot::Mutex;

/// Maximum number of held datagrams; further ones go on to the engine, which drops them.
const MAX_HELD: usize = 8;

/// The longest that is held, in bytes: a handshake of DTLS is cut to the path.
const MAX_LENGTH: usize = 2048;

/// Maximum number of sockets that may wait, with those that have waited before.
const MAX_WAKERS: usize = 64;

/// Datagrams of DTLS that came before a pair of candidates was chosen.
///
/// The peer may choose first, and send at once. The engine drops these datagrams, and the peer
/// sends them again after a second (RFC 6347, section 4.2.4.1).
#[derive(Debug, Default)]
pub(super) struct Early {
    /// A pair is chosen.
    chosen: AtomicBool,
    /// Whether datagrams are held. Few operations need the lock.
    holding: AtomicBool,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    datagrams: VecDeque<(SocketAddr, Vec<u8>)>,
    wakers: Vec<Waker>,
}

impl Early {
    /// Notes whether a pair is chosen.
    pub(super) fn set_chosen(&self, chosen: bool) {
        self.chosen.store(chosen, Ordering::SeqCst);
        if chosen {
            let wakers = std::mem::take(&mut self.held.lock().wakers);
            wakers.into_iter().for_each(Waker::wake);
        }
    }

    /// Returns whether this datagram is to be held: it is of DTLS (RFC 7983, section 7), no pair is
    /// chosen, and there is room.
    pub(super) fn wants(&self, datagram: &[u8]) -> bool {
        !self.chosen.load(Ordering::Relaxed)
            && matches!(datagram, [20..=63, ..])
            && datagram.len() <= MAX_LENGTH
            && self.held.lock().datagrams.len() < MAX_HELD
    }

    /// Holds a datagram that is [wanted](Self::wants).
    pub(super) fn hold(&self, from: SocketAddr, datagram: &[u8]) {
        let mut held = self.held.lock();
        held.datagrams.push_back((from, datagram.to_vec()));
        self.holding.store(true, Ordering::SeqCst);
        if self.chosen.load(Ordering::SeqCst) {
            // It was chosen meanwhile.
            held.wakers.drain(..).for_each(Waker::wake);
        }
    }

    /// Takes the oldest datagram, once a pair is chosen; until then the task is woken when that is so.
    pub(super) fn take(&self, cx: &Context<'_>) -> Option<(SocketAddr, Vec<u8>)> {
        if !self.holding.load(Ordering::Relaxed) && self.chosen.load(Ordering::Relaxed) {
            return None;
        }
        let mut held = self.held.lock();
        if self.chosen.load(Ordering::SeqCst) {
            let next = held.datagrams.pop_front();
            self.holding
                .store(!held.datagrams.is_empty(), Ordering::SeqCst);
            return next;
        }
        if !held.wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
            if held.wakers.len() >= MAX_WAKERS {
                held.wakers.remove(0);
            }
            held.wakers.push(cx.waker().clone());
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn from() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 1))
    }

    #[test]
    fn what_is_held_comes_in_order_once_a_pair_is_chosen() {
        let early = Early::default();
        let count = Arc::new(Count::default());
        let waker = Waker::from(count.clone());
        let cx = Context::from_waker(&waker);
        for number in 0..3 {
            assert!(early.wants(&[22, number]));
            early.hold(from(), &[22, number]);
            assert_eq!(early.take(&cx), None);
        }
        early.set_chosen(true);
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        for number in 0..3 {
            assert_eq!(early.take(&cx), Some((from(), vec![22, number])));
        }
        assert_eq!(early.take(&cx), None);
        assert!(!early.wants(&[22, 3]));
        // ICE restarts.
        early.set_chosen(false);
        assert!(early.wants(&[22, 3]));
    }

    #[test]
    fn only_few_short_datagrams_of_dtls_are_held() {
        let early = Early::default();
        for other in [&[][..], &[0, 1], &[19], &[64], &[22; MAX_LENGTH + 1]] {
            assert!(!early.wants(other));
        }
        let mut held = 0;
        while early.wants(&[63]) {
            early.hold(from(), &[63]);
            held += 1;
        }
        assert_eq!(held, MAX_HELD);
    }

    #[test]
    fn those_that_wait_are_bounded() {
        let early = Early::default();
        let counts: Vec<_> = (0..200).map(|_| Arc::new(Count::default())).collect();
        for count in &counts {
            let waker = Waker::from(count.clone());
            assert_eq!(early.take(&Context::from_waker(&waker)), None);
        }
        assert_eq!(early.held.lock().wakers.len(), MAX_WAKERS);
        early.set_chosen(true);
        // The newest are those that still wait.
        assert_eq!(counts[199].0.load(Ordering::Relaxed), 1);
    }
}
