//! The end in good order.
//!
//! Each side tracks when the streams that it opened are over at both ends. So the drainer waits for
//! its own, and for the peer's DRAINED for the peer's.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use pipe_core::backend::proto::Frame;
use pipe_core::{Result, Wire};
use quinn::{StoppedError, VarInt};

use super::state::{Inner, Shared};
use crate::error::protocol;

impl Shared {
    /// Announces that this side drains the connection.
    pub(crate) fn announce_drain(&self) {
        let mut inner = self.inner.lock();
        if std::mem::replace(&mut inner.drain_announced, true) {
            return;
        }
        match self.wire {
            Wire::Pipe => inner.output.push(&Frame::Drain),
            // A plain peer supports no drain.
            Wire::Raw => inner.drained_by_peer = true,
        }
        self.send(inner);
        self.slots.close();
    }

    /// Notes that the peer has announced a drain. It is answered once all streams of this side are
    /// over.
    ///
    /// # Errors
    ///
    /// [`Protocol`](ErrorKind::Protocol) for a second one.
    pub(crate) fn drain_by_peer(&self) -> Result<()> {
        let mut inner = self.inner.lock();
        if std::mem::replace(&mut inner.drain_by_peer, true) {
            return Err(protocol("a second drain"));
        }
        if inner.table.ours() == 0 {
            inner.tell_drained();
        }
        drop(inner);
        self.slots.close();
        self.news.notify_one();
        Ok(())
    }

    /// Notes that all streams of the peer are over.
    ///
    /// # Errors
    ///
    /// [`Protocol`](ErrorKind::Protocol) if this side sent no drain.
    pub(crate) fn drained_by_peer(&self) -> Result<()> {
        let mut inner = self.inner.lock();
        if !inner.drain_announced {
            return Err(protocol("an answer to a drain that was not sent"));
        }
        inner.drained_by_peer = true;
        drop(inner);
        self.idle.notify_waiters();
        Ok(())
    }

    /// Counts a direction that was shut down: a drain waits until its bytes are at the peer. Where
    /// the wire is not raw, the peer acknowledges what it has read.
    pub(crate) fn await_delivery(
        self: &Arc<Self>,
        delivered: impl Future<Output = Result<Option<VarInt>, StoppedError>> + Send + 'static,
    ) {
        self.unacknowledged.fetch_add(1, Ordering::Relaxed);
        let counted = Counted(self.clone());
        tokio::spawn(async move {
            // A stop, or the end of the connection, ends the wait as well.
            let _ = delivered.await;
            drop(counted);
        });
    }

    /// Returns whether a drain of this side is over.
    pub(crate) fn is_drained(&self) -> bool {
        let inner = self.inner.lock();
        let acknowledged = self.unacknowledged.load(Ordering::Acquire) == 0;
        inner.drained_by_peer
            && inner.table.ours() == 0
            && inner.table.in_use() == 0
            && acknowledged
    }
}

/// A direction whose bytes are not at the peer yet. It is counted as long as it is waited for, so that a drain
/// does not wait for a task that has gone with its runtime.
struct Counted(Arc<Shared>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.unacknowledged.fetch_sub(1, Ordering::Release);
        self.0.idle.notify_waiters();
    }
}

impl Inner {
    /// Sends DRAINED to a peer that drains the connection: all streams of this side are over.
    pub(super) fn tell_drained(&mut self) {
        if self.drain_by_peer && !std::mem::replace(&mut self.drained_told, true) {
            self.output.push(&Frame::Drained { streams: 0 });
        }
    }
}
