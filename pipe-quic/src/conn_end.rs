//! The end of a connection, at once or in good order.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use pipe_core::backend::SessionConn;
use pipe_core::{CloseReason, Error, ErrorKind};
use quinn::{ConnectionError, StoppedError, VarInt};

use crate::conn_inner::ConnInner;
use crate::error::{Condition, protocol, reason_of};

impl ConnInner {
    /// Ends the connection after the loss of quinn's. Returns the error that was noted first.
    pub(crate) fn lost(&self, error: &ConnectionError) -> Error {
        self.end(&reason_of(error, self.dialect.codes()));
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
        let reason = CloseReason::local(0, &error.to_string());
        self.end_and(&CloseReason::Failed(error), || {
            let text = match &reason {
                CloseReason::Local { reason, .. } => reason.as_bytes(),
                _ => b"",
            };
            self.quinn.close(condition.code(), text);
        });
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
                    let code = self.dialect.codes().written(*code);
                    self.quinn.close(code, reason.as_bytes());
                }
                _ => self.quinn.close(self.dialect.codes().none(), b""),
            }
        }
    }

    /// Lets the streams go that the end of the connection has cut.
    pub(crate) fn bury(&self) {
        let late = self.state.lock().extra.late.take();
        drop(late);
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
