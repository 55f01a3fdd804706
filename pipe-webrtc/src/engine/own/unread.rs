use std::sync::atomic::{AtomicUsize, Ordering};

/// The cost of the messages that were not read, and its limit.
#[derive(Debug)]
pub(super) struct Unread {
    cost: AtomicUsize,
    limit: usize,
}

impl Unread {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            cost: AtomicUsize::new(0),
            limit,
        }
    }

    /// Counts messages that wait to be read.
    pub(super) fn add(&self, cost: usize) {
        self.cost.fetch_add(cost, Ordering::AcqRel);
    }

    /// Counts messages that were read. Returns whether that makes room where there was none.
    pub(super) fn remove(&self, cost: usize) -> bool {
        let before = self.cost.fetch_sub(cost, Ordering::AcqRel);
        before >= self.limit && before - cost < self.limit
    }

    /// Returns whether more messages may wait to be read.
    pub(super) fn has_room(&self) -> bool {
        self.cost.load(Ordering::Acquire) < self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_made_once_by_what_goes_below_the_limit() {
        let unread = Unread::new(10);
        unread.add(9);
        assert!(unread.has_room());
        unread.add(5);
        assert!(!unread.has_room());
        assert!(!unread.remove(4), "at the limit");
        assert!(unread.remove(1));
        assert!(!unread.remove(9), "there was room");
        assert!(unread.has_room());
    }
}
