use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use parking_lot::MutexGuard;
use pipe_core::backend::joined_stream;
use pipe_core::{Error, RecvStream, Result, SendStream, Wire};
use quinn::WriteError;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop::poll_proceed;

use crate::conn_inner::ConnInner;
use crate::handle::Handle;
use crate::stream_inner::{Failure, Stopped, StreamRef, StreamState};

joined_stream! {
    /// A stream of a [`QuicConn`](crate::QuicConn).
    pub struct QuicStream {
        send: QuicSendStream,
        recv: QuicRecvStream,
    }
}

/// The sending direction of a [`QuicStream`].
pub struct QuicSendStream {
    half: Half,
    /// Waits for the peer's stop while there is no room in its connection window.
    until_stopped: Option<Stopped>,
}

/// The receiving direction of a [`QuicStream`].
pub struct QuicRecvStream(Half);

struct Half {
    stream: StreamRef,
    conn: Arc<Handle>,
}

impl Half {
    fn conn(&self) -> &Arc<ConnInner> {
        &self.conn.0
    }

    /// Unlocks the stream after a change, and does what follows from it.
    fn settle(&self, state: MutexGuard<'_, StreamState>) {
        let needs_session = state.proto.needs_session();
        drop(state);
        if needs_session {
            self.conn().update(&self.stream);
        }
    }
}

impl QuicStream {
    pub(crate) fn new(stream: StreamRef, conn: Arc<Handle>) -> Self {
        let half = Half {
            stream: stream.clone(),
            conn: conn.clone(),
        };
        Self {
            send: QuicSendStream {
                half,
                until_stopped: None,
            },
            recv: QuicRecvStream(Half { stream, conn }),
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
        let coop = ready!(poll_proceed(cx));
        let Self {
            half,
            until_stopped,
        } = self.get_mut();
        let conn = half.conn();
        let window = conn.peer_window.as_ref();
        let mut state = half.stream.lock();
        let written = state.poll_write(cx, bufs, window, until_stopped, &conn.status);
        match ready!(written) {
            Ok(count) => {
                coop.made_progress();
                Poll::Ready(Ok(count))
            }
            Err(failure) => {
                half.settle(state);
                Poll::Ready(Err(conn.failed(failure).into()))
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let conn = self.half.conn();
        let mut state = self.half.stream.lock();
        let shut = state.poll_shutdown(cx, conn.peer_window.as_ref(), &conn.status);
        let shut = ready!(shut);
        let stopped = (conn.wire == Wire::Raw && matches!(shut, Ok(true))).then(|| state.stopped());
        if let Some(stopped) = stopped {
            conn.await_delivery(stopped);
        }
        self.half.settle(state);
        match shut {
            Ok(_) => Poll::Ready(Ok(())),
            Err(failure) => Poll::Ready(Err(conn.failed(failure).into())),
        }
    }
}

impl SendStream for QuicSendStream {
    fn id(&self) -> u64 {
        self.half.stream.id
    }

    fn reset(&mut self, code: u32) {
        let mut state = self.half.stream.lock();
        state.reset(code);
        self.half.settle(state);
    }

    async fn stopped(&mut self) -> Result<Option<u32>> {
        let Half { stream, .. } = &self.half;
        let conn = self.half.conn();
        let window = conn.peer_window.as_ref();
        let quinn = stream.lock().stopped();
        let mut quinn = pin!(quinn);
        poll_fn(|cx| {
            let mut state = stream.lock();
            let stopped = ready!(state.poll_stopped(cx, quinn.as_mut(), window, &conn.status));
            self.half.settle(state);
            Poll::Ready(stopped.map_err(|failure| conn.failed(failure)))
        })
        .await
    }
}

impl Drop for QuicSendStream {
    fn drop(&mut self) {
        SendStream::reset(self, 0);
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
        let coop = ready!(poll_proceed(cx));
        let conn = self.0.conn();
        let mut state = self.0.stream.lock();
        let Poll::Ready(read) = state.poll_read(cx, buf, &conn.status) else {
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
        };
        self.0.settle(state);
        match read {
            Ok(_) => {
                coop.made_progress();
                Poll::Ready(Ok(()))
            }
            Err(failure) => Poll::Ready(Err(conn.failed(failure).into())),
        }
    }
}

impl RecvStream for QuicRecvStream {
    fn id(&self) -> u64 {
        self.0.stream.id
    }

    fn stop(&mut self, code: u32) {
        let mut state = self.0.stream.lock();
        state.stop(code);
        self.0.settle(state);
    }
}

impl Drop for QuicRecvStream {
    fn drop(&mut self) {
        RecvStream::stop(self, 0);
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
