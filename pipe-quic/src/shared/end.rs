//! The end of a connection, and disconnects, which can be the end of its streams.

use std::sync::atomic::Ordering;

use pipe_core::backend::proto::Frame;
use pipe_core::{CloseReason, Error, ErrorKind, OnDisconnect, Wire};
use quinn::{ConnectionError, VarInt};

use super::half::Half;
use super::state::Shared;
use crate::error::{Condition, reason_of};

impl Shared {
    /// Closes the connection from this side.
    pub(crate) fn close(&self, code: u32, reason: &str) {
        self.end(&CloseReason::local(code, reason), None);
    }

    /// Ends the connection after the loss of quinn's. Returns the error that was noted first.
    pub(crate) fn lost(&self, error: &ConnectionError) -> Error {
        self.end(&reason_of(error), None);
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
        let mut inner = self.inner.lock();
        if !self.status.end(reason.clone()) {
            return;
        }
        inner.ended_idle = inner.table.in_use() == 0;
        let pings = std::mem::take(&mut inner.pings);
        let streams = inner.table.cores();
        if let CloseReason::Local { code, reason } = reason
            && self.wire == Wire::Pipe
        {
            // The driver closes the connection of quinn when the peer has it.
            inner.output.push(&Frame::Close {
                code: *code,
                messages: 0,
                reason: reason.as_ref().to_owned(),
            });
        }
        drop(inner);
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
        self.slots.close();
        self.ping_places.close();
        drop(pings);
        for core in streams {
            core.wake();
        }
        self.end_arrivals();
        self.idle.notify_waiters();
        self.news.notify_one();
    }

    /// The driver is over. Had it not ended the connection, this is its end; and quinn's, whose streams and
    /// handles would wait for ever otherwise.
    pub(crate) fn driver_gone(&self) {
        let why = "the connection's driver has stopped";
        self.end(
            &CloseReason::Failed(Error::new(ErrorKind::Failed, why)),
            Some(Condition::Silent),
        );
        self.close_quinn();
        self.bury();
    }

    /// Notes that the peer has closed the connection.
    pub(crate) fn closed_by_peer(&self, code: u32, reason: &str) {
        self.end(&CloseReason::remote(code, reason), None);
    }

    /// Closes the connection of quinn with the reason of the end, if that is this side's.
    pub(crate) fn close_quinn(&self) {
        if self.quinn.close_reason().is_some() {
            return;
        }
        match self.status.reason() {
            Some(CloseReason::Local { code, reason }) => {
                self.quinn.close(VarInt::from_u32(*code), reason.as_bytes());
            }
            _ => self.quinn.close(VarInt::from_u32(0), b""),
        }
    }

    /// Lets the halves go that were dropped after the close.
    pub(crate) fn bury(&self) {
        let late = self.late.lock().take();
        drop(late);
    }

    /// Drops a half; after this side's close, defers that until the peer has acknowledged the
    /// close.
    pub(crate) fn drop_half(&self, half: Half) {
        if self.status.reason().is_none() {
            return;
        }
        let mut late = self.late.lock();
        if let Some(late) = &mut *late {
            late.push(half);
        }
    }

    /// Notes that the peer is silent.
    pub(crate) fn disconnect(&self) {
        if !self.status.set_connected(false) || self.config.on_disconnect == OnDisconnect::Wait {
            return;
        }
        self.disconnects.fetch_add(1, Ordering::Relaxed);
        let streams = self.inner.lock().table.cores();
        for core in streams {
            core.wake();
        }
    }

    /// Returns the number of times that streams were ended by a disconnect.
    pub(crate) fn disconnects(&self) -> u64 {
        self.disconnects.load(Ordering::Relaxed)
    }

    /// Returns whether no stream was cut short by the end of the connection.
    pub(crate) fn ended_idle(&self) -> bool {
        self.inner.lock().ended_idle
    }
}
