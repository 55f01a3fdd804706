use pipe_core::CloseReason;
use pipe_core::backend::SessionConn;

use super::Shared;
use crate::events::ConnEvent;

impl Shared {
    /// Ends the connection, unless it has ended: all that waits wakes up.
    pub(crate) fn end(&self, reason: &CloseReason) {
        SessionConn::end(self, reason);
    }

    /// Drops the state that only an open connection needs. Streams that the application holds stay
    /// readable as far as possible.
    pub(crate) fn clear(&self) {
        let mut inner = self.state.lock();
        let current = std::mem::take(&mut inner.extra.current);
        let free = std::mem::take(&mut inner.extra.free);
        let held = inner.extra.arrivals.take_held();
        drop(inner);
        drop((current, free, held));
        self.outbox.clear();
    }

    /// Notes whether the peer is reachable. Returns whether that has changed.
    pub(crate) fn set_connected(&self, connected: bool) -> bool {
        let news = self.status.set_connected(connected);
        if news {
            self.tell(ConnEvent::State(self.status.state()));
        }
        news
    }

    /// Notes that the peer is silent.
    pub(crate) fn disconnect(&self) {
        if self.set_connected(false) {
            let mut inner = self.state.lock();
            inner.session.disconnect();
            self.settle(inner);
        }
    }
}
