use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use pipe_core::backend::proto::{self, SendHalf};
use pipe_core::backend::{joined_stream, send_error};
use pipe_core::{RecvStream, Result, SendStream, Wire};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop::poll_proceed;

use crate::conn_inner::ConnInner;
use crate::conn_ref::ConnRef;
use crate::stream_inner::{StreamRef, StreamState, wake};
use crate::yamux::Received;

joined_stream! {
    /// A stream of a [`MuxConn`](crate::MuxConn).
    pub struct MuxStream {
        send: MuxSendStream,
        recv: MuxRecvStream,
    }
}

/// The sending direction of a [`MuxStream`].
pub struct MuxSendStream(Half);

/// The receiving direction of a [`MuxStream`].
pub struct MuxRecvStream(Half);

struct Half {
    stream: StreamRef,
    conn: Arc<ConnRef>,
}

impl Half {
    fn conn(&self) -> &ConnInner {
        &self.conn.0
    }

    /// Does something that sends, after the streams before this one were shown to the peer.
    fn poll_send<R>(
        &self,
        cx: &mut Context<'_>,
        act: impl FnOnce(&mut StreamState, &mut Context<'_>) -> Poll<R>,
    ) -> Poll<R> {
        let mut state = self.stream.lock();
        if !state.is_hidden() {
            return act(&mut state, cx);
        }
        drop(state);
        let inner = self.conn();
        let mut conn = inner.state.lock();
        let before = self.stream.id - 1;
        conn.opens.show(Some(before), &inner.limits, &inner.output);
        let mut state = self.stream.lock();
        let done = act(&mut state, cx);
        if !state.is_hidden() {
            drop(state);
            conn.opens.on_shown(&self.stream);
        }
        done
    }

    /// Shows the stream to the peer, whose answer is waited for.
    fn show(&self, is_hidden: bool) {
        if is_hidden {
            self.conn().show(&self.stream);
        }
    }
}

impl MuxStream {
    pub(crate) fn new(stream: StreamRef, conn: Arc<ConnRef>) -> Self {
        let half = Half {
            stream: stream.clone(),
            conn: conn.clone(),
        };
        Self {
            send: MuxSendStream(half),
            recv: MuxRecvStream(Half { stream, conn }),
        }
    }
}

impl AsyncWrite for MuxSendStream {
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
        let coop = ready!(poll_proceed(cx));
        let conn = self.0.conn();
        let written = ready!(self.0.poll_send(cx, |state, cx| {
            let windows = conn.peer_windows();
            let (limits, output) = (&conn.limits, &conn.output);
            state.poll_write(cx, bufs, windows, limits, output, || conn.error())
        }));
        coop.made_progress();
        Poll::Ready(written.map_err(Into::into))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Half { stream, .. } = &self.0;
        let conn = self.0.conn();
        let Err(error) = conn.change(stream, proto::Stream::shutdown) else {
            return Poll::Ready(Ok(()));
        };
        let mut state = stream.lock();
        if let Some(error) = send_error(error, conn.error()) {
            return Poll::Ready(Err(error.into()));
        }
        // The connection is about to name its error, and wakes the task then.
        state.writer = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl SendStream for MuxSendStream {
    fn id(&self) -> u64 {
        self.0.stream.id.into()
    }

    fn reset(&mut self, code: u32) {
        let Half { stream, .. } = &self.0;
        let conn = self.0.conn();
        if conn.wire == Wire::Pipe {
            return conn.reset_send(stream, code);
        }
        // A reset of yamux ends both directions.
        let mut state = stream.lock();
        state.proto.reset_both(code);
        let reader = state.reader.take();
        drop(state);
        conn.update(stream);
        wake(reader);
    }

    async fn stopped(&mut self) -> Result<Option<u32>> {
        poll_fn(|cx| {
            let mut state = self.0.stream.lock();
            match state.proto.send() {
                SendHalf::Stopped { code, .. } | SendHalf::ShutThenStopped { code } => {
                    return Poll::Ready(Ok(Some(code)));
                }
                SendHalf::Shut { confirmed: true } => return Poll::Ready(Ok(None)),
                send => {
                    let ended = self.0.conn().error();
                    let cut = send.check_shutdown().err();
                    let cut = cut.and_then(|error| send_error(error, ended.clone()));
                    if let Some(error) = cut.or(ended) {
                        return Poll::Ready(Err(error));
                    }
                }
            }
            state.writer = Some(cx.waker().clone());
            let is_hidden = state.is_hidden();
            drop(state);
            self.0.show(is_hidden);
            Poll::Pending
        })
        .await
    }
}

impl Drop for MuxSendStream {
    fn drop(&mut self) {
        self.0.conn().reset_send(&self.0.stream, 0);
    }
}

impl AsyncRead for MuxRecvStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let take =
            |received: &mut Received| received.read(buf.remaining(), |piece| buf.put_slice(piece));
        ready!(self.poll_take(cx, take))?;
        Poll::Ready(Ok(()))
    }
}

impl MuxRecvStream {
    /// Reads by `take`, which returns how many bytes it took. Ready with 0 at the end.
    #[inline]
    fn poll_take(
        &self,
        cx: &mut Context<'_>,
        take: impl FnOnce(&mut Received) -> usize,
    ) -> Poll<Result<usize>> {
        let coop = ready!(poll_proceed(cx));
        let Half { stream, .. } = &self.0;
        let conn = self.0.conn();
        let mut state = stream.lock();
        let read = state.poll_read(cx, take, || conn.error());
        let Poll::Ready(read) = read else {
            let is_hidden = state.is_hidden();
            drop(state);
            self.0.show(is_hidden);
            return Poll::Pending;
        };
        let update = state.window_update(&conn.limits);
        let needs_session = state.proto.needs_session();
        drop(state);
        coop.made_progress();
        let count = read?;
        // Before the peer is allowed to send more.
        conn.unread.subtract(count);
        if let Some(update) = update {
            conn.output.push(update);
        }
        if needs_session {
            conn.update(stream);
        }
        Poll::Ready(Ok(count))
    }
}

impl RecvStream for MuxRecvStream {
    fn id(&self) -> u64 {
        self.0.stream.id.into()
    }

    fn stop(&mut self, code: u32) {
        self.0.conn().stop_recv(&self.0.stream, code);
    }

    fn poll_read_chunk(&mut self, cx: &mut Context<'_>, max: usize) -> Poll<Result<Option<Bytes>>> {
        if max == 0 {
            return Poll::Ready(Ok(Some(Bytes::new())));
        }
        let mut chunk = None;
        let take = |received: &mut Received| {
            chunk = received.take_chunk(max);
            chunk.as_ref().map_or(0, Bytes::len)
        };
        ready!(self.poll_take(cx, take))?;
        Poll::Ready(Ok(chunk))
    }
}

impl Drop for MuxRecvStream {
    fn drop(&mut self) {
        RecvStream::stop(self, 0);
    }
}
