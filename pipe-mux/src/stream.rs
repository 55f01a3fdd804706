use std::future::poll_fn;
use std::io::IoSlice;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use pipe_core::Result;
use pipe_core::backend::{Half, SessionConn, SessionIo, session_stream};
use tokio::io::ReadBuf;

use crate::conn_inner::ConnInner;
use crate::stream_inner::{StreamState, wake};
use crate::yamux::Received;

session_stream! {
    /// A stream of a [`MuxConn`](crate::MuxConn).
    pub struct MuxStream of ConnInner {
        send: MuxSendStream,
        recv: MuxRecvStream,
    }
}

/// Does something that sends, after the streams before this one were shown to the peer.
fn poll_send<R>(
    half: &Half<ConnInner>,
    cx: &mut Context<'_>,
    act: impl FnOnce(&mut StreamState, &mut Context<'_>) -> Poll<R>,
) -> Poll<R> {
    let mut state = half.stream.lock();
    if !state.is_hidden() {
        return act(&mut state, cx);
    }
    drop(state);
    let inner = half.conn();
    let mut conn = inner.state.lock();
    let before = half.stream.id - 1;
    conn.extra.show(Some(before), &inner.limits, &inner.output);
    let mut state = half.stream.lock();
    let done = act(&mut state, cx);
    if !state.is_hidden() {
        drop(state);
        conn.extra.on_shown(&half.stream);
    }
    done
}

/// Reads by `take`, which returns how many bytes it took. Ready with 0 at the end.
#[inline]
fn poll_take(
    half: &Half<ConnInner>,
    cx: &mut Context<'_>,
    take: impl FnOnce(&mut Received) -> usize,
) -> Poll<Result<usize>> {
    let conn = half.conn();
    let mut state = half.stream.lock();
    let read = state.poll_read(cx, take, || conn.status.error());
    let Poll::Ready(read) = read else {
        let is_hidden = state.is_hidden();
        drop(state);
        if is_hidden {
            // Its answer is waited for.
            conn.show(&half.stream);
        }
        return Poll::Pending;
    };
    let due = state.due_window(&conn.limits);
    let needs_session = state.proto.needs_session();
    drop(state);
    let count = read?;
    // Before the peer is allowed to send more.
    conn.unread.subtract(count);
    if let Some(due) = due {
        conn.return_window(&half.stream, due);
    }
    if needs_session {
        conn.update(&half.stream);
    }
    Poll::Ready(Ok(count))
}

impl SessionIo for ConnInner {
    fn poll_write(
        half: &Half<Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let conn = half.conn();
        poll_send(half, cx, |state, cx| {
            let windows = conn.peer_windows();
            let (limits, output) = (&conn.limits, &conn.output);
            state.poll_write(cx, bufs, windows, limits, output, || conn.status.error())
        })
    }

    fn poll_read(
        half: &Half<Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        let take =
            |received: &mut Received| received.read(buf.remaining(), |piece| buf.put_slice(piece));
        poll_take(half, cx, take).map_ok(|_| ())
    }

    fn poll_read_chunk(
        half: &Half<Self>,
        cx: &mut Context<'_>,
        max: usize,
    ) -> Poll<Result<Option<Bytes>>> {
        let mut chunk = None;
        let take = |received: &mut Received| {
            chunk = received.take_chunk(max);
            chunk.as_ref().map_or(0, Bytes::len)
        };
        ready!(poll_take(half, cx, take))?;
        Poll::Ready(Ok(chunk))
    }

    async fn stopped(half: &Half<Self>) -> Result<Option<u32>> {
        let conn = half.conn();
        poll_fn(|cx| {
            let mut state = half.stream.lock();
            let stopped = state.poll_stopped(cx, || conn.status.error());
            let is_hidden = state.is_hidden();
            drop(state);
            if stopped.is_pending() && is_hidden {
                // Its answer is waited for.
                conn.show(&half.stream);
            }
            stopped
        })
        .await
    }

    fn reset(half: &Half<Self>, code: u32) {
        let mut state = half.stream.lock();
        if !state.proto.is_plain() {
            drop(state);
            half.conn().change(&half.stream, |proto| proto.reset(code));
            return;
        }
        // A reset of yamux ends both directions.
        state.proto.reset_both(code);
        let [reader, _] = state.take_wakers(true, false);
        drop(state);
        half.conn().update(&half.stream);
        wake(reader);
    }
}
