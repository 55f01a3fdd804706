use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{RecvStream, Result, SendStream, Stream};

/// Any [`Stream`], chosen at run time.
pub struct BoxStream(Box<dyn DynStream>);

/// The sending direction of a [`BoxStream`].
pub struct BoxSendStream(Box<dyn DynSendStream>);

/// The receiving direction of a [`BoxStream`].
pub struct BoxRecvStream(Box<dyn DynRecvStream>);

trait DynStream: AsyncRead + AsyncWrite + Unpin + Send {
    fn id(&self) -> u64;
    fn reset(&mut self, code: u32);
    fn stop(&mut self, code: u32);
    fn into_split(self: Box<Self>) -> (BoxSendStream, BoxRecvStream);
}

#[async_trait]
trait DynSendStream: AsyncWrite + Unpin + Send {
    fn id(&self) -> u64;
    fn reset(&mut self, code: u32);
    async fn stopped(&mut self) -> Result<Option<u32>>;
    fn poll_write_chunk(&mut self, cx: &mut Context<'_>, chunk: &mut Bytes) -> Poll<Result<()>>;
}

trait DynRecvStream: AsyncRead + Unpin + Send {
    fn id(&self) -> u64;
    fn stop(&mut self, code: u32);
    fn poll_read_chunk(&mut self, cx: &mut Context<'_>, max: usize) -> Poll<Result<Option<Bytes>>>;
}

impl<S: Stream> DynStream for S {
    fn id(&self) -> u64 {
        Stream::id(self)
    }

    fn reset(&mut self, code: u32) {
        Stream::reset(self, code);
    }

    fn stop(&mut self, code: u32) {
        Stream::stop(self, code);
    }

    fn into_split(self: Box<Self>) -> (BoxSendStream, BoxRecvStream) {
        let (send, recv) = Stream::into_split(*self);
        (BoxSendStream::new(send), BoxRecvStream::new(recv))
    }
}

#[async_trait]
impl<S: SendStream> DynSendStream for S {
    fn id(&self) -> u64 {
        SendStream::id(self)
    }

    fn reset(&mut self, code: u32) {
        SendStream::reset(self, code);
    }

    async fn stopped(&mut self) -> Result<Option<u32>> {
        SendStream::stopped(self).await
    }

    fn poll_write_chunk(&mut self, cx: &mut Context<'_>, chunk: &mut Bytes) -> Poll<Result<()>> {
        SendStream::poll_write_chunk(self, cx, chunk)
    }
}

impl<S: RecvStream> DynRecvStream for S {
    fn id(&self) -> u64 {
        RecvStream::id(self)
    }

    fn stop(&mut self, code: u32) {
        RecvStream::stop(self, code);
    }

    fn poll_read_chunk(&mut self, cx: &mut Context<'_>, max: usize) -> Poll<Result<Option<Bytes>>> {
        RecvStream::poll_read_chunk(self, cx, max)
    }
}

impl BoxStream {
    /// Erases the type of a stream.
    pub fn new(stream: impl Stream) -> Self {
        super::already(stream).unwrap_or_else(|stream| Self(Box::new(stream)))
    }
}

impl BoxSendStream {
    /// Erases the type of a sending direction.
    pub fn new(stream: impl SendStream) -> Self {
        super::already(stream).unwrap_or_else(|stream| Self(Box::new(stream)))
    }
}

impl BoxRecvStream {
    /// Erases the type of a receiving direction.
    pub fn new(stream: impl RecvStream) -> Self {
        super::already(stream).unwrap_or_else(|stream| Self(Box::new(stream)))
    }
}

impl Stream for BoxStream {
    type SendHalf = BoxSendStream;
    type RecvHalf = BoxRecvStream;

    fn id(&self) -> u64 {
        self.0.id()
    }

    fn reset(&mut self, code: u32) {
        self.0.reset(code);
    }

    fn stop(&mut self, code: u32) {
        self.0.stop(code);
    }

    fn into_split(self) -> (BoxSendStream, BoxRecvStream) {
        self.0.into_split()
    }
}

impl SendStream for BoxSendStream {
    fn id(&self) -> u64 {
        self.0.id()
    }

    fn reset(&mut self, code: u32) {
        self.0.reset(code);
    }

    async fn stopped(&mut self) -> Result<Option<u32>> {
        self.0.stopped().await
    }

    fn poll_write_chunk(&mut self, cx: &mut Context<'_>, chunk: &mut Bytes) -> Poll<Result<()>> {
        self.0.poll_write_chunk(cx, chunk)
    }
}

impl RecvStream for BoxRecvStream {
    fn id(&self) -> u64 {
        self.0.id()
    }

    fn stop(&mut self, code: u32) {
        self.0.stop(code);
    }

    fn poll_read_chunk(&mut self, cx: &mut Context<'_>, max: usize) -> Poll<Result<Option<Bytes>>> {
        self.0.poll_read_chunk(cx, max)
    }
}

macro_rules! forward_read {
    ($type:ty) => {
        impl AsyncRead for $type {
            fn poll_read(
                mut self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buf: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                Pin::new(&mut *self.0).poll_read(cx, buf)
            }
        }
    };
}

macro_rules! forward_write {
    ($type:ty) => {
        impl AsyncWrite for $type {
            fn poll_write(
                mut self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buf: &[u8],
            ) -> Poll<io::Result<usize>> {
                Pin::new(&mut *self.0).poll_write(cx, buf)
            }

            fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                Pin::new(&mut *self.0).poll_flush(cx)
            }

            fn poll_shutdown(
                mut self: Pin<&mut Self>,
                cx: &mut Context<'_>,
            ) -> Poll<io::Result<()>> {
                Pin::new(&mut *self.0).poll_shutdown(cx)
            }

            fn poll_write_vectored(
                mut self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bufs: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                Pin::new(&mut *self.0).poll_write_vectored(cx, bufs)
            }

            fn is_write_vectored(&self) -> bool {
                self.0.is_write_vectored()
            }
        }
    };
}

forward_read!(BoxStream);
forward_read!(BoxRecvStream);
forward_write!(BoxStream);
forward_write!(BoxSendStream);

macro_rules! debug {
    ($($type:ident)*) => {$(
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($type)).field("id", &self.0.id()).finish()
            }
        }
    )*};
}

debug!(BoxStream BoxSendStream BoxRecvStream);
