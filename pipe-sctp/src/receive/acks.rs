//! When a SACK is sent (RFC 9260, section 6.2).

use std::collections::VecDeque;

/// Most duplicate TSNs that are reported in a SACK.
const MAX_DUPLICATES: usize = 16;
/// Most SACKs of single packets that are kept; the next one covers the rest. Three reports of a gap are what
/// a peer waits for (RFC 9260, section 7.2.4).
const MAX_KEPT: usize = 3;

/// What is to be acknowledged.
#[derive(Debug, Default)]
pub(crate) struct Acks {
    /// Whether a SACK is due without delay.
    pub(crate) now: bool,
    /// Packets with data since the last SACK.
    packets: usize,
    in_packet: bool,
    had_gaps: bool,
    duplicates: Vec<u32>,
    kept: VecDeque<Vec<u8>>,
}

impl Acks {
    pub(super) fn on_data(&mut self, immediate: bool) {
        self.in_packet = true;
        self.now |= immediate;
    }

    pub(super) fn on_duplicate(&mut self, tsn: u32) {
        self.in_packet = true;
        self.now = true;
        if self.duplicates.len() < MAX_DUPLICATES {
            self.duplicates.push(tsn);
        }
    }

    /// Returns whether the packet had data so far.
    pub(crate) fn in_packet(&self) -> bool {
        self.in_packet
    }

    pub(super) fn end_packet(&mut self, gaps: bool) {
        self.in_packet = false;
        self.packets += 1;
        // Also at once when a gap closed.
        self.now |= gaps || self.had_gaps;
        self.had_gaps = gaps;
    }

    /// Returns whether a SACK is due.
    pub(crate) fn is_due(&self) -> bool {
        self.now || self.packets >= 2
    }

    /// Returns whether a SACK would report something new.
    pub(crate) fn is_pending(&self) -> bool {
        self.now || self.packets > 0
    }

    pub(super) fn duplicates(&self) -> &[u32] {
        &self.duplicates
    }

    /// Records that a SACK was sent.
    pub(crate) fn sent(&mut self) {
        self.now = false;
        self.packets = 0;
        self.duplicates.clear();
    }

    pub(super) fn may_keep(&self) -> bool {
        self.kept.len() < MAX_KEPT
    }

    /// Keeps a SACK of this moment, to be sent as it is.
    pub(super) fn keep(&mut self, sack: Vec<u8>) {
        self.kept.push_back(sack);
        self.sent();
    }

    pub(crate) fn has_kept(&self) -> bool {
        !self.kept.is_empty()
    }

    /// Takes the first SACK that was kept.
    pub(crate) fn take_kept(&mut self) -> Option<Vec<u8>> {
        self.kept.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(acks: &mut Acks, gaps: bool) {
        acks.on_data(false);
        acks.end_packet(gaps);
    }

    #[test]
    fn every_second_packet_is_acknowledged_at_once() {
        let mut acks = Acks::default();
        packet(&mut acks, false);
        assert!(acks.is_pending() && !acks.is_due());
        packet(&mut acks, false);
        assert!(acks.is_due());
        acks.sent();
        assert!(!acks.is_pending());
    }

    #[test]
    fn gaps_duplicates_and_the_i_bit_are_acknowledged_at_once() {
        let mut acks = Acks::default();
        packet(&mut acks, true);
        assert!(acks.is_due());
        acks.sent();
        packet(&mut acks, false);
        assert!(acks.is_due(), "the gap closed");
        acks.sent();
        packet(&mut acks, false);
        assert!(!acks.is_due());
        acks.sent();
        acks.on_data(true);
        assert!(acks.is_due());
        acks.sent();
        for tsn in 0..100 {
            acks.on_duplicate(tsn);
        }
        assert!(acks.is_due());
        assert_eq!(acks.duplicates().len(), MAX_DUPLICATES);
    }
}
