use std::io::IoSlice;
use std::ops::Deref;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, BytesMut};
use parking_lot::{Mutex, MutexGuard};
use pipe_core::backend::proto::{RecvHalf, SendHalf, Stream, StreamHandle};
use pipe_core::backend::{PeerWindows, StreamSlot, WindowTicket, recv_error, send_error};
use pipe_core::{Error, Result, Wire};

use crate::yamux::frame::{ACK, DATA, FIN, RST, SYN, WINDOW_UPDATE};
use crate::yamux::{Header, Limits, MAX_BODY, Output, Received, Unread, WINDOW, broken};

/// Refers to a stream of a connection.
#[derive(Clone)]
pub(crate) struct StreamRef(Arc<StreamInner>);

/// A stream: one lock for everything that its halves and the driver share.
pub(crate) struct StreamInner {
    pub(crate) id: u32,
    state: Mutex<StreamState>,
}

pub(crate) struct StreamState {
    pub(crate) proto: Stream,
    /// Flag of the next frame: SYN, ACK, or none.
    flag: u16,
    /// The peer has acknowledged a stream that this side opened.
    pub(crate) is_answered: bool,
    /// Number of bytes that the peer accepts further, as yamux counts them.
    credit: u32,
    received: Received,
    /// Number of bytes that the peer may send further, as yamux counts them.
    window: u32,
    /// Bytes of the current frame that have not come yet, for the application.
    announced: u32,
    /// Bytes that were read or discarded and that no window update has returned.
    unreturned: u32,
    fin_sent: bool,
    /// Either side has reset the stream, which ends both directions.
    is_reset: bool,
    /// The stream's place in the queue for the peer's connection window.
    ticket: WindowTicket,
    pub(crate) reader: Option<Waker>,
    pub(crate) writer: Option<Waker>,
    /// Held as long as a stream that this side opened counts against the peer's limit.
    pub(crate) slot: Option<StreamSlot>,
}

impl StreamRef {
    /// Creates a stream that this side opens.
    pub(crate) fn local(proto: Stream, limits: &Limits, slot: StreamSlot) -> Self {
        Self::new(proto, limits, SYN, Some(slot))
    }

    /// Creates a stream that the peer opened.
    pub(crate) fn remote(proto: Stream, limits: &Limits) -> Self {
        Self::new(proto, limits, ACK, None)
    }

    fn new(proto: Stream, limits: &Limits, flag: u16, slot: Option<StreamSlot>) -> Self {
        let state = StreamState {
            proto: proto.with_carrier(),
            flag,
            is_answered: slot.is_none(),
            credit: WINDOW,
            received: Received::default(),
            window: limits.window,
            announced: 0,
            unreturned: 0,
            fin_sent: false,
            is_reset: false,
            ticket: WindowTicket::default(),
            reader: None,
            writer: None,
            slot,
        };
        Self(Arc::new(StreamInner {
            id: state.id(),
            state: Mutex::new(state),
        }))
    }
}

impl Deref for StreamRef {
    type Target = StreamInner;

    fn deref(&self) -> &StreamInner {
        &self.0
    }
}

impl StreamHandle for StreamRef {
    fn with<R>(&self, act: impl FnOnce(&mut Stream) -> R) -> R {
        act(&mut self.lock().proto)
    }
}

impl StreamInner {
    pub(crate) fn lock(&self) -> MutexGuard<'_, StreamState> {
        self.state.lock()
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
        match self.proto.recv().check_read() {
            Ok(()) => {
                let count = take(&mut self.received);
                if count > 0 {
                    self.proto.read(count);
                    self.unreturned += count as u32;
                    return Poll::Ready(Ok(count));
                }
                if self.proto.recv() == RecvHalf::Ended {
                    return Poll::Ready(Ok(0));
                }
            }
            Err(error) => {
                if let Some(error) = recv_error(error, conn()) {
                    return Poll::Ready(Err(error));
                }
                // The connection is about to name its error, and wakes the task then.
            }
        }
        self.reader = Some(cx.waker().clone());
        Poll::Pending
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
        if let Err(error) = self.proto.send().check_write() {
            if let Some(error) = send_error(error, conn()) {
                return Poll::Ready(Err(error));
            }
            self.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let total = bufs.iter().map(|buf| buf.len()).sum::<usize>();
        let want = total.min(self.credit as usize).min(MAX_BODY);
        if want == 0 {
            if total == 0 {
                return Poll::Ready(Ok(0));
            }
            self.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let used = self.proto.unacknowledged();
        let count = windows.map_or(want, |w| w.take(used, want, &mut self.ticket, cx));
        if count == 0 {
            self.writer = Some(cx.waker().clone());
            return Poll::Pending;
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
                windows.give_back(count as u64);
            }
            // The driver reports the end of the connection.
            self.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        self.flag = 0;
        self.credit -= count as u32;
        let counted = if windows.is_some() { count as u32 } else { 0 };
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

    /// Returns the window to the peer that reads have freed, once that is worth a frame.
    pub(crate) fn window_update(&mut self, limits: &Limits) -> Option<Header> {
        if self.unreturned < limits.window / 2 || self.proto.has_fin() || self.is_reset {
            return None;
        }
        let room = std::mem::take(&mut self.unreturned);
        self.window += room;
        Some(self.frame(WINDOW_UPDATE, 0, room))
    }

    /// Returns whether a change has left work to [`finish`](Self::finish).
    pub(crate) fn needs_finish(&self, wire: Wire) -> bool {
        self.due_flag(wire).is_some()
            || !self.proto.recv().takes_bytes() && self.received.len() + self.announced as usize > 0
            || self.proto.is_carried() && self.has_ended()
    }

    /// Returns the flag with which this side's direction, or the stream, has to end.
    fn due_flag(&self, wire: Wire) -> Option<u16> {
        if self.fin_sent || self.is_reset {
            return None;
        }
        let proto = &self.proto;
        match (wire, proto.send()) {
            (_, SendHalf::Ready) => None,
            (_, SendHalf::Shut { .. }) => Some(FIN),
            // With the connection, a plain stream would seem to end.
            (Wire::Pipe, SendHalf::ConnEnded) => None,
            (Wire::Pipe, _) => Some(FIN),
            // The end of a plain direction would mean that all of its bytes have come.
            (Wire::Raw, SendHalf::ConnEnded) => Some(RST),
            (Wire::Raw, SendHalf::Reset { .. })
                if matches!(proto.recv(), RecvHalf::Reset { .. }) =>
            {
                Some(RST)
            }
            (Wire::Raw, _) => proto.is_done().then_some(RST),
        }
    }

    fn has_ended(&self) -> bool {
        self.is_reset || self.fin_sent && self.proto.has_fin()
    }

    /// Ends this side's direction of the yamux stream where the state requires it, and drops unread
    /// bytes without a reader.
    pub(crate) fn finish(&mut self, wire: Wire, limits: &Limits, output: &Output, unread: &Unread) {
        match self.due_flag(wire) {
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
    pub(crate) fn on_fin(&mut self, wire: Wire) -> Result<Option<Waker>> {
        let reaction = self.proto.on_fin(wire == Wire::Raw)?;
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
        [self.reader.take(), self.writer.take()]
    }
}

pub(crate) fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}
