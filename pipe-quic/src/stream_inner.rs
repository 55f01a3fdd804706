use std::future::Future;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::ops::Deref;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use pipe_core::backend::proto::{RecvError, RecvHalf, SendHalf, Stream, StreamHandle};
use pipe_core::backend::{
    ConnStatus, ConnWindow, StreamSlot, WindowTicket, first_bytes, recv_error, send_error,
};
use pipe_core::{CloseReason, Error, ErrorKind};
use quinn::{ConnectionError, ReadError, StoppedError, VarInt, WriteError};
use tokio::io::ReadBuf;

use crate::arrivals::StreamPair;
use crate::error::code_of;
use crate::preamble::{PREAMBLE, poll_announce};

/// Maximum size of a combined write, in bytes: the opener's first byte and the first write, or the
/// buffers of a vectored write.
const GATHERED: usize = 16 * 1024;

/// Maximum size of a read that asks quinn for one byte more. So the end of a stream is found
/// together with its last bytes, and a buffer that they just fill costs no second visit to quinn,
/// which takes the lock of the connection. The bytes are copied once more for that, which costs
/// less.
const SMALL: usize = 2046;

/// Refers to a stream of a connection.
#[derive(Clone)]
pub(crate) struct StreamRef(Arc<StreamInner>);

/// A stream: one lock for everything that its halves and the connection share.
pub(crate) struct StreamInner {
    pub(crate) id: u64,
    state: Mutex<StreamState>,
}

pub(crate) struct StreamState {
    pub(crate) proto: Stream,
    send: quinn::SendStream,
    recv: quinn::RecvStream,
    preamble: Preamble,
    /// The opener's first byte has not come yet.
    awaits_preamble: bool,
    /// Byte that was read and did not fit.
    ahead: Option<u8>,
    /// The stream's place in the queue for the peer's connection window.
    ticket: WindowTicket,
    /// Tasks that wait in a half. quinn wakes them as well.
    reader: Option<Waker>,
    writer: Option<Waker>,
    /// Held as long as a stream that this side opened counts against the peer's limit.
    pub(crate) slot: Option<StreamSlot>,
}

/// The first byte of a stream that this side opened, which makes it visible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Preamble {
    /// The sending half, the receiving half or the driver sends it.
    Due,
    /// The sending half has begun to, and quinn wakes its task.
    Claimed,
    /// Sent, or never due.
    Sent,
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
pub(crate) type Stopped =
    Pin<Box<dyn Future<Output = Result<Option<VarInt>, StoppedError>> + Send + Sync>>;

impl StreamRef {
    /// Creates a stream that this side opened, which is not announced to the peer.
    pub(crate) fn local(proto: Stream, pair: StreamPair, slot: StreamSlot) -> Self {
        Self::new(proto, pair, Preamble::Due, Some(slot))
    }

    /// Creates a stream that the peer opened.
    pub(crate) fn remote(proto: Stream, pair: StreamPair) -> Self {
        Self::new(proto, pair, Preamble::Sent, None)
    }

    /// Sends and awaits no first byte: the peer speaks plain QUIC.
    pub(crate) fn into_plain(self) -> Self {
        let mut state = self.lock();
        state.preamble = Preamble::Sent;
        state.awaits_preamble = false;
        drop(state);
        self
    }

    fn new(
        proto: Stream,
        (send, recv): StreamPair,
        preamble: Preamble,
        slot: Option<StreamSlot>,
    ) -> Self {
        Self(Arc::new(StreamInner {
            id: proto.id(),
            state: Mutex::new(StreamState {
                awaits_preamble: !proto.is_local(),
                proto,
                send,
                recv,
                preamble,
                ahead: None,
                ticket: WindowTicket::default(),
                reader: None,
                writer: None,
                slot,
            }),
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
    // The sending direction.

    /// Writes for the application, within the peer's window. `until_stopped` waits while there is no room.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
        window: Option<&ConnWindow>,
        until_stopped: &mut Option<Stopped>,
        status: &ConnStatus,
    ) -> Poll<Result<usize, Failure>> {
        if let Err(error) = self.proto.send().check_write() {
            return self.send_failed(send_error(error, status.error()), cx);
        }
        let total = bufs.iter().map(|buf| buf.len()).sum();
        if total == 0 {
            return Poll::Ready(Ok(0));
        }
        let counted = window.filter(|_| self.proto.is_counted());
        let room = counted.map_or(total, |window| window.take(total, &mut self.ticket, cx));
        if room == 0 {
            keep(&mut self.writer, cx);
            let waiting = until_stopped.get_or_insert_with(|| Box::pin(self.send.stopped()));
            let stopped = ready!(waiting.as_mut().poll(cx));
            *until_stopped = None;
            let error = match stopped {
                Ok(Some(code)) => WriteError::Stopped(code),
                Ok(None) => WriteError::ClosedStream,
                Err(error) => error.into(),
            };
            return Poll::Ready(Err(self.write_failed(error, window)));
        }
        *until_stopped = None;
        let written = self.poll_write_quinn(cx, bufs, room);
        let count = match written {
            Poll::Ready(Ok(count)) => count,
            _ => 0,
        };
        if let Some(window) = counted {
            window.give((room - count) as u64);
        }
        match written {
            Poll::Ready(Ok(_)) => {
                let counted = if counted.is_some() { count as u32 } else { 0 };
                self.proto.wrote(count, counted);
                Poll::Ready(Ok(count))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(self.write_failed(error, window))),
            Poll::Pending => {
                keep(&mut self.writer, cx);
                Poll::Pending
            }
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
        let is_hidden = self.claim();
        if is_hidden || first.len() < room.min(GATHERED) {
            let preamble = usize::from(is_hidden);
            let room = room.min(GATHERED);
            let mut bytes = Vec::with_capacity(preamble + room);
            bytes.extend_from_slice(&[PREAMBLE][..preamble]);
            first_bytes(bufs, room).for_each(|piece| bytes.extend_from_slice(piece));
            let chunks = &mut [Bytes::from(bytes)];
            let written = ready!(pin!(self.send.write_chunks(chunks)).poll(cx))?;
            self.preamble = Preamble::Sent;
            if written.bytes > preamble {
                return Poll::Ready(Ok(written.bytes - preamble));
            }
        }
        Pin::new(&mut self.send).poll_write(cx, first)
    }

    /// Returns whether the peer cannot see the stream, which the sending half shows then.
    fn claim(&mut self) -> bool {
        let is_hidden = self.preamble != Preamble::Sent;
        if is_hidden {
            self.preamble = Preamble::Claimed;
        }
        is_hidden
    }

    /// Shows the stream to the peer for the sending half. A stop by the peer is noted.
    fn poll_claimed(
        &mut self,
        cx: &mut Context<'_>,
        window: Option<&ConnWindow>,
    ) -> Poll<Result<(), Failure>> {
        if !self.claim() {
            return Poll::Ready(Ok(()));
        }
        let shown = ready!(poll_announce(&mut self.send, cx));
        self.preamble = Preamble::Sent;
        Poll::Ready(match shown {
            Err(WriteError::Stopped(code)) => {
                self.on_stopped(code, window);
                Ok(())
            }
            shown => shown.map_err(|error| self.write_failed(error, window)),
        })
    }

    /// Returns whether the stream is not announced to the peer, and not claimed for that.
    pub(crate) fn is_hidden(&self) -> bool {
        self.preamble == Preamble::Due
    }

    /// Shows the stream to the peer, unless the sending half does. Without room, the task is woken when there is some.
    pub(crate) fn poll_show(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WriteError>> {
        if !self.is_hidden() {
            return Poll::Ready(Ok(()));
        }
        let shown = ready!(poll_announce(&mut self.send, cx));
        self.preamble = Preamble::Sent;
        Poll::Ready(shown)
    }

    /// Shuts the sending direction down. Ready with whether that is news.
    pub(crate) fn poll_shutdown(
        &mut self,
        cx: &mut Context<'_>,
        window: Option<&ConnWindow>,
        status: &ConnStatus,
    ) -> Poll<Result<bool, Failure>> {
        if self.proto.send() == SendHalf::Ready {
            let shown = self.poll_claimed(cx, window);
            if shown.is_pending() {
                keep(&mut self.writer, cx);
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
            Err(error) => self.send_failed(send_error(error, status.error()), cx),
        }
    }

    /// Waits for the peer's stop, or until its QUIC has everything. `stopped` is quinn's.
    pub(crate) fn poll_stopped(
        &mut self,
        cx: &mut Context<'_>,
        stopped: Pin<&mut impl Future<Output = Result<Option<VarInt>, StoppedError>>>,
        window: Option<&ConnWindow>,
        status: &ConnStatus,
    ) -> Poll<Result<Option<u32>, Failure>> {
        keep(&mut self.writer, cx);
        if self.proto.send() == SendHalf::Ready {
            // The peer cannot stop a stream that was not announced.
            ready!(self.poll_claimed(cx, window))?;
        }
        match self.proto.send() {
            SendHalf::Stopped { code, .. } | SendHalf::ShutThenStopped { code } => {
                return Poll::Ready(Ok(Some(code)));
            }
            send => {
                let ended = status.error();
                let cut = send.check_shutdown().err();
                let cut = cut.and_then(|error| send_error(error, ended.clone()));
                if let Some(error) = cut.or(ended) {
                    return Poll::Ready(Err(Failure::Stream(error)));
                }
            }
        }
        Poll::Ready(match ready!(stopped.poll(cx)) {
            Ok(None) => Ok(None),
            Ok(Some(code)) => {
                self.on_stopped(code, window);
                Ok(Some(code_of(code)))
            }
            Err(error) => Err(self.write_failed(error.into(), window)),
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
            self.reset_quinn(code.into());
        }
    }

    fn reset_quinn(&mut self, code: VarInt) {
        // An error means that the stream is over at the peer as well.
        let _ = self.send.reset(code);
    }

    /// Notes that the peer has stopped the stream.
    fn on_stopped(&mut self, code: VarInt, window: Option<&ConnWindow>) {
        if self.proto.send() == SendHalf::Ready {
            // QUIC requires it in answer (RFC 9000, section 3.5), so that the stream can be freed.
            self.reset_quinn(code);
        }
        let freed = self.proto.on_stop(code_of(code)).freed;
        if let Some(window) = window {
            window.give(freed.into());
        }
    }

    #[cold]
    fn write_failed(&mut self, error: WriteError, window: Option<&ConnWindow>) -> Failure {
        match error {
            WriteError::Stopped(code) => {
                self.on_stopped(code, window);
                Failure::Stream(Error::stopped(code_of(code)))
            }
            WriteError::ConnectionLost(error) => Failure::Lost(error),
            WriteError::ZeroRttRejected => Failure::RefusedEarly,
            other => over(other),
        }
    }

    /// Fails with an error of the direction. Without one, the connection is about to name its own, and wakes the task
    /// then.
    #[cold]
    fn send_failed<T>(
        &mut self,
        error: Option<Error>,
        cx: &Context<'_>,
    ) -> Poll<Result<T, Failure>> {
        let Some(error) = error else {
            keep(&mut self.writer, cx);
            return Poll::Pending;
        };
        Poll::Ready(Err(Failure::Stream(error)))
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
                    keep(&mut self.reader, cx);
                    return Poll::Pending;
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
                None => {
                    keep(&mut self.reader, cx);
                    Poll::Pending
                }
            },
        }
    }

    /// Reads the bytes that have come. An empty read is the end.
    fn poll_read_quinn(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<Result<(), Failure>> {
        if buf.remaining() > SMALL && !self.awaits_preamble {
            let read = ready!(self.recv.poll_read_buf(cx, buf));
            return Poll::Ready(read.map_err(|error| self.read_failed(error)));
        }
        let mut room = [const { MaybeUninit::uninit() }; SMALL + 2];
        loop {
            let len = buf.remaining().min(SMALL) + 1 + usize::from(self.awaits_preamble);
            let mut read = ReadBuf::uninit(&mut room[..len]);
            if let Err(error) = ready!(self.recv.poll_read_buf(cx, &mut read)) {
                return Poll::Ready(Err(self.read_failed(error)));
            }
            let bytes = match read.filled() {
                bytes if !self.awaits_preamble => bytes,
                [PREAMBLE, bytes @ ..] => {
                    self.awaits_preamble = false;
                    if bytes.is_empty() {
                        // More may have come, or the end.
                        continue;
                    }
                    bytes
                }
                [first, ..] => {
                    let why = format!("a stream of the unknown kind {first:#04x}");
                    return Poll::Ready(Err(Failure::Broken(why)));
                }
                [] => {
                    let why = "a stream that ends before its first byte";
                    return Poll::Ready(Err(Failure::Broken(why.to_owned())));
                }
            };
            let (fits, ahead) = bytes.split_at(bytes.len().min(buf.remaining()));
            buf.put_slice(fits);
            self.ahead = ahead.first().copied();
            return Poll::Ready(Ok(()));
        }
    }

    /// Stops the receiving direction if it is open, and lets go of it.
    pub(crate) fn stop(&mut self, code: u32) {
        if self.proto.stop(code) {
            self.stop_quinn(code.into());
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
                let code = code_of(code);
                self.proto.on_reset(code);
                Failure::Stream(Error::reset(code))
            }
            ReadError::ConnectionLost(error) => Failure::Lost(error),
            ReadError::ZeroRttRejected => Failure::RefusedEarly,
            other => over(other),
        }
    }

    // The connection.

    /// Tells QUIC which directions a disconnect has ended, and returns the tasks that have to look again.
    pub(crate) fn on_wake(&mut self) -> [Option<Waker>; 2] {
        if matches!(self.proto.send(), SendHalf::Disconnected { .. }) {
            self.reset_quinn(0_u32.into());
        }
        if matches!(self.proto.recv(), RecvHalf::Disconnected { .. }) {
            self.stop_quinn(0_u32.into());
        }
        [self.reader.take(), self.writer.take()]
    }

    /// Abandons a stream that the connection does not take in.
    pub(crate) fn refuse(&mut self) {
        self.reset_quinn(0_u32.into());
        self.stop_quinn(0_u32.into());
    }
}

/// Keeps the task's waker.
fn keep(place: &mut Option<Waker>, cx: &Context<'_>) {
    match place {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *place = Some(cx.waker().clone()),
    }
}

fn over(error: impl std::error::Error + Send + Sync + 'static) -> Failure {
    let why = format!("the stream is over: {error}");
    Failure::Stream(Error::with_source(ErrorKind::Failed, why, error))
}
