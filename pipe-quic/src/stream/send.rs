use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use pipe_core::backend::{SendState, first_bytes};
use pipe_core::{Error, ErrorKind, Result, SendStream, Wire};
use quinn::{StoppedError, VarInt, WriteError};
use tokio::io::AsyncWrite;
use tokio::task::coop::poll_proceed;

use super::end::End;
use crate::error::code_of;
use crate::preamble::{PREAMBLE, poll_announce};
use crate::shared::Half;
use crate::stream_core::Direction;

/// The sending direction of a [`QuicStream`](crate::QuicStream).
pub struct QuicSendStream {
    /// Present until the half is dropped. While it is not in use, the core has that of a stream
    /// that this side opened.
    quinn: Option<quinn::SendStream>,
    /// The peer has to be shown the stream.
    is_unshown: bool,
    state: SendState,
    /// Waits for the peer's stop while there is no room in its connection window.
    until_stopped: Option<UntilStopped>,
    end: End,
}

/// Maximum size of a combined write, in bytes: the opener's first byte and the first write, or the
/// buffers of a vectored write.
const GATHERED: usize = 16 * 1024;

type UntilStopped =
    Pin<Box<dyn Future<Output = Result<Option<VarInt>, StoppedError>> + Send + Sync>>;

impl QuicSendStream {
    /// Creates a half. Without a direction of quinn, the core has it.
    pub(super) fn new(quinn: Option<quinn::SendStream>, end: End) -> Self {
        Self {
            quinn,
            is_unshown: false,
            state: SendState::Open,
            until_stopped: None,
            end,
        }
    }

    fn quinn(&mut self) -> &mut quinn::SendStream {
        self.take_up();
        self.quinn.as_mut().expect("a half that is in use")
    }

    /// Takes the direction from the core, if it is there.
    fn take_up(&mut self) {
        if self.quinn.is_none()
            && let Some((quinn, is_unshown)) = self.end.core.take()
        {
            self.quinn = Some(quinn);
            self.is_unshown = is_unshown;
        }
    }

    /// Leaves the open state, and notes that the application is done with the direction.
    fn finish_as(&mut self, state: SendState) {
        self.state = state;
        if state != SendState::Shut {
            self.end.shared().free_room(&self.end.core);
        }
        self.end.shared().over(&self.end.core, Direction::Send);
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

    /// Notes that the peer has stopped the stream.
    fn stopped_by(&mut self, code: VarInt) {
        let was_open = self.state == SendState::Open;
        if let Some(state) = self.state.stop(code_of(code)) {
            self.state = state;
        }
        if was_open {
            // QUIC requires it in answer (RFC 9000, section 3.5), so that the stream can be freed.
            let _ = self.quinn().reset(code);
            self.finish_as(self.state);
        }
    }

    /// Writes some of the `total` bytes of the buffers.
    fn poll_write_open(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
        total: usize,
    ) -> Poll<Result<usize>> {
        let shared = self.end.shared();
        let room = shared.take_room(&self.end.core, total, cx);
        if room == 0 {
            let error = ready!(self.poll_stopped(cx));
            return Poll::Ready(Err(error));
        }
        self.until_stopped = None;
        let written = self.poll_write_quinn(cx, bufs, room);
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
        shared.bytes.sent.fetch_add(count as u64, Ordering::Relaxed);
        Poll::Ready(Ok(count))
    }

    /// Writes up to `room` bytes, and shows the stream to the peer with the first of them.
    fn poll_write_quinn(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
        room: usize,
    ) -> Poll<std::result::Result<usize, WriteError>> {
        self.take_up();
        let mut pieces = first_bytes(bufs, room).filter(|piece| !piece.is_empty());
        let first = pieces.next().unwrap_or_default();
        let preamble = usize::from(self.is_unshown);
        if self.is_unshown || first.len() < room.min(GATHERED) {
            let room = room.min(GATHERED);
            let mut bytes = Vec::with_capacity(preamble + room);
            bytes.extend_from_slice(&[PREAMBLE][..preamble]);
            first_bytes(bufs, room).for_each(|piece| bytes.extend_from_slice(piece));
            let chunks = &mut [Bytes::from(bytes)];
            let written = ready!(pin!(self.quinn().write_chunks(chunks)).poll(cx))?;
            self.is_unshown = false;
            if written.bytes > preamble {
                return Poll::Ready(Ok(written.bytes - preamble));
            }
        }
        Pin::new(self.quinn()).poll_write(cx, first)
    }

    /// Announces the stream to the peer, if that is still pending.
    fn poll_show(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.take_up();
        if self.is_unshown {
            let shown = ready!(poll_announce(self.quinn(), cx));
            self.is_unshown = false;
            shown.map_err(|error| self.write_failed(error))?;
        }
        Poll::Ready(Ok(()))
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
            WriteError::ZeroRttRejected => {
                let error = self.end.shared().refuse_early();
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
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
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
        let total = bufs.iter().map(|buf| buf.len()).sum();
        if total == 0 {
            return Poll::Ready(Ok(0));
        }
        let written = this.poll_write_open(cx, bufs, total);
        if written.is_pending() && this.end.watch(&this.end.core.writer, cx) {
            // It has ended meanwhile.
            cx.waker().wake_by_ref();
        }
        let count = ready!(written)?;
        coop.made_progress();
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
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
            let shown = this.poll_show(cx);
            if shown.is_pending() && this.end.watch(&this.end.core.writer, cx) {
                // It has ended meanwhile.
                cx.waker().wake_by_ref();
            }
            ready!(shown).or_else(ignore_stop)?;
            if this.state != SendState::Open {
                // No bytes are left to deliver after a stop by the peer.
                return Poll::Ready(Ok(()));
            }
            // An error means that the stream is over: the peer has stopped it.
            let _ = this.quinn().finish();
            if this.end.shared().wire == Wire::Raw {
                let delivered = this.quinn().stopped();
                this.end.handle.0.await_delivery(delivered);
            }
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
            if self.state == SendState::Open && self.end.conn_error().is_none() {
                // The peer cannot stop a stream that was not announced.
                ready!(self.poll_show(cx)).or_else(ignore_stop)?;
            }
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
        self.take_up();
        if let Some(half) = self.quinn.take() {
            self.end.shared().drop_half(Half::Send(half));
        }
    }
}

/// Ignores a stop by the peer, which is reported in another way.
fn ignore_stop(error: Error) -> Result<()> {
    match error.kind() {
        ErrorKind::Stopped => Ok(()),
        _ => Err(error),
    }
}
