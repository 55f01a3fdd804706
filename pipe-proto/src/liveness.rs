use std::time::{Duration, Instant};

/// Decides from the peer's silence whether it is there.
///
/// After `keep_alive` of silence, and every such period again, a ping is due; after `disconnected_after` the peer is
/// disconnected, after `failed_after` it is lost, both counted from the last sign of life.
///
/// Only silence that this process was awake to hear counts: a caller that [polls](Self::poll) later than the
/// [deadline](Self::deadline), because the process was suspended or had no processor, has not heard what the peer sent
/// meanwhile. The time that it was late is left out, and after an absence the peer is asked once more and has a
/// keep-alive period, or half of what is left, to answer.
///
/// ```
/// use std::time::{Duration, Instant};
///
/// use pipe_proto::{Liveness, LivenessEvent};
///
/// let keep_alive = Duration::from_secs(5);
/// let start = Instant::now();
/// let mut liveness = Liveness::new(keep_alive, 2 * keep_alive, 6 * keep_alive, start);
/// assert_eq!(liveness.poll(start), None);
/// assert_eq!(liveness.deadline(), start + keep_alive);
/// assert_eq!(liveness.poll(start + keep_alive), Some(LivenessEvent::Ping));
/// ```
#[derive(Debug, Clone)]
pub struct Liveness {
    keep_alive: Duration,
    disconnected_after: Duration,
    failed_after: Duration,
    /// The last sign of life, later by the time that the owner was late since.
    heard: Instant,
    next_ping: Instant,
    phase: Phase,
}

/// Lateness from which on the owner counts as absent, rather than as scheduled late.
const ABSENCE: Duration = Duration::from_millis(500);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Connected,
    Disconnected,
    Failed,
}

/// What [`Liveness`] asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LivenessEvent {
    /// A ping is due.
    Ping,
    /// The peer was silent for `disconnected_after`; it may come back.
    Disconnected,
    /// The peer was silent for `failed_after`. No event follows.
    Failed,
}

impl Liveness {
    /// Starts at `now`, as if the peer had been heard.
    pub fn new(
        keep_alive: Duration,
        disconnected_after: Duration,
        failed_after: Duration,
        now: Instant,
    ) -> Self {
        Self {
            keep_alive,
            disconnected_after,
            failed_after,
            heard: now,
            next_ping: now + keep_alive,
            phase: Phase::Connected,
        }
    }

    /// Notes a sign of life: anything at all that came from the peer. Returns whether that ends a
    /// disconnect.
    ///
    /// A peer that is lost stays lost.
    pub fn heard(&mut self, now: Instant) -> bool {
        if self.phase == Phase::Failed {
            return false;
        }
        self.heard = self.heard.max(now);
        self.next_ping = self.heard + self.keep_alive;
        std::mem::replace(&mut self.phase, Phase::Connected) == Phase::Disconnected
    }

    /// Returns what is due at `now`. Ask until there is nothing more.
    pub fn poll(&mut self, now: Instant) -> Option<LivenessEvent> {
        self.discount_absence(now);
        let silence = now.saturating_duration_since(self.heard);
        if self.phase < Phase::Disconnected && silence >= self.disconnected_after {
            self.phase = Phase::Disconnected;
            return Some(LivenessEvent::Disconnected);
        }
        if self.phase < Phase::Failed && silence >= self.failed_after {
            self.phase = Phase::Failed;
            return Some(LivenessEvent::Failed);
        }
        if self.phase < Phase::Failed && now >= self.next_ping {
            self.next_ping = now + self.keep_alive;
            return Some(LivenessEvent::Ping);
        }
        None
    }

    /// Leaves out of the silence what the owner has missed.
    fn discount_absence(&mut self, now: Instant) {
        let late = now.saturating_duration_since(self.deadline());
        if self.phase == Phase::Failed || late.is_zero() {
            return;
        }
        self.heard += late;
        if late < ABSENCE {
            return;
        }
        // Input that came meanwhile may wait in a buffer: the peer gets time to be heard.
        let limit = match self.phase {
            Phase::Connected => self.disconnected_after,
            Phase::Disconnected | Phase::Failed => self.failed_after,
        };
        let grace = self.keep_alive.min(limit / 2);
        self.heard = self.heard.max(now - (limit - grace)).min(now);
        self.next_ping = self.next_ping.min(now);
    }

    /// When to [`poll`](Self::poll) again, if nothing is heard before.
    pub fn deadline(&self) -> Instant {
        let silence = match self.phase {
            Phase::Connected => self.disconnected_after,
            Phase::Disconnected | Phase::Failed => self.failed_after,
        };
        self.next_ping.min(self.heard + silence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock() -> (Liveness, Instant) {
        let start = Instant::now();
        let [keep_alive, disconnected, failed] = [2, 5, 30].map(Duration::from_secs);
        let clock = Liveness::new(keep_alive, disconnected, failed, start);
        (clock, start)
    }

    /// Lets the clock run to `until`, woken at its deadlines only.
    fn run(clock: &mut Liveness, start: Instant, until: u64) -> Vec<(u64, LivenessEvent)> {
        let mut events = Vec::new();
        while clock.deadline() <= start + Duration::from_secs(until) {
            let now = clock.deadline();
            while let Some(event) = clock.poll(now) {
                events.push((now.duration_since(start).as_secs(), event));
                if event == LivenessEvent::Failed {
                    return events;
                }
            }
        }
        events
    }

    #[test]
    fn silence_goes_from_pings_to_disconnected_to_failed() {
        let (mut clock, start) = clock();
        let events = run(&mut clock, start, 100);
        let pings: Vec<u64> = events
            .iter()
            .filter(|e| e.1 == LivenessEvent::Ping)
            .map(|e| e.0)
            .collect();
        assert_eq!(pings, (2..30).step_by(2).collect::<Vec<_>>());
        assert_eq!(events[2], (5, LivenessEvent::Disconnected));
        assert_eq!(events.last(), Some(&(30, LivenessEvent::Failed)));
        let later = start + Duration::from_secs(1000);
        assert!(!clock.heard(later));
        assert_eq!(clock.poll(later), None);
    }

    #[test]
    fn a_sign_of_life_ends_a_disconnect_and_starts_the_count_again() {
        let (mut clock, start) = clock();
        run(&mut clock, start, 10);
        let back = start + Duration::from_secs(11);
        assert!(clock.heard(back));
        assert!(!clock.heard(back));
        assert_eq!(clock.deadline(), back + Duration::from_secs(2));
        let events = run(&mut clock, start, 100);
        assert!(events.contains(&(16, LivenessEvent::Disconnected)));
        assert_eq!(events.last(), Some(&(41, LivenessEvent::Failed)));
    }

    #[test]
    fn time_that_the_owner_was_absent_is_no_silence_of_the_peer() {
        let (mut clock, start) = clock();
        let woken = start + Duration::from_secs(60);
        assert_eq!(clock.poll(woken), Some(LivenessEvent::Ping));
        assert_eq!(clock.poll(woken), None);
        assert!(clock.deadline() > woken);
        // What the peer sent is heard now, and nothing was lost.
        assert!(!clock.heard(woken));

        // A peer that is gone for good is found out after the grace.
        let events = run(&mut clock, woken, 100);
        assert_eq!(events.last().map(|e| e.1), Some(LivenessEvent::Failed));
    }

    #[test]
    fn an_absence_within_a_disconnect_does_not_lose_the_peer() {
        let (mut clock, start) = clock();
        run(&mut clock, start, 20);
        let woken = start + Duration::from_secs(600);
        while let Some(event) = clock.poll(woken) {
            assert_eq!(event, LivenessEvent::Ping);
        }
        assert!(clock.deadline() > woken);
        assert!(clock.heard(woken + Duration::from_millis(1)));
    }

    #[test]
    fn a_clock_that_is_asked_a_little_late_each_time_still_finds_the_peer_lost() {
        let (mut clock, start) = clock();
        let late = Duration::from_millis(40);
        let failed = loop {
            let now = clock.deadline() + late;
            let mut events = std::iter::from_fn(|| clock.poll(now));
            if events.any(|e| e == LivenessEvent::Failed) {
                break now - start;
            }
        };
        assert!(failed < Duration::from_secs(32), "{failed:?}");
    }

    #[test]
    fn an_old_sign_of_life_does_not_turn_the_clock_back() {
        let (mut clock, start) = clock();
        clock.heard(start + Duration::from_secs(3));
        clock.heard(start + Duration::from_secs(1));
        assert_eq!(clock.deadline(), start + Duration::from_secs(5));
    }
}
