use pipe_core::CloseReason;

use super::Shared;
use super::deferred::Deferred;
use crate::events::ConnEvent;

impl Shared {
    /// Closes the connection from this side, unless it has ended.
    pub(crate) fn close(&self, code: u32, reason: &str) {
        self.end(&CloseReason::local(code, reason));
    }

    /// Ends the connection, unless it has ended: all that waits wakes up.
    pub(crate) fn end(&self, reason: &CloseReason) {
        let mut inner = self.inner.lock();
        if !self.status.end(reason.clone()) {
            return;
        }
        self.slots.close();
        self.pings.close();
        // The driver sends the close, behind the bytes of the streams.
        inner.session.fail();
        let deferred = Deferred {
            given_up: std::mem::take(&mut inner.opens).into(),
            ..Deferred::default()
        };
        self.settle_with(inner, deferred);
        drop(self.backlog.close());
        self.flows.notify_waiters();
        self.tell(ConnEvent::State(self.status.state()));
    }

    /// Drops the state that only an open connection needs. Streams that the application holds stay
    /// readable as far as possible.
    pub(crate) fn clear(&self) {
        let mut inner = self.inner.lock();
        let current = std::mem::take(&mut inner.current);
        let free = std::mem::take(&mut inner.free);
        let held = inner.arrivals.take_held();
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
            let mut inner = self.inner.lock();
            inner.session.disconnect();
            self.settle(inner);
        }
    }

    /// Announces that this side drains the connection.
    pub(crate) fn drain(&self) {
        let mut inner = self.inner.lock();
        if !inner.session.drain() {
            return;
        }
        let deferred = Deferred {
            is_draining: true,
            given_up: std::mem::take(&mut inner.opens).into(),
            ..Deferred::default()
        };
        self.settle_with(inner, deferred);
    }

    pub(crate) fn is_drained(&self) -> bool {
        self.inner.lock().session.is_drained()
    }

    /// Returns whether no stream was cut short by the end of the connection.
    pub(crate) fn ended_idle(&self) -> bool {
        self.inner.lock().session.ended_idle()
    }
}
