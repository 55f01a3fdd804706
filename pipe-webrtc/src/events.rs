use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use pipe_core::ConnState;
use tokio::sync::Notify;

use crate::engine::CandidatePair;

/// Number of events of a connection that are kept.
const KEPT: usize = 64;

/// Something that has happened to a connection under its streams.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnEvent {
    /// A candidate of this side was found and sent to the peer, as in an SDP (RFC 8839, section
    /// 5.1).
    LocalCandidate(String),
    /// A candidate of the peer was received, and can be used.
    RemoteCandidate(String),
    /// The packets take this path from now on.
    PairSelected(CandidatePair),
    /// Both sides have agreed on new credentials of ICE, and look for a new path
    /// ([`restart_ice`](crate::WebRtcConn::restart_ice)).
    IceRestarted,
    /// The connection is in this state now.
    State(ConnState),
    /// Number of events after the previous one that are not kept any longer: this reader was too
    /// slow.
    Missed(u64),
}

/// The events of a connection, in their order, from the first one that is kept: those of its making
/// are among them.
///
/// A connection keeps its last 64 events. It never waits for a reader: a slower one receives [the
/// number that it has missed](ConnEvent::Missed). It does not keep the connection open.
pub struct ConnEvents {
    log: Arc<EventLog>,
    /// The number of the next event to give out.
    next: u64,
}

impl ConnEvents {
    pub(crate) fn new(log: Arc<EventLog>) -> Self {
        Self { log, next: 0 }
    }

    /// Waits for the next event; `None` after the last one of a connection that is over, which is its
    /// [final state](ConnState::is_final).
    ///
    /// # Cancel safety
    ///
    /// No event is lost.
    pub async fn next(&mut self) -> Option<ConnEvent> {
        loop {
            let news = self.log.news.notified();
            {
                let kept = self.log.kept.lock();
                let missed = kept.first.saturating_sub(self.next);
                if missed > 0 {
                    self.next = kept.first;
                    return Some(ConnEvent::Missed(missed));
                }
                let index = usize::try_from(self.next - kept.first).unwrap_or(usize::MAX);
                if let Some(event) = kept.events.get(index) {
                    self.next += 1;
                    return Some(event.clone());
                }
                if kept.ended {
                    return None;
                }
            }
            news.await;
        }
    }
}

impl fmt::Debug for ConnEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnEvents")
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

/// The latest events. Beyond [`KEPT`] events the oldest is dropped.
#[derive(Default)]
pub(crate) struct EventLog {
    kept: Mutex<Kept>,
    news: Notify,
}

#[derive(Default)]
struct Kept {
    events: VecDeque<ConnEvent>,
    /// The number of the oldest event that is kept.
    first: u64,
    ended: bool,
}

impl EventLog {
    /// Adds an event. No event follows a final state.
    pub(crate) fn push(&self, event: ConnEvent) {
        {
            let mut kept = self.kept.lock();
            if kept.ended {
                return;
            }
            kept.ended = matches!(event, ConnEvent::State(state) if state.is_final());
            if kept.events.len() == KEPT {
                kept.events.pop_front();
                kept.first += 1;
            }
            kept.events.push_back(event);
        }
        self.news.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn candidate(number: usize) -> ConnEvent {
        ConnEvent::LocalCandidate(number.to_string())
    }

    #[tokio::test]
    async fn every_reader_gets_every_event_in_order_and_then_the_end() {
        let log = Arc::new(EventLog::default());
        log.push(candidate(0));
        let mut readers = [ConnEvents::new(log.clone()), ConnEvents::new(log.clone())];
        for reader in &mut readers {
            assert_eq!(reader.next().await, Some(candidate(0)));
            assert_eq!(reader.next().now_or_never(), None);
        }
        let [first, second] = &mut readers;
        let (seen, ()) = tokio::join!(first.next(), async { log.push(candidate(1)) });
        assert_eq!(seen, Some(candidate(1)));
        log.push(ConnEvent::State(ConnState::Closed));
        log.push(candidate(2));
        assert_eq!(second.next().await, Some(candidate(1)));
        for reader in [first, second] {
            let last = reader.next().await;
            assert_eq!(last, Some(ConnEvent::State(ConnState::Closed)));
            assert_eq!(reader.next().await, None);
            assert_eq!(reader.next().await, None);
        }
    }

    #[tokio::test]
    async fn a_slow_reader_is_told_how_many_it_has_missed() {
        let log = Arc::new(EventLog::default());
        let mut reader = ConnEvents::new(log.clone());
        log.push(candidate(0));
        assert_eq!(reader.next().await, Some(candidate(0)));
        for number in 1..=KEPT + 9 {
            log.push(candidate(number));
        }
        assert_eq!(reader.next().await, Some(ConnEvent::Missed(9)));
        for number in 10..=KEPT + 9 {
            assert_eq!(reader.next().await, Some(candidate(number)));
        }
        assert_eq!(reader.next().now_or_never(), None);
    }
}
