use std::future::Future;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use pipe_core::backend::proto::{RecvError, RecvHalf, SendHalf, Stream};
use pipe_core::backend::{
    ConnStatus, PeerWindows, StreamBase, StreamSlot, first_bytes, recv_error, send_error,
};
use pipe_core::{CloseReason, Error, ErrorKind};
use quinn::{ConnectionError, ReadError, StoppedError, VarInt, WriteError};
use tokio::io::ReadBuf;

use crate::arrivals::StreamPair;
use crate::dialect::{Awaited, Codes, Dialect};

/// Maximum size of a combined write, in bytes: the opener's first bytes and the first write, or the
/// buffers of a vectored write.
const GATHERED: usize = 16 * 1024;

/// Maximum size of a read that asks quinn for one byte more. So the end of a stream is found
/// together with its last bytes, and a buffer that they just fill costs no second visit to quinn,
/// which takes the lock of the connection. The bytes are copied once more for that, which costs
/// less.
const SMALL: usize = 2046;

/// Maximum number of bytes that an opener's first bytes have at [least](Awaited::least).
const LEAST: usize = 4;

/// Refers to a stream of a connection.
pub(crate) type StreamRef = pipe_core::backend::StreamRef<StreamState>;

/// A stream: its state in the session, and that of quinn. quinn wakes the tasks that wait as well.
pub(crate) struct StreamState {
    base: StreamBase,
    send: quinn::SendStream,
    recv: quinn::RecvStream,
    /// The rest of what makes a stream visible that this side opened.
    opening: Bytes,
    /// Whether the sending half has begun to send it, so that quinn wakes its task.
    is_claimed: bool,
    /// The opener's first bytes that have not come yet.
    awaited: Option<Awaited>,
    codes: Codes,
    /// Byte that was read and did not fit.
    ahead: Option<u8>,
    /// Waits for the peer's stop while there is no room in its windows.
    until_stopped: Option<Stopped>,
}

/// Why a stream gives or takes no bytes.
pub(crate) enum Failure {
    Stream(Error),
    /// The connection is lost.
    Lost(ConnectionError),
    /// The listener rejected the early data.
    RefusedEarly,
    /// The peer broke the rules.
    Broken(String),
}

/// Waits for the peer's stop, or until its QUIC has everything.
type Stopped = Pin<Box<dyn Future<Output = Result<Option<VarInt>, StoppedError>> + Send + Sync>>;

impl pipe_core::backend::StreamState for StreamState {
    type Unlocked = ();
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
    /// Creates a stream: one that this side opened, which is not announced to the peer, has a slot.
    pub(crate) fn new(
        proto: Stream,
        (send, recv): StreamPair,
        slot: Option<StreamSlot>,
        dialect: &Dialect,
    ) -> StreamRef {
        let is_local = proto.is_local();
        let awaited = dialect.awaited();
        let state = Self {
            base: StreamBase::new(proto, slot),
            send,
            recv,
            opening: if is_local {
                dialect.opening()
            } else {
                Bytes::new()
            },
            is_claimed: false,
            awaited: (!is_local && !awaited.is_empty()).then_some(awaited),
            codes: dialect.codes(),
            ahead: None,
            until_stopped: None,
        };
        StreamRef::new(state, ())
    }

    // The sending direction.

    /// Writes for the application, within the peer's windows.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
        windows: Option<&PeerWindows>,
        status: &ConnStatus,
    ) -> Poll<Result<usize, Failure>> {
        ready!(self.poll_writable(cx, || status.error())).map_err(Failure::Stream)?;
        let total = bufs.iter().map(|buf| buf.len()).sum();
        if total == 0 {
            return Poll::Ready(Ok(0));
        }
        let StreamBase { proto, ticket, .. } = &mut self.base;
        let counting = windows.filter(|_| proto.is_counted());
        let credit = counting.map_or((total, 0), |windows| windows.take(proto, total, ticket, cx));
        let room = credit.0;
        if room == 0 {
            let _: Poll<()> = self.pend_write(cx);
            let send = &self.send;
            let until = self
                .until_stopped
                .get_or_insert_with(|| Box::pin(send.stopped()));
            let stopped = ready!(until.as_mut().poll(cx));
            self.until_stopped = None;
            let error = match stopped {
                Ok(Some(code)) => WriteError::Stopped(code),
                Ok(None) => WriteError::ClosedStream,
                Err(error) => error.into(),
            };
            return Poll::Ready(Err(self.write_failed(error, windows)));
        }
        self.until_stopped = None;
        let written = self.poll_write_quinn(cx, bufs, room);
        let count = match written {
            Poll::Ready(Ok(count)) => count,
            _ => 0,
        };
        let counted = counting.map_or(0, |windows| windows.settle(credit, count));
        match written {
            Poll::Ready(Ok(_)) => {
                self.proto.wrote(count, counted);
                Poll::Ready(Ok(count))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(self.write_failed(error, windows))),
            Poll::Pending => self.pend_write(cx),
        }
    }

    /// Writes up to `room` bytes, and shows the stream to the peer with the first of them.
    fn poll_write_quinn(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
        room: usize,
    ) -> Poll<Result<usize, WriteError>> {
        let mut pieces = first_bytes(bufs, room).filter(|piece| !piece.is_empty());
        let first = pieces.next().unwrap_or_default();
        self.claim();
        let opening = self.opening.len();
        if opening > 0 || first.len() < room.min(GATHERED) {
            let room = room.min(GATHERED);
            let mut bytes = Vec::with_capacity(opening + room);
            bytes.extend_from_slice(&self.opening);
            first_bytes(bufs, room).for_each(|piece| bytes.extend_from_slice(piece));
            let chunks = &mut [Bytes::from(bytes)];
            let written = ready!(pin!(self.send.write_chunks(chunks)).poll(cx))?.bytes;
            self.opening.advance(written.min(opening));
            if written > opening {
                return Poll::Ready(Ok(written - opening));
            }
            ready!(self.poll_open(cx))?;
        }
        Pin::new(&mut self.send).poll_write(cx, first)
    }

    /// Leaves it to the sending half to show the stream to the peer, if it is not shown.
    fn claim(&mut self) {
        self.is_claimed |= !self.opening.is_empty();
    }

    /// Sends the rest of the opener's first bytes.
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WriteError>> {
        while !self.opening.is_empty() {
            let chunks = &mut [self.opening.clone()];
            let written = ready!(pin!(self.send.write_chunks(chunks)).poll(cx))?.bytes;
            self.opening.advance(written);
        }
        Poll::Ready(Ok(()))
    }

    /// Shows the stream to the peer for the sending half. A stop by the peer is noted.
    fn poll_claimed(
        &mut self,
        cx: &mut Context<'_>,
        windows: Option<&PeerWindows>,
    ) -> Poll<Result<(), Failure>> {
        self.claim();
        let shown = ready!(self.poll_open(cx));
        Poll::Ready(match shown {
            Err(WriteError::Stopped(code)) => {
                self.opening.clear();
                self.on_stopped(code, windows);
                Ok(())
            }
            shown => shown.map_err(|error| self.write_failed(error, windows)),
        })
    }

    /// Returns whether the stream is not announced to the peer, and not claimed for that.
    pub(crate) fn is_hidden(&self) -> bool {
        !self.opening.is_empty() && !self.is_claimed
    }

    /// Shows the stream to the peer, unless the sending half does. Without room, the task is woken when there is some.
    pub(crate) fn poll_show(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WriteError>> {
        if !self.is_hidden() {
            return Poll::Ready(Ok(()));
        }
        let shown = ready!(self.poll_open(cx));
        // The next use of the stream has the same error.
        self.opening.clear();
        Poll::Ready(shown)
    }

    /// Shuts the sending direction down. Ready with whether that is news.
    pub(crate) fn poll_shutdown(
        &mut self,
        cx: &mut Context<'_>,
        windows: Option<&PeerWindows>,
        status: &ConnStatus,
    ) -> Poll<Result<bool, Failure>> {
        if self.proto.send() == SendHalf::Ready {
            let shown = self.poll_claimed(cx, windows);
            if shown.is_pending() {
                return self.pend_write(cx);
            }
            ready!(shown)?;
        }
        match self.proto.shutdown() {
            Ok(is_news) => {
                if is_news {
                    // An error means that the stream is over: the peer has stopped it.
                    let _ = self.send.finish();
                }
                Poll::Ready(Ok(is_news))
            }
            Err(error) => match send_error(error, status.error()) {
                Some(error) => Poll::Ready(Err(Failure::Stream(error))),
                // The connection is about to name its error, and wakes the task then.
                None => self.pend_write(cx),
            },
        }
    }

    /// Waits for the peer's stop, or until its QUIC has everything. `stopped` is quinn's.
    pub(crate) fn poll_stopped_by_quinn(
        &mut self,
        cx: &mut Context<'_>,
        stopped: Pin<&mut impl Future<Output = Result<Option<VarInt>, StoppedError>>>,
        windows: Option<&PeerWindows>,
        status: &ConnStatus,
    ) -> Poll<Result<Option<u32>, Failure>> {
        let _: Poll<()> = self.pend_write(cx);
        if self.proto.send() == SendHalf::Ready {
            // The peer cannot stop a stream that was not announced.
            ready!(self.poll_claimed(cx, windows))?;
        }
        if let Poll::Ready(stopped) = self.poll_stopped(cx, || status.error()) {
            return Poll::Ready(stopped.map_err(Failure::Stream));
        }
        Poll::Ready(match ready!(stopped.poll(cx)) {
            Ok(None) => Ok(None),
            Ok(Some(code)) => {
                self.on_stopped(code, windows);
                Ok(Some(self.codes.read(code)))
            }
            Err(error) => Err(self.write_failed(error.into(), windows)),
        })
    }

    /// Returns quinn's wait for the peer's stop.
    pub(crate) fn stopped(
        &self,
    ) -> impl Future<Output = Result<Option<VarInt>, StoppedError>> + Send + Sync + 'static {
        self.send.stopped()
    }

    /// Abandons the sending direction if it is open, and lets go of it.
    pub(crate) fn reset(&mut self, code: u32) {
        if self.proto.reset(code) {
            self.reset_quinn(self.codes.written(code));
        }
    }

    fn reset_quinn(&mut self, code: VarInt) {
        // An error means that the stream is over at the peer as well.
        let _ = self.send.reset(code);
    }

    /// Notes that the peer has stopped the stream.
    fn on_stopped(&mut self, code: VarInt, windows: Option<&PeerWindows>) {
        if self.proto.send() == SendHalf::Ready {
            // QUIC requires it in answer (RFC 9000, section 3.5), so that the stream can be freed.
            self.reset_quinn(code);
        }
        let code = self.codes.read(code);
        let freed = self.proto.on_stop(code).freed;
        if let Some(windows) = windows {
            windows.give_back(freed.into());
        }
    }

    #[cold]
    fn write_failed(&mut self, error: WriteError, windows: Option<&PeerWindows>) -> Failure {
        match error {
            WriteError::Stopped(code) => {
                self.on_stopped(code, windows);
                Failure::Stream(Error::stopped(self.codes.read(code)))
            }
            WriteError::ConnectionLost(error) => Failure::Lost(error),
            WriteError::ZeroRttRejected => Failure::RefusedEarly,
            other => over(other),
        }
    }

    // The receiving direction.

    /// Reads for the application; ready with 0 at the end.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
        status: &ConnStatus,
    ) -> Poll<Result<usize, Failure>> {
        if self.proto.recv() == RecvHalf::Ended {
            return Poll::Ready(Ok(0));
        }
        if let Err(error) = self.proto.recv().check_read() {
            // What came before the peer's close can still be read.
            let closed = matches!(status.reason(), Some(CloseReason::Remote { .. }));
            if !closed || error != RecvError::ConnEnded {
                let Some(error) = recv_error(error, status.error()) else {
                    // The connection is about to name its error, and wakes the task then.
                    return self.pend_read(cx);
                };
                return Poll::Ready(Err(Failure::Stream(error)));
            }
        }
        let before = buf.filled().len();
        if let Some(byte) = self.ahead.take() {
            buf.put_slice(&[byte]);
        }
        let read = self.poll_read_quinn(cx, buf);
        let count = buf.filled().len() - before;
        if count > 0 {
            // An error is returned again.
            self.proto.read(count);
            return Poll::Ready(Ok(count));
        }
        match read {
            Poll::Ready(Ok(())) => {
                // No end was announced that this one could contradict.
                let _ = self.proto.on_fin(true);
                Poll::Ready(Ok(0))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => match status.error() {
                Some(error) => Poll::Ready(Err(Failure::Stream(error))),
                None => self.pend_read(cx),
            },
        }
    }

    /// Reads the bytes that have come. An empty read is the end.
    fn poll_read_quinn(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<Result<(), Failure>> {
        if buf.remaining() > SMALL && self.awaited.is_none() {
            let read = ready!(self.recv.poll_read_buf(cx, buf));
            return Poll::Ready(read.map_err(|error| self.read_failed(error)));
        }
        let mut room = [const { MaybeUninit::uninit() }; SMALL + 1 + LEAST];
        loop {
            let missing = self.awaited.as_ref().map_or(0, Awaited::least);
            let len = buf.remaining().min(SMALL) + 1 + missing;
            let mut read = ReadBuf::uninit(&mut room[..len]);
            if let Err(error) = ready!(self.recv.poll_read_buf(cx, &mut read)) {
                return Poll::Ready(Err(self.read_failed(error)));
            }
            let mut bytes = read.filled();
            if let Some(awaited) = &mut self.awaited {
                if bytes.is_empty() {
                    let why = "a stream that ends before its first byte";
                    return Poll::Ready(Err(Failure::Broken(why.to_owned())));
                }
                let Some(taken) = awaited.take(bytes).map_err(Failure::Broken)? else {
                    continue;
                };
                self.awaited = None;
                bytes = &bytes[taken..];
                if bytes.is_empty() {
                    // More may have come, or the end.
                    continue;
                }
            }
            let (fits, ahead) = bytes.split_at(bytes.len().min(buf.remaining()));
            buf.put_slice(fits);
            self.ahead = ahead.first().copied();
            return Poll::Ready(Ok(()));
        }
    }

    /// Stops the receiving direction if it is open, and lets go of it.
    pub(crate) fn stop(&mut self, code: u32) {
        if self.proto.stop(code) {
            self.stop_quinn(self.codes.written(code));
        }
    }

    fn stop_quinn(&mut self, code: VarInt) {
        // An error means that the direction is over already.
        let _ = self.recv.stop(code);
    }

    #[cold]
    fn read_failed(&mut self, error: ReadError) -> Failure {
        match error {
            ReadError::Reset(code) => {
                let code = self.codes.read(code);
                self.proto.on_reset(code);
                Failure::Stream(Error::reset(code))
            }
            ReadError::ConnectionLost(error) => Failure::Lost(error),
            ReadError::ZeroRttRejected => Failure::RefusedEarly,
            other => over(other),
        }
    }

    // The connection.

    /// Tells QUIC which directions a disconnect has ended.
    pub(crate) fn on_wake(&mut self) {
        if matches!(self.proto.send(), SendHalf::Disconnected { .. }) {
            self.reset_quinn(self.codes.written(0));
        }
        if matches!(self.proto.recv(), RecvHalf::Disconnected { .. }) {
            self.stop_quinn(self.codes.written(0));
        }
    }

    /// Abandons a stream that the connection does not take in.
    pub(crate) fn refuse(&mut self) {
        self.reset_quinn(self.codes.written(0));
        self.stop_quinn(self.codes.written(0));
    }
}

fn over(error: impl std::error::Error + Send + Sync + 'static) -> Failure {
    let why = format!("the stream is over: {error}");
    Failure::Stream(Error::with_source(ErrorKind::Failed, why, error))
}
