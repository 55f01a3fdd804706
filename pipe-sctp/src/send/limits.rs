//! Messages that are given up after a number of retransmissions or a time (RFC 3758, RFC 7496).

use std::time::Instant;

/// A message with a limit of which a part is outstanding.
#[derive(Debug)]
pub(crate) struct Limited {
    pub(crate) stream: u16,
    max_retransmits: Option<u16>,
    deadline: Option<Instant>,
    /// The TSNs of its fragments.
    pub(crate) tsns: Vec<u64>,
    /// Fragments that are in the ring of outstanding chunks.
    outstanding: usize,
    /// Whether no fragment follows.
    pub(crate) finished: bool,
    pub(crate) abandoned: bool,
}

impl Limited {
    /// Returns whether a fragment that was sent `transmissions` times is not sent again.
    pub(crate) fn is_exceeded(&self, now: Instant, transmissions: u16) -> bool {
        self.max_retransmits
            .is_some_and(|most| transmissions > most)
            || self.deadline.is_some_and(|deadline| deadline <= now)
    }
}

/// The messages with a limit, by index.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    entries: Vec<Option<Limited>>,
    free: Vec<u32>,
}

impl Limits {
    /// Adds a message of which the first fragment is sent.
    pub(crate) fn insert(
        &mut self,
        stream: u16,
        max_retransmits: Option<u16>,
        deadline: Option<Instant>,
    ) -> u32 {
        let limited = Limited {
            stream,
            max_retransmits,
            deadline,
            tsns: Vec::new(),
            outstanding: 0,
            finished: false,
            abandoned: false,
        };
        if let Some(index) = self.free.pop() {
            self.entries[index as usize] = Some(limited);
            return index;
        }
        self.entries.push(Some(limited));
        (self.entries.len() - 1) as u32
    }

    pub(crate) fn get_mut(&mut self, index: u32) -> Option<&mut Limited> {
        self.entries.get_mut(index as usize)?.as_mut()
    }

    /// Adds a fragment.
    pub(crate) fn sent(&mut self, index: u32, tsn: u64, finished: bool) {
        if let Some(limited) = self.get_mut(index) {
            limited.tsns.push(tsn);
            limited.outstanding += 1;
            limited.finished = finished;
        }
    }

    /// Counts a fragment that left the ring, and removes the message with the last one.
    pub(crate) fn settled(&mut self, index: u32) {
        let Some(limited) = self.get_mut(index) else {
            return;
        };
        limited.outstanding -= 1;
        self.release(index);
    }

    /// Marks that no fragment follows.
    pub(crate) fn finish(&mut self, index: u32) {
        if let Some(limited) = self.get_mut(index) {
            limited.finished = true;
            self.release(index);
        }
    }

    fn release(&mut self, index: u32) {
        let done = |limited: &mut Limited| limited.finished && limited.outstanding == 0;
        if self.get_mut(index).is_some_and(done) {
            self.entries[index as usize] = None;
            self.free.push(index);
            if self.free.len() == self.entries.len() && self.entries.len() > 64 {
                *self = Self::default();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn limits_are_by_count_and_by_time() {
        let now = Instant::now();
        let mut limits = Limits::default();
        let count = limits.insert(1, Some(2), None);
        let time = limits.insert(1, None, Some(now + Duration::from_secs(1)));
        let limited = limits.get_mut(count).expect("an entry");
        assert!(!limited.is_exceeded(now, 2));
        assert!(limited.is_exceeded(now, 3));
        let limited = limits.get_mut(time).expect("an entry");
        assert!(!limited.is_exceeded(now, 9));
        assert!(limited.is_exceeded(now + Duration::from_secs(1), 1));
    }

    #[test]
    fn entries_are_used_again() {
        let mut limits = Limits::default();
        let first = limits.insert(1, Some(0), None);
        limits.sent(first, 7, false);
        limits.sent(first, 8, true);
        limits.settled(first);
        assert!(limits.get_mut(first).is_some());
        limits.settled(first);
        assert!(limits.get_mut(first).is_none());
        assert_eq!(limits.insert(2, Some(0), None), first);
    }
}
