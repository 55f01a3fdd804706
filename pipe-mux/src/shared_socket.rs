use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;

/// Whether a read that does not fill its buffer, or a write that does not empty it, says that the next
/// one would have to wait. So it is where readiness is told at its edges, as by epoll and kqueue.
const SHORT_IS_LAST: bool = cfg!(any(
    target_os = "android",
    target_os = "linux",
    target_os = "dragonfly",
    target_os = "freebsd",
    target_os = "ios",
    target_os = "macos",
    target_os = "netbsd",
    target_os = "openbsd",
));

/// A socket that a connection runs over while the application can still look at it.
///
/// It is what the transports over sockets give to [`Mux`](crate::Mux), together with the same `Arc` as
/// [`inner`](crate::MuxBuilder::inner). Once the side that reads is dropped, the socket is shut down, so that
/// the peer learns of the end although the application may still look at the socket.
#[derive(Debug)]
pub struct SharedSocket<S: Socket> {
    socket: Arc<S>,
    first_byte: FirstByte,
    reads: bool,
}

/// A socket that can be shut down. [`SharedSocket`] takes those of tokio.
pub trait Socket: Send + Sync + 'static {
    /// Ends both directions: bytes that still come are refused.
    fn shut_down(&self);
}

impl<S: Socket> Drop for SharedSocket<S> {
    fn drop(&mut self) {
        if self.reads {
            self.socket.shut_down();
        }
    }
}

/// The first byte that a peer has sent, once it has: it tells protocols apart.
#[derive(Clone, Debug, Default)]
pub struct FirstByte(Arc<OnceLock<u8>>);

impl FirstByte {
    /// The byte, if it has come.
    pub fn get(&self) -> Option<u8> {
        self.0.get().copied()
    }
}

impl<S: Socket> SharedSocket<S> {
    /// Takes a socket over: nothing else may read, write or shut it down.
    pub fn new(socket: Arc<S>) -> Self {
        Self {
            socket,
            first_byte: FirstByte::default(),
            reads: true,
        }
    }

    /// One to read from and one to write to, which do not wait for each other.
    pub fn into_split(self) -> (Self, Self) {
        let writer = Self {
            socket: self.socket.clone(),
            first_byte: self.first_byte.clone(),
            reads: false,
        };
        (self, writer)
    }

    /// The first byte of the peer, to be looked at later.
    pub fn first_byte(&self) -> FirstByte {
        self.first_byte.clone()
    }
}

macro_rules! shared_socket {
    ($socket:ty) => {
        impl Socket for $socket {
            fn shut_down(&self) {
                // It may have ended by itself.
                let _ = SockRef::from(self).shutdown(Shutdown::Both);
            }
        }

        impl SharedSocket<$socket> {
            fn poll_write_with(
                &self,
                cx: &mut Context<'_>,
                len: usize,
                write: impl Fn(&$socket) -> io::Result<usize>,
            ) -> Poll<io::Result<usize>> {
                let socket = &*self.socket;
                loop {
                    ready!(socket.poll_write_ready(cx))?;
                    let mut written = 0;
                    let tried = socket.try_io(Interest::WRITABLE, || {
                        written = write(socket)?;
                        last_if(written < len)
                    });
                    match tried {
                        _ if written > 0 => return Poll::Ready(Ok(written)),
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        tried => return Poll::Ready(tried.map(|()| 0)),
                    }
                }
            }
        }

        impl AsyncRead for SharedSocket<$socket> {
            fn poll_read(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buf: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                let socket = &*self.socket;
                let before = buf.filled().len();
                loop {
                    ready!(socket.poll_read_ready(cx))?;
                    let tried = socket.try_io(Interest::READABLE, || {
                        let read = socket.try_read_buf(buf)?;
                        last_if(read > 0 && buf.remaining() > 0)
                    });
                    if let Some(&byte) = buf.filled().get(before) {
                        self.first_byte.0.get_or_init(|| byte);
                        return Poll::Ready(Ok(()));
                    }
                    match tried {
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        tried => return Poll::Ready(tried),
                    }
                }
            }
        }

        impl AsyncWrite for SharedSocket<$socket> {
            fn poll_write(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buf: &[u8],
            ) -> Poll<io::Result<usize>> {
                self.poll_write_with(cx, buf.len(), |socket| socket.try_write(buf))
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bufs: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                let len = bufs.iter().map(|buf| buf.len()).sum();
                self.poll_write_with(cx, len, |socket| socket.try_write_vectored(bufs))
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
                    Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                        Poll::Ready(Ok(()))
                    }
                    done => Poll::Ready(done),
                }
            }
        }
    };
}

shared_socket!(TcpStream);
#[cfg(unix)]
shared_socket!(UnixStream);

/// Has the runtime wait for news of the socket, without asking the system, if this was all there is.
fn last_if(short: bool) -> io::Result<()> {
    if short && SHORT_IS_LAST {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    Ok(())
}
