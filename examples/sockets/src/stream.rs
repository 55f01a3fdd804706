use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pipe_core::backend::proto::{RecvHalf, SendHalf, Stream, StreamHandle};
use pipe_core::backend::{joined_stream, recv_error, send_error};
use pipe_core::{CloseReason, Error, RecvStream, Result, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::conn::ConnRef;
use crate::stream_ref::{Socket, StreamRef, StreamState};

// ANCHOR: halves
joined_stream! {
    /// A stream of a [`SocketsConn`](crate::SocketsConn).
    pub struct SocketsStream {
        send: SocketsSendStream,
        recv: SocketsRecvStream,
    }
}

/// The sending direction of a [`SocketsStream`].
pub struct SocketsSendStream(Half);

/// The receiving direction of a [`SocketsStream`].
pub struct SocketsRecvStream(Half);

#[derive(Clone)]
struct Half {
    stream: StreamRef,
    conn: Arc<ConnRef>,
}

impl SocketsStream {
    pub(crate) fn new(stream: StreamRef, conn: Arc<ConnRef>) -> Self {
        let half = Half { stream, conn };
        let (send, recv) = (SocketsSendStream(half.clone()), SocketsRecvStream(half));
        Self { send, recv }
    }
}
// ANCHOR_END: halves

impl Half {
    // ANCHOR: io
    /// Reads or writes once the socket is there and ready. Where it is gone, the task waits for the reason.
    fn poll_io(
        &self,
        state: &mut StreamState,
        cx: &mut Context<'_>,
        poll_ready: impl Fn(&TcpStream, &mut Context<'_>) -> Poll<io::Result<()>>,
        mut io: impl FnMut(&TcpStream) -> io::Result<usize>,
    ) -> Poll<usize> {
        let Socket::Open(socket) = &state.socket else {
            return Poll::Pending;
        };
        let error = loop {
            match ready!(poll_ready(socket, cx)).and_then(|()| io(socket)) {
                Ok(0) => break io::ErrorKind::UnexpectedEof.into(),
                Ok(count) => return Poll::Ready(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => break error,
            }
        };
        state.socket = Socket::Gone;
        self.conn.on_socket_lost(&self.stream, error);
        Poll::Pending
    }
    // ANCHOR_END: io

    fn change<R>(&self, act: impl FnOnce(&mut Stream) -> R) -> R {
        let done = self.stream.with(act);
        self.conn.update(&self.stream);
        done
    }
}

// ANCHOR: read
impl AsyncRead for SocketsRecvStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Half { stream, conn } = &self.0;
        let mut guard = stream.lock();
        let state = &mut *guard;
        if buf.remaining() == 0 || state.proto.recv() == RecvHalf::Ended {
            return Poll::Ready(Ok(()));
        }
        // A frame about the stream wakes the task, as the socket does.
        state.reader = Some(cx.waker().clone());
        if let Err(error) = state.proto.recv().check_read() {
            let error = recv_error(error, conn.status.error());
            return error.map_or(Poll::Pending, |error| Poll::Ready(Err(error.into())));
        }
        let io = |socket: &TcpStream| socket.try_read_buf(buf);
        let count = ready!(self.0.poll_io(state, cx, TcpStream::poll_read_ready, io));
        let taken = state.proto.on_bytes(count);
        state.proto.read(count);
        drop(guard);
        conn.update(stream);
        if let Err(violation) = taken {
            let error = Error::from(violation);
            conn.end(CloseReason::Failed(error.clone()));
            return Poll::Ready(Err(error.into()));
        }
        Poll::Ready(Ok(()))
    }
}
// ANCHOR_END: read

impl RecvStream for SocketsRecvStream {
    fn id(&self) -> u64 {
        self.0.stream.id
    }

    fn stop(&mut self, code: u32) {
        self.0.change(|proto| proto.stop(code));
    }
}

impl Drop for SocketsRecvStream {
    fn drop(&mut self) {
        self.stop(0);
    }
}

// ANCHOR: write
impl AsyncWrite for SocketsSendStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Half { stream, conn } = &self.0;
        let mut guard = stream.lock();
        let state = &mut *guard;
        state.writer = Some(cx.waker().clone());
        if let Err(error) = state.proto.send().check_write() {
            let error = send_error(error, conn.status.error());
            return error.map_or(Poll::Pending, |error| Poll::Ready(Err(error.into())));
        }
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let (windows, used) = (conn.windows(), state.proto.unacknowledged());
        let credit = windows.take(used, buf.len(), &mut state.ticket, cx);
        if credit == 0 {
            return Poll::Pending;
        }
        let io = |socket: &TcpStream| socket.try_write(&buf[..credit]);
        let written = self.0.poll_io(state, cx, TcpStream::poll_write_ready, io);
        let count = if let Poll::Ready(count) = written {
            count
        } else {
            0
        };
        state.proto.wrote(count, count as u32);
        drop(guard);
        windows.give_back((credit - count) as u64);
        written.map(Ok)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Err(error) = self.0.change(Stream::shutdown) else {
            return Poll::Ready(Ok(()));
        };
        self.0.stream.lock().writer = Some(cx.waker().clone());
        let error = send_error(error, self.0.conn.status.error());
        error.map_or(Poll::Pending, |error| Poll::Ready(Err(error.into())))
    }
}
// ANCHOR_END: write

// ANCHOR: stopped
impl SendStream for SocketsSendStream {
    fn id(&self) -> u64 {
        self.0.stream.id
    }

    fn reset(&mut self, code: u32) {
        self.0.change(|proto| proto.reset(code));
    }

    async fn stopped(&mut self) -> Result<Option<u32>> {
        let Half { stream, conn } = &self.0;
        poll_fn(|cx| {
            let mut state = stream.lock();
            state.writer = Some(cx.waker().clone());
            let (send, ended) = (state.proto.send(), conn.status.error());
            Poll::Ready(match send {
                SendHalf::Stopped { code, .. } | SendHalf::ShutThenStopped { code } => {
                    Ok(Some(code))
                }
                SendHalf::Shut { confirmed: true } => Ok(None),
                _ => {
                    let cut = send.check_shutdown().err();
                    match cut.and_then(|cut| send_error(cut, ended.clone())).or(ended) {
                        Some(error) => Err(error),
                        None => return Poll::Pending,
                    }
                }
            })
        })
        .await
    }
}
// ANCHOR_END: stopped

impl Drop for SocketsSendStream {
    fn drop(&mut self) {
        self.reset(0);
    }
}
