use std::fmt;
use std::sync::Arc;
use std::task::Waker;

use parking_lot::{Mutex, MutexGuard};
use pipe_proto::{SendHalf, Stream, StreamHandle};

use super::stream_io::StreamIo;
use crate::backend::{StreamSlot, WindowTicket};

/// Refers to a stream of a [`ConnCore`](super::ConnCore): its state in the session, its carrier, and the tasks that wait
/// for either.
pub struct StreamCore<I: StreamIo>(Arc<Inner<I>>);

struct Inner<I: StreamIo> {
    id: u64,
    state: Mutex<StreamState<I>>,
}

pub(super) struct StreamState<I: StreamIo> {
    pub(super) proto: Stream,
    pub(super) io: Option<I>,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
    /// The place in the queue for the peer's connection window.
    pub(super) ticket: WindowTicket,
    /// Held while a stream of this side counts against the peer's limit.
    pub(super) slot: Option<StreamSlot>,
}

impl<I: StreamIo> StreamCore<I> {
    pub(super) fn new(proto: Stream, io: I, slot: Option<StreamSlot>) -> Self {
        let id = proto.id();
        let state = Mutex::new(StreamState {
            proto,
            io: Some(io),
            reader: None,
            writer: None,
            ticket: WindowTicket::default(),
            slot,
        });
        Self(Arc::new(Inner { id, state }))
    }

    /// Returns the number of the stream.
    pub fn id(&self) -> u64 {
        self.0.id
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, StreamState<I>> {
        self.0.state.lock()
    }

    /// Gives access to the carrier. `None` once the stream is over.
    pub fn with_io<R>(&self, act: impl FnOnce(&mut I) -> R) -> Option<R> {
        self.lock().io.as_mut().map(act)
    }

    /// Returns whether bytes may still have to come or go.
    pub(super) fn needs_io(&self) -> bool {
        self.with(|proto| proto.send() == SendHalf::Ready || proto.recv().takes_bytes())
    }

    /// Wakes the tasks that wait for the stream.
    pub fn wake(&self) {
        self.wake_some(true, true);
    }

    pub(super) fn wake_some(&self, reader: bool, writer: bool) {
        let mut state = self.lock();
        let reader = state.reader.take_if(|_| reader);
        let writer = state.writer.take_if(|_| writer);
        drop(state);
        reader.into_iter().chain(writer).for_each(Waker::wake);
    }

    /// Drops the carrier of a stream that is over.
    pub(super) fn close_io(&self) {
        let io = self.lock().io.take();
        drop(io);
    }
}

impl<I: StreamIo> Clone for StreamCore<I> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<I: StreamIo> fmt::Debug for StreamCore<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("StreamCore");
        shown.field("id", &self.id()).finish_non_exhaustive()
    }
}

impl<I: StreamIo> StreamHandle for StreamCore<I> {
    fn with<R>(&self, act: impl FnOnce(&mut Stream) -> R) -> R {
        act(&mut self.lock().proto)
    }
}
