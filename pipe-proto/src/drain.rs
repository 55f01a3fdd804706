use crate::carrier::DrainMode;
use crate::violation::Violation;

/// The drain of a connection: what each side asked for and answered.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Drain {
    local: Local,
    by_peer: bool,
    /// DRAINED was sent.
    answered: bool,
}

/// The drain that this side asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Local {
    #[default]
    None,
    Asked,
    /// The peer opens no more streams, and opened so many in all where it says that.
    Answered {
        streams: u64,
    },
}

impl Drain {
    /// Notes that this side drains. Returns whether that is news.
    pub(crate) fn start(&mut self) -> bool {
        let is_news = self.local == Local::None;
        if is_news {
            self.local = Local::Asked;
        }
        is_news
    }

    /// Notes that the peer answers without a frame.
    pub(crate) fn assume_answer(&mut self) {
        self.local = Local::Answered { streams: 0 };
    }

    /// Notes the peer's DRAIN.
    pub(crate) fn on_drain(&mut self) -> Result<(), Violation> {
        if std::mem::replace(&mut self.by_peer, true) {
            return Err(Violation::new("a second drain"));
        }
        Ok(())
    }

    /// Notes the peer's DRAINED.
    pub(crate) fn on_drained(&mut self, streams: u64) -> Result<(), Violation> {
        if self.local != Local::Asked {
            return Err(Violation::new("an answer to a drain that was not sent"));
        }
        self.local = Local::Answered { streams };
        Ok(())
    }

    /// Returns whether DRAINED is due now, once. `is_idle` says that no stream that this side opened is in use.
    pub(crate) fn poll_answer(&mut self, mode: DrainMode, is_idle: bool) -> bool {
        let is_due = self.by_peer && !self.answered && (mode != DrainMode::WhenIdle || is_idle);
        self.answered |= is_due;
        is_due
    }

    pub(crate) fn is_local(&self) -> bool {
        self.local != Local::None
    }

    pub(crate) fn is_by_peer(&self) -> bool {
        self.by_peer
    }

    /// Returns whether the peer answered, and `seen` streams of it are all that it opened.
    pub(crate) fn has_seen_all(&self, mode: DrainMode, seen: u64) -> bool {
        match self.local {
            Local::Answered { streams } => mode != DrainMode::Counted || seen >= streams,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drain_is_asked_for_and_answered_once() {
        let mut drain = Drain::default();
        assert!(drain.on_drained(0).is_err());
        assert!(drain.start() && !drain.start() && drain.is_local());
        assert!(drain.on_drained(0).is_ok() && drain.on_drained(0).is_err());
        assert!(drain.has_seen_all(DrainMode::AtOnce, 0));
        assert!(drain.on_drain().is_ok() && drain.on_drain().is_err());
    }

    #[test]
    fn each_wire_answers_in_its_own_way() {
        for (mode, at_once) in [
            (DrainMode::AtOnce, true),
            (DrainMode::Counted, true),
            (DrainMode::WhenIdle, false),
        ] {
            let mut drain = Drain::default();
            assert!(!drain.poll_answer(mode, true));
            drain.on_drain().unwrap();
            assert_eq!(drain.poll_answer(mode, false), at_once);
            assert_eq!(drain.poll_answer(mode, true), !at_once);
            assert!(!drain.poll_answer(mode, true));
        }
    }

    #[test]
    fn streams_that_are_under_way_are_waited_for() {
        let mut drain = Drain::default();
        drain.start();
        drain.on_drained(3).unwrap();
        assert!(!drain.has_seen_all(DrainMode::Counted, 2));
        assert!(drain.has_seen_all(DrainMode::Counted, 3));
    }
}
