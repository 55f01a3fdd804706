mod recv;
mod send;

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::task::AtomicWaker;
use pipe_core::{Error, RecvStream, Result, SendStream, Stream};
use quinn::ConnectionError;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub use recv::QuicRecvStream;
pub use send::QuicSendStream;

use crate::conn::Handle;
use crate::shared::Shared;
use crate::stream_core::StreamCore;

/// The first byte of each stream of the application, from its opener: it makes the stream visible.
pub(crate) const PREAMBLE: u8 = 0x01;

/// A stream of a [`QuicConn`](crate::QuicConn).
pub struct QuicStream {
    // Dropped in this order: the peer hears of the reset before the stop.
    send: QuicSendStream,
    recv: QuicRecvStream,
}

/// What both halves have.
struct End {
    core: Arc<StreamCore>,
    handle: Arc<Handle>,
    /// How often the connection had ended its streams when this one came.
    disconnects: Option<u64>,
}

impl QuicStream {
    pub(crate) fn new(
        send: quinn::SendStream,
        recv: quinn::RecvStream,
        core: &Arc<StreamCore>,
        handle: &Arc<Handle>,
    ) -> Self {
        let end = || End {
            core: core.clone(),
            handle: handle.clone(),
            disconnects: handle.0.disconnects(),
        };
        Self {
            send: QuicSendStream::new(send, end()),
            recv: QuicRecvStream::new(recv, end()),
        }
    }

    /// Shows the stream to the peer.
    pub(crate) async fn announce(&mut self) -> Result<()> {
        self.send.announce().await
    }
}

impl End {
    fn shared(&self) -> &Shared {
        &self.handle.0
    }

    /// Whether a disconnect has ended the streams of the connection since this one came.
    fn is_disconnected(&self) -> bool {
        self.disconnects.is_some() && self.disconnects != self.shared().disconnects()
    }

    /// Wakes the task when the connection ends, or ends its streams. Returns whether that has happened.
    fn watch(&self, half: &AtomicWaker, cx: &Context<'_>) -> bool {
        half.register(cx.waker());
        self.is_disconnected() || self.conn_ended()
    }

    fn conn_ended(&self) -> bool {
        self.shared().status.reason().is_some()
    }

    fn conn_error(&self) -> Option<Error> {
        self.shared().status.error()
    }

    /// The error of a half whose connection was lost.
    fn lost(&self, error: &ConnectionError) -> Error {
        self.shared().lost(error)
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
