use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
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
/// The connection reads and writes, and the application holds the same `Arc`. Once the side that reads is
/// dropped, the socket is shut down, so that the peer learns of the end although the application may still
/// hold the socket.
#[derive(Debug)]
pub struct SharedSocket<S: Socket> {
    socket: Arc<S>,
    first_byte: FirstByte,
    reads: bool,
}

/// A stream socket of tokio, as [`SharedSocket`] takes it.
pub trait Socket: Send + Sync + 'static {
    /// Ends both directions: bytes that still come are refused.
    fn shut_down(&self);

    /// Waits until a read would return, and takes nothing. Not while another task waits to read.
    fn poll_peek(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// Waits until the peer has sent something, or has ended. It stays to be read.
///
/// # Errors
///
/// Those of the socket.
///
/// # Cancel safety
///
/// Dropping the future loses nothing.
pub async fn first_byte(socket: &impl Socket) -> io::Result<()> {
    poll_fn(|cx| socket.poll_peek(cx)).await
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

            fn poll_peek(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                loop {
                    // A runtime calls a new socket readable before it has asked.
                    ready!(self.poll_read_ready(cx))?;
                    let mut first = [MaybeUninit::uninit()];
                    let peeked =
                        self.try_io(Interest::READABLE, || SockRef::from(self).peek(&mut first));
                    match peeked {
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        peeked => return Poll::Ready(peeked.map(drop)),
                    }
                }
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dialed = TcpStream::connect(listener.local_addr().unwrap());
        let (dialed, accepted) = tokio::join!(dialed, listener.accept());
        (dialed.unwrap(), accepted.unwrap().0)
    }

    #[tokio::test]
    async fn the_first_byte_is_seen_and_stays_to_be_read() {
        let (mut peer, socket) = pair().await;
        {
            let mut waiting = std::pin::pin!(first_byte(&socket));
            tokio::select! {
                biased;
                _ = &mut waiting => panic!("nothing was sent"),
                () = tokio::task::yield_now() => {}
            }
            peer.write_all(b"hello").await.unwrap();
            waiting.await.unwrap();
        }
        let mut shared = SharedSocket::new(Arc::new(socket));
        let seen = shared.first_byte();
        assert_eq!(seen.get(), None);
        let mut text = [0; 5];
        shared.read_exact(&mut text).await.unwrap();
        assert_eq!(&text, b"hello");
        assert_eq!(seen.get(), Some(b'h'));
    }

    #[tokio::test]
    async fn the_end_of_a_peer_that_sent_nothing_is_seen() {
        let (peer, socket) = pair().await;
        drop(peer);
        first_byte(&socket).await.unwrap();
    }

    #[tokio::test]
    async fn a_socket_ends_with_its_reader_though_it_is_still_held() {
        let (mut peer, socket) = pair().await;
        let held = Arc::new(socket);
        let (reader, mut writer) = SharedSocket::new(held.clone()).into_split();
        writer.write_all(b"bye").await.unwrap();
        drop(writer);
        let mut text = [0; 3];
        peer.read_exact(&mut text).await.unwrap();
        drop(reader);
        assert_eq!(peer.read(&mut text).await.unwrap(), 0);
        assert_eq!(held.peer_addr().unwrap(), peer.local_addr().unwrap());
    }
}
