use std::io::IoSlice;
use std::ops::{Deref, DerefMut};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, BytesMut};
use pipe_core::backend::proto::{GrantedGrowth, RecvHalf, SendHalf, Stream};
use pipe_core::backend::{PeerWindows, StreamBase, StreamSlot};
use pipe_core::{Error, Result};

use crate::yamux::frame::{ACK, DATA, FIN, RST, SYN, WINDOW_UPDATE};
use crate::yamux::{Header, Limits, Output, Received, Unread, WINDOW, broken};

/// Refers to a stream of a connection.
pub(crate) type StreamRef = pipe_core::backend::StreamRef<StreamState>;

/// A stream: its state in the session, and that of the yamux stream.
pub(crate) struct StreamState {
    base: StreamBase,
    /// Flag of the next frame: SYN, ACK, or none.
    flag: u16,
    /// The peer has acknowledged a stream that this side opened.
    pub(crate) is_answered: bool,
    /// Number of bytes that the peer accepts further, as yamux counts them.
    credit: u32,
    received: Received,
    /// Number of bytes that the peer may send further, as yamux counts them.
    window: u32,
    /// What of that window's growth the peer knows.
    granted: GrantedGrowth,
    /// Bytes of the current frame that have not come yet, for the application.
    announced: u32,
    /// Bytes that were read or discarded and that no window update has returned.
    unreturned: u32,
    fin_sent: bool,
    /// Either side has reset the stream, which ends both directions.
    is_reset: bool,
}

impl StreamState {
    /// Creates a stream: one that this side opens has a slot.
    pub(crate) fn new(proto: Stream, limits: &Limits, slot: Option<StreamSlot>) -> StreamRef {
        let state = Self {
            flag: if slot.is_some() { SYN } else { ACK },
            is_answered: slot.is_none(),
            base: StreamBase::new(proto.with_carrier(), slot),
            credit: WINDOW,
            received: Received::default(),
            window: limits.window,
            granted: GrantedGrowth::default(),
            announced: 0,
            unreturned: 0,
            fin_sent: false,
            is_reset: false,
        };
        StreamRef::new(state, ())
    }
}

impl pipe_core::backend::StreamState for StreamState {
    type Unlocked = ();

    fn needs_update(&self) -> bool {
        self.proto.needs_session() || self.needs_finish()
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

impl StreamState {
    /// Reads for the application by `take`, which returns how many bytes it took; ready with 0 at the end. `conn`
    /// gives the error of the connection.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        take: impl FnOnce(&mut Received) -> usize,
        conn: impl FnOnce() -> Option<Error>,
    ) -> Poll<Result<usize>> {
        ready!(self.poll_readable(cx, conn))?;
        let count = take(&mut self.received);
        if count > 0 {
            self.proto.read(count);
            self.unreturned += count as u32;
        } else if self.proto.recv() != RecvHalf::Ended {
            return self.pend_read(cx);
        }
        Poll::Ready(Ok(count))
    }

    /// Writes for the application, within the peer's windows.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
        windows: Option<&PeerWindows>,
        limits: &Limits,
        output: &Output,
        conn: impl FnOnce() -> Option<Error>,
    ) -> Poll<Result<usize>> {
        ready!(self.poll_writable(cx, conn))?;
        let total = bufs.iter().map(|buf| buf.len()).sum::<usize>();
        let want = total.min(self.credit as usize).min(output.max_body());
        if want == 0 {
            if total == 0 {
                return Poll::Ready(Ok(0));
            }
            return self.pend_write(cx);
        }
        let StreamBase { proto, ticket, .. } = &mut self.base;
        let (count, counted) = windows.map_or((want, 0), |w| w.take(proto, want, ticket, cx));
        if count == 0 {
            return self.pend_write(cx);
        }
        if self.flag != 0 && limits.window > WINDOW {
            self.announce(limits, output);
        }
        let header = Header {
            kind: DATA,
            flags: self.flag,
            stream: self.id(),
            length: count as u32,
        };
        if !matches!(output.poll_data(header, bufs, cx), Poll::Ready(Ok(()))) {
            if let Some(windows) = windows {
                windows.give_back(counted.into());
            }
            // The driver reports the end of the connection.
            return self.pend_write(cx);
        }
        self.flag = 0;
        self.credit -= count as u32;
        self.proto.wrote(count, counted);
        Poll::Ready(Ok(count))
    }

    /// Returns the number of the stream, which has 32 bits in yamux.
    fn id(&self) -> u32 {
        self.proto.id() as u32
    }

    fn frame(&mut self, kind: u8, flags: u16, length: u32) -> Header {
        Header {
            kind,
            flags: std::mem::take(&mut self.flag) | flags,
            stream: self.id(),
            length,
        }
    }

    /// Returns whether the peer cannot see a stream that this side opened.
    pub(crate) fn is_hidden(&self) -> bool {
        self.flag == SYN
    }

    /// Shows the stream to the peer, or that it was taken, unless another frame has done so.
    pub(crate) fn announce(&mut self, limits: &Limits, output: &Output) {
        if self.flag != 0 && !self.is_reset {
            let header = self.frame(WINDOW_UPDATE, 0, limits.window - WINDOW);
            output.push(header);
        }
    }

    /// Returns how many bytes of the window reads have freed, once that is worth a frame.
    pub(crate) fn due_window(&self, limits: &Limits) -> Option<u32> {
        let window = limits.window.saturating_add(self.granted.bytes());
        let is_due = self.unreturned >= self.proto.worth_returning(window);
        (is_due && !self.proto.has_fin() && !self.is_reset).then_some(self.unreturned)
    }

    /// Returns the window to the peer that reads have freed, once that is worth a frame, as it has grown or shrunk
    /// meanwhile.
    pub(crate) fn window_update(&mut self, limits: &Limits) -> Option<Header> {
        let read = self.due_window(limits)?;
        self.unreturned = 0;
        let room = self.granted.grant(self.proto.window_growth(), read);
        self.window += room;
        (room > 0).then(|| self.frame(WINDOW_UPDATE, 0, room))
    }

    /// Returns whether a change has left work to [`finish`](Self::finish).
    pub(crate) fn needs_finish(&self) -> bool {
        self.due_flag().is_some()
            || !self.proto.recv().takes_bytes() && self.received.len() + self.announced as usize > 0
            || self.proto.is_carried() && self.has_ended()
    }

    /// Returns the flag with which this side's direction, or the stream, has to end.
    fn due_flag(&self) -> Option<u16> {
        if self.fin_sent || self.is_reset {
            return None;
        }
        let proto = &self.proto;
        match (proto.is_plain(), proto.send()) {
            (_, SendHalf::Ready) => None,
            (_, SendHalf::Shut { .. }) => Some(FIN),
            // With the connection, a plain stream would seem to end.
            (false, SendHalf::ConnEnded) => None,
            (false, _) => Some(FIN),
            // The end of a plain direction would mean that all of its bytes have come.
            (true, SendHalf::ConnEnded) => Some(RST),
            (true, SendHalf::Reset { .. }) if matches!(proto.recv(), RecvHalf::Reset { .. }) => {
                Some(RST)
            }
            (true, _) => proto.is_done().then_some(RST),
        }
    }

    fn has_ended(&self) -> bool {
        self.is_reset || self.fin_sent && self.proto.has_fin()
    }

    /// Ends this side's direction of the yamux stream where the state requires it, and drops unread
    /// bytes without a reader.
    pub(crate) fn finish(&mut self, limits: &Limits, output: &Output, unread: &Unread) {
        match self.due_flag() {
            Some(RST) => {
                // A stream that the peer never saw needs no end.
                if !self.is_hidden() {
                    let header = self.frame(DATA, RST, 0);
                    output.push(header);
                }
                self.is_reset = true;
            }
            Some(flag) => {
                let header = self.frame(DATA, flag, 0);
                output.push(header);
                self.fin_sent = true;
            }
            None => {}
        }
        if !self.proto.recv().takes_bytes() {
            let discarded = self.received.clear();
            unread.subtract(discarded + self.announced as usize);
            // The rest of the current frame is counted as it comes.
            self.announced = 0;
            // A plain peer goes on sending, and needs room for it.
            self.unreturned += discarded as u32;
            if let Some(update) = self.window_update(limits) {
                output.push(update);
            }
        }
        if self.has_ended() {
            self.proto.on_carrier_end();
        }
    }

    // Events from the peer.

    /// Adds to the peer's credit.
    pub(crate) fn add_credit(&mut self, room: u32) -> Result<Option<Waker>> {
        let Some(credit) = self.credit.checked_add(room) else {
            return Err(broken(&format!(
                "a window of more than {} bytes of stream {}",
                u32::MAX,
                self.id()
            )));
        };
        self.credit = credit;
        Ok(self.writer.take())
    }

    /// Notes that a data frame of `length` bytes begins. Fails if that is more than was granted.
    pub(crate) fn begin_frame(
        &mut self,
        length: u32,
        limits: &Limits,
        unread: &Unread,
    ) -> Result<()> {
        let id = self.id();
        // A reset may still come behind the end.
        if self.proto.has_fin() && length > 0 {
            return Err(broken(&format!("bytes behind the end of stream {id}")));
        }
        let too_much = |room: u32| {
            broken(&format!(
                "flow control: {length} bytes of stream {id}, which has room for {room}"
            ))
        };
        let room = self.window;
        self.window = room.checked_sub(length).ok_or_else(|| too_much(room))?;
        if !self.proto.on_bytes(length as usize)? {
            return Ok(());
        }
        let room = limits
            .stream_unread
            .saturating_add(self.proto.window_growth())
            .saturating_sub(self.received.len() as u32);
        if length > room {
            return Err(too_much(room));
        }
        self.announced = length;
        unread.add(length)
    }

    /// Takes `count` bytes of the current frame from the input.
    pub(crate) fn take_bytes(&mut self, input: &mut BytesMut, count: usize) -> Option<Waker> {
        if !self.proto.recv().takes_bytes() {
            input.advance(count);
            self.unreturned += count as u32;
            return None;
        }
        self.announced = self.announced.saturating_sub(count as u32);
        self.received.take(input, count);
        self.reader.take()
    }

    /// Notes that the peer's direction of the yamux stream has ended.
    pub(crate) fn on_fin(&mut self) -> Result<Option<Waker>> {
        let is_clean = self.proto.is_plain();
        let reaction = self.proto.on_fin(is_clean)?;
        if !reaction.wakes_reader {
            return Ok(None);
        }
        Ok(self.reader.take())
    }

    /// Notes that the peer has reset the yamux stream. Returns the tasks that wait for news of it.
    pub(crate) fn on_reset(&mut self) -> [Option<Waker>; 2] {
        self.is_reset = true;
        // The wakers are taken whatever changed.
        let _ = self.proto.on_cut();
        self.take_wakers(true, true)
    }
}

pub(crate) fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}
