use std::time::{Duration, Instant};

/// When the peer was heard, by packets that are certainly its own.
#[derive(Debug)]
pub(super) struct Vitals {
    /// Number of packets that were not reported yet, and the time of the last.
    heard: u64,
    heard_at: Instant,
    /// Time without packets after which the path counts as silent.
    silence: Duration,
}

impl Vitals {
    pub(super) fn new(silence: Duration, now: Instant) -> Self {
        Self {
            heard: 0,
            heard_at: now,
            silence,
        }
    }

    pub(super) fn note_heard(&mut self, now: Instant) {
        self.heard += 1;
        self.heard_at = now;
    }

    /// Returns the number of packets since the last call.
    pub(super) fn take_heard(&mut self) -> u64 {
        std::mem::take(&mut self.heard)
    }

    pub(super) fn is_silent(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.heard_at) >= self.silence
    }

    /// Returns when the path will count as silent; `None` if it does.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        let silent = self.heard_at + self.silence;
        (silent > now).then_some(silent)
    }
}
