//! Resets of the peer that were performed and are still to be reported.

use super::stream::InStream;
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::{VecDeque, hash_map, hash_set};

/// Most resets that wait to be reported; further ones are not performed until then.
const MAX: usize = 4_096;

/// Resets in the order in which they were performed, each behind the messages that came before it.
#[derive(Debug, Default)]
pub(super) struct Unreported {
    /// After how many messages each is reported.
    queue: VecDeque<(u64, Reset)>,
    /// How often each stream is in the queue by itself.
    counts: FxHashMap<u16, u32>,
}

#[derive(Debug)]
enum Reset {
    One(u16),
    All(Box<All>),
}

/// A reset of all streams, which is taken apart as it is reported: a packet of a few bytes asks for it, and there may be
/// 65,535.
#[derive(Debug)]
struct All {
    /// Streams that this end has sent on.
    sent: hash_set::IntoIter<u16>,
    /// Streams that the peer has sent on, as long as there is a stream in `sent`.
    received: FxHashMap<u16, InStream>,
    rest: hash_map::IntoIter<u16, InStream>,
}

impl All {
    fn new(sent: FxHashSet<u16>, received: FxHashMap<u16, InStream>) -> Self {
        let mut all = Self {
            sent: sent.into_iter(),
            received,
            rest: FxHashMap::default().into_iter(),
        };
        all.settle();
        all
    }

    /// Goes on to the streams of the peer once all others are taken.
    fn settle(&mut self) {
        if self.sent.len() == 0 && !self.received.is_empty() {
            self.rest = std::mem::take(&mut self.received).into_iter();
        }
    }

    fn is_empty(&self) -> bool {
        self.sent.len() + self.received.len() + self.rest.len() == 0
    }

    fn next(&mut self) -> Option<(u16, Option<InStream>)> {
        let next = match self.sent.next() {
            Some(id) => Some((id, self.received.remove(&id))),
            None => self.rest.next().map(|(id, stream)| (id, Some(stream))),
        };
        self.settle();
        next
    }
}

impl Unreported {
    /// Returns whether another reset may be performed.
    pub(super) fn has_room(&self) -> bool {
        self.queue.len() < MAX
    }

    /// Adds the reset of a stream after `queued` messages. `used` says whether anything came on it: if not, one that is
    /// still to be reported covers it.
    pub(super) fn push(&mut self, queued: u64, id: u16, used: bool) {
        let count = self.counts.entry(id).or_insert(0);
        if used || *count == 0 {
            *count += 1;
            self.queue.push_back((queued, Reset::One(id)));
        }
    }

    /// Adds the reset of all streams after `queued` messages.
    pub(super) fn push_all(
        &mut self,
        queued: u64,
        sent: FxHashSet<u16>,
        received: FxHashMap<u16, InStream>,
    ) {
        let all = All::new(sent, received);
        if !all.is_empty() {
            self.queue.push_back((queued, Reset::All(Box::new(all))));
        }
    }

    /// Returns whether a reset is to be reported before the next message, with `taken` messages taken.
    pub(super) fn is_due(&self, taken: u64) -> bool {
        self.queue.front().is_some_and(|(after, _)| *after <= taken)
    }

    /// Takes the stream of the next reset, and what is stored of it, if `taken` messages let it be reported.
    pub(super) fn take(&mut self, taken: u64) -> Option<(u16, Option<InStream>)> {
        if !self.is_due(taken) {
            return None;
        }
        let (_, reset) = self.queue.front_mut()?;
        let (next, done) = match reset {
            Reset::One(id) => (Some((*id, None)), true),
            Reset::All(all) => (all.next(), all.is_empty()),
        };
        if done && let Some((_, Reset::One(id))) = self.queue.pop_front() {
            self.uncount(id);
        }
        if self.queue.is_empty() {
            *self = Self::default();
        }
        next
    }

    /// Drops what is stored of streams that were reset. Only their ids stay.
    pub(super) fn forget_stored(&mut self) {
        for (_, reset) in &mut self.queue {
            if let Reset::All(all) = reset {
                let received = std::mem::take(&mut all.received).into_keys();
                let rest = std::mem::take(&mut all.rest).map(|(id, _)| id);
                let ids = all.sent.by_ref().chain(received).chain(rest);
                **all = All::new(ids.collect(), FxHashMap::default());
            }
        }
    }

    fn uncount(&mut self, id: u16) {
        if let hash_map::Entry::Occupied(mut entry) = self.counts.entry(id) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(unreported: &mut Unreported, taken: u64) -> Option<u16> {
        unreported.take(taken).map(|(id, _)| id)
    }

    #[test]
    fn resets_wait_for_messages_and_come_in_order() {
        let mut unreported = Unreported::default();
        unreported.push(1, 7, true);
        unreported.push(1, 7, false);
        unreported.push(3, 7, true);
        unreported.push(3, 8, false);
        assert_eq!(take(&mut unreported, 0), None);
        assert!(unreported.is_due(1));
        assert_eq!(take(&mut unreported, 1), Some(7));
        assert_eq!(take(&mut unreported, 1), None);
        assert!(!unreported.is_due(2));
        assert_eq!(take(&mut unreported, 3), Some(7));
        assert_eq!(take(&mut unreported, 3), Some(8));
        assert!(!unreported.is_due(9));
        assert!(unreported.counts.is_empty());
    }

    #[test]
    fn all_streams_are_reported_once() {
        let mut unreported = Unreported::default();
        let sent = [1, 2, 3].into_iter().collect();
        let received = [3, 4]
            .into_iter()
            .map(|id| (id, InStream::default()))
            .collect();
        unreported.push_all(1, sent, received);
        unreported.push_all(1, FxHashSet::default(), FxHashMap::default());
        let mut ids = Vec::new();
        while let Some((id, stream)) = unreported.take(1) {
            assert_eq!(stream.is_some(), id >= 3);
            ids.push(id);
            assert_eq!(unreported.is_due(1), ids.len() < 4);
        }
        ids.sort_unstable();
        assert_eq!(ids, [1, 2, 3, 4]);
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut unreported = Unreported::default();
        for id in 0..u16::MAX {
            if unreported.has_room() {
                unreported.push(1, id, true);
            }
        }
        assert_eq!(unreported.queue.len(), MAX);
    }
}
