//! Estimates the round-trip time (RFC 9260, section 6.3.1; RFC 6298).

use std::time::Duration;

/// The least variance of a probe: timers may be late.
const GRANULARITY: Duration = Duration::from_millis(1);

/// A smoothed round-trip time and what follows from it.
#[derive(Clone, Debug)]
pub(crate) struct Rtt {
    smoothed: Option<Duration>,
    variance: Duration,
    latest: Duration,
    min: Duration,
    rto_min: Duration,
    rto_initial: Duration,
    rto_max: Duration,
    /// Longest delay of a SACK by the peer.
    ack_delay: Duration,
    backoff: u32,
}

impl Rtt {
    pub(crate) fn new(rto_initial: Duration, rto_min: Duration, rto_max: Duration) -> Self {
        Self {
            smoothed: None,
            variance: Duration::ZERO,
            latest: rto_initial,
            min: Duration::MAX,
            rto_min,
            rto_initial,
            rto_max,
            ack_delay: Duration::from_millis(200),
            backoff: 0,
        }
    }

    pub(crate) fn set_ack_delay(&mut self, delay: Duration) {
        self.ack_delay = delay;
    }

    /// Takes a measurement.
    pub(crate) fn update(&mut self, sample: Duration) {
        self.latest = sample;
        self.min = self.min.min(sample);
        match &mut self.smoothed {
            None => {
                self.smoothed = Some(sample);
                self.variance = sample / 2;
            }
            Some(smoothed) => {
                let difference = smoothed.abs_diff(sample);
                self.variance = (self.variance * 3 + difference) / 4;
                *smoothed = (*smoothed * 7 + sample) / 8;
            }
        }
    }

    pub(crate) fn smoothed(&self) -> Option<Duration> {
        self.smoothed
    }

    pub(crate) fn variance(&self) -> Duration {
        self.variance
    }

    pub(crate) fn latest(&self) -> Duration {
        self.latest
    }

    /// Returns the least measurement, or `None` before the first.
    pub(crate) fn min(&self) -> Option<Duration> {
        self.smoothed.map(|_| self.min)
    }

    /// Returns the retransmission timeout without backoff. The variance counts as at least a round trip,
    /// so that a probe goes before it, and a peer may delay a SACK.
    fn base(&self) -> Duration {
        let base = match self.smoothed {
            None => self.rto_initial,
            Some(smoothed) => smoothed + (self.variance * 4).max(smoothed) + self.ack_delay,
        };
        base.max(self.rto_min)
    }

    /// Returns how long after the last packet a tail-loss probe is due, or `None` before the first
    /// measurement. The SACK of a `single` packet may be delayed.
    pub(crate) fn probe_timeout(&self, single: bool) -> Option<Duration> {
        let smoothed = self.smoothed?;
        let wait = smoothed + (self.variance * 4).max(smoothed / 2).max(GRANULARITY);
        Some(if single { wait + self.ack_delay } else { wait })
    }

    /// Returns the retransmission timeout. Backoff ends at `rto_max`, or at the timeout without
    /// backoff if that is longer: a path slower than `rto_max` is not a loss.
    pub(crate) fn rto(&self) -> Duration {
        let base = self.base();
        base.saturating_mul(1 << self.backoff.min(16))
            .min(self.rto_max.max(base))
    }

    /// Doubles the timeout after it passed.
    pub(crate) fn back_off(&mut self) {
        self.backoff = self.backoff.saturating_add(1);
    }

    pub(crate) fn backoff(&self) -> u32 {
        self.backoff
    }

    pub(crate) fn reset_backoff(&mut self) {
        self.backoff = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn rtt() -> Rtt {
        let mut rtt = Rtt::new(500 * MS, 30 * MS, 1000 * MS);
        rtt.set_ack_delay(10 * MS);
        rtt
    }

    #[test]
    fn the_timeout_follows_measurements() {
        let mut rtt = rtt();
        assert_eq!(rtt.rto(), 500 * MS);
        rtt.update(100 * MS);
        assert_eq!(rtt.rto(), 310 * MS);
        for _ in 0..100 {
            rtt.update(100 * MS);
        }
        assert!(rtt.rto().abs_diff(210 * MS) < MS, "{:?}", rtt.rto());
        assert!(
            rtt.probe_timeout(false)
                .is_some_and(|wait| wait.abs_diff(150 * MS) < MS)
        );
        assert!(
            rtt.probe_timeout(true)
                .is_some_and(|wait| wait.abs_diff(160 * MS) < MS)
        );
        assert_eq!(rtt.min(), Some(100 * MS));
        for _ in 0..100 {
            rtt.update(MS);
        }
        assert_eq!(rtt.rto(), 30 * MS);
    }

    #[test]
    fn backoff_ends_at_the_maximum_or_at_a_longer_path() {
        let mut rtt = rtt();
        for _ in 0..100 {
            rtt.back_off();
        }
        assert_eq!(rtt.rto(), 1000 * MS);
        rtt.update(3000 * MS);
        assert_eq!(rtt.rto(), 9010 * MS);
        rtt.reset_backoff();
        assert_eq!(rtt.rto(), 9010 * MS);
    }
}
