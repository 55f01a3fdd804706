//! Pacing: a window leaves spread over a round trip, in small bursts.

use std::time::{Duration, Instant};

/// Round trips below this are not paced: timers are no finer.
const LEAST_RTT: Duration = Duration::from_millis(1);
/// The time whose bytes a burst may hold.
const BURST: Duration = Duration::from_millis(2);
/// The time whose bytes are waited for, so that one wake-up sends more than one packet.
const QUANTUM: Duration = Duration::from_millis(1);
/// Bounds of a burst in packets. The upper one is what a GSO send takes at most.
const MIN_BURST_PACKETS: usize = 10;
const MAX_BURST_PACKETS: usize = 64;

/// Spreads the congestion window over the round trip: a bucket of tokens, one for each byte.
///
/// The rate is the window divided by the smoothed round trip, times 2 in slow start and times 1.25 otherwise, as
/// RFC 9002, section 7.7 suggests: the window has to stay the limit. A burst holds two milliseconds of that rate,
/// between 10 and 64 packets. Round trips below one millisecond are not paced.
#[derive(Clone, Debug)]
pub struct Pacer {
    mtu: usize,
    tokens: f64,
    /// When the tokens were counted last; `None` before the first packet: the bucket is full.
    counted: Option<Instant>,
}

impl Pacer {
    /// Creates a pacer with a full bucket for packets of at most `mtu` bytes.
    pub fn new(mtu: usize) -> Pacer {
        Pacer {
            mtu,
            tokens: 0.0,
            counted: None,
        }
    }

    /// Sets the largest packet in bytes.
    pub fn set_mtu(&mut self, mtu: usize) {
        self.mtu = mtu;
    }

    /// Returns when a packet of `bytes` may be sent, or `None` if it may be sent now.
    ///
    /// `srtt` is `None` before the first measurement, and nothing is paced then.
    pub fn delay(
        &mut self,
        now: Instant,
        bytes: usize,
        window: usize,
        srtt: Option<Duration>,
        slow_start: bool,
    ) -> Option<Instant> {
        let srtt = srtt.filter(|srtt| *srtt >= LEAST_RTT)?;
        let gain = if slow_start { 2.0 } else { 1.25 };
        // Bytes in a second.
        let rate = gain * window.max(self.mtu) as f64 / srtt.as_secs_f64();
        let capacity = (rate * BURST.as_secs_f64()).clamp(
            (MIN_BURST_PACKETS * self.mtu) as f64,
            (MAX_BURST_PACKETS * self.mtu) as f64,
        );
        self.tokens = match self.counted {
            Some(counted) => {
                let elapsed = now.saturating_duration_since(counted).as_secs_f64();
                (self.tokens + rate * elapsed).min(capacity)
            }
            None => capacity,
        };
        self.counted = Some(now);
        // A packet larger than the bucket would never leave.
        let needed = (bytes as f64).min(capacity);
        if self.tokens >= needed {
            return None;
        }
        let wanted = needed.max(rate * QUANTUM.as_secs_f64()).min(capacity);
        let wait = (wanted - self.tokens) / rate;
        // At least a nanosecond, or the time that is returned would be this one again.
        now.checked_add(Duration::from_secs_f64(wait.min(1.0)).max(Duration::from_nanos(1)))
    }

    /// Takes the tokens of a packet of `bytes` that was sent. Packets that do not wait for the pacer, such as
    /// retransmissions and probes, take theirs too.
    pub fn on_sent(&mut self, bytes: usize) {
        if self.counted.is_some() {
            // What is owed is bounded by one burst.
            self.tokens =
                (self.tokens - bytes as f64).max(-((MAX_BURST_PACKETS * self.mtu) as f64));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MTU: usize = 1_200;
    const MS: Duration = Duration::from_millis(1);

    /// Sends as much as the pacer lets through from `now` on for `time`; returns bytes and the largest burst.
    fn run(window: usize, srtt: Duration, slow_start: bool, time: Duration) -> (usize, usize) {
        let mut pacer = Pacer::new(MTU);
        let mut now = Instant::now();
        let end = now + time;
        let (mut sent, mut burst, mut largest) = (0, 0, 0);
        while now < end {
            match pacer.delay(now, MTU, window, Some(srtt), slow_start) {
                None => {
                    pacer.on_sent(MTU);
                    sent += MTU;
                    burst += 1;
                    largest = largest.max(burst);
                }
                Some(at) => {
                    assert!(at > now);
                    now = at;
                    burst = 0;
                }
            }
        }
        (sent, largest)
    }

    #[test]
    fn the_rate_is_the_window_over_the_round_trip_with_its_gain() {
        for (slow_start, gain) in [(false, 1.25), (true, 2.0)] {
            let (sent, _) = run(500_000, 40 * MS, slow_start, Duration::from_secs(4));
            let ideal = gain * 500_000.0 * 100.0;
            let ratio = sent as f64 / ideal;
            assert!((0.99..1.01).contains(&ratio), "{ratio}");
        }
    }

    #[test]
    fn a_burst_is_between_ten_and_sixty_four_packets() {
        // 0.3 Mbit/s and 10 Gbit/s.
        assert_eq!(
            run(3_000, 100 * MS, false, Duration::from_secs(60)).1,
            MIN_BURST_PACKETS
        );
        assert_eq!(
            run(100_000_000, 100 * MS, false, MS * 100).1,
            MAX_BURST_PACKETS
        );
    }

    #[test]
    fn short_and_unknown_round_trips_are_not_paced() {
        let mut pacer = Pacer::new(MTU);
        let now = Instant::now();
        for _ in 0..1_000 {
            assert_eq!(pacer.delay(now, MTU, 12_000, None, true), None);
            assert_eq!(pacer.delay(now, MTU, 12_000, Some(MS / 2), true), None);
            pacer.on_sent(MTU);
        }
    }

    #[test]
    fn what_retransmissions_owe_is_bounded() {
        let mut pacer = Pacer::new(MTU);
        let now = Instant::now();
        assert_eq!(pacer.delay(now, MTU, 120_000, Some(10 * MS), false), None);
        for _ in 0..10_000 {
            pacer.on_sent(MTU);
        }
        // 15,000 bytes a millisecond.
        let at = pacer
            .delay(now, MTU, 120_000, Some(10 * MS), false)
            .unwrap();
        assert!(at <= now + 7 * MS, "{:?}", at - now);
    }

    #[test]
    fn an_idle_path_gains_one_burst_and_no_more() {
        let mut pacer = Pacer::new(MTU);
        let mut now = Instant::now();
        assert_eq!(pacer.delay(now, MTU, 12_000, Some(10 * MS), false), None);
        now += Duration::from_secs(60);
        let burst = (0..100)
            .take_while(|_| {
                let may = pacer
                    .delay(now, MTU, 12_000, Some(10 * MS), false)
                    .is_none();
                pacer.on_sent(MTU);
                may
            })
            .count();
        assert_eq!(burst, MIN_BURST_PACKETS);
    }
}
