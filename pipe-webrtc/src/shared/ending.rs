use pipe_core::backend::proto::Frame;
use pipe_core::backend::{RecvState, SendState};
use pipe_core::{CloseReason, OnDisconnect, Result};

use super::{Shared, wake};
use crate::error::protocol;
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
        self.ping_places.close();
        inner.ended_idle = inner.streams.is_empty();
        let pings = std::mem::take(&mut inner.pings);
        let opens = std::mem::take(&mut inner.opens);
        let mut wakers = Vec::new();
        for stream in inner.streams.values() {
            wakers.extend(stream.state.lock().end());
            stream.room.notify_waiters();
        }
        drop(inner);
        drop(self.backlog.close());
        drop(pings);
        drop(opens);
        wakers.into_iter().for_each(wake);
        self.idle.notify_waiters();
        self.flows.notify_waiters();
        self.tell(ConnEvent::State(self.status.state()));
    }

    /// Drops the state that only an open connection needs. Streams that the application holds stay
    /// readable as far as possible.
    pub(crate) fn clear(&self) {
        let mut inner = self.inner.lock();
        let current = std::mem::take(&mut inner.current);
        let free = std::mem::take(&mut inner.free);
        let held = std::mem::take(&mut inner.held);
        drop(inner);
        drop((current, free, held));
        self.outbox.clear();
    }

    /// Notes whether the peer is reachable. Returns whether that has changed.
    pub(crate) fn note_connected(&self, connected: bool) -> bool {
        let news = self.status.set_connected(connected);
        if news {
            self.tell(ConnEvent::State(self.status.state()));
        }
        news
    }

    /// Notes that the peer is silent.
    pub(crate) fn disconnect(&self) {
        if !self.note_connected(false) || self.config.on_disconnect == OnDisconnect::Wait {
            return;
        }
        let streams: Vec<_> = self.inner.lock().streams.values().cloned().collect();
        for stream in streams {
            self.cut_send(&stream, SendState::Disconnected, 0);
            self.cut_recv(&stream, RecvState::Disconnected, 0);
        }
    }

    /// Announces that this side drains the connection.
    pub(crate) fn announce_drain(&self) {
        let mut inner = self.inner.lock();
        if std::mem::replace(&mut inner.drain_announced, true) {
            return;
        }
        if self.wire.is_raw() {
            // A plain peer supports no drain.
            inner.drained = Some(0);
        } else {
            self.say(&Frame::Drain);
        }
        let opens = std::mem::take(&mut inner.opens);
        drop(inner);
        self.slots.close();
        drop(opens);
    }

    /// Notes that the peer drains the connection.
    pub(crate) fn drain_by_peer(&self) -> Result<()> {
        let mut inner = self.inner.lock();
        if std::mem::replace(&mut inner.drain_by_peer, true) {
            return Err(protocol("a second drain"));
        }
        let opens = std::mem::take(&mut inner.opens);
        self.say(&Frame::Drained {
            streams: inner.next_id,
        });
        drop(inner);
        self.slots.close();
        drop(opens);
        Ok(())
    }

    /// Notes that the peer has seen this side's drain, and had opened so many streams.
    pub(crate) fn drained(&self, streams: u64) -> Result<()> {
        let mut inner = self.inner.lock();
        if !inner.drain_announced || inner.drained.replace(streams).is_some() {
            return Err(protocol("a drained that answers no drain"));
        }
        drop(inner);
        self.idle.notify_waiters();
        Ok(())
    }

    pub(crate) fn is_drained(&self) -> bool {
        let inner = self.inner.lock();
        inner.drained.is_some_and(|count| inner.seen >= count) && inner.streams.is_empty()
    }

    /// Returns whether no stream was cut short by the end of the connection.
    pub(crate) fn ended_idle(&self) -> bool {
        self.inner.lock().ended_idle
    }
}
