use std::time::Duration;

/// The behaviour of a link: its latency, jitter, bandwidth, losses and outages.
///
/// The link is under a reliable transport, so nothing is ever lost for good or out of order: a loss
/// costs the time of sending again. All times count on tokio's clock, so a program under paused time
/// crosses a slow link at once.
///
/// ```
/// use pipe_inproc::LinkProfile;
/// use std::time::Duration;
///
/// let train = LinkProfile::mobile()
///     .with_outages(Duration::from_secs(20), Duration::from_secs(3))
///     .with_seed(7);
/// assert!(!train.is_ideal());
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct LinkProfile {
    /// Travel time of a packet, one way.
    pub latency: Duration,
    /// Maximum additional travel time, at random.
    pub jitter: Duration,
    /// Bandwidth of each direction, in bytes a second. Unlimited if `None`.
    pub bandwidth: Option<u64>,
    /// The share of packets (of 1,200 bytes) that are lost and sent again a round trip later, from 0
    /// to 0.9.
    pub loss: f64,
    /// Average time from the start of one outage to the start of the next, and the length of each.
    /// An outage delays everything in both directions.
    pub outages: Option<(Duration, Duration)>,
    /// Seed of all random choices.
    pub seed: u64,
}

impl LinkProfile {
    /// Returns a profile without delay and bound: bytes are handed over in memory.
    pub const fn ideal() -> Self {
        Self {
            latency: Duration::ZERO,
            jitter: Duration::ZERO,
            bandwidth: None,
            loss: 0.0,
            outages: None,
            seed: 0,
        }
    }

    /// Creates a wired local network: 0.2 ms one way, 1 Gbit/s.
    pub const fn lan() -> Self {
        Self {
            latency: Duration::from_micros(200),
            jitter: Duration::from_micros(50),
            bandwidth: Some(125_000_000),
            ..Self::ideal()
        }
    }

    /// Creates a wireless local network and the access line behind it: 8 ms one way with 6 ms of
    /// jitter, 100 Mbit/s, 0.2 % of loss.
    pub const fn wifi() -> Self {
        Self {
            latency: Duration::from_millis(8),
            jitter: Duration::from_millis(6),
            bandwidth: Some(12_500_000),
            loss: 0.002,
            ..Self::ideal()
        }
    }

    /// Creates a mobile network on the move: 45 ms one way with 25 ms of jitter, 20 Mbit/s, 1 % of
    /// loss, and an outage of 400 ms every 15 s.
    pub const fn mobile() -> Self {
        Self {
            latency: Duration::from_millis(45),
            jitter: Duration::from_millis(25),
            bandwidth: Some(2_500_000),
            loss: 0.01,
            outages: Some((Duration::from_secs(15), Duration::from_millis(400))),
            ..Self::ideal()
        }
    }

    /// Creates a geostationary satellite: 300 ms one way with 20 ms of jitter, 20 Mbit/s, 0.5 % of
    /// loss.
    pub const fn satellite() -> Self {
        Self {
            latency: Duration::from_millis(300),
            jitter: Duration::from_millis(20),
            bandwidth: Some(2_500_000),
            loss: 0.005,
            ..Self::ideal()
        }
    }

    /// The presets by their names, as an address gives them (`?link=wifi`).
    pub const PRESETS: [(&'static str, Self); 5] = [
        ("ideal", Self::ideal()),
        ("lan", Self::lan()),
        ("wifi", Self::wifi()),
        ("mobile", Self::mobile()),
        ("satellite", Self::satellite()),
    ];

    /// Sets the [`latency`](Self::latency), one way.
    #[must_use]
    pub const fn with_latency(mut self, latency: Duration) -> Self {
        self.latency = latency;
        self
    }

    /// Sets the [`jitter`](Self::jitter).
    #[must_use]
    pub const fn with_jitter(mut self, jitter: Duration) -> Self {
        self.jitter = jitter;
        self
    }

    /// Sets the [`bandwidth`](Self::bandwidth) of each direction, in bytes a second; at least 1.
    #[must_use]
    pub fn with_bandwidth(mut self, bytes_per_second: u64) -> Self {
        self.bandwidth = Some(bytes_per_second);
        self.sane()
    }

    /// Sets the [`loss`](Self::loss), taken into the range from 0 to 0.9.
    #[must_use]
    pub fn with_loss(mut self, loss: f64) -> Self {
        self.loss = loss;
        self.sane()
    }

    /// Sets the [`outages`](Self::outages). They leave at least a tenth of the time in between.
    #[must_use]
    pub fn with_outages(mut self, every: Duration, lasting: Duration) -> Self {
        self.outages = Some((every, lasting));
        self.sane()
    }

    /// Sets the [`seed`](Self::seed).
    #[must_use]
    pub const fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Returns the same with every field in the range that its doc gives, and no time above an
    /// hour.
    pub(crate) fn sane(mut self) -> Self {
        const HOUR: Duration = Duration::from_secs(3600);
        self.latency = self.latency.min(HOUR);
        self.jitter = self.jitter.min(HOUR);
        self.bandwidth = self.bandwidth.map(|b| b.max(1));
        self.loss = if self.loss.is_nan() {
            0.0
        } else {
            self.loss.clamp(0.0, 0.9)
        };
        self.outages =
            self.outages
                .filter(|(_, lasting)| !lasting.is_zero())
                .map(|(every, lasting)| {
                    let lasting = lasting.min(HOUR);
                    (every.clamp(lasting + lasting / 10, 24 * HOUR), lasting)
                });
        self
    }

    /// Returns whether the link takes no time and has no bound.
    pub fn is_ideal(&self) -> bool {
        Self { seed: 0, ..*self } == Self::ideal()
    }

    /// Returns the time from here to the peer and back, without jitter.
    pub fn round_trip(&self) -> Duration {
        2 * self.latency
    }
}

impl Default for LinkProfile {
    /// Returns [`ideal`](Self::ideal).
    fn default() -> Self {
        Self::ideal()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_out_of_range_are_taken_into_it() {
        let max = Duration::MAX;
        let profile = LinkProfile::ideal()
            .with_latency(max)
            .with_loss(f64::INFINITY)
            .with_bandwidth(0)
            .with_outages(Duration::ZERO, max);
        assert_eq!(profile.loss, 0.9);
        assert_eq!(profile.bandwidth, Some(1));
        assert!(profile.latency <= Duration::from_secs(3600));
        assert!(
            profile
                .outages
                .is_some_and(|(every, lasting)| every > lasting)
        );
        assert_eq!(LinkProfile::ideal().with_loss(f64::NAN).loss, 0.0);
        assert_eq!(
            LinkProfile::ideal()
                .with_outages(max, Duration::ZERO)
                .outages,
            None
        );
    }

    #[test]
    fn only_the_ideal_preset_is_ideal() {
        for (name, profile) in LinkProfile::PRESETS {
            assert_eq!(profile.with_seed(3).is_ideal(), name == "ideal");
            assert_eq!(profile.sane(), profile, "{name}");
        }
    }
}
