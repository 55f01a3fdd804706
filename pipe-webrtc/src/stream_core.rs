use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, BytesMut};
use parking_lot::Mutex;
use pipe_core::{ConnWindow, Error, ErrorKind, RecvState, Result, SendState, StreamSlot};
use tokio::sync::Notify;

use crate::engine::{Channel, ChannelInfo};
use crate::error::protocol;
use crate::wire::StreamMessage;

/// How many bytes of a stream wait to be put into messages, at most.
const SEND_BUFFER: usize = 128 * 1024;

/// How many bytes of a write go into one message of a plain channel: what every implementation takes.
const RAW_MESSAGE: usize = 16 * 1024;

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
    /// Told when a plain channel that was full has been read.
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
    buffer: BytesMut,
    /// Bytes that count against the peer's window.
    used: u32,
    /// Bytes that have come and were not read, and whether they were a message of text.
    queue: VecDeque<(BytesMut, bool)>,
    queued: usize,
    /// How many more bytes the peer may send.
    granted: u32,
    /// Bytes that were read and that the peer was not told of.
    unreturned: u32,
    /// How many bytes the peer has announced to be all.
    announced: Option<u64>,
    owed: Owed,
    /// What is only there where the wire is raw.
    raw: Option<Box<Raw>>,
    /// It is in the queue of streams that have something to send.
    pub(crate) waits: bool,
    pub(crate) reader: Option<Waker>,
    pub(crate) writer: Option<Waker>,
    /// This side's application has it.
    pub(crate) accepted: bool,
    /// The peer has read this side's direction to its end.
    pub(crate) taken: bool,
    /// The peer's application is done with it.
    pub(crate) peer_done: bool,
    /// This side's application was found to be done with it.
    pub(crate) done: bool,
    /// Held as long as a stream that this side opened is in use at either side.
    pub(crate) slot: Option<StreamSlot>,
}

/// A stream that is a plain data channel.
#[derive(Debug, Default)]
struct Raw {
    info: ChannelInfo,
    /// Messages that wait to be sent, and whether they are text.
    messages: VecDeque<(BytesMut, bool)>,
    buffered: usize,
    closed: bool,
}

/// What the peer has not been told yet. There is at most one of each, so that a stream's part of the
/// queue is bounded.
#[derive(Debug, Default, PartialEq, Eq)]
struct Owed {
    open: bool,
    stop: Option<u32>,
    taken: bool,
    end: bool,
    reset: Option<u32>,
    done: bool,
}

/// What the peer allows this side to have under way or unread.
#[derive(Debug)]
pub(crate) struct PeerWindows {
    pub(crate) stream: u32,
    pub(crate) conn: Option<ConnWindow>,
}

impl PeerWindows {
    fn take(&self, used: u32, want: usize, cx: &Context<'_>) -> usize {
        let room = (self.stream.saturating_sub(used) as usize).min(want);
        match &self.conn {
            Some(conn) if room > 0 => conn.take(room, cx),
            _ => room,
        }
    }

    pub(crate) fn give_back(&self, count: u32) {
        if let Some(conn) = &self.conn {
            conn.give(count);
        }
    }
}

/// What a read came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Read {
    Bytes(usize),
    End,
}

/// The next thing to send of a stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Output {
    Text(StreamMessage),
    Bytes(BytesMut),
    /// A message of a plain channel, and whether it is text.
    Message(BytesMut, bool),
    /// A plain channel is to be closed: at once, or when all of it has arrived.
    Close {
        at_once: bool,
    },
    /// There are bytes, but too many are on their way.
    Blocked,
}

impl StreamCore {
    /// A stream that this side opens.
    pub(crate) fn opened(id: u64, channel: Channel, window: u32, slot: StreamSlot) -> Self {
        let mut state = StreamState::new(window);
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

    /// The same as a plain data channel that was opened with this.
    #[must_use]
    pub(crate) fn into_raw(mut self, info: ChannelInfo) -> Self {
        let state = self.state.get_mut();
        state.owed.open = false;
        state.raw = Some(Box::new(Raw {
            info,
            ..Raw::default()
        }));
        self
    }

    /// A stream that the peer has opened.
    pub(crate) fn incoming(id: u64, channel: Channel, window: u32) -> Self {
        Self {
            id,
            ours: false,
            channel,
            state: Mutex::new(StreamState::new(window)),
            room: Notify::new(),
        }
    }
}

impl StreamState {
    fn new(window: u32) -> Self {
        Self {
            send: SendState::Open,
            recv: RecvState::Open,
            sent: 0,
            received: 0,
            buffer: BytesMut::new(),
            used: 0,
            queue: VecDeque::new(),
            queued: 0,
            granted: window,
            unreturned: 0,
            announced: None,
            owed: Owed::default(),
            raw: None,
            waits: false,
            reader: None,
            writer: None,
            accepted: false,
            taken: false,
            peer_done: false,
            done: false,
            slot: None,
        }
    }

    /// Reads for the application. `conn` gives the end of the connection.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
        conn: impl Fn() -> Option<Error>,
    ) -> Poll<Result<Read>> {
        if self.recv == RecvState::Ended {
            return Poll::Ready(Ok(Read::End));
        }
        if let Some(error) = self.recv.read_error(conn()) {
            return Poll::Ready(Err(error));
        }
        let mut count = 0;
        while count < buf.len() {
            let Some((first, _)) = self.queue.front_mut() else {
                break;
            };
            let part = first.len().min(buf.len() - count);
            buf[count..count + part].copy_from_slice(&first[..part]);
            count += part;
            first.advance(part);
            if first.is_empty() {
                self.queue.pop_front();
            }
        }
        if count > 0 {
            self.queued -= count;
            self.received += count as u64;
            self.unreturned += count as u32;
            return Poll::Ready(Ok(Read::Bytes(count)));
        }
        if self.announced == Some(self.received) {
            self.end_recv();
            return Poll::Ready(Ok(Read::End));
        }
        self.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    /// The application has read to the end, or has no need to read it.
    fn end_recv(&mut self) {
        self.recv = RecvState::Ended;
        self.owed.taken = true;
    }

    /// Writes for the application, within the peer's windows.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        buf: &[u8],
        windows: &PeerWindows,
        conn: impl Fn() -> Option<Error>,
    ) -> Poll<Result<usize>> {
        if self.send != SendState::Open {
            return Poll::Ready(Err(self.send.write_error(conn())));
        }
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        if let Some(raw) = &mut self.raw {
            if raw.buffered >= SEND_BUFFER {
                self.writer = Some(cx.waker().clone());
                return Poll::Pending;
            }
            let count = buf.len().min(RAW_MESSAGE);
            raw.messages
                .push_back((BytesMut::from(&buf[..count]), false));
            raw.buffered += count;
            self.sent += count as u64;
            return Poll::Ready(Ok(count));
        }
        let want = buf.len().min(SEND_BUFFER - self.buffer.len());
        let room = match want {
            0 => 0,
            want => windows.take(self.used, want, cx),
        };
        if room == 0 {
            self.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        self.buffer.extend_from_slice(&buf[..room]);
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

    /// Bytes of the peer have come. Returns who waits for them.
    pub(crate) fn arrive(&mut self, bytes: BytesMut) -> Result<Option<Waker>> {
        let Some(left) = u32::try_from(bytes.len())
            .ok()
            .and_then(|count| self.granted.checked_sub(count))
        else {
            return Err(protocol("more bytes of a stream than its window allows"));
        };
        self.granted = left;
        if self.announced.is_some() {
            return Err(protocol("bytes after the end of a stream"));
        }
        if self.recv != RecvState::Open || bytes.is_empty() {
            return Ok(None);
        }
        self.queued += bytes.len();
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

    /// A message of a plain channel has come. Returns who waits for it.
    pub(crate) fn arrive_raw(&mut self, bytes: BytesMut, text: bool) -> Option<Waker> {
        if self.recv != RecvState::Open {
            return None;
        }
        self.queued += bytes.len();
        self.queue.push_back((bytes, text));
        self.reader.take()
    }

    /// Whether a plain channel holds as much as it may.
    pub(crate) fn is_full(&self, window: u32) -> bool {
        self.recv == RecvState::Open && self.queued >= window as usize
    }

    /// The peer has closed a plain channel. Returns who waits.
    pub(crate) fn close_raw(&mut self) -> [Option<Waker>; 2] {
        if let Some(raw) = &mut self.raw {
            raw.closed = true;
            raw.messages.clear();
            raw.buffered = 0;
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

    /// This side has closed a plain channel.
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

    /// What a plain channel was opened with.
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
        if raw.buffered >= SEND_BUFFER {
            self.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if let Some((bytes, text)) = message.take() {
            raw.buffered += bytes.len();
            self.sent += bytes.len() as u64;
            raw.messages.push_back((bytes, text));
        }
        Poll::Ready(Ok(()))
    }

    /// The peer has announced the end of its direction.
    pub(crate) fn announce_end(&mut self, bytes: u64) -> Result<Option<Waker>> {
        let second = self.announced.replace(bytes).is_some();
        let open = self.recv == RecvState::Open;
        if second || open && self.received + self.queued as u64 != bytes {
            return Err(protocol("a second or false end of a stream"));
        }
        Ok(self.reader.take())
    }

    /// The peer has abandoned its direction.
    pub(crate) fn reset_by_peer(&mut self, code: u32) -> Option<Waker> {
        self.cut_recv(RecvState::Reset(code));
        self.reader.take()
    }

    /// The peer wants no more. Returns how many bytes count no longer, and who waits for room.
    pub(crate) fn stop_by_peer(&mut self, code: u32) -> (u32, Option<Waker>) {
        if let Some(next) = self.send.stop(code) {
            self.send = next;
            self.buffer = BytesMut::new();
            self.owed.end = false;
        }
        self.credit(u32::MAX)
    }

    /// The peer has read so many more bytes. Returns how many were counted, and who waits for room.
    pub(crate) fn credit(&mut self, bytes: u32) -> (u32, Option<Waker>) {
        let freed = bytes.min(self.used);
        self.used -= freed;
        (freed, self.writer.take())
    }

    /// Cuts the sending direction short, if it is open, and owes the peer the word. Returns whether
    /// it did.
    pub(crate) fn cut_send(&mut self, to: SendState, code: u32) -> bool {
        let Some(next) = self.send.cut_open(to) else {
            return false;
        };
        self.send = next;
        self.buffer = BytesMut::new();
        self.owed.reset = Some(code);
        true
    }

    /// Gives the receiving direction up, unless it has ended, and owes the peer the word. Returns
    /// whether that changed anything.
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
            self.queued = 0;
            self.unreturned = 0;
        }
    }

    /// The peer's application is done: it wants to hear of its own direction's fate only.
    pub(crate) fn peer_is_done(&mut self) {
        self.peer_done = true;
        self.buffer = BytesMut::new();
        self.owed.end = false;
        self.owed.reset = None;
    }

    /// Ends both directions together with the connection. Returns who waits.
    pub(crate) fn end(&mut self) -> [Option<Waker>; 2] {
        if self.send == SendState::Open {
            self.send = SendState::ConnEnded;
        }
        // What was read to its end stays ended.
        if self.recv == RecvState::Open && self.announced == Some(self.received) {
            self.recv = RecvState::Ended;
        }
        self.cut_recv(RecvState::ConnEnded);
        [self.reader.take(), self.writer.take()]
    }

    /// Whether this side's application is done with both directions.
    pub(crate) fn is_done(&self) -> bool {
        let received = self.recv != RecvState::Open || self.announced == Some(self.received);
        received && self.send != SendState::Open && self.accepted
    }

    /// Notes that the application is done. Returns whether that is news.
    pub(crate) fn note_done(&mut self, ours: bool) -> bool {
        let news = !self.done && self.is_done();
        if news {
            self.done = true;
            self.owed.done = !ours;
            if self.recv == RecvState::Open {
                // Every byte was read; only the end was not asked for.
                self.end_recv();
            }
        }
        news
    }

    /// Whether nothing comes of the stream any more, at either side.
    pub(crate) fn is_over(&self, ours: bool) -> bool {
        let peer = if ours {
            self.peer_done
        } else {
            // What was shut down may still be read by the peer.
            self.taken || self.send != SendState::Shut
        };
        let closed = self.raw.as_ref().is_none_or(|raw| raw.closed);
        self.done && peer && closed && !self.has_output(u32::MAX)
    }

    /// Whether there is something to tell or to send. The peer is told of what was read from
    /// `worth_telling` bytes on.
    pub(crate) fn has_output(&self, worth_telling: u32) -> bool {
        if let Some(raw) = &self.raw {
            let reset = matches!(self.send, SendState::Reset(_) | SendState::Disconnected);
            return !raw.messages.is_empty() || !raw.closed && (self.done || reset);
        }
        !self.buffer.is_empty() || self.owed != Owed::default() || self.owes_credit(worth_telling)
    }

    /// Whether the peer is to be told what was read. After the end of its direction it needs no more
    /// room for it, but other streams may.
    fn owes_credit(&self, worth_telling: u32) -> bool {
        self.recv == RecvState::Open
            && self.unreturned >= worth_telling.max(1)
            && (self.announced.is_none() || worth_telling <= 1)
            && !self.peer_done
    }

    pub(crate) fn has_bytes(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// The next thing to send: messages of up to `most` bytes, while `flight` more bytes may be on
    /// their way.
    pub(crate) fn next_output(
        &mut self,
        id: u64,
        most: usize,
        flight: usize,
        worth_telling: u32,
    ) -> Option<Output> {
        if let Some(raw) = &mut self.raw {
            let reset = matches!(self.send, SendState::Reset(_) | SendState::Disconnected);
            if reset {
                raw.messages.clear();
                raw.buffered = 0;
            }
            if let Some((bytes, text)) = raw.messages.pop_front() {
                raw.buffered -= bytes.len();
                return Some(Output::Message(bytes, text));
            }
            let close = !raw.closed && (self.done || reset);
            return close.then_some(Output::Close { at_once: reset });
        }
        let text = |message| Some(Output::Text(message));
        let owes_credit = self.owes_credit(worth_telling);
        let owed = &mut self.owed;
        if std::mem::take(&mut owed.open) {
            return text(StreamMessage::Open(id));
        }
        if let Some(code) = owed.stop.take() {
            return text(StreamMessage::Stop(code));
        }
        if std::mem::take(&mut owed.taken) {
            return text(StreamMessage::Taken);
        }
        if owes_credit {
            let bytes = std::mem::take(&mut self.unreturned);
            self.granted = self.granted.saturating_add(bytes);
            return text(StreamMessage::Credit(bytes));
        }
        if !self.buffer.is_empty() {
            let count = self.buffer.len().min(most);
            if count > flight {
                return Some(Output::Blocked);
            }
            return Some(Output::Bytes(self.buffer.split_to(count)));
        }
        if std::mem::take(&mut owed.end) {
            return text(StreamMessage::End(self.sent));
        }
        if let Some(code) = owed.reset.take() {
            return text(StreamMessage::Reset(code));
        }
        if std::mem::take(&mut owed.done) {
            return text(StreamMessage::Done);
        }
        None
    }

    /// Who waits for room, if there is some in the buffer.
    pub(crate) fn writer_with_room(&mut self) -> Option<Waker> {
        let buffered = match &self.raw {
            Some(raw) => raw.buffered,
            None => self.buffer.len(),
        };
        if buffered < SEND_BUFFER {
            self.writer.take()
        } else {
            None
        }
    }
}
