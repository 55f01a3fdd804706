use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use futures::task::AtomicWaker;
use pipe_core::{
    CloseReason, Error, ErrorKind, RecvState, RecvStream, Result, SendState, SendStream, Stream,
};
use quinn::{ConnectionError, ReadError, StoppedError, VarInt, WriteError};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop::poll_proceed;

use crate::addr::Wire;
use crate::conn::Handle;
use crate::error::{Condition, code_of};
use crate::shared::{Half, Shared, protocol};
use crate::stream_core::StreamCore;

/// The first byte of each stream of the application, from its opener: it makes the stream visible.
pub(crate) const PREAMBLE: u8 = 0x01;

/// A stream of a [`QuicConn`](crate::QuicConn).
pub struct QuicStream {
    // Dropped in this order: the peer hears of the reset before the stop.
    send: QuicSendStream,
    recv: QuicRecvStream,
}

/// The sending direction of a [`QuicStream`].
pub struct QuicSendStream {
    /// There until the half is dropped.
    quinn: Option<quinn::SendStream>,
    state: SendState,
    /// Waits for the peer's stop while there is no room in its connection window.
    until_stopped: Option<UntilStopped>,
    end: End,
}

type UntilStopped =
    Pin<Box<dyn Future<Output = Result<Option<VarInt>, StoppedError>> + Send + Sync>>;

/// The receiving direction of a [`QuicStream`].
pub struct QuicRecvStream {
    /// There until the half is dropped.
    quinn: Option<quinn::RecvStream>,
    state: RecvState,
    /// The opener's first byte has not come yet.
    awaits_preamble: bool,
    end: End,
}

/// What both halves have.
struct End {
    core: Arc<StreamCore>,
    handle: Arc<Handle>,
    /// How often the connection had ended its streams when this one came.
    disconnects: Option<u64>,
}

impl QuicStream {
    pub(crate) fn new(
        send: quinn::SendStream,
        recv: quinn::RecvStream,
        core: &Arc<StreamCore>,
        handle: &Arc<Handle>,
    ) -> Self {
        let end = || End {
            core: core.clone(),
            handle: handle.clone(),
            disconnects: handle.0.disconnects(),
        };
        Self {
            send: QuicSendStream {
                quinn: Some(send),
                state: SendState::Open,
                until_stopped: None,
                end: end(),
            },
            recv: QuicRecvStream {
                quinn: Some(recv),
                state: RecvState::Open,
                awaits_preamble: !core.ours && handle.0.wire == Wire::Pipe,
                end: end(),
            },
        }
    }

    /// Shows the stream to the peer.
    pub(crate) async fn announce(&mut self) -> Result<()> {
        let send = &mut self.send;
        let written = poll_fn(|cx| Pin::new(send.quinn()).poll_write(cx, &[PREAMBLE])).await;
        match written.map_err(|error| send.write_failed(error)) {
            // A stream of a higher number shows this one as well, and the peer may be done with it.
            Err(error) if error.kind() != ErrorKind::Stopped => Err(error),
            _ => Ok(()),
        }
    }
}

impl End {
    fn shared(&self) -> &Shared {
        &self.handle.0
    }

    /// Whether a disconnect has ended the streams of the connection since this one came.
    fn is_disconnected(&self) -> bool {
        self.disconnects.is_some() && self.disconnects != self.shared().disconnects()
    }

    /// Wakes the task when the connection ends, or ends its streams. Returns whether that has happened.
    fn watch(&self, half: &AtomicWaker, cx: &Context<'_>) -> bool {
        half.register(cx.waker());
        self.is_disconnected() || self.conn_ended()
    }

    fn conn_ended(&self) -> bool {
        self.shared().status.reason().is_some()
    }

    fn conn_error(&self) -> Option<Error> {
        self.shared().status.error()
    }

    /// The error of a half whose connection was lost.
    fn lost(&self, error: &ConnectionError) -> Error {
        self.shared().lost(error)
    }
}

impl Stream for QuicStream {
    type SendHalf = QuicSendStream;
    type RecvHalf = QuicRecvStream;

    fn id(&self) -> u64 {
        self.send.id()
    }

    fn reset(&mut self, code: u32) {
        self.send.reset(code);
    }

    fn stop(&mut self, code: u32) {
        self.recv.stop(code);
    }

    fn into_split(self) -> (QuicSendStream, QuicRecvStream) {
        (self.send, self.recv)
    }
}

impl QuicSendStream {
    fn quinn(&mut self) -> &mut quinn::SendStream {
        self.quinn.as_mut().expect("a half that is in use")
    }

    /// Leaves the open state, and notes that the application is done with the direction.
    fn finish_as(&mut self, state: SendState) {
        self.state = state;
        if state != SendState::Shut {
            self.end.shared().free_room(&self.end.core);
        }
        self.end.shared().over(&self.end.core, true, false);
    }

    /// Abandons an open direction.
    fn cut(&mut self, state: SendState, code: u32) {
        if self.end.conn_ended() {
            self.state = self
                .state
                .cut_open(SendState::ConnEnded)
                .unwrap_or(self.state);
        }
        if let Some(state) = self.state.cut_open(state) {
            // An error means that the stream is over at the peer as well.
            let _ = self.quinn().reset(VarInt::from_u32(code));
            self.finish_as(state);
        }
    }

    fn check_disconnect(&mut self) {
        if self.state == SendState::Open && self.end.is_disconnected() {
            self.cut(SendState::Disconnected, 0);
        }
    }

    /// The peer wants no more.
    fn stopped_by(&mut self, code: VarInt) {
        let was_open = self.state == SendState::Open;
        if let Some(state) = self.state.stop(code_of(code)) {
            self.state = state;
        }
        if was_open {
            // What QUIC asks for in answer (RFC 9000, section 3.5), so that the stream can be freed.
            let _ = self.quinn().reset(code);
            self.finish_as(self.state);
        }
    }

    fn poll_write_open(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<Result<usize>> {
        let shared = self.end.shared();
        let room = shared.take_room(&self.end.core, buf.len(), cx);
        if room == 0 {
            let error = ready!(self.poll_stopped(cx));
            return Poll::Ready(Err(error));
        }
        self.until_stopped = None;
        let written = Pin::new(self.quinn()).poll_write(cx, &buf[..room]);
        let count = match written {
            Poll::Ready(Ok(count)) => count,
            _ => 0,
        };
        let shared = self.end.shared();
        shared.used_room(&self.end.core, room, count);
        let count = match ready!(written) {
            Ok(count) => count,
            Err(error) => return Poll::Ready(Err(self.write_failed(error))),
        };
        shared.bytes_sent.fetch_add(count as u64, Ordering::Relaxed);
        Poll::Ready(Ok(count))
    }

    /// Waits until the direction is of no use any more. Returns the error of a write.
    fn poll_stopped(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        let stopped = self.quinn().stopped();
        let waiting = self.until_stopped.get_or_insert_with(|| Box::pin(stopped));
        let stopped = ready!(waiting.as_mut().poll(cx));
        self.until_stopped = None;
        Poll::Ready(self.write_failed(match stopped {
            Ok(Some(code)) => WriteError::Stopped(code),
            Ok(None) => WriteError::ClosedStream,
            Err(error) => error.into(),
        }))
    }

    #[cold]
    fn write_failed(&mut self, error: WriteError) -> Error {
        match error {
            WriteError::Stopped(code) => {
                self.stopped_by(code);
                self.state.write_error(None)
            }
            WriteError::ConnectionLost(error) => {
                let error = self.end.lost(&error);
                self.state = SendState::ConnEnded;
                error
            }
            other => Error::with_source(
                ErrorKind::Failed,
                format!("the stream is over: {other}"),
                other,
            ),
        }
    }
}

impl AsyncWrite for QuicSendStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let coop = ready!(poll_proceed(cx));
        this.check_disconnect();
        if this.state != SendState::Open {
            let error = this.state.write_error(this.end.conn_error());
            return Poll::Ready(Err(error.into()));
        }
        if let Err(error) = this.end.shared().status.check() {
            this.state = SendState::ConnEnded;
            return Poll::Ready(Err(error.into()));
        }
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let written = this.poll_write_open(cx, buf);
        if written.is_pending() && this.end.watch(&this.end.core.writer, cx) {
            // It has ended meanwhile.
            cx.waker().wake_by_ref();
        }
        let count = ready!(written)?;
        coop.made_progress();
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.check_disconnect();
        if let Some(error) = this.state.shutdown_error(this.end.conn_error()) {
            return Poll::Ready(Err(error.into()));
        }
        if this.state == SendState::Open {
            if let Err(error) = this.end.shared().status.check() {
                this.state = SendState::ConnEnded;
                return Poll::Ready(Err(error.into()));
            }
            // An error means that the stream is over: the peer has stopped it.
            let _ = this.quinn().finish();
            let delivered = this.quinn().stopped();
            this.end.handle.0.await_delivery(delivered);
            this.finish_as(SendState::Shut);
        }
        Poll::Ready(Ok(()))
    }
}

impl SendStream for QuicSendStream {
    fn id(&self) -> u64 {
        self.end.core.id
    }

    fn reset(&mut self, code: u32) {
        self.cut(SendState::Reset(code), code);
    }

    async fn stopped(&mut self) -> Result<Option<u32>> {
        let mut stopped = pin!(self.quinn().stopped());
        poll_fn(|cx| {
            self.end.core.writer.register(cx.waker());
            self.check_disconnect();
            match self.state {
                SendState::Stopped { code, .. } => return Poll::Ready(Ok(Some(code))),
                SendState::Open | SendState::Shut => {
                    if let Some(error) = self.end.conn_error() {
                        return Poll::Ready(Err(error));
                    }
                }
                state => {
                    let error = state.shutdown_error(self.end.conn_error());
                    return Poll::Ready(Err(error.unwrap_or_else(|| self.end.shared().error())));
                }
            }
            Poll::Ready(match ready!(stopped.as_mut().poll(cx)) {
                Ok(None) => Ok(None),
                Ok(Some(code)) => {
                    self.stopped_by(code);
                    Ok(Some(code_of(code)))
                }
                Err(StoppedError::ConnectionLost(error)) => Err(self.end.lost(&error)),
                Err(error) => Err(self.write_failed(error.into())),
            })
        })
        .await
    }
}

impl Drop for QuicSendStream {
    fn drop(&mut self) {
        SendStream::reset(self, 0);
        if let Some(half) = self.quinn.take() {
            self.end.shared().drop_half(Half::Send(half));
        }
    }
}

impl QuicRecvStream {
    fn quinn(&mut self) -> &mut quinn::RecvStream {
        self.quinn.as_mut().expect("a half that is in use")
    }

    /// Leaves the open state, and notes that the application is done with the direction.
    fn finish_as(&mut self, state: RecvState) {
        self.state = state;
        self.end.shared().over(&self.end.core, false, true);
    }

    /// Gives an open direction up.
    fn cut(&mut self, state: RecvState, code: u32) {
        if self.state == RecvState::Open && self.end.conn_ended() {
            self.state = RecvState::ConnEnded;
        }
        if self.state == RecvState::Open {
            // An error means that the direction is over already.
            let _ = self.quinn().stop(VarInt::from_u32(code));
            self.finish_as(state);
        }
    }

    fn check_disconnect(&mut self) {
        if self.state == RecvState::Open && self.end.is_disconnected() {
            self.cut(RecvState::Disconnected, 0);
        }
    }

    #[cold]
    fn read_failed(&mut self, error: ReadError) -> Error {
        match error {
            ReadError::Reset(code) => {
                let code = code_of(code);
                self.finish_as(RecvState::Reset(code));
                Error::reset(code)
            }
            ReadError::ConnectionLost(error) => {
                let error = self.end.lost(&error);
                self.state = RecvState::ConnEnded;
                error
            }
            other => Error::with_source(
                ErrorKind::Failed,
                format!("the stream is over: {other}"),
                other,
            ),
        }
    }

    fn poll_read_open(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        if self.awaits_preamble {
            ready!(self.poll_preamble(cx))?;
        }
        match self.quinn().poll_read_buf(cx, buf) {
            Poll::Ready(Ok(())) => Poll::Ready(Ok(())),
            Poll::Ready(Err(error)) => Poll::Ready(Err(self.read_failed(error))),
            Poll::Pending => match self.end.conn_error() {
                None => Poll::Pending,
                Some(error) => {
                    self.state = RecvState::ConnEnded;
                    Poll::Ready(Err(error))
                }
            },
        }
    }

    /// Takes the opener's first byte off.
    fn poll_preamble(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let mut first = [0];
        let broken = match ready!(self.quinn().poll_read(cx, &mut first)) {
            Ok(0) => "a stream that ends before its first byte".to_owned(),
            Ok(_) if first == [PREAMBLE] => {
                self.awaits_preamble = false;
                return Poll::Ready(Ok(()));
            }
            Ok(_) => format!("a stream of the unknown kind {:#04x}", first[0]),
            Err(error) => return Poll::Ready(Err(self.read_failed(error))),
        };
        let shared = self.end.shared();
        shared.fail(Condition::Protocol, protocol(&broken));
        let error = shared.error();
        self.state = RecvState::ConnEnded;
        Poll::Ready(Err(error))
    }
}

impl AsyncRead for QuicRecvStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let this = self.get_mut();
        let coop = ready!(poll_proceed(cx));
        this.check_disconnect();
        if this.state == RecvState::Ended {
            return Poll::Ready(Ok(()));
        }
        if let Some(error) = this.state.read_error(this.end.conn_error()) {
            return Poll::Ready(Err(error.into()));
        }
        // After a close by the peer, what has come can still be read.
        let reason = this.end.shared().status.reason();
        if let Some(reason) = reason
            && !matches!(reason, CloseReason::Remote { .. })
        {
            let error = Error::closed(reason);
            this.state = RecvState::ConnEnded;
            return Poll::Ready(Err(error.into()));
        }
        let before = buf.filled().len();
        let read = this.poll_read_open(cx, buf);
        if read.is_pending() && this.end.watch(&this.end.core.reader, cx) {
            // It has ended meanwhile.
            cx.waker().wake_by_ref();
        }
        ready!(read)?;
        let count = buf.filled().len() - before;
        if count == 0 {
            this.finish_as(RecvState::Ended);
        } else {
            let shared = this.end.shared();
            shared
                .bytes_received
                .fetch_add(count as u64, Ordering::Relaxed);
            shared.has_read(&this.end.core, count);
        }
        coop.made_progress();
        Poll::Ready(Ok(()))
    }
}

impl RecvStream for QuicRecvStream {
    fn id(&self) -> u64 {
        self.end.core.id
    }

    fn stop(&mut self, code: u32) {
        self.cut(RecvState::Stopped(code), code);
    }
}

impl Drop for QuicRecvStream {
    fn drop(&mut self) {
        RecvStream::stop(self, 0);
        if let Some(half) = self.quinn.take() {
            self.end.shared().drop_half(Half::Recv(half));
        }
    }
}

impl AsyncWrite for QuicStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.send).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.send).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.send).poll_shutdown(cx)
    }
}

impl AsyncRead for QuicStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.recv).poll_read(cx, buf)
    }
}

macro_rules! debug {
    ($($type:ident)*) => {$(
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($type)).field("id", &self.id()).finish_non_exhaustive()
            }
        }
    )*};
}

debug!(QuicStream QuicSendStream QuicRecvStream);
