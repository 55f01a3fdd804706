use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pipe_core::backend::{RecvState, SendState};
use pipe_core::{Error, RecvStream, Result, SendStream, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop::poll_proceed;

use crate::handle::Handle;
use crate::shared::Shared;
use crate::stream_core::{Read, StreamCore, StreamState};
use crate::wire::Wire;

/// A stream of a [`MuxConn`](crate::MuxConn).
pub struct MuxStream {
    // Dropped in this order: the peer hears of the reset before the stop.
    send: MuxSendStream,
    recv: MuxRecvStream,
}

/// The sending direction of a [`MuxStream`].
pub struct MuxSendStream(End);

/// The receiving direction of a [`MuxStream`].
pub struct MuxRecvStream(End);

struct End {
    stream: Arc<StreamCore>,
    handle: Arc<Handle>,
}

impl End {
    fn shared(&self) -> &Shared {
        &self.handle.0
    }

    /// Does something that sends.
    fn poll_send<R>(
        &self,
        cx: &mut Context<'_>,
        act: impl FnOnce(&mut StreamState, &mut Context<'_>) -> Poll<R>,
    ) -> Poll<R> {
        let mut state = self.stream.state.lock();
        if state.shown {
            return act(&mut state, cx);
        }
        drop(state);
        self.shared().poll_first(&self.stream, cx, act)
    }

    /// A peer that broke the rules within a stream has lost the connection.
    fn fail_on_protocol(&self, error: Error) -> io::Error {
        if error.kind() == pipe_core::ErrorKind::Protocol {
            self.shared()
                .end(&pipe_core::CloseReason::Failed(error.clone()));
        }
        error.into()
    }
}

impl MuxStream {
    pub(crate) fn new(stream: Arc<StreamCore>, handle: Arc<Handle>) -> Self {
        let end = End {
            stream: stream.clone(),
            handle: handle.clone(),
        };
        Self {
            send: MuxSendStream(end),
            recv: MuxRecvStream(End { stream, handle }),
        }
    }
}

impl Stream for MuxStream {
    type SendHalf = MuxSendStream;
    type RecvHalf = MuxRecvStream;

    fn id(&self) -> u64 {
        self.send.id()
    }

    fn reset(&mut self, code: u32) {
        self.send.reset(code);
    }

    fn stop(&mut self, code: u32) {
        self.recv.stop(code);
    }

    fn into_split(self) -> (MuxSendStream, MuxRecvStream) {
        (self.send, self.recv)
    }
}

impl AsyncWrite for MuxSendStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let coop = ready!(poll_proceed(cx));
        let end = &self.0;
        let write = |state: &mut StreamState, cx: &mut Context<'_>| {
            let windows = end.shared().peer_windows();
            let written = state.poll_write(cx, buf, windows, || end.shared().status.error());
            // A plain stream tells a writer that the peer has cut it.
            let done = !state.done && state.is_done();
            written.map(|written| (written, done))
        };
        let (written, done) = ready!(end.poll_send(cx, write));
        if done {
            end.shared().settle(&end.stream);
        }
        coop.made_progress();
        Poll::Ready(written.map_err(|error| end.fail_on_protocol(error)))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let End { stream, .. } = &self.0;
        let shared = self.0.shared();
        let shut = ready!(self.0.poll_send(cx, |state, _| {
            Poll::Ready(state.shut(|| shared.status.error()))
        }));
        if let Some(bytes) = shut? {
            shared.tell(|control| control.end(stream.id, bytes));
            shared.settle(stream);
        } else {
            shared.release_send(stream);
        }
        Poll::Ready(Ok(()))
    }
}

impl SendStream for MuxSendStream {
    fn id(&self) -> u64 {
        self.0.stream.id
    }

    fn reset(&mut self, code: u32) {
        let (shared, stream) = (self.0.shared(), &self.0.stream);
        if shared.wire == Wire::Raw {
            // A reset of yamux ends both directions.
            shared.cut_recv(stream, RecvState::Reset(code), code);
        }
        shared.abandon_send(stream, code);
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
            if !state.shown {
                drop(state);
                self.0.shared().show(&self.0.stream);
            }
            Poll::Pending
        })
        .await
    }
}

impl Drop for MuxSendStream {
    fn drop(&mut self) {
        self.0.shared().abandon_send(&self.0.stream, 0);
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
        let coop = ready!(poll_proceed(cx));
        let end = &self.0;
        let shared = end.shared();
        let mut state = end.stream.state.lock();
        let read = state.poll_read(cx, buf.initialize_unfilled(), || shared.status.error());
        let done = !state.done && state.is_done();
        let owes = shared.has_read(&mut state);
        let waits_unshown = read.is_pending() && !state.shown;
        drop(state);
        if waits_unshown {
            shared.show(&end.stream);
        }
        if owes {
            shared.owe(&end.stream);
        }
        let read = ready!(read);
        coop.made_progress();
        match read {
            Ok(Read::Bytes(count)) => buf.advance(count),
            Ok(Read::End) => {}
            Err(error) => return Poll::Ready(Err(end.fail_on_protocol(error))),
        }
        if done {
            shared.settle(&end.stream);
        }
        Poll::Ready(Ok(()))
    }
}

impl RecvStream for MuxRecvStream {
    fn id(&self) -> u64 {
        self.0.stream.id
    }

    fn stop(&mut self, code: u32) {
        self.0.shared().abandon_recv(&self.0.stream, code);
    }
}

impl Drop for MuxRecvStream {
    fn drop(&mut self) {
        RecvStream::stop(self, 0);
    }
}

impl AsyncWrite for MuxStream {
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

impl AsyncRead for MuxStream {
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

debug!(MuxStream MuxSendStream MuxRecvStream);
