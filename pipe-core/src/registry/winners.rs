use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::Addr;

/// How long an address that connected is tried before those that are preferred to it. After that the list is tried
/// in its own order once more, so that a network that has become better is found out.
const LIFETIME: Duration = Duration::from_secs(10 * 60);

/// Maximum number of lists that are remembered. One more displaces the oldest.
const MAX_LISTS: usize = 256;

/// The addresses that connected, by the lists that they are in. A list is kept as its hash, so that each takes the same
/// little memory.
#[derive(Debug, Default)]
pub(super) struct Winners {
    by_list: Mutex<HashMap<u64, Winner>>,
    /// With a random key: equal hashes of two lists cannot be provoked, and would cost an order of dials.
    hasher: RandomState,
}

#[derive(Clone, Copy, Debug)]
struct Winner {
    /// Its place in the list.
    at: usize,
    since: Instant,
}

impl Winner {
    fn is_over(&self, now: Instant) -> bool {
        now.duration_since(self.since) >= LIFETIME
    }
}

impl Winners {
    /// Returns the places in the list, in the order in which they are to be tried.
    pub(super) fn order(&self, list: &Addr) -> Vec<usize> {
        let mut order: Vec<_> = (0..list.alternatives().len()).collect();
        let found = self.by_list.lock().get(&self.key(list)).copied();
        if let Some(winner) = found
            && !winner.is_over(Instant::now())
            // Always so, but for two lists with one hash.
            && winner.at < order.len()
        {
            order[..=winner.at].rotate_right(1);
        }
        order
    }

    /// Notes which address of the list connected. The time of one that was remembered already goes on.
    pub(super) fn won(&self, list: &Addr, at: usize) {
        let (key, now) = (self.key(list), Instant::now());
        let mut by_list = self.by_list.lock();
        match by_list.get(&key) {
            Some(known) if known.at == at && !known.is_over(now) => return,
            _ => by_list.remove(&key),
        };
        // The first one is tried first without being remembered.
        if at == 0 {
            return;
        }
        if by_list.len() >= MAX_LISTS {
            by_list.retain(|_, winner| !winner.is_over(now));
        }
        if by_list.len() >= MAX_LISTS
            && let Some((&oldest, _)) = by_list.iter().min_by_key(|(_, winner)| winner.since)
        {
            by_list.remove(&oldest);
        }
        by_list.insert(key, Winner { at, since: now });
    }

    fn key(&self, list: &Addr) -> u64 {
        self.hasher.hash_one(list)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn list(number: usize) -> Addr {
        let parts = ["a", "b", "c"].map(|name| format!("inproc://{name}-{number}"));
        Addr::list(parts).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn the_winner_goes_before_the_others_for_ten_minutes() {
        let winners = Winners::default();
        assert_eq!(winners.order(&list(1)), [0, 1, 2]);
        winners.won(&list(1), 2);
        assert_eq!(winners.order(&list(1)), [2, 0, 1]);
        assert_eq!(winners.order(&list(2)), [0, 1, 2]);
        advance(LIFETIME - Duration::from_secs(1)).await;
        assert_eq!(winners.order(&list(1)), [2, 0, 1]);
        // That it wins again makes it no younger: the preferred ones get their turn.
        winners.won(&list(1), 2);
        advance(Duration::from_secs(1)).await;
        assert_eq!(winners.order(&list(1)), [0, 1, 2]);
        winners.won(&list(1), 2);
        assert_eq!(winners.order(&list(1)), [2, 0, 1]);
        winners.won(&list(1), 1);
        assert_eq!(winners.order(&list(1)), [1, 0, 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_winner_that_is_the_first_anyway_is_not_remembered() {
        let winners = Winners::default();
        winners.won(&list(1), 1);
        winners.won(&list(1), 0);
        assert_eq!(winners.order(&list(1)), [0, 1, 2]);
        assert!(winners.by_list.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_lists_are_remembered_than_allowed() {
        let winners = Winners::default();
        for number in 0..=MAX_LISTS {
            winners.won(&list(number), 1);
            advance(Duration::from_millis(1)).await;
        }
        assert_eq!(winners.by_list.lock().len(), MAX_LISTS);
        assert_eq!(winners.order(&list(0)), [0, 1, 2], "the oldest");
        assert_eq!(winners.order(&list(1)), [1, 0, 2]);
        // Those that are over go first.
        advance(LIFETIME).await;
        winners.won(&list(1_000), 1);
        assert_eq!(winners.by_list.lock().len(), 1);
    }
}
