use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use parking_lot::MutexGuard;
use pipe_core::backend::proto::{RecvHalf, SendError, SendHalf};
use pipe_core::backend::{first_bytes, joined_stream, recv_error, send_error};
use pipe_core::{Error, RecvStream, Result, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop::poll_proceed;

use crate::conn_core::wake;
use crate::event::Event;
use crate::handle::Handle;
use crate::pipe::Pipe;
use crate::stream_core::StreamCore;

/// The most that one event carries over a shaped link, in bytes.
const MAX_SEGMENT: usize = 16 * 1024;

joined_stream! {
    /// A stream of an in-process connection.
    ///
    /// Reads and writes copy straight between the caller's buffer and one ring of bytes for each
    /// direction; a stream that has carried nothing has none.
    pub struct InprocStream {
        send: InprocSendStream,
        recv: InprocRecvStream,
    }
}

/// The sending direction of an [`InprocStream`].
pub struct InprocSendStream(End);

/// The receiving direction of an [`InprocStream`].
pub struct InprocRecvStream(End);

struct End {
    stream: Arc<StreamCore>,
    handle: Arc<Handle>,
    /// Cost of the operations since the last check of the scheduler's budget.
    spent: usize,
}

/// Cost of operations after which the scheduler's budget is checked again: a check costs a good
/// part of a small operation.
const TURN: usize = 16 * 1024;

/// Cost of an operation besides its bytes.
const OPERATION: usize = 1024;

impl InprocStream {
    pub(crate) fn new(stream: Arc<StreamCore>, handle: Arc<Handle>) -> Self {
        let end = |stream, handle| End {
            stream,
            handle,
            spent: 0,
        };
        Self {
            send: InprocSendStream(end(stream.clone(), handle.clone())),
            recv: InprocRecvStream(end(stream, handle)),
        }
    }
}

impl End {
    /// Lets other tasks have their turn once enough was done.
    #[inline]
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.spent >= TURN {
            ready!(poll_proceed(cx)).made_progress();
            self.spent = 0;
        }
        Poll::Ready(())
    }

    /// Returns the error of everything once this side of the connection has ended.
    fn conn_error(&self) -> Option<Error> {
        self.handle.conn.sides[self.handle.side].status.error()
    }

    /// Returns the error of a write; pending until the connection names its own.
    #[cold]
    fn poll_send_error(
        &self,
        mut pipe: MutexGuard<'_, Pipe>,
        error: SendError,
        cx: &Context<'_>,
    ) -> Poll<io::Error> {
        if let Some(error) = send_error(error, self.conn_error()) {
            return Poll::Ready(error.into());
        }
        keep(&mut pipe.writer, cx);
        Poll::Pending
    }

    fn tell(&self, event: impl FnOnce(Arc<StreamCore>) -> Event) {
        self.handle
            .conn
            .send(self.handle.side, event(self.stream.clone()));
    }
}

impl InprocSendStream {
    /// Writes as much of `total` bytes as there is room for; `first` gives so many of them, in pieces.
    #[inline]
    fn poll_write_with<'a, P: Iterator<Item = &'a [u8]>>(
        &mut self,
        cx: &mut Context<'_>,
        total: usize,
        first: impl FnOnce(usize) -> P,
    ) -> Poll<io::Result<usize>> {
        ready!(self.0.poll_turn(cx));
        let End { stream, handle, .. } = &self.0;
        let (conn, side) = (&*handle.conn, handle.side);
        let mut pipe = stream.pipes[side].lock();
        if let Err(error) = pipe.send.check_write() {
            return self.0.poll_send_error(pipe, error, cx).map(Err);
        }
        let window = conn.stream_windows[side];
        let room = pipe.room(window).min(total);
        if room == 0 {
            if total == 0 {
                return Poll::Ready(Ok(0));
            }
            keep(&mut pipe.writer, cx);
            return Poll::Pending;
        }
        if !conn.wire.is_direct() || conn.conn_windows[side].is_some() {
            let gather = |room| {
                let mut bytes = Vec::with_capacity(room);
                first(room).for_each(|part| bytes.extend_from_slice(part));
                bytes
            };
            let written = ready!(self.poll_write_slowly(cx, pipe, room, gather));
            return Poll::Ready(Ok(written));
        }
        pipe.take_room(room);
        for part in first(room) {
            pipe.arrive(part, window);
        }
        let reader = pipe.reader.take();
        drop(pipe);
        wake(reader);
        self.0.spent += OPERATION + room;
        Poll::Ready(Ok(room))
    }

    /// Returns the same over a link that is shaped, or within a connection window: up to `room`
    /// bytes, which `first` gathers.
    #[cold]
    fn poll_write_slowly(
        &self,
        cx: &mut Context<'_>,
        mut pipe: MutexGuard<'_, Pipe>,
        room: usize,
        first: impl FnOnce(usize) -> Vec<u8>,
    ) -> Poll<usize> {
        let (conn, side) = (&*self.0.handle.conn, self.0.handle.side);
        let direct = conn.wire.is_direct();
        let mut room = if direct { room } else { room.min(MAX_SEGMENT) };
        if let Some(window) = &conn.conn_windows[side] {
            room = window.take(room, &mut pipe.ticket, cx);
        }
        if room == 0 {
            keep(&mut pipe.writer, cx);
            return Poll::Pending;
        }
        pipe.take_room(room);
        let bytes = first(room);
        if direct {
            pipe.arrive(&bytes, conn.stream_windows[side]);
            let reader = pipe.reader.take();
            drop(pipe);
            wake(reader);
        } else {
            drop(pipe);
            self.0
                .tell(|stream| Event::Data(stream, bytes.into_boxed_slice()));
        }
        Poll::Ready(room)
    }
}

impl AsyncWrite for InprocSendStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_with(cx, buf.len(), |room| std::iter::once(&buf[..room]))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let total = bufs.iter().map(|buf| buf.len()).sum();
        self.poll_write_with(cx, total, |room| first_bytes(bufs, room))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Returns at once: written bytes are in flight already.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let End { stream, handle, .. } = &self.0;
        let mut pipe = stream.pipes[handle.side].lock();
        let was_open = pipe.send.shut();
        if let Err(error) = pipe.send.check_shutdown() {
            return self.0.poll_send_error(pipe, error, cx).map(Err);
        }
        drop(pipe);
        if was_open {
            self.0.tell(Event::End);
        }
        handle.conn.release_send(stream, handle.side);
        Poll::Ready(Ok(()))
    }
}

impl SendStream for InprocSendStream {
    fn id(&self) -> u64 {
        self.0.stream.id
    }

    fn reset(&mut self, code: u32) {
        let End { stream, handle, .. } = &self.0;
        let conn = &handle.conn;
        if conn.cut_send(handle.side, stream, |send| send.reset(code)) {
            self.0.tell(|stream| Event::Reset(stream, code));
        }
        conn.release_send(stream, handle.side);
    }

    async fn stopped(&mut self) -> Result<Option<u32>> {
        poll_fn(|cx| {
            let mut pipe = self.0.stream.pipes[self.0.handle.side].lock();
            match pipe.send {
                SendHalf::Stopped { code, .. } | SendHalf::ShutThenStopped { code } => {
                    return Poll::Ready(Ok(Some(code)));
                }
                _ if pipe.is_delivered() => return Poll::Ready(Ok(None)),
                state => {
                    let ended = self.0.conn_error();
                    let cut = state.check_shutdown().err();
                    let cut = cut.and_then(|error| send_error(error, ended.clone()));
                    if let Some(error) = cut.or(ended) {
                        return Poll::Ready(Err(error));
                    }
                }
            }
            keep(&mut pipe.writer, cx);
            Poll::Pending
        })
        .await
    }
}

impl Drop for InprocSendStream {
    fn drop(&mut self) {
        SendStream::reset(self, 0);
    }
}

impl AsyncRead for InprocRecvStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.0.poll_turn(cx));
        let End { stream, handle, .. } = &self.0;
        let (conn, writer) = (&handle.conn, handle.side.other());
        let mut pipe = stream.pipes[writer].lock();
        if let Err(error) = pipe.recv.check_read()
            && let Some(error) = recv_error(error, self.0.conn_error())
        {
            return Poll::Ready(Err(error.into()));
        }
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        if !pipe.has_data() {
            if pipe.recv == RecvHalf::Ended {
                return Poll::Ready(Ok(()));
            }
            keep(&mut pipe.reader, cx);
            return Poll::Pending;
        }
        let count = pipe.read(buf);
        self.return_credit(pipe, conn.stream_windows[writer]);
        self.0.spent += OPERATION + count;
        Poll::Ready(Ok(()))
    }
}

impl InprocRecvStream {
    /// Returns the credit of a read to the writer, and notes the end if that was the last of it.
    fn return_credit(&self, mut pipe: MutexGuard<'_, Pipe>, window: u32) {
        let End { stream, handle, .. } = &self.0;
        let (conn, writer) = (&handle.conn, handle.side.other());
        let over = pipe.is_consumed();
        if conn.wire.is_direct() {
            let read = pipe.all_credit();
            let credit = conn.returned_at_once(writer, &pipe, read);
            conn.credit(writer, pipe, credit);
        } else {
            // With a small connection window, return credit at once: credit held by one stream
            // blocks the others.
            let worth = if conn.conn_windows[writer].is_some() {
                1
            } else {
                window / 4
            };
            if !pipe.has_data()
                && let Some(growth) = &mut pipe.growth
            {
                growth.on_drained();
            }
            let read = pipe.due_credit(worth);
            let credit = conn.returned(writer, &mut pipe, read);
            drop(pipe);
            if read > 0 {
                self.0.tell(|stream| Event::Credit(stream, credit));
            }
        }
        if over {
            conn.release_recv(stream, handle.side);
            conn.mark_over(stream, writer);
        }
    }
}

impl RecvStream for InprocRecvStream {
    fn id(&self) -> u64 {
        self.0.stream.id
    }

    fn stop(&mut self, code: u32) {
        let End { stream, handle, .. } = &self.0;
        let conn = &handle.conn;
        if conn.cut_recv(handle.side, stream, |recv| recv.stop(code)) {
            self.0.tell(|stream| Event::Stop(stream, code));
        }
        conn.release_recv(stream, handle.side);
    }
}

impl Drop for InprocRecvStream {
    fn drop(&mut self) {
        RecvStream::stop(self, 0);
    }
}

/// Keeps the task's waker, unless it is kept already.
#[inline]
fn keep(slot: &mut Option<std::task::Waker>, cx: &Context<'_>) {
    match slot {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *slot = Some(cx.waker().clone()),
    }
}
