use std::collections::VecDeque;
use std::time::Duration;

use fastrand::Rng;
use tokio::time::Instant;

use crate::profile::LinkProfile;

/// The size of a packet, for losses.
const PACKET: usize = 1200;

/// One direction of a shaped link: the items in flight, in order, each with its time of arrival.
///
/// It does no I/O and reads no clock. It does not bound itself: bytes are bounded by the windows of
/// the streams, and each stream and connection has a bounded number of other messages under way.
pub(crate) struct Lane<T> {
    queue: VecDeque<(Instant, T)>,
    /// Time at which the last bit sent so far leaves.
    free_at: Instant,
    /// Earliest time of any arrival.
    not_before: Instant,
    outage: Option<(Instant, Instant)>,
    rng: Rng,
}

impl<T> Lane<T> {
    pub(crate) fn new(seed: u64, now: Instant) -> Self {
        Self {
            queue: VecDeque::new(),
            free_at: now,
            not_before: now,
            outage: None,
            rng: Rng::with_seed(seed),
        }
    }

    /// Starts over with a new profile. Items in flight arrive as scheduled.
    pub(crate) fn reshape(&mut self, seed: u64, now: Instant) {
        self.rng = Rng::with_seed(seed);
        self.outage = None;
        self.free_at = now;
    }

    /// Delays all arrivals until `instant`: items that a cut held up start again when it is healed.
    pub(crate) fn hold_until(&mut self, instant: Instant) {
        self.not_before = self.not_before.max(instant);
    }

    /// Sends `item`, which takes `size` bytes.
    pub(crate) fn push(&mut self, profile: &LinkProfile, now: Instant, size: usize, item: T) {
        let start = self.after_outages(profile, self.free_at.max(now));
        let sent = start
            + profile
                .bandwidth
                .map_or(Duration::ZERO, |b| transfer(size, b));
        self.free_at = sent;
        let due = sent + profile.latency + self.jitter(profile) + self.resends(profile, size);
        let due = self.queue.back().map_or(due, |(last, _)| due.max(*last));
        self.queue.push_back((due, item));
    }

    /// Takes the next item that has arrived by `now`.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<T> {
        if self.next_arrival()? > now {
            return None;
        }
        self.queue.pop_front().map(|(_, item)| item)
    }

    /// Returns when the next item arrives, if one is in flight.
    pub(crate) fn next_arrival(&self) -> Option<Instant> {
        self.queue
            .front()
            .map(|(due, _)| (*due).max(self.not_before))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        self.queue.clear();
    }

    fn jitter(&mut self, profile: &LinkProfile) -> Duration {
        profile.jitter.mul_f64(self.rng.f64())
    }

    /// Returns the time that lost packets add: those sent again can be lost again.
    fn resends(&mut self, profile: &LinkProfile, size: usize) -> Duration {
        let mut delay = Duration::ZERO;
        if profile.loss == 0.0 {
            return delay;
        }
        let mut packets = size.div_ceil(PACKET).max(1) as f64;
        while self.rng.f64() > (1.0 - profile.loss).powf(packets) {
            delay += profile.round_trip() + self.jitter(profile);
            packets = (packets * profile.loss).max(1.0);
        }
        delay
    }

    /// Returns the first moment from `start` on that is in no outage. Each gap between outages is
    /// drawn from half to one and a half times the average.
    fn after_outages(&mut self, profile: &LinkProfile, start: Instant) -> Instant {
        let Some((every, lasting)) = profile.outages else {
            return start;
        };
        let mean_gap = every - lasting;
        let mut draw = |from: Instant| {
            let begin = from + mean_gap.mul_f64(0.5 + self.rng.f64());
            (begin, begin + lasting)
        };
        let (mut begin, mut end) = self.outage.unwrap_or_else(|| draw(start));
        while end <= start {
            (begin, end) = draw(end);
        }
        self.outage = Some((begin, end));
        if start >= begin { end } else { start }
    }
}

/// Returns the time that so many bytes take at this bandwidth.
fn transfer(size: usize, bandwidth: u64) -> Duration {
    Duration::from_secs_f64(size as f64 / bandwidth as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn arrivals(profile: LinkProfile, count: usize, size: usize, gap: Duration) -> Vec<Duration> {
        let start = Instant::now();
        let mut lane = Lane::new(profile.seed, start);
        for i in 0..count {
            lane.push(&profile, start + gap * i as u32, size, i);
        }
        let mut times = Vec::new();
        while let Some(at) = lane.next_arrival() {
            assert_eq!(lane.pop(at - Duration::from_nanos(1)), None);
            assert_eq!(lane.pop(at), Some(times.len()));
            times.push(at - start);
        }
        times
    }

    #[test]
    fn latency_moves_everything_alike() {
        let times = arrivals(LinkProfile::ideal().with_latency(40 * MS), 3, 1000, 5 * MS);
        assert_eq!(times, [40 * MS, 45 * MS, 50 * MS]);
    }

    #[test]
    fn bandwidth_spaces_out_what_is_sent_at_once() {
        let profile = LinkProfile::ideal().with_bandwidth(1_000_000);
        let times = arrivals(profile, 3, 10_000, Duration::ZERO);
        assert_eq!(times, [10 * MS, 20 * MS, 30 * MS]);
    }

    #[test]
    fn jitter_stays_in_its_range_and_in_order() {
        let profile = LinkProfile::ideal()
            .with_latency(10 * MS)
            .with_jitter(20 * MS);
        let times = arrivals(profile, 500, 100, 30 * MS);
        assert!(times.is_sorted());
        let delays: Vec<_> = times
            .iter()
            .zip(0..)
            .map(|(t, i)| *t - 30 * MS * i)
            .collect();
        assert!(delays.iter().all(|d| (10 * MS..30 * MS).contains(d)));
        assert!(delays.iter().any(|d| *d < 15 * MS) && delays.iter().any(|d| *d > 25 * MS));
    }

    #[test]
    fn a_seed_gives_the_same_link_again_and_another_gives_another() {
        let profile = LinkProfile::mobile();
        let run = |seed| arrivals(profile.with_seed(seed), 200, 3000, 5 * MS);
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }

    #[test]
    fn losses_cost_round_trips() {
        let profile = LinkProfile::ideal().with_latency(10 * MS).with_loss(0.1);
        let times = arrivals(profile, 1000, 100, 1000 * MS);
        let late = times
            .iter()
            .zip(0..)
            .filter(|(t, i)| **t - 1000 * MS * *i > 10 * MS)
            .count();
        assert!((60..150).contains(&late), "{late} of 1000");
    }

    #[test]
    fn nothing_is_sent_during_an_outage() {
        let profile = LinkProfile::ideal().with_outages(1000 * MS, 200 * MS);
        let times = arrivals(profile, 10_000, 100, MS);
        let held = times.iter().zip(0..).filter(|(t, i)| **t > MS * *i).count();
        assert!((1500..2700).contains(&held), "{held} of 10000");
        let longest = times.iter().zip(0..).map(|(t, i)| *t - MS * i).max();
        assert!(
            longest.is_some_and(|l| l > 190 * MS && l <= 200 * MS),
            "{longest:?}"
        );
    }

    #[test]
    fn what_was_held_sets_out_again_in_order() {
        let start = Instant::now();
        let profile = LinkProfile::ideal().with_latency(10 * MS);
        let mut lane = Lane::new(0, start);
        lane.push(&profile, start, 1, 'a');
        lane.hold_until(start + 500 * MS);
        lane.push(&profile, start + 495 * MS, 1, 'b');
        assert_eq!(lane.pop(start + 499 * MS), None);
        assert_eq!(lane.pop(start + 500 * MS), Some('a'));
        assert_eq!(lane.next_arrival(), Some(start + 505 * MS));
    }
}
