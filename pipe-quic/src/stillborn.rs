//! Connections that their clients have closed before they were made.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use pipe_core::backend::Source;
use tokio::time::Instant;

/// How many of them one source may leave behind.
const MAX_OF_SOURCE: usize = 64;

/// The connections that were closed by the first packets of their clients. quinn (0.11) keeps each until it
/// has been idle for its time, and nothing ends it before.
#[derive(Debug)]
pub(crate) struct Stillborn {
    kept_for: Duration,
    /// In the order in which they go.
    all: VecDeque<(Instant, Source)>,
    counts: HashMap<Source, usize>,
}

impl Stillborn {
    pub(crate) fn new(kept_for: Duration) -> Self {
        Self {
            kept_for,
            all: VecDeque::new(),
            counts: HashMap::new(),
        }
    }

    /// Counts one more of a source.
    pub(crate) fn add(&mut self, source: Source, now: Instant) {
        self.forget(now);
        self.all.push_back((now, source));
        *self.counts.entry(source).or_default() += 1;
    }

    /// Whether a source has left as many behind as it may.
    pub(crate) fn is_full(&mut self, source: Source, now: Instant) -> bool {
        self.forget(now);
        self.counts
            .get(&source)
            .is_some_and(|count| *count >= MAX_OF_SOURCE)
    }

    fn forget(&mut self, now: Instant) {
        while let Some((since, source)) = self.all.front().copied()
            && now >= since + self.kept_for
        {
            self.all.pop_front();
            if let Some(count) = self.counts.get_mut(&source) {
                *count -= 1;
                if *count == 0 {
                    self.counts.remove(&source);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_full_until_what_it_left_behind_has_gone() {
        let (source, other) = (Source::V4(1), Source::V4(2));
        let now = Instant::now();
        let mut stillborn = Stillborn::new(Duration::from_secs(60));
        for second in 0..MAX_OF_SOURCE as u64 {
            let now = now + Duration::from_millis(second);
            assert!(!stillborn.is_full(source, now));
            stillborn.add(source, now);
        }
        let later = now + Duration::from_secs(1);
        assert!(stillborn.is_full(source, later));
        assert!(!stillborn.is_full(other, later));
        assert!(!stillborn.is_full(source, now + Duration::from_secs(60)));
        assert!(!stillborn.is_full(source, now + Duration::from_secs(120)));
        assert!(stillborn.all.is_empty() && stillborn.counts.is_empty());
    }
}
