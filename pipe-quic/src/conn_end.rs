//! The end of a connection, at once or in good order.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use pipe_core::{CloseReason, Error, ErrorKind, Result, Wire};
use quinn::{ConnectionError, StoppedError, VarInt};
use tokio::time::Instant;

use crate::conn_inner::ConnInner;
use crate::error::{Condition, protocol, reason_of};

impl ConnInner {
    /// Closes the connection from this side.
    pub(crate) fn close(&self, code: u32, reason: &str) {
        self.end(&CloseReason::local(code, reason), None);
    }

    /// Ends the connection after the loss of quinn's. Returns the error that was noted first.
    pub(crate) fn lost(&self, error: &ConnectionError) -> Error {
        self.end(&reason_of(error), None);
        self.error()
    }

    /// Ends the connection of a peer that broke the rules. Returns the error that was noted first.
    pub(crate) fn broken(&self, why: &str) -> Error {
        self.fail(Condition::Protocol, protocol(why));
        self.error()
    }

    /// Returns the error of every operation after the end.
    pub(crate) fn error(&self) -> Error {
        let unknown = || Error::new(ErrorKind::Failed, "the connection is over");
        self.status.error().unwrap_or_else(unknown)
    }

    /// Closes the connection because of an error, and sends the condition to the peer.
    pub(crate) fn fail(&self, condition: Condition, error: Error) {
        self.end(&CloseReason::Failed(error), Some(condition));
    }

    /// Ends the connection, unless it has ended: all that waits wakes up.
    fn end(&self, reason: &CloseReason, condition: Option<Condition>) {
        let mut conn = self.state.lock();
        if !self.status.end(reason.clone()) {
            return;
        }
        match reason {
            // The driver closes the connection of quinn when the peer has the CLOSE.
            CloseReason::Local { code, reason } => {
                let now = Instant::now().into_std();
                conn.session.close(*code, 0, reason, now);
            }
            _ => conn.session.fail(),
        }
        match (reason, condition) {
            (CloseReason::Local { .. }, _) if self.wire == Wire::Raw => self.close_quinn(),
            (CloseReason::Failed(error), Some(condition)) => {
                let why = CloseReason::local(0, &error.to_string());
                let text = match &why {
                    CloseReason::Local { reason, .. } => reason.as_bytes(),
                    _ => b"",
                };
                self.quinn.close(condition.code(), text);
            }
            _ => {}
        }
        self.settle(conn);
        self.on_end();
    }

    /// Wakes the tasks that wait for the connection itself.
    pub(crate) fn on_end(&self) {
        self.slots.close();
        self.pings.close();
        for pair in self.arrivals.end() {
            let stream = self.stream(pair, None);
            self.state.lock().keep_late(stream);
        }
        self.idle.notify_waiters();
        self.news.notify_one();
    }

    /// The driver is over. Had it not ended the connection, this is its end; and quinn's, whose streams and
    /// handles would wait for ever otherwise.
    pub(crate) fn driver_gone(&self) {
        let why = "the connection's driver has stopped";
        self.fail(Condition::Silent, Error::new(ErrorKind::Failed, why));
        self.close_quinn();
        self.bury();
    }

    /// Closes the connection of quinn with the reason of the end, if that is this side's.
    pub(crate) fn close_quinn(&self) {
        if self.quinn.close_reason().is_none() {
            match self.status.reason() {
                Some(CloseReason::Local { code, reason }) => {
                    self.quinn.close(VarInt::from_u32(*code), reason.as_bytes());
                }
                _ => self.quinn.close(VarInt::from_u32(0), b""),
            }
        }
    }

    /// Lets the streams go that the end of the connection has cut.
    pub(crate) fn bury(&self) {
        let late = self.state.lock().late.take();
        drop(late);
    }

    /// Announces that this side drains the connection.
    pub(crate) fn drain(&self) {
        let mut conn = self.state.lock();
        if conn.session.drain() {
            self.slots.close();
        }
        self.settle(conn);
    }

    /// Returns whether a drain of this side is over.
    pub(crate) fn is_drained(&self) -> bool {
        self.state.lock().session.is_drained() && self.undelivered.load(Ordering::Acquire) == 0
    }

    /// Returns whether no stream was cut short by the end of the connection.
    pub(crate) fn ended_idle(&self) -> bool {
        self.state.lock().session.ended_idle()
    }

    /// Counts a direction of a plain stream that was shut down: a drain waits until its bytes are at the peer.
    pub(crate) fn await_delivery(
        self: &Arc<Self>,
        delivered: impl Future<Output = Result<Option<VarInt>, StoppedError>> + Send + 'static,
    ) {
        self.undelivered.fetch_add(1, Ordering::Relaxed);
        let counted = Undelivered(self.clone());
        tokio::spawn(async move {
            // A stop, or the end of the connection, ends the wait as well.
            let _ = delivered.await;
            drop(counted);
        });
    }
}

/// A direction whose bytes are not at the peer yet. It is counted as long as it is waited for, so that a drain
/// does not wait for a task that has gone with its runtime.
struct Undelivered(Arc<ConnInner>);

impl Drop for Undelivered {
    fn drop(&mut self) {
        self.0.undelivered.fetch_sub(1, Ordering::Release);
        self.0.idle.notify_waiters();
    }
}
