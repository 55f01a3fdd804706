use std::future::poll_fn;
use std::io::IoSlice;
use std::pin::pin;
use std::task::{Context, Poll, Waker, ready};

use pipe_core::backend::{Half, SessionConn, SessionIo, StreamState, session_stream};
use pipe_core::{Error, Result, Wire};
use quinn::WriteError;
use tokio::io::ReadBuf;

use crate::conn_inner::ConnInner;
use crate::stream_inner::Failure;

session_stream! {
    /// A stream of a [`QuicConn`](crate::QuicConn).
    pub struct QuicStream of ConnInner {
        send: QuicSendStream,
        recv: QuicRecvStream,
    }
}

impl SessionIo for ConnInner {
    fn poll_write(
        half: &Half<Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let conn = half.conn();
        let windows = conn.peer_windows.as_ref();
        let written = half.poll(|state| state.poll_write(cx, bufs, windows, &conn.status));
        written.map_err(|failure| conn.failed(failure))
    }

    fn poll_read(
        half: &Half<Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        let conn = half.conn();
        let mut state = half.stream.lock();
        let read = state.poll_read(cx, buf, &conn.status);
        if read.is_pending() {
            // The peer may have to send first.
            let shown = state.poll_show(&mut Context::from_waker(Waker::noop()));
            drop(state);
            match shown {
                // The driver waits for room: from now on not in vain.
                Poll::Pending => conn.news.notify_one(),
                Poll::Ready(Err(WriteError::ZeroRttRejected)) => drop(conn.refuse_early()),
                // The writing half reports any other error.
                Poll::Ready(_) => {}
            }
            return Poll::Pending;
        }
        let needs_update = state.needs_update();
        drop(state);
        if needs_update {
            conn.update(&half.stream);
        }
        read.map_ok(|_| ()).map_err(|failure| conn.failed(failure))
    }

    fn poll_shutdown(half: &Half<Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let conn = half.conn();
        let shut = half.poll(|state| {
            let windows = conn.peer_windows.as_ref();
            let shut = ready!(state.poll_shutdown(cx, windows, &conn.status));
            if conn.wire == Wire::Raw && matches!(shut, Ok(true)) {
                conn.await_delivery(state.stopped());
            }
            Poll::Ready(shut)
        });
        shut.map_ok(|_| ()).map_err(|failure| conn.failed(failure))
    }

    async fn stopped(half: &Half<Self>) -> Result<Option<u32>> {
        let conn = half.conn();
        let windows = conn.peer_windows.as_ref();
        let quinn = half.stream.lock().stopped();
        let mut quinn = pin!(quinn);
        let stopped = poll_fn(|cx| {
            half.poll(|state| {
                state.poll_stopped_by_quinn(cx, quinn.as_mut(), windows, &conn.status)
            })
        });
        stopped.await.map_err(|failure| conn.failed(failure))
    }

    fn reset(half: &Half<Self>, code: u32) {
        let _ = half.poll(|state| {
            state.reset(code);
            Poll::Ready(())
        });
    }

    fn drop_send(half: &Half<Self>) {
        Self::reset(half, 0);
    }

    fn stop(half: &Half<Self>, code: u32) {
        let _ = half.poll(|state| {
            state.stop(code);
            Poll::Ready(())
        });
    }
}

impl ConnInner {
    /// Returns the error of a stream, after what it means for the connection.
    #[cold]
    fn failed(&self, failure: Failure) -> Error {
        match failure {
            Failure::Stream(error) => error,
            Failure::Lost(error) => self.lost(&error),
            Failure::RefusedEarly => self.refuse_early(),
            Failure::Broken(why) => self.broken(&why),
        }
    }
}
