use std::sync::atomic::{AtomicU64, Ordering};

/// Approximate cost of a message to the engine besides its bytes.
const MESSAGE_COST: u64 = 256;

/// The messages of a channel that the peer has not acknowledged, apart from the bytes of its
/// streams.
#[derive(Debug, Default)]
pub(super) struct Words {
    /// Bytes of all messages that were sent.
    sent: AtomicU64,
    /// Length of messages since the mark.
    since: AtomicU64,
    /// Number of bytes sent when the last part of the messages began.
    mark: AtomicU64,
}

impl Words {
    /// Counts the bytes of a stream.
    pub(super) fn note_sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Counts a message that is none of the bytes of a stream.
    pub(super) fn note(&self, bytes: usize) {
        let bytes = bytes as u64;
        self.sent.fetch_add(bytes, Ordering::Relaxed);
        self.since
            .fetch_add(bytes + MESSAGE_COST, Ordering::Relaxed);
    }

    /// Returns whether the length of messages since the mark is less than `most`.
    pub(super) fn are_few(&self, most: u64) -> bool {
        self.since.load(Ordering::Relaxed) < most
    }

    /// Begins another part, unless the peer lacks some of the one before. Returns whether it does not.
    pub(super) fn begin(&self, outstanding: usize) -> bool {
        let sent = self.sent.load(Ordering::Relaxed);
        let taken = sent.saturating_sub(outstanding as u64);
        if taken < self.mark.load(Ordering::Relaxed) {
            return false;
        }
        self.mark.store(sent, Ordering::Relaxed);
        self.since.store(0, Ordering::Relaxed);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_waits_for_the_part_before_and_for_no_bytes() {
        const MOST: u64 = 4096;
        let words = Words::default();
        let mut said = 0;
        while words.are_few(MOST) {
            words.note(100);
            said += 100;
        }
        assert!(words.begin(said));
        while words.are_few(MOST) {
            words.note(100);
        }
        // Nothing was taken, and all of it is outstanding.
        let sent = words.sent.load(Ordering::Relaxed) as usize;
        assert!(!words.begin(sent));
        // The first part has arrived, and many bytes of a stream are on their way behind.
        words.sent.fetch_add(1 << 20, Ordering::Relaxed);
        assert!(words.begin(sent + (1 << 20) - said));
    }
}
