use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::BytesMut;
use pipe_core::backend::first_bytes;
use pipe_core::backend::proto::{SendHalf, Stream};

use super::output::{Output, SEND_BUFFER};
use crate::engine::ChannelInfo;

/// Maximum number of bytes of a write in one message of a plain channel: the size that every
/// implementation accepts.
const RAW_MESSAGE: usize = 16 * 1024;

/// A stream that is a plain data channel.
#[derive(Debug, Default)]
pub(super) struct Raw {
    pub(super) info: ChannelInfo,
    /// Messages that wait to be sent, and whether they are text.
    messages: VecDeque<(BytesMut, bool)>,
    buffered: usize,
}

impl Raw {
    pub(super) fn new(info: ChannelInfo) -> Self {
        Self {
            info,
            ..Self::default()
        }
    }

    /// Returns how many bytes wait to be sent.
    pub(super) fn buffered(&self) -> usize {
        self.buffered
    }

    pub(super) fn is_full(&self) -> bool {
        self.buffered >= SEND_BUFFER
    }

    /// Takes a message of these bytes, or as many as one takes; `None` if there is no room.
    pub(super) fn write(&mut self, bufs: &[IoSlice<'_>]) -> Option<usize> {
        if self.is_full() {
            return None;
        }
        let total = bufs.iter().map(|buf| buf.len()).sum::<usize>();
        let count = total.min(RAW_MESSAGE);
        let mut message = BytesMut::with_capacity(count);
        first_bytes(bufs, count).for_each(|piece| message.extend_from_slice(piece));
        self.push(message, false);
        Some(count)
    }

    pub(super) fn push(&mut self, bytes: BytesMut, text: bool) {
        self.buffered += bytes.len();
        self.messages.push_back((bytes, text));
    }

    pub(super) fn clear(&mut self) {
        self.messages.clear();
        self.buffered = 0;
    }

    pub(super) fn has_output(&self, proto: &Stream) -> bool {
        !self.messages.is_empty() || self.is_to_close(proto)
    }

    /// Returns the next thing to send: all that was written, unless the stream was reset, and then
    /// the close.
    pub(super) fn next_output(&mut self, proto: &Stream) -> Option<Output> {
        let at_once = is_reset(proto);
        if at_once {
            self.clear();
        }
        if let Some((bytes, text)) = self.messages.pop_front() {
            self.buffered -= bytes.len();
            return Some(Output::Message(bytes, text));
        }
        self.is_to_close(proto).then_some(Output::Close { at_once })
    }

    fn is_to_close(&self, proto: &Stream) -> bool {
        proto.is_carried() && (proto.is_done() || is_reset(proto))
    }
}

fn is_reset(proto: &Stream) -> bool {
    matches!(
        proto.send(),
        SendHalf::Reset { .. } | SendHalf::Disconnected { .. }
    )
}
