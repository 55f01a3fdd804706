use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// How the sockets of a transport are set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SocketOptions {
    /// Send small segments at once (`TCP_NODELAY`). On by default: the multiplexer gathers what
    /// belongs together by itself.
    pub nodelay: bool,
    /// After how much silence the kernel probes the peer (`SO_KEEPALIVE`). None by default: the
    /// connection asks for signs of life by itself.
    pub keepalive: Option<Duration>,
    /// The size of the kernel's send buffer, in bytes. The system's choice by default.
    pub send_buffer: Option<usize>,
    /// The size of the kernel's receive buffer, in bytes. The system's choice by default.
    pub recv_buffer: Option<usize>,
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self {
            nodelay: true,
            keepalive: None,
            send_buffer: None,
            recv_buffer: None,
        }
    }
}

impl SocketOptions {
    pub(crate) fn apply(&self, socket: &TcpStream) -> io::Result<()> {
        socket.set_nodelay(self.nodelay)?;
        let socket = SockRef::from(socket);
        if let Some(time) = self.keepalive {
            socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(time))?;
        }
        if let Some(size) = self.send_buffer {
            socket.set_send_buffer_size(size)?;
        }
        if let Some(size) = self.recv_buffer {
            socket.set_recv_buffer_size(size)?;
        }
        Ok(())
    }
}

/// A socket that the multiplexer uses while the application can still look at it.
#[derive(Debug)]
pub(crate) struct SharedSocket {
    socket: Arc<TcpStream>,
    first_byte: FirstByte,
}

/// The first byte that a peer has sent, if it has: it tells protocols apart.
#[derive(Clone, Debug, Default)]
pub(crate) struct FirstByte(Arc<OnceLock<u8>>);

impl FirstByte {
    /// Whether it starts a record of TLS: an alert or a handshake (RFC 8446, section 5.1).
    pub(crate) fn is_tls(&self) -> bool {
        matches!(self.0.get(), Some(0x15 | 0x16))
    }
}

impl SharedSocket {
    pub(crate) fn new(socket: Arc<TcpStream>) -> Self {
        Self {
            socket,
            first_byte: FirstByte::default(),
        }
    }

    /// The first byte of the peer, to be looked at later.
    pub(crate) fn first_byte(&self) -> FirstByte {
        self.first_byte.clone()
    }
}

impl AsyncRead for SharedSocket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        loop {
            ready!(self.socket.poll_read_ready(cx))?;
            match self.socket.try_read_buf(buf) {
                Ok(_) => {
                    if let Some(&byte) = buf.filled().get(before) {
                        self.first_byte.0.get_or_init(|| byte);
                    }
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl SharedSocket {
    fn poll_write_with(
        &self,
        cx: &mut Context<'_>,
        write: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.socket.poll_write_ready(cx))?;
            match write(&self.socket) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }
}

impl AsyncWrite for SharedSocket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_with(cx, |socket| socket.try_write(buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_with(cx, |socket| socket.try_write_vectored(bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match SockRef::from(&*self.socket).shutdown(Shutdown::Write) {
            // The peer was faster.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Poll::Ready(Ok(())),
            done => Poll::Ready(done),
        }
    }
}
