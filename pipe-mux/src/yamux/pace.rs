use std::time::{Duration, Instant};

/// The least and the most that waits for the byte stream before writers to streams wait, in bytes.
const LOW: usize = 8 * 1024;
pub(super) const HIGH: usize = 128 * 1024;

/// How long what waits takes the byte stream at most, where that is within these bounds: whatever is written next, to
/// whichever stream, waits for it.
const AHEAD: Duration = Duration::from_millis(5);

/// How long the byte stream is watched for its rate.
const WATCH: Duration = Duration::from_millis(20);

/// How long nothing may be sent without that this counts as a pause of the writers.
const PAUSE: Duration = Duration::from_millis(50);

/// Measures how fast the byte stream takes what is sent, and tells how much may wait for it.
///
/// The rate is that of times in which the byte stream did not take everything: otherwise it is the writers'.
#[derive(Debug)]
pub(super) struct Pace {
    mark: usize,
    /// Since when the rate is measured, and what was sent since then.
    since: Option<Instant>,
    taken: usize,
    /// When something was last sent, and whether the byte stream left some.
    last: Option<Instant>,
    is_blocked: bool,
    /// What was sent since it last left some.
    unblocked: usize,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self {
            mark: HIGH,
            since: None,
            taken: 0,
            last: None,
            is_blocked: false,
            unblocked: 0,
        }
    }

    /// Returns how many bytes may wait for the byte stream.
    pub(super) fn mark(&self) -> usize {
        self.mark
    }

    /// Takes in that the byte stream took so many bytes, and whether it left some.
    pub(super) fn on_sent(&mut self, bytes: usize, is_blocked: bool, now: Instant) {
        if is_blocked {
            self.unblocked = 0;
        } else {
            self.unblocked += bytes;
            // It takes more at once than a slow one does.
            if self.unblocked >= 8 * self.mark {
                self.unblocked = 0;
                self.mark = (2 * self.mark).min(HIGH);
            }
        }
        let last = self.last.replace(now).unwrap_or(now);
        // While some is left, time is the byte stream's, however long it is.
        if !self.is_blocked && now.saturating_duration_since(last) > PAUSE {
            self.since = None;
        }
        self.is_blocked = is_blocked;
        let Some(since) = self.since else {
            if is_blocked {
                (self.since, self.taken) = (Some(now), 0);
            }
            return;
        };
        self.taken += bytes;
        let time = now.saturating_duration_since(since);
        if time >= WATCH {
            let ahead = self.taken as u128 * AHEAD.as_nanos() / time.as_nanos();
            self.mark = usize::try_from(ahead).unwrap_or(HIGH).clamp(LOW, HIGH);
            self.since = is_blocked.then_some(now);
            self.taken = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    /// Sends so many bytes each time, of which the byte stream leaves some, and returns the mark.
    fn sent(
        pace: &mut Pace,
        times: u32,
        bytes: usize,
        every: Duration,
        now: &mut Instant,
    ) -> usize {
        for _ in 0..times {
            *now += every;
            pace.on_sent(bytes, true, *now);
        }
        pace.mark()
    }

    #[test]
    fn what_waits_takes_a_few_milliseconds() {
        let (mut pace, mut now) = (Pace::new(), Instant::now());
        assert_eq!(pace.mark(), HIGH);
        // 10 MB/s.
        let mark = sent(&mut pace, 100, 10_000, MILLISECOND, &mut now);
        assert_eq!(mark, 50_000);
        // 1 MB/s.
        let mark = sent(&mut pace, 100, 16_000, 16 * MILLISECOND, &mut now);
        assert_eq!(mark, LOW);
        // 100 KB/s, with a long time in between.
        let mark = sent(&mut pace, 100, 16_000, 160 * MILLISECOND, &mut now);
        assert_eq!(mark, LOW);
        // 1 GB/s.
        let mark = sent(&mut pace, 100, 1_000_000, MILLISECOND, &mut now);
        assert_eq!(mark, HIGH);
    }

    #[test]
    fn a_byte_stream_that_takes_everything_has_a_high_mark() {
        let (mut pace, mut now) = (Pace::new(), Instant::now());
        sent(&mut pace, 100, 16_000, 16 * MILLISECOND, &mut now);
        assert_eq!(pace.mark(), LOW);
        for _ in 0..400 {
            pace.on_sent(LOW, false, now);
        }
        assert_eq!(pace.mark(), HIGH);
    }

    #[test]
    fn pauses_of_the_writers_are_no_slowness_of_the_byte_stream() {
        let (mut pace, mut now) = (Pace::new(), Instant::now());
        for _ in 0..100 {
            now += 1000 * MILLISECOND;
            // A burst that it does not take at once, and then all of it.
            pace.on_sent(100_000, true, now);
            now += MILLISECOND;
            pace.on_sent(100_000, false, now);
        }
        assert_eq!(pace.mark(), HIGH);
    }

    #[test]
    fn few_bytes_that_are_taken_at_once_leave_a_low_mark() {
        let (mut pace, mut now) = (Pace::new(), Instant::now());
        for _ in 0..200 {
            now += 8 * MILLISECOND;
            pace.on_sent(8_000, false, now);
            now += 8 * MILLISECOND;
            pace.on_sent(8_000, true, now);
        }
        assert_eq!(pace.mark(), LOW);
    }
}
