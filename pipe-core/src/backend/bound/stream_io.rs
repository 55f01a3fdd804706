use std::fmt;
use std::io::{self, IoSlice};
use std::ops::{Deref, DerefMut};
use std::task::{Context, Poll};

use pipe_proto::{SendHalf, Stream};
use tokio::io::ReadBuf;

use crate::backend::{StreamBase, StreamInner, StreamRef, StreamSlot, StreamState};

/// The carrier of one stream: how its bytes come and go.
pub trait StreamIo: Send + 'static {
    /// Reads at least one byte. Pending as long as there is none; the task is woken by the carrier then, or by
    /// [`StreamInner::wake`].
    ///
    /// # Errors
    ///
    /// The carrier is lost: see [`ConnCore::on_lost`](super::ConnCore::on_lost), which is called then.
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>)
    -> Poll<io::Result<usize>>;

    /// Writes at least one byte; see [`poll_read`](Self::poll_read).
    ///
    /// # Errors
    ///
    /// As in [`poll_read`](Self::poll_read).
    fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>>;

    /// Writes at least one byte of the buffers, in their order. The default writes of the first one that has any.
    ///
    /// # Errors
    ///
    /// As in [`poll_read`](Self::poll_read).
    fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let first = bufs.iter().find(|buf| !buf.is_empty());
        self.poll_write(cx, first.map_or(&[], |buf| buf))
    }
}

/// Refers to a stream of a [`ConnCore`](super::ConnCore).
pub type StreamCore<I> = StreamRef<IoState<I>>;

/// A stream of a [`ConnCore`](super::ConnCore): its state in the session, and its carrier.
pub struct IoState<I: StreamIo> {
    base: StreamBase,
    pub(super) io: Option<I>,
}

impl<I: StreamIo> IoState<I> {
    pub(super) fn new(proto: Stream, io: I, slot: Option<StreamSlot>) -> Self {
        Self {
            base: StreamBase::new(proto, slot),
            io: Some(io),
        }
    }
}

impl<I: StreamIo> StreamInner<IoState<I>> {
    /// Gives access to the carrier. `None` once the stream is over.
    pub fn with_io<R>(&self, act: impl FnOnce(&mut I) -> R) -> Option<R> {
        self.lock().io.as_mut().map(act)
    }

    /// Returns whether bytes may still have to come or go.
    pub(super) fn needs_io(&self) -> bool {
        let state = self.lock();
        state.proto.send() == SendHalf::Ready || state.proto.recv().takes_bytes()
    }
}

impl<I: StreamIo> StreamState for IoState<I> {
    type Unlocked = ();
}

impl<I: StreamIo> Deref for IoState<I> {
    type Target = StreamBase;

    fn deref(&self) -> &StreamBase {
        &self.base
    }
}

impl<I: StreamIo> DerefMut for IoState<I> {
    fn deref_mut(&mut self) -> &mut StreamBase {
        &mut self.base
    }
}

impl<I: StreamIo> fmt::Debug for IoState<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("IoState");
        shown.field("base", &self.base).finish_non_exhaustive()
    }
}
