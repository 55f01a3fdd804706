use std::collections::VecDeque;
use std::io::IoSlice;
use std::ops::{Deref, DerefMut};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, BytesMut};
use pipe_core::backend::proto::{RecvHalf, SendHalf, Stream, StreamFrame};
use pipe_core::backend::{PeerWindows, StreamBase, StreamSlot, first_bytes};
use pipe_core::{Error, Result};
use tokio::io::ReadBuf;
use tokio::sync::Notify;

use super::output::{Output, SEND_BUFFER};
use super::raw::Raw;
use super::unread::{Unread, flow_control};
use crate::engine::{Channel, ChannelInfo};

/// Smaller messages are put together while they wait to be read, so that many do not cost more memory
/// than the window allows.
const SMALL: usize = 4 * 1024;

/// Refers to a stream of a connection.
pub(crate) type StreamRef = pipe_core::backend::StreamRef<StreamState>;

/// The channel of a stream for the time being.
pub(crate) struct Carried {
    pub(crate) channel: Channel,
    /// Notified when a plain channel that was full has been read.
    pub(crate) room: Notify,
}

/// A stream: its state in the session, and the bytes on their way.
pub(crate) struct StreamState {
    pub(super) base: StreamBase,
    /// Bytes that wait to be sent.
    buffer: BytesMut,
    /// Bytes that have come and were not read, and whether they were a message of text.
    pub(super) queue: VecDeque<(BytesMut, bool)>,
    pub(super) queued: usize,
    /// The same of all streams, where they are limited.
    unread: Unread,
    /// Number of bytes that the peer may send further.
    granted: u32,
    /// State that is only there where the wire is raw.
    pub(super) raw: Option<Box<Raw>>,
    /// Whether it is in the queue of streams with output.
    pub(crate) waits: bool,
}

impl pipe_core::backend::StreamState for StreamState {
    type Unlocked = Carried;

    fn on_change(&mut self) {
        self.trim();
    }

    fn needs_update(&self) -> bool {
        self.proto.needs_session() || self.needs_turn()
    }
}

impl Deref for StreamState {
    type Target = StreamBase;

    fn deref(&self) -> &StreamBase {
        &self.base
    }
}

impl DerefMut for StreamState {
    fn deref_mut(&mut self) -> &mut StreamBase {
        &mut self.base
    }
}

impl Drop for StreamState {
    fn drop(&mut self) {
        self.unread.remove(self.queued);
    }
}

impl StreamState {
    /// Creates a stream whose peer may send as many bytes as `window` says.
    pub(super) fn new(
        proto: Stream,
        window: u32,
        unread: Unread,
        slot: Option<StreamSlot>,
    ) -> Self {
        Self {
            base: StreamBase::new(proto, slot),
            buffer: BytesMut::new(),
            queue: VecDeque::new(),
            queued: 0,
            unread,
            granted: window,
            raw: None,
            waits: false,
        }
    }

    /// Creates a stream on a channel, whose peer may send as many bytes as `window` says.
    pub(crate) fn on_channel(
        proto: Stream,
        channel: Channel,
        window: u32,
        unread: Unread,
        slot: Option<StreamSlot>,
    ) -> StreamRef {
        Self::new(proto, window, unread, slot).carried_by(channel)
    }

    /// Creates a stream that is a plain data channel, opened with these parameters.
    pub(crate) fn plain(
        proto: Stream,
        channel: Channel,
        info: ChannelInfo,
        slot: Option<StreamSlot>,
    ) -> StreamRef {
        let proto = proto.into_plain().with_carrier();
        let mut state = Self::new(proto, 0, Unread::default(), slot);
        state.raw = Some(Box::new(Raw::new(info)));
        state.carried_by(channel)
    }

    fn carried_by(self, channel: Channel) -> StreamRef {
        let room = Notify::new();
        StreamRef::new(self, Carried { channel, room })
    }

    /// Drops the bytes that neither the peer nor the application gets any more. After the end of the connection,
    /// accepted bytes still leave.
    pub(crate) fn trim(&mut self) {
        let leaves = matches!(
            self.proto.send(),
            SendHalf::Ready | SendHalf::Shut { confirmed: false } | SendHalf::ConnEnded
        );
        if !leaves && !self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
        if !self.proto.recv().takes_bytes()
            && self.proto.recv() != RecvHalf::Ended
            && !self.queue.is_empty()
        {
            self.queue = VecDeque::new();
            self.unread.remove(std::mem::take(&mut self.queued));
        }
    }

    /// Reads for the application; ready with nothing at the end. `conn` gives the error of the connection.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
        conn: impl FnOnce() -> Option<Error>,
    ) -> Poll<Result<()>> {
        ready!(self.poll_readable(cx, conn))?;
        let before = buf.remaining();
        while buf.remaining() > 0 {
            let Some((first, _)) = self.queue.front_mut() else {
                break;
            };
            let part = first.len().min(buf.remaining());
            buf.put_slice(&first[..part]);
            first.advance(part);
            if first.is_empty() {
                self.queue.pop_front();
            }
        }
        let count = before - buf.remaining();
        if count > 0 {
            self.queued -= count;
            self.unread.remove(count);
            self.proto.read(count);
        } else if self.proto.recv() != RecvHalf::Ended {
            return self.pend_read(cx);
        }
        Poll::Ready(Ok(()))
    }

    /// Takes bytes that have come, in the memory in which they lie; `None` at the end.
    pub(crate) fn poll_read_chunk(
        &mut self,
        cx: &mut Context<'_>,
        max: usize,
        conn: impl FnOnce() -> Option<Error>,
    ) -> Poll<Result<Option<BytesMut>>> {
        ready!(self.poll_readable(cx, conn))?;
        while let Some((first, _)) = self.queue.front_mut() {
            let count = first.len().min(max);
            let chunk = first.split_to(count);
            if first.is_empty() {
                self.queue.pop_front();
            }
            if count > 0 {
                self.queued -= count;
                self.unread.remove(count);
                self.proto.read(count);
                return Poll::Ready(Ok(Some(chunk)));
            }
        }
        if self.proto.recv() == RecvHalf::Ended {
            return Poll::Ready(Ok(None));
        }
        self.pend_read(cx)
    }

    /// Writes for the application, within the peer's windows.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
        windows: &PeerWindows,
        conn: impl FnOnce() -> Option<Error>,
    ) -> Poll<Result<usize>> {
        ready!(self.poll_writable(cx, conn))?;
        let total = bufs.iter().map(|buf| buf.len()).sum::<usize>();
        if total == 0 {
            return Poll::Ready(Ok(0));
        }
        if let Some(raw) = &mut self.raw {
            let Some(count) = raw.write(bufs) else {
                return self.pend_write(cx);
            };
            self.proto.wrote(count, 0);
            return Poll::Ready(Ok(count));
        }
        let want = total.min(SEND_BUFFER - self.buffer.len());
        let StreamBase { proto, ticket, .. } = &mut self.base;
        let (room, counted) = match want {
            0 => (0, 0),
            want => windows.take(proto, want, ticket, cx),
        };
        if room == 0 {
            return self.pend_write(cx);
        }
        first_bytes(bufs, room).for_each(|piece| self.buffer.extend_from_slice(piece));
        self.proto.wrote(room, counted);
        Poll::Ready(Ok(room))
    }

    /// Adds bytes of the peer. Returns the waker of their reader.
    pub(crate) fn arrive(&mut self, bytes: BytesMut) -> Result<Option<Waker>> {
        let Some(left) = u32::try_from(bytes.len())
            .ok()
            .and_then(|count| self.granted.checked_sub(count))
        else {
            return Err(flow_control(
                "more bytes of a stream than its window allows",
            ));
        };
        self.granted = left;
        if !self.proto.on_bytes(bytes.len())? || bytes.is_empty() {
            return Ok(None);
        }
        self.queued += bytes.len();
        self.unread.add(bytes.len())?;
        match self.queue.back_mut() {
            Some((last, _)) if last.len() + bytes.len() <= SMALL => last.extend_from_slice(&bytes),
            _ if bytes.len() < SMALL => {
                // A message of its own is kept in the packet's memory, which may be larger.
                self.queue.push_back((BytesMut::from(&bytes[..]), false));
            }
            _ => self.queue.push_back((bytes, false)),
        }
        Ok(self.reader.take())
    }

    /// Returns whether the stream has to be put into the queue of those with output, besides for its frames.
    pub(crate) fn needs_turn(&self) -> bool {
        let has_output = match &self.raw {
            Some(raw) => raw.has_output(&self.proto),
            None => !self.buffer.is_empty(),
        };
        has_output && !self.waits
    }

    pub(crate) fn has_bytes(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Returns the next thing to send: messages of up to `most` bytes, while `flight` more bytes
    /// may be on their way.
    pub(crate) fn next_output(&mut self, most: usize, flight: usize) -> Option<Output> {
        if let Some(raw) = &mut self.raw {
            return raw.next_output(&self.base.proto);
        }
        if let Some((frame, freed)) = self.base.proto.poll_frame(!self.buffer.is_empty()) {
            if let StreamFrame::Credit(bytes) = frame {
                self.granted = self.granted.saturating_add(bytes);
            }
            return Some(Output::Frame(frame, freed));
        }
        if self.buffer.is_empty() {
            return None;
        }
        let count = self.buffer.len().min(most);
        if count > flight {
            return Some(Output::Blocked);
        }
        Some(Output::Bytes(self.buffer.split_to(count)))
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
