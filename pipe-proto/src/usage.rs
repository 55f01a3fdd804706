use std::time::{Duration, Instant};

/// The number of samples that are kept.
const MOST: usize = 10;

/// How many samples a round trip has.
const IN_ROUND_TRIP: u32 = 4;

/// What a stream has read lately: a sample for each quarter of a round trip, of two and a half.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// The oldest comes first.
    samples: [Option<Sample>; MOST],
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Instant,
    /// Bytes that had been read in all.
    read: u64,
}

/// How many bytes were read in a round trip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Used {
    pub(crate) last: u64,
    /// In the one before, if that is known.
    pub(crate) before: Option<u64>,
}

impl Usage {
    /// Notes that `read` bytes have been read in all. Returns whether it is a new sample.
    pub(crate) fn note(&mut self, read: u64, now: Instant, round_trip: Option<Duration>) -> bool {
        let spacing = round_trip.unwrap_or_default() / IN_ROUND_TRIP;
        let last = self.samples.iter().flatten().last();
        if last.is_some_and(|last| now.saturating_duration_since(last.at) < spacing) {
            return false;
        }
        let sample = Some(Sample { at: now, read });
        match self.samples.iter_mut().find(|place| place.is_none()) {
            Some(place) => *place = sample,
            None => {
                self.samples.rotate_left(1);
                self.samples[MOST - 1] = sample;
            }
        }
        true
    }

    /// Returns what was used until now, when `read` bytes have been read in all. `None` where that cannot be said: there
    /// is no sample of a round trip ago, and fewer than `much` bytes since the first.
    pub(crate) fn used(
        &self,
        read: u64,
        now: Instant,
        round_trip: Duration,
        much: u64,
    ) -> Option<Used> {
        let now = Sample { at: now, read };
        if let Some(first) = self.before(now, round_trip) {
            let before = self.before(first, round_trip);
            return Some(Used {
                last: first.used_until(now, round_trip),
                before: before.map(|before| before.used_until(first, round_trip)),
            });
        }
        let first = self.samples[0]?;
        let last = read - first.read;
        (last >= much).then_some(Used { last, before: None })
    }

    /// Returns the newest sample that is a round trip older than this one.
    fn before(&self, sample: Sample, round_trip: Duration) -> Option<Sample> {
        let mut samples = self.samples.iter().rev().flatten();
        let is_old = |old: &&Sample| sample.at.saturating_duration_since(old.at) >= round_trip;
        samples
            .find(|old| old.read <= sample.read && is_old(old))
            .copied()
    }
}

impl Sample {
    /// Returns how many bytes of those until `end` fall on a round trip.
    fn used_until(self, end: Sample, round_trip: Duration) -> u64 {
        let bytes = end.read - self.read;
        let time = end.at.saturating_duration_since(self.at).as_nanos();
        if time == 0 {
            return bytes;
        }
        let used = u128::from(bytes) * round_trip.as_nanos() / time;
        u64::try_from(used).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUND_TRIP: Duration = Duration::from_millis(100);

    /// Notes the bytes read in each quarter of a round trip.
    fn note(usage: &mut Usage, from: Instant, bytes: &[u64]) -> (u64, Instant) {
        let (mut read, mut now) = (0, from);
        usage.note(read, now, Some(ROUND_TRIP));
        for bytes in bytes {
            read += bytes;
            now += ROUND_TRIP / 4;
            usage.note(read, now, Some(ROUND_TRIP));
        }
        (read, now)
    }

    #[test]
    fn what_is_used_is_that_of_the_last_round_trips() {
        let mut usage = Usage::default();
        let mut bytes = vec![1000; 100];
        bytes.extend([10; 4]);
        bytes.extend([20; 4]);
        let (read, now) = note(&mut usage, Instant::now(), &bytes);
        let used = usage.used(read, now, ROUND_TRIP, u64::MAX).unwrap();
        assert_eq!(used.last, 80);
        assert_eq!(used.before, Some(40));
    }

    #[test]
    fn what_is_used_after_a_rest_is_little() {
        let mut usage = Usage::default();
        let (read, now) = note(&mut usage, Instant::now(), &[100; 30]);
        let used = usage.used(read + 100, now + 100 * ROUND_TRIP, ROUND_TRIP, 0);
        assert!(used.unwrap().last < 10, "{used:?}");
    }

    #[test]
    fn a_round_trip_that_is_not_over_counts_once_much_was_used() {
        let mut usage = Usage::default();
        let (read, now) = note(&mut usage, Instant::now(), &[100; 3]);
        assert_eq!(usage.used(read, now, ROUND_TRIP, 301), None);
        let used = usage.used(read, now, ROUND_TRIP, 300).unwrap();
        assert_eq!((used.last, used.before), (300, None));
        assert_eq!(Usage::default().used(0, now, ROUND_TRIP, 0), None);
    }

    #[test]
    fn a_path_without_a_round_trip_has_used_nothing_in_it() {
        let mut usage = Usage::default();
        let now = Instant::now();
        assert!(usage.note(0, now, Some(Duration::ZERO)));
        let used = usage.used(50, now + ROUND_TRIP, Duration::ZERO, 1).unwrap();
        assert_eq!(used.last, 0);
    }
}
