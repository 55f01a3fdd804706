//! The order in which handshakes begin.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::incoming::Source;

/// Maximum time counted between two looks at the clock while a peer waits for its turn.
pub(super) const STEP: Duration = Duration::from_millis(10);

/// Time for which a waiting peer is new.
const NEW: Duration = Duration::from_millis(250);

/// Minimum time that a handshake is kept once the peer that waits for its place is no longer new.
const PATIENCE: Duration = Duration::from_secs(1);

/// The peers that wait for a place among the handshakes under way. The next one is of the source that has the
/// fewest handshakes under way, and of those the newest and the oldest by turns: a newcomer does not wait until
/// a crowd before it has had its time, nor one that waits until no newer ones come.
#[derive(Debug, Default)]
pub(super) struct Turns {
    waiting: BTreeMap<u64, Waiter>,
    next_turn: u64,
    /// Whether the oldest is next.
    oldest: bool,
}

#[derive(Debug)]
struct Waiter {
    source: Source,
    since: Instant,
    told: Arc<Notify>,
}

impl Turns {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Adds a peer. It is notified when it should check for its turn.
    pub(super) fn add(&mut self, source: Source, now: Instant) -> (u64, Arc<Notify>) {
        let turn = self.next_turn;
        self.next_turn += 1;
        let told = Arc::new(Notify::new());
        let waiter = Waiter {
            source,
            since: now,
            told: told.clone(),
        };
        self.waiting.insert(turn, waiter);
        (turn, told)
    }

    pub(super) fn remove(&mut self, turn: u64) {
        self.waiting.remove(&turn);
    }

    /// Notes that the next one had its turn.
    pub(super) fn taken(&mut self) {
        self.oldest = !self.oldest;
    }

    /// Returns the peer whose turn is next, by the number of handshakes of its source. It looks at
    /// all that wait.
    fn next(&self, count: impl Fn(Source) -> usize) -> Option<(u64, &Waiter)> {
        let by_turn = self.waiting.iter().map(|(turn, waiter)| (*turn, waiter));
        if self.oldest {
            by_turn.min_by_key(|(turn, waiter)| (count(waiter.source), *turn))
        } else {
            by_turn.min_by_key(|(turn, waiter)| (count(waiter.source), Reverse(*turn)))
        }
    }

    /// Wakes the next peer.
    pub(super) fn tell_next(&self, count: impl Fn(Source) -> usize) {
        if let Some((_, waiter)) = self.next(count) {
            waiter.told.notify_one();
        }
    }

    /// Returns whether this peer is next. If not, wakes the one that is.
    pub(super) fn is_next(&self, turn: u64, count: impl Fn(Source) -> usize) -> bool {
        match self.next(count) {
            Some((next, waiter)) if next != turn => {
                waiter.told.notify_one();
                false
            }
            _ => true,
        }
    }

    /// Returns the minimum time that a handshake without progress is kept while a peer waits for
    /// its place: `grace` for a newcomer. Without a minimum, waiting peers would displace each
    /// other all the time.
    pub(super) fn grace(&self, now: Instant, grace: Duration) -> Duration {
        match self.waiting.last_key_value() {
            Some((_, newest)) if now >= newest.since + NEW => grace.max(PATIENCE),
            _ => grace,
        }
    }
}

/// A clock for how long peers have kept this side waiting. While it is watched, time in which this side
/// itself was held up does not count.
#[derive(Debug)]
pub(super) struct Attention {
    last: Instant,
    absent: Duration,
}

impl Attention {
    pub(super) fn new() -> Self {
        Self {
            last: Instant::now(),
            absent: Duration::ZERO,
        }
    }

    /// Returns the time. `watched` is whether the clock was to be looked at each [`STEP`].
    pub(super) fn now(&mut self, watched: bool) -> Instant {
        let now = Instant::now();
        if watched {
            self.absent += (now - self.last).saturating_sub(STEP);
        }
        self.last = now;
        now - self.absent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Source = Source::V4(1);
    const OTHER: Source = Source::V4(2);

    #[tokio::test(start_paused = true)]
    async fn the_source_with_the_fewest_is_next_and_of_it_the_newest_and_the_oldest_by_turns() {
        let mut turns = Turns::default();
        let now = Instant::now();
        let (first, _) = turns.add(ONE, now);
        let (second, _) = turns.add(ONE, now);
        let (other, told) = turns.add(OTHER, now);
        let busy = |source| usize::from(source == OTHER);
        assert!(turns.is_next(second, busy));
        turns.taken();
        assert!(turns.is_next(first, busy));
        turns.taken();
        assert!(!turns.is_next(first, |_| 0));
        // The peer whose turn it is was notified.
        told.notified().await;
        assert!(turns.is_next(other, |_| 0));
        turns.remove(second);
        turns.remove(other);
        assert!(turns.is_next(first, busy));
        turns.remove(first);
        assert!(turns.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn where_no_newcomer_waits_handshakes_have_more_time() {
        let mut turns = Turns::default();
        let now = Instant::now();
        turns.add(ONE, now);
        let grace = Duration::from_millis(50);
        assert_eq!(turns.grace(now, grace), grace);
        assert_eq!(turns.grace(now + NEW, grace), PATIENCE);
        turns.add(ONE, now + NEW);
        assert_eq!(turns.grace(now + NEW, grace), grace);
    }

    #[tokio::test(start_paused = true)]
    async fn own_absence_does_not_count_while_it_is_watched() {
        let mut clock = Attention::new();
        let began = clock.now(false);
        tokio::time::advance(5 * STEP).await;
        assert_eq!(clock.now(false), began + 5 * STEP);
        tokio::time::advance(5 * STEP).await;
        assert_eq!(clock.now(true), began + 6 * STEP);
        tokio::time::advance(STEP / 2).await;
        assert_eq!(clock.now(true), began + 6 * STEP + STEP / 2);
    }
}
