//! Streams that are plain data channels.

use std::task::{Context, Poll, Waker};

use bytes::BytesMut;
use pipe_core::backend::{RecvState, SendState};
use pipe_core::{Error, ErrorKind, Result};

use super::raw::Raw;
use super::state::{StreamCore, StreamState};
use crate::engine::ChannelInfo;

/// Cost of a message besides its bytes, in bytes: it counts for as much, so that empty ones are
/// bounded too.
const MESSAGE_COST: usize = 256;

/// Smaller messages are copied out of the memory of the packet that they came in.
const SMALL_MESSAGE: usize = 4 * 1024;

impl StreamCore {
    /// Returns the same as a plain data channel that was opened with this.
    #[must_use]
    pub(crate) fn into_raw(mut self, info: ChannelInfo) -> Self {
        let state = self.state.get_mut();
        state.owed.open = false;
        state.raw = Some(Box::new(Raw::new(info)));
        self
    }
}

impl StreamState {
    /// Adds a message of a plain channel. Returns the waker of its reader.
    pub(crate) fn arrive_raw(&mut self, bytes: BytesMut, text: bool) -> Option<Waker> {
        if self.recv != RecvState::Open {
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
        self.recv == RecvState::Open && held >= window as usize
    }

    /// Notes that the peer has closed a plain channel. Returns the wakers of both halves.
    pub(crate) fn close_raw(&mut self) -> [Option<Waker>; 2] {
        if let Some(raw) = &mut self.raw {
            raw.closed = true;
            raw.clear();
        }
        if self.announced.is_none() {
            self.announced = Some(self.received + self.queued as u64);
        }
        if self.send == SendState::Open {
            self.send = SendState::Stopped {
                code: 0,
                shut: false,
            };
        }
        self.taken = true;
        self.peer_done = true;
        [self.reader.take(), self.writer.take()]
    }

    /// Notes that this side has closed a plain channel.
    pub(crate) fn note_raw_closed(&mut self) -> Option<Waker> {
        if let Some(raw) = &mut self.raw {
            raw.closed = true;
        }
        self.taken = true;
        self.peer_done = true;
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
        conn: impl Fn() -> Option<Error>,
    ) -> Poll<Result<Option<(BytesMut, bool)>>> {
        if self.recv != RecvState::Ended
            && let Some(error) = self.recv.read_error(conn())
        {
            return Poll::Ready(Err(error));
        }
        if let Some((bytes, text)) = self.queue.pop_front() {
            self.queued -= bytes.len();
            self.received += bytes.len() as u64;
            return Poll::Ready(Ok(Some((bytes, text))));
        }
        if self.recv == RecvState::Ended || self.announced == Some(self.received) {
            self.end_recv();
            return Poll::Ready(Ok(None));
        }
        self.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Sends a whole message on a plain channel.
    pub(crate) fn poll_send_message(
        &mut self,
        cx: &mut Context<'_>,
        message: &mut Option<(BytesMut, bool)>,
        conn: impl Fn() -> Option<Error>,
    ) -> Poll<Result<()>> {
        if self.send != SendState::Open {
            return Poll::Ready(Err(self.send.write_error(conn())));
        }
        let Some(raw) = &mut self.raw else {
            let why = "messages are of plain data channels only: see Wire::Raw";
            return Poll::Ready(Err(Error::new(ErrorKind::Unsupported, why)));
        };
        if raw.is_full() {
            self.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if let Some((bytes, text)) = message.take() {
            self.sent += bytes.len() as u64;
            raw.push(bytes, text);
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream_core::Unread;

    #[test]
    fn empty_messages_fill_a_plain_channel_too() {
        let mut state = StreamState::new(0, Unread::default());
        let mut count = 0;
        while !state.is_full(256 * 1024) {
            state.arrive_raw(BytesMut::new(), false);
            count += 1;
        }
        assert_eq!(count, 256 * 1024 / MESSAGE_COST);
    }

    #[test]
    fn a_small_message_does_not_keep_the_packet_that_it_came_in() {
        let mut state = StreamState::new(0, Unread::default());
        let mut packet = BytesMut::with_capacity(64 * 1024);
        packet.extend_from_slice(&[1; 100]);
        state.arrive_raw(packet.split_to(1), false);
        let kept = state.queue.front().map(|(bytes, _)| bytes.capacity());
        assert!(kept.is_some_and(|capacity| capacity < 64), "{kept:?}");
    }
}
