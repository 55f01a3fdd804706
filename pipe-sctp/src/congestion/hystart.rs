//! HyStart++: leaves slow start before the queue of the path overflows.

use std::time::{Duration, Instant};

/// The bounds of the increase of the round trip that ends slow start (RFC 9406, section 4.3).
const MIN_RTT_THRESHOLD: Duration = Duration::from_millis(4);
const MAX_RTT_THRESHOLD: Duration = Duration::from_millis(16);
/// The increase is the least round trip of the last round divided by this, within the bounds.
const RTT_DIVISOR: u32 = 8;
/// Samples that a round needs before it counts.
const RTT_SAMPLES: u32 = 8;
/// How much slower the window grows in conservative slow start.
const CSS_GROWTH_DIVISOR: usize = 4;
/// Rounds of conservative slow start before congestion avoidance.
const CSS_ROUNDS: u32 = 5;

/// Watches the round trips of slow start (RFC 9406, section 4.2).
///
/// A round is told by time: it ends with the first acknowledgement of a packet that was sent after the round
/// began.
#[derive(Clone, Debug, Default)]
pub(super) struct HyStart {
    round_start: Option<Instant>,
    last_round_min: Option<Duration>,
    round_min: Option<Duration>,
    samples: u32,
    conservative: Option<Conservative>,
}

/// Conservative slow start: whether the increase of the round trip lasts is yet to be shown.
#[derive(Clone, Copy, Debug)]
struct Conservative {
    baseline: Duration,
    rounds: u32,
}

impl HyStart {
    /// Records an acknowledgement of a packet sent at `sent` that measured `rtt`. Returns the bytes by which
    /// the window grows for `acked` bytes, or `None` when slow start has ended.
    pub(super) fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        rtt: Option<Duration>,
        acked: usize,
    ) -> Option<usize> {
        if self.round_start.is_none_or(|start| sent >= start) && !self.begin_round(now) {
            return None;
        }
        if let Some(rtt) = rtt {
            self.round_min = Some(self.round_min.map_or(rtt, |min| min.min(rtt)));
            self.samples += 1;
            self.examine();
        }
        Some(match self.conservative {
            Some(_) => acked / CSS_GROWTH_DIVISOR,
            None => acked,
        })
    }

    /// Begins a round. Returns false after the last one of conservative slow start.
    fn begin_round(&mut self, now: Instant) -> bool {
        if let Some(conservative) = &mut self.conservative {
            conservative.rounds += 1;
            if conservative.rounds > CSS_ROUNDS {
                return false;
            }
        }
        self.round_start = Some(now);
        self.last_round_min = self.round_min.take();
        self.samples = 0;
        true
    }

    fn examine(&mut self) {
        let (Some(min), true) = (self.round_min, self.samples >= RTT_SAMPLES) else {
            return;
        };
        if let Some(conservative) = self.conservative {
            // It was noise: slow start goes on.
            if min < conservative.baseline {
                self.conservative = None;
            }
        } else if let Some(last) = self.last_round_min {
            let threshold = (last / RTT_DIVISOR).clamp(MIN_RTT_THRESHOLD, MAX_RTT_THRESHOLD);
            if min >= last + threshold {
                self.conservative = Some(Conservative {
                    baseline: min,
                    rounds: 0,
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Feeds one round of `samples` acknowledgements with a round trip of `rtt`, and returns the growth of each.
    fn round(hystart: &mut HyStart, now: &mut Instant, rtt: Duration) -> Vec<Option<usize>> {
        let sent = *now;
        *now += rtt;
        (0..10)
            .map(|_| hystart.on_ack(*now, sent, Some(rtt), 1_000))
            .collect()
    }

    #[test]
    fn a_steady_round_trip_keeps_slow_start() {
        let (mut hystart, mut now) = (HyStart::default(), Instant::now());
        for _ in 0..50 {
            assert_eq!(round(&mut hystart, &mut now, 20 * MS), [Some(1_000); 10]);
        }
    }

    #[test]
    fn a_growing_round_trip_slows_growth_and_ends_it_after_five_rounds() {
        let (mut hystart, mut now) = (HyStart::default(), Instant::now());
        round(&mut hystart, &mut now, 40 * MS);
        // Below an eighth.
        assert_eq!(round(&mut hystart, &mut now, 44 * MS), [Some(1_000); 10]);
        let growth = round(&mut hystart, &mut now, 50 * MS);
        assert_eq!(growth[..7], [Some(1_000); 7]);
        assert_eq!(growth[7..], [Some(250); 3]);
        for _ in 0..CSS_ROUNDS {
            assert_eq!(round(&mut hystart, &mut now, 50 * MS), [Some(250); 10]);
        }
        assert_eq!(round(&mut hystart, &mut now, 50 * MS)[0], None);
    }

    #[test]
    fn a_round_trip_that_falls_again_resumes_slow_start() {
        let (mut hystart, mut now) = (HyStart::default(), Instant::now());
        round(&mut hystart, &mut now, 40 * MS);
        round(&mut hystart, &mut now, 60 * MS);
        let growth = round(&mut hystart, &mut now, 41 * MS);
        assert_eq!(growth[0], Some(250));
        assert_eq!(growth[9], Some(1_000));
        for _ in 0..2 * CSS_ROUNDS {
            assert_eq!(round(&mut hystart, &mut now, 41 * MS)[9], Some(1_000));
        }
    }

    #[test]
    fn retransmissions_measure_nothing() {
        let (mut hystart, mut now) = (HyStart::default(), Instant::now());
        round(&mut hystart, &mut now, 40 * MS);
        for _ in 0..100 {
            let sent = now;
            now += 400 * MS;
            assert_eq!(hystart.on_ack(now, sent, None, 1_000), Some(1_000));
        }
    }
}
