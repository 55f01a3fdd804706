//! The timers of an association, in one table.

use std::time::Instant;

/// What a timer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timer {
    /// T1 and T2 of RFC 9260: INIT, COOKIE ECHO, SHUTDOWN and SHUTDOWN ACK are sent again.
    Handshake,
    /// T3 of RFC 9260: nothing was acknowledged for an RTO.
    Retransmission,
    /// The reordering window of RACK ends (RFC 8985, section 6.2).
    Reordering,
    /// A tail-loss probe is due (RFC 8985, section 7).
    Probe,
    /// A delayed SACK is due (RFC 9260, section 6.2).
    Sack,
    /// A RE-CONFIG request is sent again (RFC 6525, section 5.1.1).
    Reconfig,
    /// A HEARTBEAT is due (RFC 9260, section 8.3).
    Heartbeat,
    /// The pacer allows the next packet.
    Pacing,
    /// The association fails for want of answers.
    Failure,
}

const ALL: [Timer; 9] = [
    Timer::Handshake,
    Timer::Retransmission,
    Timer::Reordering,
    Timer::Probe,
    Timer::Sack,
    Timer::Reconfig,
    Timer::Heartbeat,
    Timer::Pacing,
    Timer::Failure,
];

/// The deadline of each timer that runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Timers {
    deadlines: [Option<Instant>; ALL.len()],
}

impl Timers {
    pub(crate) fn set(&mut self, timer: Timer, deadline: Instant) {
        self.deadlines[timer as usize] = Some(deadline);
    }

    pub(crate) fn set_or_stop(&mut self, timer: Timer, deadline: Option<Instant>) {
        self.deadlines[timer as usize] = deadline;
    }

    pub(crate) fn stop(&mut self, timer: Timer) {
        self.deadlines[timer as usize] = None;
    }

    pub(crate) fn stop_all(&mut self) {
        self.deadlines = Default::default();
    }

    pub(crate) fn is_running(&self, timer: Timer) -> bool {
        self.deadlines[timer as usize].is_some()
    }

    /// Returns the first deadline.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.deadlines.iter().flatten().min().copied()
    }

    /// Stops a timer whose deadline is at or before `now`, and returns it.
    pub(crate) fn expire(&mut self, now: Instant) -> Option<Timer> {
        let timer = ALL.into_iter().find(|timer| {
            self.deadlines[*timer as usize].is_some_and(|deadline| deadline <= now)
        })?;
        self.stop(timer);
        Some(timer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn timers_expire_once_and_the_next_is_the_first() {
        let now = Instant::now();
        let mut timers = Timers::default();
        assert_eq!(timers.next(), None);
        timers.set(Timer::Sack, now + Duration::from_secs(1));
        timers.set(Timer::Failure, now + Duration::from_secs(2));
        assert_eq!(timers.next(), Some(now + Duration::from_secs(1)));
        assert_eq!(timers.expire(now), None);
        let later = now + Duration::from_secs(3);
        assert_eq!(timers.expire(later), Some(Timer::Sack));
        assert_eq!(timers.expire(later), Some(Timer::Failure));
        assert_eq!(timers.expire(later), None);
        for (index, timer) in ALL.into_iter().enumerate() {
            assert_eq!(timer as usize, index);
        }
    }
}
