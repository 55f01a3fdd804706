use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pipe_proto::{RecvHalf, SendHalf, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::conn_core::{Binding, ConnCore, ConnRef};
use super::stream_core::{StreamCore, StreamState};
use super::stream_io::StreamIo;
use crate::backend::{joined_stream, recv_error, send_error};
use crate::{CloseReason, Error, RecvStream, Result, SendStream};

joined_stream! {
    /// A stream of a [`BoundConn`](super::BoundConn).
    pub struct BoundStream<B: Binding> {
        send: BoundSendStream<B>,
        recv: BoundRecvStream<B>,
    }
}

/// The sending direction of a [`BoundStream`].
pub struct BoundSendStream<B: Binding>(Half<B>);

/// The receiving direction of a [`BoundStream`].
pub struct BoundRecvStream<B: Binding>(Half<B>);

struct Half<B: Binding> {
    stream: StreamCore<B::Io>,
    conn: Arc<ConnRef<B>>,
}

impl<B: Binding> BoundStream<B> {
    pub(super) fn new(stream: StreamCore<B::Io>, conn: Arc<ConnRef<B>>) -> Self {
        let half = Half {
            stream: stream.clone(),
            conn: conn.clone(),
        };
        Self {
            send: BoundSendStream(half),
            recv: BoundRecvStream(Half { stream, conn }),
        }
    }
}

impl<B: Binding> Half<B> {
    fn conn(&self) -> &Arc<ConnCore<B>> {
        &self.conn.0
    }

    /// Drops a carrier that has failed. The task waits for the reason.
    fn lose<R>(&self, state: &mut StreamState<B::Io>, error: io::Error) -> Poll<io::Result<R>> {
        state.io = None;
        let conn = self.conn();
        let lost = conn.clone().on_lost(self.stream.clone(), error);
        conn.runtime().spawn(lost);
        Poll::Pending
    }

    fn change<R>(&self, act: impl FnOnce(&mut Stream) -> R) -> R {
        self.conn().change(&self.stream, act)
    }
}

impl<B: Binding> AsyncRead for BoundRecvStream<B> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Half { stream, .. } = &self.0;
        let conn = self.0.conn();
        let mut guard = stream.lock();
        let state = &mut *guard;
        if buf.remaining() == 0 || state.proto.recv() == RecvHalf::Ended {
            return Poll::Ready(Ok(()));
        }
        // Frames about the stream wake the task, as its carrier does.
        state.reader = Some(cx.waker().clone());
        if let Err(error) = state.proto.recv().check_read() {
            let error = recv_error(error, conn.status.error());
            return error.map_or(Poll::Pending, |error| Poll::Ready(Err(error.into())));
        }
        let Some(io) = &mut state.io else {
            return Poll::Pending;
        };
        let count = match ready!(io.poll_read(cx, buf)) {
            Ok(count) => count,
            Err(error) => return self.0.lose(state, error),
        };
        let taken = state.proto.on_bytes(count);
        state.proto.read(count);
        drop(guard);
        self.0.change(|_| ());
        if let Err(violation) = taken {
            let error = Error::from(violation);
            conn.end(CloseReason::Failed(error.clone()));
            return Poll::Ready(Err(error.into()));
        }
        Poll::Ready(Ok(()))
    }
}

impl<B: Binding> RecvStream for BoundRecvStream<B> {
    fn id(&self) -> u64 {
        self.0.stream.id()
    }

    fn stop(&mut self, code: u32) {
        self.0.change(|proto| proto.stop(code));
    }
}

impl<B: Binding> Drop for BoundRecvStream<B> {
    fn drop(&mut self) {
        self.stop(0);
    }
}

impl<B: Binding> AsyncWrite for BoundSendStream<B> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Half { stream, .. } = &self.0;
        let conn = self.0.conn();
        let mut guard = stream.lock();
        let state = &mut *guard;
        state.writer = Some(cx.waker().clone());
        if let Err(error) = state.proto.send().check_write() {
            let error = send_error(error, conn.status.error());
            return error.map_or(Poll::Pending, |error| Poll::Ready(Err(error.into())));
        }
        let Some(io) = &mut state.io else {
            return Poll::Pending;
        };
        let (windows, used) = (conn.windows(), state.proto.unacknowledged());
        let credit = windows.take(used, buf.len(), &mut state.ticket, cx);
        let written = match credit {
            0 if buf.is_empty() => Poll::Ready(Ok(0)),
            0 => Poll::Pending,
            _ => io.poll_write(cx, &buf[..credit]),
        };
        let (count, written) = match written {
            Poll::Ready(Ok(count)) => (count, Poll::Ready(Ok(count))),
            Poll::Ready(Err(error)) => (0, self.0.lose(state, error)),
            Poll::Pending => (0, Poll::Pending),
        };
        state.proto.wrote(count, count as u32);
        drop(guard);
        windows.give_back((credit - count) as u64);
        written
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Err(error) = self.0.change(Stream::shutdown) else {
            return Poll::Ready(Ok(()));
        };
        self.0.stream.lock().writer = Some(cx.waker().clone());
        let error = send_error(error, self.0.conn().status.error());
        error.map_or(Poll::Pending, |error| Poll::Ready(Err(error.into())))
    }
}

impl<B: Binding> SendStream for BoundSendStream<B> {
    fn id(&self) -> u64 {
        self.0.stream.id()
    }

    fn reset(&mut self, code: u32) {
        self.0.change(|proto| proto.reset(code));
    }

    async fn stopped(&mut self) -> Result<Option<u32>> {
        let Half { stream, .. } = &self.0;
        let status = &self.0.conn().status;
        poll_fn(|cx| {
            let mut state = stream.lock();
            state.writer = Some(cx.waker().clone());
            let (send, ended) = (state.proto.send(), status.error());
            match send {
                SendHalf::Stopped { code, .. } | SendHalf::ShutThenStopped { code } => {
                    Poll::Ready(Ok(Some(code)))
                }
                SendHalf::Shut { confirmed: true } => Poll::Ready(Ok(None)),
                _ => {
                    let cut = send.check_shutdown().err();
                    let cut = cut.and_then(|error| send_error(error, ended.clone()));
                    match cut.or(ended) {
                        Some(error) => Poll::Ready(Err(error)),
                        None => Poll::Pending,
                    }
                }
            }
        })
        .await
    }
}

impl<B: Binding> Drop for BoundSendStream<B> {
    fn drop(&mut self) {
        self.reset(0);
    }
}
