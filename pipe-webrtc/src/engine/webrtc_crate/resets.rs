use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use tokio::time::Instant;

/// Time for which an open waits for the answers to resets, and for requested ones to be sent.
const PATIENCE: Duration = Duration::from_secs(1);
const ASKED_PATIENCE: Duration = Duration::from_millis(100);

/// Maximum number of unanswered resets of this side that are tracked.
const MAX_UNANSWERED: usize = 1024;

/// Keeps the ids of data channels from being given again before both directions were reset (RFC 8831,
/// section 6.7): a channel with such an id is lost without a word, or reset as soon as it is there.
///
/// The engine gives the lowest free id, and takes one for free as soon as this side closes. This follows the
/// resets of both sides, and names the ids that are to be reserved meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Resets {
    /// The lowest bit of the ids that this side gives (RFC 8832, section 6).
    parity: Option<u16>,
    /// Ids of this side that it has reset and the peer has not, and whether they are reserved.
    half: HashMap<u16, bool>,
    /// Resets of this side that the peer has not answered, by their number.
    unanswered: BTreeMap<u32, Vec<u16>>,
    /// The newest of them.
    newest: Option<u32>,
    /// Number of closes of this side that have not become resets yet.
    asked: usize,
    /// The engine's turn in which the peer has last reset an id of this side. The engine frees it at the end.
    freed: Option<u64>,
    /// Time of the first attempt of the waiting open, and the newest reset at that time.
    waits: Option<(Instant, Option<u32>)>,
}

impl Resets {
    /// Notes that this side has closed a channel.
    pub(crate) fn note_close(&mut self) {
        self.asked += 1;
    }

    /// Notes that this side has opened a channel with this id.
    pub(super) fn note_opened(&mut self, id: u16) {
        self.parity = Some(id & 1);
    }

    /// Notes a reset of these ids by this side. `is_reply` returns for one whether the peer has
    /// reset it, or requested that.
    pub(super) fn note_sent(&mut self, number: u32, ids: &[u16], is_reply: impl Fn(u16) -> bool) {
        if self.newest.is_some_and(|newest| !is_newer(number, newest)) {
            // It is sent again.
            return;
        }
        self.newest = Some(number);
        for id in ids.iter().copied().filter(|id| !is_reply(*id)) {
            self.asked = self.asked.saturating_sub(1);
            if self.parity == Some(id & 1) {
                self.half.entry(id).or_insert(false);
            }
        }
        if self.unanswered.len() >= MAX_UNANSWERED {
            self.unanswered.pop_first();
        }
        self.unanswered.insert(number, ids.to_vec());
    }

    /// Notes that the peer has answered a reset of this side.
    pub(super) fn note_answered(&mut self, number: u32) {
        self.unanswered.remove(&number);
    }

    /// Notes that the peer's reset of these ids was performed in this turn of the engine.
    pub(super) fn note_reset(&mut self, ids: &[u16], turn: u64) {
        for id in ids {
            if self.parity == Some(id & 1) {
                self.half.remove(id);
                self.freed = Some(turn);
            }
        }
    }

    /// Returns the ids to reserve before a channel is opened; `None` if that has to wait.
    pub(crate) fn before_open(&mut self, turn: u64, now: Instant) -> Option<Vec<u16>> {
        let (since, newest) = *self.waits.get_or_insert((now, self.newest));
        let waited = now - since;
        if waited >= ASKED_PATIENCE {
            // One of them has crossed a reset of the peer.
            self.asked = 0;
        }
        if waited >= PATIENCE {
            self.unanswered.clear();
        }
        let is_open = |(number, ids): (&u32, &Vec<u16>)| {
            newest.is_some_and(|newest| !is_newer(*number, newest))
                && ids.iter().any(|id| !self.half.contains_key(id))
        };
        if self.asked > 0 || self.freed == Some(turn) || self.unanswered.iter().any(is_open) {
            return None;
        }
        self.waits = None;
        let new = self.half.iter_mut().filter(|(_, reserved)| !**reserved);
        Some(
            new.map(|(id, reserved)| {
                *reserved = true;
                *id
            })
            .collect(),
        )
    }
}

/// Returns whether one number is after another (RFC 1982).
fn is_newer(number: u32, than: u32) -> bool {
    number != than && number.wrapping_sub(than) <= u32::MAX / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opener() -> Resets {
        let mut resets = Resets::default();
        for id in [1, 3, 5] {
            resets.note_opened(id);
        }
        resets
    }

    #[tokio::test(start_paused = true)]
    async fn an_id_that_the_peer_has_not_reset_is_reserved_once() {
        let mut resets = opener();
        let now = Instant::now();
        assert_eq!(resets.before_open(1, now), Some(vec![]));
        resets.note_close();
        // Nothing has gone out yet.
        assert_eq!(resets.before_open(1, now), None);
        resets.note_sent(7, &[3], |_| false);
        assert_eq!(resets.before_open(2, now), Some(vec![3]));
        resets.note_sent(7, &[3], |_| false);
        assert_eq!(resets.before_open(2, now), Some(vec![]));

        resets.note_reset(&[3], 3);
        resets.note_answered(7);
        // The engine has not freed it before its turn is over.
        assert_eq!(resets.before_open(3, now), None);
        assert_eq!(resets.before_open(4, now), Some(vec![]));
        // A reset that is sent again late has no effect.
        resets.note_sent(7, &[3], |_| false);
        assert_eq!(resets.before_open(4, now), Some(vec![]));
    }

    #[tokio::test(start_paused = true)]
    async fn an_id_that_the_peer_has_closed_waits_for_its_answer_and_not_for_ever() {
        let mut resets = opener();
        resets.note_reset(&[3], 1);
        resets.note_sent(7, &[3], |id| id == 3);
        assert_eq!(resets.before_open(2, Instant::now()), None);
        resets.note_answered(7);
        assert_eq!(resets.before_open(2, Instant::now()), Some(vec![]));

        resets.note_sent(8, &[5], |_| true);
        resets.note_close();
        assert_eq!(resets.before_open(2, Instant::now()), None);
        // Later resets do not extend the wait.
        resets.note_sent(9, &[1], |_| true);
        tokio::time::advance(PATIENCE / 2).await;
        assert_eq!(resets.before_open(2, Instant::now()), None);
        resets.note_answered(8);
        assert_eq!(resets.before_open(2, Instant::now()), Some(vec![]));
        assert_eq!(resets.before_open(2, Instant::now()), None);
        tokio::time::advance(PATIENCE).await;
        assert_eq!(resets.before_open(2, Instant::now()), Some(vec![]));
    }

    #[test]
    fn ids_of_the_peer_are_its_own_matter() {
        let mut resets = opener();
        resets.note_close();
        resets.note_sent(7, &[2], |_| false);
        resets.note_answered(7);
        assert_eq!(resets.before_open(1, Instant::now()), Some(vec![]));
        assert!(resets.half.is_empty());
    }

    #[test]
    fn resets_that_are_never_answered_are_bounded() {
        let mut resets = opener();
        for number in 0..10_000 {
            resets.note_sent(number, &[number as u16], |_| true);
        }
        assert_eq!(resets.unanswered.len(), MAX_UNANSWERED);
    }
}
