mod end;
mod recv;
mod send;

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use pipe_core::{RecvStream, SendStream, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use end::End;
pub use recv::QuicRecvStream;
pub use send::QuicSendStream;

use crate::handle::Handle;
use crate::stream_core::StreamCore;

/// A stream of a [`QuicConn`](crate::QuicConn).
pub struct QuicStream {
    // Dropped in this order: the peer hears of the reset before the stop.
    send: QuicSendStream,
    recv: QuicRecvStream,
}

impl QuicStream {
    /// One that this side opened: its core has the sending direction.
    pub(crate) fn opened(
        core: Arc<StreamCore>,
        recv: quinn::RecvStream,
        handle: Arc<Handle>,
    ) -> Self {
        let end = End { core, handle };
        Self {
            send: QuicSendStream::new(None, end.clone()),
            recv: QuicRecvStream::new(recv, end),
        }
    }

    /// One of the peer.
    pub(crate) fn accepted(
        (send, recv): (quinn::SendStream, quinn::RecvStream),
        core: Arc<StreamCore>,
        handle: Arc<Handle>,
    ) -> Self {
        let end = End { core, handle };
        Self {
            send: QuicSendStream::new(Some(send), end.clone()),
            recv: QuicRecvStream::new(recv, end),
        }
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
