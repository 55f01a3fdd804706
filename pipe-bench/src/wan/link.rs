use std::collections::VecDeque;
use std::time::Duration;

/// The most that an IP packet of the path has, in bytes.
pub(super) const PACKET: u64 = 1500;

/// Settings of one direction of a path.
#[derive(Clone, Copy, Debug)]
pub(super) struct LinkSettings {
    /// Bits a second.
    pub(super) rate: u64,
    /// How long the last bit of a packet is on its way.
    pub(super) delay: Duration,
    /// How many bytes may wait to be sent, the packet that is being sent included.
    pub(super) queue: u64,
    /// The share of packets that is lost, from 0 to 1.
    pub(super) loss: f64,
    /// What the random losses follow from.
    pub(super) seed: u64,
}

/// One direction of a path: packets wait in a queue, are sent one after another at the rate of the link, and
/// arrive after its delay, unless they are lost.
///
/// It does not look at a clock. Times are counted from any moment, and must not go back.
#[derive(Debug)]
pub(super) struct Link {
    settings: LinkSettings,
    /// When the last packet of the queue is sent.
    free_at: Duration,
    random: fastrand::Rng,
}

impl Link {
    pub(super) fn new(settings: LinkSettings) -> Self {
        Self {
            settings,
            free_at: Duration::ZERO,
            random: fastrand::Rng::with_seed(settings.seed),
        }
    }

    /// Sends a packet of so many bytes. Returns when it arrives, or `None` if it is lost: at random, or because the
    /// queue has no room for it. An empty queue has room for any packet.
    pub(super) fn send(&mut self, now: Duration, bytes: u64) -> Option<Duration> {
        let backlog = self.backlog(now);
        if backlog > 0 && backlog + bytes > self.settings.queue {
            return None;
        }
        // A packet that is lost takes its time nevertheless.
        let arrives = self.append(now, bytes);
        let is_lost = self.settings.loss > 0.0 && self.random.f64() < self.settings.loss;
        (!is_lost).then_some(arrives)
    }

    /// Sends so many bytes, of which none are lost and which may exceed the queue. Returns when they arrive.
    pub(super) fn append(&mut self, now: Duration, bytes: u64) -> Duration {
        self.free_at = self.free_at.max(now) + self.time(bytes);
        self.free_at + self.settings.delay
    }

    /// Returns when the queue has room for so many bytes. It is in the past if there is room already.
    pub(super) fn room_at(&self, bytes: u64) -> Duration {
        let rest = self.settings.queue.saturating_sub(bytes);
        self.free_at.saturating_sub(self.time(rest))
    }

    /// Returns how many bytes wait to be sent.
    fn backlog(&self, now: Duration) -> u64 {
        let left = self.free_at.saturating_sub(now).as_nanos();
        (left * u128::from(self.settings.rate)).div_ceil(8_000_000_000) as u64
    }

    /// Returns how long it takes to send so many bytes.
    fn time(&self, bytes: u64) -> Duration {
        let nanos = u128::from(bytes) * 8_000_000_000 / u128::from(self.settings.rate.max(1));
        Duration::from_nanos(nanos as u64)
    }
}

/// What is on its way over a link, in the order of its arrival. The link bounds it.
#[derive(Debug)]
pub(super) struct InFlight<T>(VecDeque<(Duration, T)>);

impl<T> InFlight<T> {
    pub(super) fn new() -> Self {
        Self(VecDeque::new())
    }

    pub(super) fn push(&mut self, arrives: Duration, item: T) {
        self.0.push_back((arrives, item));
    }

    /// Returns what arrives next, and when.
    pub(super) fn next(&self) -> Option<(Duration, &T)> {
        self.0.front().map(|(arrives, item)| (*arrives, item))
    }

    /// Returns what has arrived by now.
    pub(super) fn arrived(&self, now: Duration) -> impl Iterator<Item = &T> {
        let due = self.0.iter().take_while(move |(at, _)| *at <= now);
        due.map(|(_, item)| item)
    }

    /// Takes what arrives next.
    pub(super) fn pop(&mut self) -> Option<(Duration, T)> {
        self.0.pop_front()
    }

    /// Puts the rest of what was taken back in front.
    pub(super) fn put_back(&mut self, arrives: Duration, item: T) {
        self.0.push_front((arrives, item));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1 byte a microsecond, and 10 ms.
    fn link(queue: u64, loss: f64) -> Link {
        Link::new(LinkSettings {
            rate: 8_000_000,
            delay: Duration::from_millis(10),
            queue,
            loss,
            seed: 7,
        })
    }

    fn micros(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    #[test]
    fn packets_leave_at_the_rate_of_the_link_and_arrive_after_its_delay() {
        let mut link = link(10_000, 0.0);
        assert_eq!(link.send(micros(0), 1000), Some(micros(11_000)));
        assert_eq!(link.send(micros(0), 1000), Some(micros(12_000)));
        assert_eq!(link.send(micros(1500), 500), Some(micros(12_500)));
        // Nothing waits any more.
        assert_eq!(link.send(micros(9000), 1000), Some(micros(20_000)));
    }

    #[test]
    fn a_packet_that_the_queue_has_no_room_for_is_lost_and_takes_no_time() {
        let mut link = link(3000, 0.0);
        for _ in 0..3 {
            assert!(link.send(micros(0), 1000).is_some());
        }
        assert_eq!(link.send(micros(0), 1000), None);
        assert_eq!(link.send(micros(999), 1000), None);
        assert_eq!(link.send(micros(1000), 1000), Some(micros(14_000)));
    }

    #[test]
    fn an_empty_queue_takes_a_packet_that_is_longer_than_it() {
        let mut link = link(100, 0.0);
        assert_eq!(link.send(micros(0), 1000), Some(micros(11_000)));
        assert_eq!(link.send(micros(999), 1), Some(micros(11_001)));
    }

    #[test]
    fn it_tells_when_there_is_room() {
        let mut link = link(3000, 0.0);
        assert_eq!(link.room_at(1000), Duration::ZERO);
        for _ in 0..3 {
            link.send(micros(500), 1000);
        }
        assert_eq!(link.room_at(1000), micros(1500));
        assert_eq!(link.send(micros(1499), 1000), None);
        assert!(link.send(micros(1500), 1000).is_some());
    }

    #[test]
    fn the_share_of_losses_is_as_set_and_the_same_in_each_run() {
        let lost = |loss| {
            let mut link = link(u64::MAX, loss);
            let sent = (0..100_000).map(move |_| link.send(micros(0), 1));
            sent.filter(Option::is_none).count()
        };
        assert_eq!(lost(0.0), 0);
        assert!((900..1100).contains(&lost(0.01)), "{}", lost(0.01));
        assert_eq!(lost(0.01), lost(0.01));
        assert_eq!(lost(1.0), 100_000);
    }

    #[test]
    fn a_lost_packet_takes_its_time_on_the_link() {
        let mut link = link(10_000, 1.0);
        assert_eq!(link.send(micros(0), 1000), None);
        assert_eq!(link.room_at(10_000), micros(1000));
    }

    #[test]
    fn what_is_in_flight_arrives_in_order() {
        let mut line = InFlight::new();
        line.push(micros(1), 'a');
        line.push(micros(2), 'b');
        line.push(micros(5), 'c');
        assert_eq!(line.arrived(micros(2)).collect::<String>(), "ab");
        assert_eq!(line.pop(), Some((micros(1), 'a')));
        line.put_back(micros(1), 'A');
        assert_eq!(line.next(), Some((micros(1), &'A')));
    }
}
