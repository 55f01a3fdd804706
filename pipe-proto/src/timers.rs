use std::time::Instant;

/// The deadlines that a session can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timer {
    /// The peer's silence becomes too long.
    Liveness,
    /// Streams that were opened have to become visible to the peer.
    Announce,
}

const COUNT: usize = 2;

/// The deadlines of a session.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TimerTable([Option<Instant>; COUNT]);

impl TimerTable {
    pub(crate) fn set(&mut self, timer: Timer, at: Instant) {
        self.0[timer as usize] = Some(at);
    }

    pub(crate) fn stop(&mut self, timer: Timer) {
        self.0[timer as usize] = None;
    }

    pub(crate) fn is_set(&self, timer: Timer) -> bool {
        self.0[timer as usize].is_some()
    }

    /// Returns the next deadline.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.0.iter().flatten().min().copied()
    }

    /// Stops a timer that has run out. Returns whether it had.
    pub(crate) fn take_expired(&mut self, timer: Timer, now: Instant) -> bool {
        let expired = self.0[timer as usize].is_some_and(|at| at <= now);
        if expired {
            self.stop(timer);
        }
        expired
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_earliest_deadline_is_the_next() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut timers = TimerTable::default();
        assert_eq!(timers.next(), None);
        timers.set(Timer::Announce, at(3));
        timers.set(Timer::Liveness, at(5));
        assert_eq!(timers.next(), Some(at(3)));
        assert!(!timers.take_expired(Timer::Announce, at(2)));
        assert!(timers.take_expired(Timer::Announce, at(3)));
        assert!(!timers.take_expired(Timer::Announce, at(4)));
        assert_eq!(timers.next(), Some(at(5)));
        timers.set(Timer::Announce, at(1));
        timers.stop(Timer::Announce);
        assert!(timers.is_set(Timer::Liveness) && !timers.is_set(Timer::Announce));
        assert_eq!(timers.next(), Some(at(5)));
    }
}
