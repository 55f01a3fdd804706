use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Poll, Waker};

use super::channel_state::ChannelState;
use crate::engine::event::PeerEvent;

/// Maximum number of events that wait to be taken before the peer has to wait, and candidates and states are left out.
const MAX_EVENTS: usize = 1024;

/// An event of a connection. A channel that the peer has opened is passed on without its handle.
pub(super) type Event = PeerEvent<Arc<ChannelState>>;

/// The events of a connection that were not taken.
#[derive(Debug, Default)]
pub(super) struct EventQueue {
    events: VecDeque<Event>,
    waker: Option<Waker>,
    is_over: bool,
}

impl EventQueue {
    /// Returns the next event.
    pub(super) fn poll(&mut self, waker: &Waker) -> Poll<Option<Event>> {
        if let Some(event) = self.events.pop_front() {
            return Poll::Ready(Some(event));
        }
        if self.is_over {
            return Poll::Ready(None);
        }
        self.waker = Some(waker.clone());
        Poll::Pending
    }

    /// Returns whether messages of the peer may be taken, which may be events.
    pub(super) fn has_room(&self) -> bool {
        self.events.len() < MAX_EVENTS
    }

    /// Adds an event. Channels and ends are never left out.
    pub(super) fn push(&mut self, event: Event) {
        let may_be_left_out = matches!(event, PeerEvent::Candidate(_) | PeerEvent::Ice(_));
        if may_be_left_out && !self.has_room() {
            tracing::debug!(
                ?event,
                "an event is left out, since those before it are not taken"
            );
            return;
        }
        self.events.push_back(event);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Drops the events that were not taken: no more follow.
    pub(super) fn end(&mut self) {
        self.is_over = true;
        self.events.clear();
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::engine::event::IceState;

    use super::*;

    #[test]
    fn the_end_comes_behind_events_that_nobody_takes() {
        let mut queue = EventQueue::default();
        for _ in 0..2 * MAX_EVENTS {
            queue.push(PeerEvent::Ice(IceState::Connected));
        }
        assert!(!queue.has_room());
        queue.push(PeerEvent::Closed);
        let mut taken = Vec::new();
        while let Poll::Ready(Some(event)) = queue.poll(Waker::noop()) {
            taken.push(event);
        }
        assert_eq!(taken.len(), MAX_EVENTS + 1);
        assert!(matches!(taken.last(), Some(PeerEvent::Closed)));
        assert!(queue.has_room());
    }
}
