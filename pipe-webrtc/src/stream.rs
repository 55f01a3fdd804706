use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pipe_core::{RecvState, RecvStream, Result, SendState, SendStream, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop::poll_proceed;

use crate::conn::Handle;
use crate::shared::Shared;
use crate::stream_core::{Read, StreamCore};

/// A stream of a [`WebRtcConn`](crate::WebRtcConn).
pub struct WebRtcStream {
    // Dropped in this order: the peer hears of the reset before the stop.
    send: WebRtcSendStream,
    recv: WebRtcRecvStream,
}

/// The sending direction of a [`WebRtcStream`].
pub struct WebRtcSendStream(End);

/// The receiving direction of a [`WebRtcStream`].
pub struct WebRtcRecvStream(End);

struct End {
    stream: Arc<StreamCore>,
    handle: Arc<Handle>,
}

impl End {
    fn shared(&self) -> &Shared {
        &self.handle.0
    }
}

impl WebRtcStream {
    pub(crate) fn new(stream: Arc<StreamCore>, handle: Arc<Handle>) -> Self {
        let end = End {
            stream: stream.clone(),
            handle: handle.clone(),
        };
        Self {
            send: WebRtcSendStream(end),
            recv: WebRtcRecvStream(End { stream, handle }),
        }
    }
}

impl Stream for WebRtcStream {
    type SendHalf = WebRtcSendStream;
    type RecvHalf = WebRtcRecvStream;

    fn id(&self) -> u64 {
        self.send.id()
    }

    fn reset(&mut self, code: u32) {
        self.send.reset(code);
    }

    fn stop(&mut self, code: u32) {
        self.recv.stop(code);
    }

    fn into_split(self) -> (WebRtcSendStream, WebRtcRecvStream) {
        (self.send, self.recv)
    }
}

impl AsyncWrite for WebRtcSendStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let coop = ready!(poll_proceed(cx));
        let End { stream, .. } = &self.0;
        let shared = self.0.shared();
        let written = {
            let mut state = stream.state.lock();
            ready!(state.poll_write(cx, buf, shared.peer_windows(), || shared.status.error()))
        };
        coop.made_progress();
        if written.is_ok() {
            shared.announce(stream);
        }
        Poll::Ready(written.map_err(Into::into))
    }

    /// Ready at once: what was written is on its way.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let End { stream, .. } = &self.0;
        let shared = self.0.shared();
        let shut = stream.state.lock().shutdown(|| shared.status.error());
        if shut? {
            shared.settle(stream);
        }
        Poll::Ready(Ok(()))
    }
}

impl SendStream for WebRtcSendStream {
    fn id(&self) -> u64 {
        self.0.stream.id
    }

    fn reset(&mut self, code: u32) {
        let shared = self.0.shared();
        shared.cut_send(&self.0.stream, SendState::Reset(code), code);
    }

    async fn stopped(&mut self) -> Result<Option<u32>> {
        poll_fn(|cx| {
            let mut state = self.0.stream.state.lock();
            match state.send {
                SendState::Stopped { code, .. } => return Poll::Ready(Ok(Some(code))),
                SendState::Shut if state.taken || state.peer_done => return Poll::Ready(Ok(None)),
                send => {
                    let ended = self.0.shared().status.error();
                    if let Some(error) = send.shutdown_error(ended.clone()).or(ended) {
                        return Poll::Ready(Err(error));
                    }
                }
            }
            state.writer = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}

impl Drop for WebRtcSendStream {
    fn drop(&mut self) {
        SendStream::reset(self, 0);
    }
}

impl AsyncRead for WebRtcRecvStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let coop = ready!(poll_proceed(cx));
        let End { stream, .. } = &self.0;
        let shared = self.0.shared();
        let (read, done) = {
            let mut state = stream.state.lock();
            let unfilled = buf.initialize_unfilled();
            let read = ready!(state.poll_read(cx, unfilled, || shared.status.error()));
            (read, !state.done && state.is_done())
        };
        coop.made_progress();
        match read {
            Ok(Read::Bytes(count)) => buf.advance(count),
            Ok(Read::End) => {}
            Err(error) => return Poll::Ready(Err(error.into())),
        }
        if done {
            shared.settle(stream);
        } else {
            shared.announce(stream);
        }
        Poll::Ready(Ok(()))
    }
}

impl RecvStream for WebRtcRecvStream {
    fn id(&self) -> u64 {
        self.0.stream.id
    }

    fn stop(&mut self, code: u32) {
        let shared = self.0.shared();
        shared.cut_recv(&self.0.stream, RecvState::Stopped(code), code);
    }
}

impl Drop for WebRtcRecvStream {
    fn drop(&mut self) {
        RecvStream::stop(self, 0);
    }
}

impl AsyncWrite for WebRtcStream {
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

impl AsyncRead for WebRtcStream {
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

debug!(WebRtcStream WebRtcSendStream WebRtcRecvStream);
