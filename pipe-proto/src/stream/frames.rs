//! The frames that a stream has to send.

use super::{Pending, Stream};
use crate::frame::StreamFrame;
use crate::recv::RecvHalf;
use crate::send::SendHalf;

impl Stream {
    /// Returns whether a frame is due.
    pub fn has_frames(&self) -> bool {
        !self.is_plain && (self.pending != Pending::default() || self.owes_credit())
    }

    /// Returns how many read bytes a CREDIT is due for, so that the [window](crate::Session::tune_window) may be tuned
    /// before it leaves.
    pub fn due_credit(&self) -> Option<u32> {
        (self.recv == RecvHalf::Open && self.owes_credit()).then_some(self.uncredited)
    }

    /// Returns whether a CREDIT is due.
    pub fn owes_credit(&self) -> bool {
        let Some(threshold) = self.credit_threshold else {
            return false;
        };
        let needs_room = match self.recv {
            RecvHalf::Open => true,
            _ if self.ends_natively() => self.returns_all(),
            RecvHalf::SizeKnown { total } => self.returns_all() || self.arrived < total,
            RecvHalf::Ended => self.returns_all(),
            _ => false,
        };
        let threshold = if self.returns_all() {
            threshold
        } else {
            // Of the window that the peer knows of: it sends no more.
            threshold.saturating_add(self.granted.bytes() / 4)
        };
        needs_room && self.uncredited >= threshold
    }

    /// Takes out the next frame to send, and how many bytes count against the peer's connection window no more once it
    /// is sent. `has_bytes` says that bytes of the stream wait in front of its end. After the last frame the session
    /// has to [look at](crate::Session::update) the stream, which may be over.
    pub fn poll_frame(&mut self, has_bytes: bool) -> Option<(StreamFrame, u32)> {
        use std::mem::take;
        if self.is_plain {
            return None;
        }
        if take(&mut self.pending.open) {
            return Some((StreamFrame::Open, 0));
        }
        if !has_bytes && take(&mut self.pending.finish) {
            let (frame, is_cut) = match self.send {
                SendHalf::Reset { code } => (StreamFrame::Reset(code), true),
                SendHalf::Disconnected { .. } => (StreamFrame::Reset(0), true),
                _ => (StreamFrame::End(self.sent), false),
            };
            let freed = if is_cut {
                take(&mut self.unacknowledged)
            } else {
                0
            };
            return Some((frame, freed));
        }
        if take(&mut self.pending.stop) {
            let code = match self.recv {
                RecvHalf::Stopped { code } => code,
                _ => 0,
            };
            return Some((StreamFrame::Stop(code), 0));
        }
        if self.owes_credit() {
            let read = take(&mut self.uncredited);
            let bytes = self.granted.grant(self.growth.bytes(), read);
            if bytes > 0 {
                return Some((StreamFrame::Credit(bytes), 0));
            }
        }
        if take(&mut self.pending.taken) {
            return Some((StreamFrame::Taken, 0));
        }
        if !has_bytes && !self.pending.finish && take(&mut self.pending.done) {
            return Some((StreamFrame::Done, 0));
        }
        // What waits behind bytes is due when they have left.
        self.queued = self.has_frames();
        None
    }
}
