use std::fmt;
use std::sync::Arc;
use std::task::Waker;

use parking_lot::{Mutex, MutexGuard};
use pipe_proto::{SendHalf, Stream, StreamHandle};

use super::Binding;
use crate::backend::{StreamSlot, WindowTicket};

/// Refers to a stream of a [`ConnCore`](super::ConnCore): its state in the session, its carrier, and the tasks that wait
/// for either.
pub struct StreamCore<B: Binding>(Arc<Inner<B>>);

struct Inner<B: Binding> {
    id: u64,
    state: Mutex<StreamState<B>>,
}

pub(super) struct StreamState<B: Binding> {
    pub(super) proto: Stream,
    pub(super) io: Option<B::Io>,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
    /// The place in the queue for the peer's connection window.
    pub(super) ticket: WindowTicket,
    /// Held while a stream of this side counts against the peer's limit.
    pub(super) slot: Option<StreamSlot>,
}

impl<B: Binding> StreamCore<B> {
    pub(super) fn new(proto: Stream, io: B::Io, slot: Option<StreamSlot>) -> Self {
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

    pub(super) fn lock(&self) -> MutexGuard<'_, StreamState<B>> {
        self.0.state.lock()
    }

    /// Gives access to the carrier. `None` once the stream is over.
    pub fn with_io<R>(&self, act: impl FnOnce(&mut B::Io) -> R) -> Option<R> {
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

impl<B: Binding> Clone for StreamCore<B> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<B: Binding> fmt::Debug for StreamCore<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("StreamCore");
        shown.field("id", &self.id()).finish_non_exhaustive()
    }
}

impl<B: Binding> StreamHandle for StreamCore<B> {
    fn with<R>(&self, act: impl FnOnce(&mut Stream) -> R) -> R {
        act(&mut self.lock().proto)
    }
}
