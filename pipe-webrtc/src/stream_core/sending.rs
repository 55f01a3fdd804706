//! The output of a stream, and its order.

use std::task::Waker;

use pipe_core::backend::proto::StreamFrame;
use pipe_core::backend::{RecvState, SendState};

use super::output::{Output, Owed, SEND_BUFFER};
use super::state::StreamState;

impl StreamState {
    /// Returns whether a message or bytes are pending. Credit is returned to the peer from
    /// `worth_telling` bytes on.
    pub(crate) fn has_output(&self, worth_telling: u32) -> bool {
        if let Some(raw) = &self.raw {
            let reset = matches!(self.send, SendState::Reset(_) | SendState::Disconnected);
            return raw.has_output(reset, self.done);
        }
        !self.buffer.is_empty() || self.owed != Owed::default() || self.owes_credit(worth_telling)
    }

    /// Returns whether credit is to be returned to the peer. After the end of its direction the
    /// stream needs no more, but other streams may.
    fn owes_credit(&self, worth_telling: u32) -> bool {
        self.recv == RecvState::Open
            && self.unreturned >= worth_telling.max(1)
            && (self.announced.is_none() || worth_telling <= 1)
            && !self.peer_done
    }

    pub(crate) fn has_bytes(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Returns the next thing to send: messages of up to `most` bytes, while `flight` more bytes
    /// may be on their way.
    pub(crate) fn next_output(
        &mut self,
        most: usize,
        flight: usize,
        worth_telling: u32,
    ) -> Option<Output> {
        if let Some(raw) = &mut self.raw {
            let reset = matches!(self.send, SendState::Reset(_) | SendState::Disconnected);
            return raw.next_output(reset, self.done);
        }
        let text = |frame| Some(Output::Text(frame));
        let owes_credit = self.owes_credit(worth_telling);
        let owed = &mut self.owed;
        if std::mem::take(&mut owed.open) {
            return text(StreamFrame::Open);
        }
        if let Some(code) = owed.stop.take() {
            return text(StreamFrame::Stop(code));
        }
        if std::mem::take(&mut owed.taken) {
            return text(StreamFrame::Taken);
        }
        if owes_credit {
            let bytes = std::mem::take(&mut self.unreturned);
            self.granted = self.granted.saturating_add(bytes);
            return text(StreamFrame::Credit(bytes));
        }
        if !self.buffer.is_empty() {
            let count = self.buffer.len().min(most);
            if count > flight {
                return Some(Output::Blocked);
            }
            return Some(Output::Bytes(self.buffer.split_to(count)));
        }
        if std::mem::take(&mut owed.end) {
            return text(StreamFrame::End(self.sent));
        }
        if let Some(code) = owed.reset.take() {
            return text(StreamFrame::Reset(code));
        }
        if std::mem::take(&mut owed.done) {
            return text(StreamFrame::Done);
        }
        None
    }

    /// Returns the waker of the writer, if there is room in the buffer.
    pub(crate) fn writer_with_room(&mut self) -> Option<Waker> {
        let buffered = match &self.raw {
            Some(raw) => raw.buffered(),
            None => self.buffer.len(),
        };
        if buffered < SEND_BUFFER {
            self.writer.take()
        } else {
            None
        }
    }
}
