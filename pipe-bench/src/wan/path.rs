use std::fmt;
use std::time::Duration;

use super::link::{LinkSettings, PACKET};

/// A path between two ends, the same in both directions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Path {
    /// How long a packet is on its way in one direction, in milliseconds.
    pub delay: u64,
    /// How much a direction carries, in megabits a second.
    pub rate: u64,
    /// How many of a hundred packets are lost at random, in each direction.
    pub loss: f64,
    /// How much waits at most before a direction, as a share of what the path holds in a round trip.
    pub queue: f64,
}

impl Path {
    /// How long the way to and fro takes, where nothing waits.
    pub(super) fn round_trip(&self) -> Duration {
        2 * self.one_way()
    }

    fn one_way(&self) -> Duration {
        Duration::from_millis(self.delay)
    }

    fn bits_per_second(&self) -> u64 {
        self.rate * 1_000_000
    }

    /// The bytes of a round trip at the full rate: the product of bandwidth and delay.
    pub(super) fn capacity(&self) -> u64 {
        self.bits_per_second() / 8 * 2 * self.delay / 1000
    }

    /// The bytes that may wait before a direction: those of a few packets at least.
    pub(super) fn queue_bytes(&self) -> u64 {
        ((self.capacity() as f64 * self.queue) as u64).max(4 * PACKET)
    }

    /// How long the bytes of a full queue take.
    pub(super) fn queue_time(&self) -> Duration {
        self.time(self.queue_bytes())
    }

    /// How long the bytes of a packet take.
    pub(super) fn packet_time(&self) -> Duration {
        self.time(PACKET)
    }

    fn time(&self, bytes: u64) -> Duration {
        Duration::from_secs_f64(bytes as f64 * 8.0 / self.bits_per_second() as f64)
    }

    /// The two directions, with a queue of so many bytes.
    pub(super) fn links(&self, queue: u64) -> [LinkSettings; 2] {
        [1, 2].map(|seed| LinkSettings {
            rate: self.bits_per_second(),
            delay: self.one_way(),
            queue,
            loss: self.loss / 100.0,
            seed,
        })
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms each way, {} Mbit/s", self.delay, self.rate)?;
        if self.loss > 0.0 {
            write!(f, ", {} % lost", self.loss)?;
        }
        if self.queue != 1.0 {
            write!(f, ", queue {}", self.queue)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_holds_its_rate_times_its_round_trip() {
        let path = Path {
            delay: 25,
            rate: 100,
            loss: 0.1,
            queue: 0.5,
        };
        assert_eq!(path.capacity(), 625_000);
        assert_eq!(path.queue_bytes(), 312_500);
        assert_eq!(path.queue_time(), Duration::from_millis(25));
        assert_eq!(path.packet_time(), Duration::from_micros(120));
        assert_eq!(
            path.to_string(),
            "25 ms each way, 100 Mbit/s, 0.1 % lost, queue 0.5"
        );
    }
}
