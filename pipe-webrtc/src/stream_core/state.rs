use std::collections::VecDeque;
use std::io::IoSlice;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, BytesMut};
use parking_lot::Mutex;
use pipe_core::backend::{
    PeerWindows, RecvState, SendState, StreamSlot, WindowTicket, first_bytes,
};
use pipe_core::{Error, Result};
use tokio::io::ReadBuf;
use tokio::sync::Notify;

use super::output::{Owed, SEND_BUFFER};
use super::raw::Raw;
use super::unread::{Unread, flow_control};
use crate::engine::Channel;
use crate::error::protocol;

/// Smaller messages are put together while they wait to be read, so that many do not cost more memory
/// than the window allows.
const SMALL: usize = 4 * 1024;

/// A stream: its channel for the time being, and how its two directions stand.
pub(crate) struct StreamCore {
    pub(crate) id: u64,
    /// Whether this side opened it.
    pub(crate) ours: bool,
    pub(crate) channel: Channel,
    pub(crate) state: Mutex<StreamState>,
    /// Notified when a plain channel that was full has been read.
    pub(crate) room: Notify,
}

pub(crate) struct StreamState {
    pub(crate) send: SendState,
    pub(crate) recv: RecvState,
    /// Bytes accepted from the application.
    pub(crate) sent: u64,
    /// Bytes handed to the application.
    pub(crate) received: u64,
    /// Bytes that wait to be sent.
    pub(super) buffer: BytesMut,
    /// Bytes that count against the peer's window.
    pub(super) used: u32,
    /// The stream's place in the queue for the connection window.
    pub(super) ticket: WindowTicket,
    /// Bytes that have come and were not read, and whether they were a message of text.
    pub(super) queue: VecDeque<(BytesMut, bool)>,
    pub(super) queued: usize,
    /// The same of all streams, where they are limited.
    pub(super) unread: Unread,
    /// Number of bytes that the peer may send further.
    pub(super) granted: u32,
    /// Number of bytes that were read and not returned to the peer as credit.
    pub(super) unreturned: u32,
    /// Total number of bytes that the peer has announced.
    pub(super) announced: Option<u64>,
    pub(super) owed: Owed,
    /// State that is only there where the wire is raw.
    pub(super) raw: Option<Box<Raw>>,
    /// Whether it is in the queue of streams with output.
    pub(crate) waits: bool,
    pub(crate) reader: Option<Waker>,
    pub(crate) writer: Option<Waker>,
    /// Whether this side's application has it.
    pub(crate) accepted: bool,
    /// The application has let go of the sending half, or has ended it by itself after the peer's stop.
    pub(super) send_released: bool,
    /// The application has let go of the receiving half, or has stopped it after the peer's reset.
    pub(super) recv_released: bool,
    /// The peer has read this side's direction to its end.
    pub(crate) taken: bool,
    /// The peer's application is done with it.
    pub(crate) peer_done: bool,
    /// Whether this side's application was found to be done with it.
    pub(crate) done: bool,
    /// Held as long as a stream that this side opened is in use at either side.
    pub(crate) slot: Option<StreamSlot>,
}

impl StreamCore {
    /// Creates a stream that this side opens.
    pub(crate) fn opened(
        id: u64,
        channel: Channel,
        window: u32,
        unread: Unread,
        slot: StreamSlot,
    ) -> Self {
        let mut state = StreamState::new(window, unread);
        state.owed.open = true;
        state.accepted = true;
        state.slot = Some(slot);
        Self {
            id,
            ours: true,
            channel,
            state: Mutex::new(state),
            room: Notify::new(),
        }
    }

    /// Creates a stream that the peer has opened.
    pub(crate) fn incoming(id: u64, channel: Channel, window: u32, unread: Unread) -> Self {
        Self {
            id,
            ours: false,
            channel,
            state: Mutex::new(StreamState::new(window, unread)),
            room: Notify::new(),
        }
    }
}

impl Drop for StreamState {
    fn drop(&mut self) {
        self.unread.remove(self.queued);
    }
}

impl StreamState {
    pub(super) fn new(window: u32, unread: Unread) -> Self {
        Self {
            send: SendState::Open,
            recv: RecvState::Open,
            sent: 0,
            received: 0,
            buffer: BytesMut::new(),
            used: 0,
            ticket: WindowTicket::default(),
            queue: VecDeque::new(),
            queued: 0,
            unread,
            granted: window,
            unreturned: 0,
            announced: None,
            owed: Owed::default(),
            raw: None,
            waits: false,
            reader: None,
            writer: None,
            accepted: false,
            send_released: false,
            recv_released: false,
            taken: false,
            peer_done: false,
            done: false,
            slot: None,
        }
    }

    /// Reads for the application; ready with nothing at the end. `conn` gives the end of the connection.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
        conn: impl Fn() -> Option<Error>,
    ) -> Poll<Result<()>> {
        if self.recv == RecvState::Ended {
            return Poll::Ready(Ok(()));
        }
        if let Some(error) = self.recv.read_error(conn()) {
            return Poll::Ready(Err(error));
        }
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
            self.received += count as u64;
            // A plain peer receives no credit, so the sum is not bounded.
            self.unreturned = self.unreturned.saturating_add(count as u32);
            return Poll::Ready(Ok(()));
        }
        if self.announced == Some(self.received) {
            self.end_recv();
            return Poll::Ready(Ok(()));
        }
        self.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Notes that the application has read to the end, or has no need to read it.
    pub(super) fn end_recv(&mut self) {
        self.recv = RecvState::Ended;
        self.owed.taken = true;
    }

    /// Writes for the application, within the peer's windows.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
        windows: &PeerWindows,
        conn: impl Fn() -> Option<Error>,
    ) -> Poll<Result<usize>> {
        if self.send != SendState::Open {
            return Poll::Ready(Err(self.send.write_error(conn())));
        }
        let total = bufs.iter().map(|buf| buf.len()).sum::<usize>();
        if total == 0 {
            return Poll::Ready(Ok(0));
        }
        if let Some(raw) = &mut self.raw {
            let Some(count) = raw.write(bufs) else {
                self.writer = Some(cx.waker().clone());
                return Poll::Pending;
            };
            self.sent += count as u64;
            return Poll::Ready(Ok(count));
        }
        let want = total.min(SEND_BUFFER - self.buffer.len());
        let room = match want {
            0 => 0,
            want => windows.take(self.used, want, &mut self.ticket, cx),
        };
        if room == 0 {
            self.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        first_bytes(bufs, room).for_each(|piece| self.buffer.extend_from_slice(piece));
        self.used += room as u32;
        self.sent += room as u64;
        Poll::Ready(Ok(room))
    }

    /// Ends the sending direction for the application. Returns whether that is news.
    pub(crate) fn shutdown(&mut self, conn: impl Fn() -> Option<Error>) -> Result<bool> {
        if let Some(error) = self.send.shutdown_error(conn()) {
            return Err(error);
        }
        if self.send != SendState::Open {
            return Ok(false);
        }
        self.send = SendState::Shut;
        self.owed.end = true;
        Ok(true)
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
        if self.announced.is_some() {
            return Err(protocol("bytes after the end of a stream"));
        }
        if self.recv != RecvState::Open || bytes.is_empty() {
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

    /// Notes that the peer has announced the end of its direction.
    pub(crate) fn announce_end(&mut self, bytes: u64) -> Result<Option<Waker>> {
        let second = self.announced.replace(bytes).is_some();
        let open = self.recv == RecvState::Open;
        if second || open && self.received + self.queued as u64 != bytes {
            return Err(protocol("a second or false end of a stream"));
        }
        Ok(self.reader.take())
    }

    /// Notes that the peer has abandoned its direction.
    pub(crate) fn reset_by_peer(&mut self, code: u32) -> Option<Waker> {
        self.cut_recv(RecvState::Reset(code));
        self.reader.take()
    }

    /// Notes that the peer has stopped the stream. Returns the number of bytes that count no
    /// longer, and the waker of the writer.
    pub(crate) fn stop_by_peer(&mut self, code: u32) -> (u32, Option<Waker>) {
        if let Some(next) = self.send.stop(code) {
            self.send = next;
            self.buffer = BytesMut::new();
            self.owed.end = false;
        }
        self.credit(u32::MAX)
    }

    /// Adds credit for bytes that the peer has read. Returns the number of bytes counted, and the
    /// waker of the writer.
    pub(crate) fn credit(&mut self, bytes: u32) -> (u32, Option<Waker>) {
        let freed = bytes.min(self.used);
        self.used -= freed;
        (freed, self.writer.take())
    }

    /// Cuts the sending direction short, if it is open, and marks the message to the peer as
    /// pending. Returns whether it did.
    pub(crate) fn cut_send(&mut self, to: SendState, code: u32) -> bool {
        let Some(next) = self.send.cut_open(to) else {
            return false;
        };
        self.send = next;
        self.buffer = BytesMut::new();
        self.owed.reset = Some(code);
        true
    }

    /// Stops the receiving direction, unless it has ended, and marks the message to the peer as
    /// pending. Returns whether that changed anything.
    pub(crate) fn stop(&mut self, to: RecvState, code: u32) -> bool {
        if self.recv != RecvState::Open {
            return false;
        }
        if self.announced == Some(self.received) {
            self.end_recv();
        } else {
            self.cut_recv(to);
            self.owed.stop = Some(code);
        }
        true
    }

    fn cut_recv(&mut self, to: RecvState) {
        if self.recv == RecvState::Open {
            self.recv = to;
            self.queue = VecDeque::new();
            self.unread.remove(std::mem::take(&mut self.queued));
            self.unreturned = 0;
        }
    }

    /// Notes that the peer's application is done: it needs only the end of its own direction.
    pub(crate) fn peer_is_done(&mut self) {
        self.peer_done = true;
        self.buffer = BytesMut::new();
        self.owed.end = false;
        self.owed.reset = None;
    }

    /// Ends both directions together with the connection. Returns the wakers of both halves.
    pub(crate) fn end(&mut self) -> [Option<Waker>; 2] {
        if self.send == SendState::Open {
            self.send = SendState::ConnEnded;
        }
        // A direction that was read to its end stays ended.
        if self.recv == RecvState::Open && self.announced == Some(self.received) {
            self.recv = RecvState::Ended;
        }
        self.cut_recv(RecvState::ConnEnded);
        [self.reader.take(), self.writer.take()]
    }

    /// Returns whether this side's application is done with both directions: it has ended them, or
    /// has let go of those that the peer has cut. Until then it may work for the stream, so that it
    /// counts.
    pub(crate) fn is_done(&self) -> bool {
        let received = match self.recv {
            RecvState::Open => self.announced == Some(self.received),
            RecvState::Reset(_) | RecvState::Disconnected => self.recv_released,
            RecvState::Ended | RecvState::Stopped(_) | RecvState::ConnEnded => true,
        };
        let sent = match self.send {
            SendState::Open => false,
            SendState::Stopped { shut: false, .. } | SendState::Disconnected => self.send_released,
            SendState::Stopped { shut: true, .. }
            | SendState::Shut
            | SendState::Reset(_)
            | SendState::ConnEnded => true,
        };
        received && sent && self.accepted
    }

    /// Notes that the application has let go of its sending half, or has ended it by itself. Returns
    /// whether it is done with the stream by that.
    pub(crate) fn release_send(&mut self) -> bool {
        !std::mem::replace(&mut self.send_released, true) && !self.done && self.is_done()
    }

    /// Returns the same of the receiving half.
    pub(crate) fn release_recv(&mut self) -> bool {
        !std::mem::replace(&mut self.recv_released, true) && !self.done && self.is_done()
    }

    /// Notes that the application is done. Returns whether that is news.
    pub(crate) fn note_done(&mut self, ours: bool) -> bool {
        let news = !self.done && self.is_done();
        if news {
            self.done = true;
            self.owed.done = !ours;
            if self.recv == RecvState::Open {
                // Every byte was read; only the end was not polled.
                self.end_recv();
            }
        }
        news
    }

    /// Returns whether nothing comes of the stream any more, at either side.
    pub(crate) fn is_over(&self, ours: bool) -> bool {
        let peer = if ours {
            self.peer_done
        } else {
            // Bytes before a shutdown may still be read by the peer.
            self.taken || self.send != SendState::Shut
        };
        let closed = self.raw.as_ref().is_none_or(|raw| raw.closed);
        self.done && peer && closed && !self.has_output(u32::MAX)
    }
}
