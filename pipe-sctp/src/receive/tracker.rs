//! Which TSNs arrived (RFC 9260, section 6.2).

use super::cost::RANGE;
use crate::{
    chunk::sack::{self, LEN},
    range_set::RangeSet,
    tsn,
};

/// Farthest TSN beyond the cumulative one that is taken: gap reports reach no further.
const MAX_AHEAD: u64 = u16::MAX as u64;

/// What a TSN is to the tracker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    New,
    Duplicate,
    TooFar,
}

/// The cumulative TSN and the ranges beyond it.
#[derive(Debug)]
pub(super) struct Tracker {
    cumulative: u64,
    beyond: RangeSet,
}

impl Tracker {
    pub(super) fn new(first: u64) -> Self {
        Self {
            cumulative: first - 1,
            beyond: RangeSet::default(),
        }
    }

    pub(super) fn cumulative(&self) -> u64 {
        self.cumulative
    }

    pub(super) fn has_gaps(&self) -> bool {
        !self.beyond.is_empty()
    }

    /// Returns what the ranges beyond the cumulative TSN count against the receive buffer.
    pub(super) fn stored(&self) -> usize {
        self.beyond.len() * RANGE
    }

    pub(super) fn expand(&self, wire: u32) -> u64 {
        tsn::expand32(self.cumulative, wire)
    }

    pub(super) fn look(&self, tsn: u64) -> Arrival {
        if tsn <= self.cumulative || self.beyond.contains(tsn) {
            Arrival::Duplicate
        } else if !self.is_ahead(tsn) {
            Arrival::TooFar
        } else {
            Arrival::New
        }
    }

    /// Returns whether a TSN is beyond the cumulative one, and not too far.
    pub(super) fn is_ahead(&self, tsn: u64) -> bool {
        tsn > self.cumulative && tsn <= self.cumulative + MAX_AHEAD
    }

    /// Records a TSN that is new.
    pub(super) fn record(&mut self, tsn: u64) {
        if tsn != self.cumulative + 1 {
            self.beyond.insert(tsn);
        } else if self.beyond.is_empty() {
            self.cumulative = tsn;
        } else {
            self.cumulative = self.beyond.advance(tsn);
        }
    }

    /// Moves the cumulative TSN to `tsn`, or beyond over what arrived.
    pub(super) fn forward(&mut self, tsn: u64) {
        self.cumulative = self.beyond.advance(tsn);
    }

    /// Appends a SACK chunk of at most `room` bytes.
    pub(super) fn put_sack(&self, buf: &mut Vec<u8>, window: u32, duplicates: &[u32], room: usize) {
        let offset = |tsn: u64| (tsn - self.cumulative).min(MAX_AHEAD) as u16;
        let gaps = self
            .beyond
            .iter()
            .map(|(from, to)| (offset(from), offset(to)));
        let entries = room.saturating_sub(LEN) / 4;
        sack::put(
            buf,
            self.cumulative as u32,
            window,
            gaps,
            duplicates,
            entries,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::sack::Sack;

    #[test]
    fn gaps_are_reported_and_closed() {
        let first = tsn::first(u32::MAX);
        let mut tracker = Tracker::new(first);
        for tsn in [first, first + 2, first + 3, first + 5] {
            assert_eq!(tracker.look(tsn), Arrival::New);
            tracker.record(tsn);
            assert_eq!(tracker.look(tsn), Arrival::Duplicate);
        }
        let mut buf = Vec::new();
        tracker.put_sack(&mut buf, 7, &[9], 100);
        let sack = Sack::read(&buf[4..]).expect("sack");
        assert_eq!(sack.cumulative, u32::MAX);
        assert_eq!(sack.gaps().collect::<Vec<_>>(), [(2, 3), (5, 5)]);
        tracker.record(first + 1);
        assert_eq!(tracker.cumulative(), first + 3);
        tracker.forward(first + 4);
        assert_eq!(tracker.cumulative(), first + 5);
        assert!(!tracker.has_gaps());
    }

    #[test]
    fn a_tsn_far_ahead_is_not_taken() {
        let tracker = Tracker::new(tsn::first(5));
        assert_eq!(tracker.look(tsn::first(4 + 65_535)), Arrival::New);
        assert_eq!(tracker.look(tsn::first(5 + 65_535)), Arrival::TooFar);
        assert_eq!(tracker.look(tsn::first(4)), Arrival::Duplicate);
    }
}
