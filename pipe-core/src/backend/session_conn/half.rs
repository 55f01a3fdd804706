use std::fmt;
use std::future::{Future, poll_fn};
use std::io::IoSlice;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use pipe_proto::Stream;
use tokio::io::ReadBuf;
use tokio::task::coop::poll_proceed;

use super::conn::SessionConn;
use super::conn_ref::ConnRef;
use super::stream_ref::StreamRef;
use crate::Result;
use crate::backend::send_error;
use crate::stream::copied_chunk;

/// One direction of a stream, as the application holds it.
pub struct Half<C: SessionConn> {
    /// The stream.
    pub stream: StreamRef<C::Stream>,
    conn: Arc<ConnRef<C>>,
}

/// Moves the bytes of the streams of a connection.
pub trait SessionIo: SessionConn {
    /// Writes for the application, within the peer's windows.
    ///
    /// # Errors
    ///
    /// Those of a write.
    fn poll_write(
        half: &Half<Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<Result<usize>>;

    /// Reads for the application into a buffer with room. Ready with no bytes at the end.
    ///
    /// # Errors
    ///
    /// Those of a read.
    fn poll_read(
        half: &Half<Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>>;

    /// Reads from 1 to `max` bytes; ready with `None` at the end. The default copies.
    ///
    /// # Errors
    ///
    /// Those of a read.
    fn poll_read_chunk(
        half: &Half<Self>,
        cx: &mut Context<'_>,
        max: usize,
    ) -> Poll<Result<Option<Bytes>>> {
        copied_chunk(max, |buf| Self::poll_read(half, cx, buf))
    }

    /// Shuts the sending direction down.
    ///
    /// # Errors
    ///
    /// The reason why it has no clean end.
    fn poll_shutdown(half: &Half<Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let conn = half.conn();
        let Err(error) = conn.change(&half.stream, Stream::shutdown) else {
            return Poll::Ready(Ok(()));
        };
        match send_error(error, conn.status.error()) {
            Some(error) => Poll::Ready(Err(error)),
            // The connection is about to name its error, and wakes the task then.
            None => half.stream.lock().pend_write(cx),
        }
    }

    /// Waits until the sending direction is of no more use; see [`stopped`](crate::SendStream::stopped).
    ///
    /// # Errors
    ///
    /// Those of [`stopped`](crate::SendStream::stopped).
    fn stopped(half: &Half<Self>) -> impl Future<Output = Result<Option<u32>>> + Send {
        let status = &half.conn().status;
        poll_fn(|cx| half.stream.lock().poll_stopped(cx, || status.error()))
    }

    /// Abandons the sending direction if it is open, and lets go of it.
    fn reset(half: &Half<Self>, code: u32) {
        half.conn().change(&half.stream, |proto| proto.reset(code));
    }

    /// Acts on a drop of the sending half. What was not shut down is abandoned with code 0.
    fn drop_send(half: &Half<Self>) {
        half.conn().change(&half.stream, |proto| proto.reset(0));
    }

    /// Stops the receiving direction if it is open, and lets go of it.
    fn stop(half: &Half<Self>, code: u32) {
        half.conn().change(&half.stream, |proto| proto.stop(code));
    }
}

impl<C: SessionConn> Half<C> {
    /// Creates both directions of a stream.
    pub fn pair(stream: StreamRef<C::Stream>, conn: Arc<ConnRef<C>>) -> [Self; 2] {
        let first = Self {
            stream: stream.clone(),
            conn: conn.clone(),
        };
        [first, Self { stream, conn }]
    }

    /// Returns the connection.
    pub fn conn(&self) -> &Arc<C> {
        self.conn.conn()
    }

    /// Polls the stream, and does what follows.
    #[inline]
    pub fn poll<R>(&self, act: impl FnOnce(&mut C::Stream) -> Poll<R>) -> Poll<R> {
        use super::stream_ref::StreamState;
        let mut state = self.stream.lock();
        let done = act(&mut state);
        let needs_update = done.is_ready() && state.needs_update();
        drop(state);
        if needs_update {
            self.conn().update(&self.stream);
        }
        done
    }
}

impl<C: SessionIo> Half<C> {
    /// Writes as [`AsyncWrite`](tokio::io::AsyncWrite) does.
    ///
    /// # Errors
    ///
    /// Those of a write.
    #[inline]
    pub fn poll_write(&self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<Result<usize>> {
        let coop = ready!(poll_proceed(cx));
        let written = ready!(C::poll_write(self, cx, bufs));
        coop.made_progress();
        Poll::Ready(written)
    }

    /// Reads as [`AsyncRead`](tokio::io::AsyncRead) does.
    ///
    /// # Errors
    ///
    /// Those of a read.
    #[inline]
    pub fn poll_read(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let coop = ready!(poll_proceed(cx));
        let read = ready!(C::poll_read(self, cx, buf));
        coop.made_progress();
        Poll::Ready(read)
    }

    /// Reads from 1 to `max` bytes; ready with `None` at the end.
    ///
    /// # Errors
    ///
    /// Those of a read.
    pub fn poll_read_chunk(&self, cx: &mut Context<'_>, max: usize) -> Poll<Result<Option<Bytes>>> {
        if max == 0 {
            return Poll::Ready(Ok(Some(Bytes::new())));
        }
        let coop = ready!(poll_proceed(cx));
        let read = ready!(C::poll_read_chunk(self, cx, max));
        coop.made_progress();
        Poll::Ready(read)
    }
}

impl<C: SessionConn> fmt::Debug for Half<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Half");
        shown.field("stream", &self.stream).finish_non_exhaustive()
    }
}
