use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::frame::PingBytes;
use crate::violation::Violation;

/// How many pings of the liveness timer may have no answer; it sends no more until one comes.
const MAX_KEEP_ALIVES: usize = 64;

/// The pings that have no answer yet. The application's ones carry what waits for the answer.
#[derive(Debug)]
pub(crate) struct Pings<P> {
    waiting: HashMap<PingBytes, Ping<P>>,
    keep_alives: usize,
    last_round_trip: Option<Duration>,
}

#[derive(Debug)]
struct Ping<P> {
    sent: Instant,
    waiter: Option<P>,
}

impl<P> Pings<P> {
    pub(crate) fn new() -> Self {
        Self {
            waiting: HashMap::new(),
            keep_alives: 0,
            last_round_trip: None,
        }
    }

    /// Starts a ping of the application.
    pub(crate) fn start(&mut self, bytes: PingBytes, waiter: P, now: Instant) {
        let ping = Ping {
            sent: now,
            waiter: Some(waiter),
        };
        self.waiting.insert(bytes, ping);
    }

    /// Starts a ping that nothing waits for. Returns whether it is to be sent.
    pub(crate) fn keep_alive(&mut self, bytes: PingBytes, now: Instant) -> bool {
        if self.keep_alives >= MAX_KEEP_ALIVES {
            return false;
        }
        self.keep_alives += 1;
        let ping = Ping {
            sent: now,
            waiter: None,
        };
        self.waiting.insert(bytes, ping);
        true
    }

    /// Takes an answer. Returns what waits for it, and the round trip.
    pub(crate) fn on_pong(
        &mut self,
        bytes: &PingBytes,
        now: Instant,
    ) -> Result<Option<(P, Duration)>, Violation> {
        let Some(ping) = self.waiting.remove(bytes) else {
            return Err(Violation::new("an answer to a ping that was not sent"));
        };
        // Never zero, however coarse the clock.
        let round_trip = now
            .saturating_duration_since(ping.sent)
            .max(Duration::from_nanos(1));
        self.last_round_trip = Some(round_trip);
        if ping.waiter.is_none() {
            self.keep_alives -= 1;
        }
        Ok(ping.waiter.map(|waiter| (waiter, round_trip)))
    }

    pub(crate) fn last_round_trip(&self) -> Option<Duration> {
        self.last_round_trip
    }

    /// Takes out everything that waits, as no answers come any more.
    pub(crate) fn end(&mut self) -> Vec<P> {
        let waiting = std::mem::take(&mut self.waiting);
        waiting
            .into_values()
            .filter_map(|ping| ping.waiter)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_gives_the_round_trip_to_what_waits_for_it() {
        let start = Instant::now();
        let mut pings = Pings::new();
        pings.start([1; 64], "one", start);
        assert!(pings.keep_alive([2; 64], start));
        let later = start + Duration::from_millis(5);
        assert_eq!(pings.on_pong(&[2; 64], later), Ok(None));
        let answered = Ok(Some(("one", Duration::from_millis(5))));
        assert_eq!(pings.on_pong(&[1; 64], later), answered);
        assert_eq!(pings.last_round_trip(), Some(Duration::from_millis(5)));
        assert!(pings.on_pong(&[1; 64], later).is_err());
    }

    #[test]
    fn a_round_trip_is_never_zero() {
        let now = Instant::now();
        let mut pings = Pings::new();
        pings.start([1; 64], (), now);
        let answered = pings.on_pong(&[1; 64], now).unwrap();
        assert!(answered.unwrap().1 > Duration::ZERO);
    }

    #[test]
    fn pings_that_a_silent_peer_does_not_answer_are_bounded() {
        let now = Instant::now();
        let mut pings = Pings::<()>::new();
        let sent = (0..100_u8).filter(|n| pings.keep_alive([*n; 64], now));
        assert_eq!(sent.count(), MAX_KEEP_ALIVES);
        assert!(pings.on_pong(&[0; 64], now).is_ok());
        assert!(pings.keep_alive([200; 64], now));
        assert!(pings.end().is_empty());
    }
}
