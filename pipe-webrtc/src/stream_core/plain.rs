//! Streams that are plain data channels.

use std::task::{Context, Poll, Waker, ready};

use bytes::BytesMut;
use pipe_core::backend::proto::{RecvHalf, SendHalf, StreamFrame};
use pipe_core::{Error, ErrorKind, Result};

use super::state::StreamState;
use crate::engine::ChannelInfo;

/// Cost of a message besides its bytes, in bytes: it counts for as much, so that empty ones are
/// bounded too.
const MESSAGE_COST: usize = 256;

/// Smaller messages are copied out of the memory of the packet that they came in.
const SMALL_MESSAGE: usize = 4 * 1024;

impl StreamState {
    /// Adds a message of a plain channel. Returns the waker of its reader.
    pub(crate) fn arrive_raw(&mut self, bytes: BytesMut, text: bool) -> Option<Waker> {
        if !matches!(self.proto.on_bytes(bytes.len()), Ok(true)) {
            return None;
        }
        self.queued += bytes.len();
        let bytes = match bytes.len() {
            0 => BytesMut::new(),
            1..SMALL_MESSAGE => BytesMut::from(&bytes[..]),
            _ => bytes,
        };
        self.queue.push_back((bytes, text));
        self.reader.take()
    }

    /// Returns whether a plain channel holds as much as it may.
    pub(crate) fn is_full(&self, window: u32) -> bool {
        let held = self.queued + self.queue.len() * MESSAGE_COST;
        self.proto.recv().takes_bytes() && held >= window as usize
    }

    /// Notes that the peer has closed a plain channel, which is a clean end. Returns the wakers of both halves.
    pub(crate) fn close_raw(&mut self) -> [Option<Waker>; 2] {
        if let Some(raw) = &mut self.raw {
            raw.clear();
        }
        // The wakers are taken whatever changed, and nothing was announced that could be missing.
        let _ = self.proto.on_fin(true);
        if self.proto.send() == SendHalf::Ready {
            let _ = self.proto.on_cut();
        }
        let writer = self.end_raw();
        [self.reader.take(), writer]
    }

    /// Notes that a plain channel is closed. Returns the waker of its writer.
    pub(crate) fn end_raw(&mut self) -> Option<Waker> {
        self.proto.on_carrier_end();
        // Of a plain peer there is no other confirmation.
        let _ = self.proto.on_frame(StreamFrame::Taken);
        self.writer.take()
    }

    pub(crate) fn is_raw(&self) -> bool {
        self.raw.is_some()
    }

    /// Returns the parameters of a plain channel.
    pub(crate) fn info(&self) -> Option<ChannelInfo> {
        Some(self.raw.as_ref()?.info.clone())
    }

    /// Takes a whole message of a plain channel; `None` at its end.
    pub(crate) fn poll_message(
        &mut self,
        cx: &mut Context<'_>,
        conn: impl FnOnce() -> Option<Error>,
    ) -> Poll<Result<Option<(BytesMut, bool)>>> {
        ready!(self.poll_readable(cx, conn))?;
        if let Some((bytes, text)) = self.queue.pop_front() {
            self.queued -= bytes.len();
            self.proto.read(bytes.len());
            return Poll::Ready(Ok(Some((bytes, text))));
        }
        if self.proto.recv() == RecvHalf::Ended {
            return Poll::Ready(Ok(None));
        }
        self.pend_read(cx)
    }

    /// Sends a whole message on a plain channel.
    pub(crate) fn poll_send_message(
        &mut self,
        cx: &mut Context<'_>,
        message: &mut Option<(BytesMut, bool)>,
        conn: impl FnOnce() -> Option<Error>,
    ) -> Poll<Result<()>> {
        ready!(self.poll_writable(cx, conn))?;
        let Some(raw) = &mut self.raw else {
            let why = "messages are of plain data channels only: see Wire::Raw";
            return Poll::Ready(Err(Error::new(ErrorKind::Unsupported, why)));
        };
        if raw.is_full() {
            return self.pend_write(cx);
        }
        if let Some((bytes, text)) = message.take() {
            self.base.proto.wrote(bytes.len(), 0);
            raw.push(bytes, text);
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use pipe_core::backend::proto::Stream;

    use super::*;
    use crate::stream_core::Unread;

    fn plain() -> StreamState {
        let proto = Stream::remote(0).into_plain().with_carrier();
        StreamState::new(proto, 0, Unread::default(), None)
    }

    #[test]
    fn empty_messages_fill_a_plain_channel_too() {
        let mut state = plain();
        let mut count = 0;
        while !state.is_full(256 * 1024) {
            state.arrive_raw(BytesMut::new(), false);
            count += 1;
        }
        assert_eq!(count, 256 * 1024 / MESSAGE_COST);
    }

    #[test]
    fn a_small_message_does_not_keep_the_packet_that_it_came_in() {
        let mut state = plain();
        let mut packet = BytesMut::with_capacity(64 * 1024);
        packet.extend_from_slice(&[1; 100]);
        state.arrive_raw(packet.split_to(1), false);
        let kept = state.queue.front().map(|(bytes, _)| bytes.capacity());
        assert!(kept.is_some_and(|capacity| capacity < 64), "{kept:?}");
    }
}
