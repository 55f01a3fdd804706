use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper_util::client::legacy::connect::{Connected, Connection};
use pipewerks::{Addr, BoxStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream that carries a connection of HTTP.
#[derive(Debug)]
pub struct HttpStream {
    stream: BoxStream,
    remote: Addr,
}

impl HttpStream {
    pub(crate) fn new(stream: BoxStream, remote: Addr) -> Self {
        Self { stream, remote }
    }

    /// The address of the peer.
    pub fn remote_addr(&self) -> &Addr {
        &self.remote
    }
}

/// What the client of `hyper-util` asks of its connections: there is nothing to add.
impl Connection for HttpStream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

/// What tonic asks of its connections: a handler finds the peer in the extensions of its request.
#[cfg(feature = "tonic")]
impl tonic::transport::server::Connected for HttpStream {
    type ConnectInfo = crate::Peer;

    fn connect_info(&self) -> crate::Peer {
        crate::Peer(self.remote.clone())
    }
}

impl AsyncRead for HttpStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for HttpStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
