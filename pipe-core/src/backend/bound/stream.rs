use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};

use pipe_proto::RecvHalf;
use tokio::io::ReadBuf;

use super::conn_core::{Binding, ConnCore};
use super::stream_io::{IoState, StreamIo};
use crate::backend::{Half, SessionConn, SessionIo, StreamBase, first_bytes, session_stream};
use crate::{CloseReason, Error, Result};

session_stream! {
    /// A stream of a [`BoundConn`](super::BoundConn).
    pub struct BoundStream<B: Binding> of ConnCore<B> {
        send: BoundSendStream,
        recv: BoundRecvStream,
    }
}

/// Drops a carrier that has failed. The task waits for the reason.
fn lose<B: Binding, R>(
    half: &Half<ConnCore<B>>,
    state: &mut IoState<B::Io>,
    error: io::Error,
) -> Poll<Result<R>> {
    state.io = None;
    let conn = half.conn();
    let lost = conn.clone().on_lost(half.stream.clone(), error);
    conn.runtime().spawn(lost);
    Poll::Pending
}

/// Writes up to `credit` bytes of the buffers.
fn write(
    io: &mut impl StreamIo,
    cx: &mut Context<'_>,
    bufs: &[IoSlice<'_>],
    credit: usize,
) -> Poll<io::Result<usize>> {
    match bufs {
        [buf] => io.poll_write(cx, &buf[..buf.len().min(credit)]),
        _ => {
            let cut: Vec<_> = first_bytes(bufs, credit).map(IoSlice::new).collect();
            io.poll_write_vectored(cx, &cut)
        }
    }
}

impl<B: Binding> SessionIo for ConnCore<B> {
    fn poll_write(
        half: &Half<Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let conn = half.conn();
        let mut guard = half.stream.lock();
        let state = &mut *guard;
        // Frames about the stream wake the task, as its carrier does.
        let _: Poll<()> = state.pend_write(cx);
        ready!(state.poll_writable(cx, || conn.status.error()))?;
        let total = bufs.iter().map(|buf| buf.len()).sum::<usize>();
        if total == 0 {
            return Poll::Ready(Ok(0));
        }
        let windows = conn.windows();
        let StreamBase { proto, ticket, .. } = &mut **state;
        let credit = windows.take(proto, total, ticket, cx);
        let written = match &mut state.io {
            Some(io) if credit.0 > 0 => write(io, cx, bufs, credit.0),
            _ => Poll::Pending,
        };
        let (count, written) = match written {
            Poll::Ready(Ok(count)) => (count, Poll::Ready(Ok(count))),
            Poll::Ready(Err(error)) => (0, lose(half, state, error)),
            Poll::Pending => (0, Poll::Pending),
        };
        let counted = windows.settle(credit, count);
        state.proto.wrote(count, counted);
        written
    }

    fn poll_read(
        half: &Half<Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        let conn = half.conn();
        let mut guard = half.stream.lock();
        let state = &mut *guard;
        if state.proto.recv() == RecvHalf::Ended {
            return Poll::Ready(Ok(()));
        }
        let _: Poll<()> = state.pend_read(cx);
        ready!(state.poll_readable(cx, || conn.status.error()))?;
        let Some(io) = &mut state.io else {
            return Poll::Pending;
        };
        let before = buf.filled().len();
        let count = match ready!(io.poll_read(cx, buf)) {
            Ok(count) => count,
            Err(error) => return lose(half, state, error),
        };
        let taken = state.proto.on_bytes(count);
        state.proto.read(count);
        drop(guard);
        conn.change(&half.stream, |_| ());
        if let Err(violation) = taken {
            // A read that fails reads nothing.
            buf.set_filled(before);
            let error = Error::from(violation);
            conn.end(&CloseReason::Failed(error.clone()));
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(()))
    }
}
