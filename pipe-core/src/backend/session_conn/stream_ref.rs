use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::{Mutex, MutexGuard};
use pipe_proto::{SendHalf, Stream, StreamHandle};

use crate::backend::{StreamSlot, WindowTicket, recv_error, send_error};
use crate::{Error, Result};

/// The state of a stream behind its lock: a [`StreamBase`], and the carrier of its bytes.
pub trait StreamState: DerefMut<Target = StreamBase> + Send + 'static {
    /// What it keeps of a stream without a lock.
    type Unlocked: Send + Sync + 'static;

    /// Adapts the carrier to a change of the session's state of the stream.
    fn on_change(&mut self) {}

    /// Returns whether [`update`](super::SessionConn::update) has to look at the stream after a change.
    fn needs_update(&self) -> bool {
        self.proto.needs_session()
    }
}

/// The state of a stream that does not depend on the carrier of its bytes.
#[derive(Debug)]
pub struct StreamBase {
    /// The state in the session.
    pub proto: Stream,
    /// The place in the queue for the peer's connection window.
    pub ticket: WindowTicket,
    /// The task that waits for bytes.
    pub reader: Option<Waker>,
    /// The task that waits for room, or for the end of the direction.
    pub writer: Option<Waker>,
    /// Held while a stream that this side opened counts against the peer's limit.
    pub slot: Option<StreamSlot>,
}

/// Refers to a stream of a connection.
pub struct StreamRef<T: StreamState>(Arc<StreamInner<T>>);

/// A stream: one lock for everything that its halves and the connection share.
pub struct StreamInner<T: StreamState> {
    /// The number of the stream.
    pub id: u64,
    /// What needs no lock.
    pub unlocked: T::Unlocked,
    state: Mutex<T>,
}

impl StreamBase {
    /// Creates the state of a stream. One that this side opens has a slot.
    pub fn new(proto: Stream, slot: Option<StreamSlot>) -> Self {
        Self {
            proto,
            ticket: WindowTicket::default(),
            reader: None,
            writer: None,
            slot,
        }
    }

    /// Keeps the task that reads. Pending.
    pub fn pend_read<R>(&mut self, cx: &Context<'_>) -> Poll<R> {
        keep(&mut self.reader, cx);
        Poll::Pending
    }

    /// Keeps the task that writes. Pending.
    pub fn pend_write<R>(&mut self, cx: &Context<'_>) -> Poll<R> {
        keep(&mut self.writer, cx);
        Poll::Pending
    }

    /// Takes out the tasks that wait.
    pub fn take_wakers(&mut self, reader: bool, writer: bool) -> [Option<Waker>; 2] {
        [
            self.reader.take_if(|_| reader),
            self.writer.take_if(|_| writer),
        ]
    }

    /// Checks that bytes may be read. `conn` gives the error of the connection. Pending if the connection is about to
    /// name its error, and wakes the task then.
    ///
    /// # Errors
    ///
    /// That of a direction that was cut.
    #[inline]
    pub fn poll_readable(
        &mut self,
        cx: &Context<'_>,
        conn: impl FnOnce() -> Option<Error>,
    ) -> Poll<Result<()>> {
        match self.proto.recv().check_read() {
            Ok(()) => Poll::Ready(Ok(())),
            Err(error) => match recv_error(error, conn()) {
                Some(error) => Poll::Ready(Err(error)),
                None => self.pend_read(cx),
            },
        }
    }

    /// Checks that bytes may be written; see [`poll_readable`](Self::poll_readable).
    ///
    /// # Errors
    ///
    /// That of a direction that has ended.
    #[inline]
    pub fn poll_writable(
        &mut self,
        cx: &Context<'_>,
        conn: impl FnOnce() -> Option<Error>,
    ) -> Poll<Result<()>> {
        match self.proto.send().check_write() {
            Ok(()) => Poll::Ready(Ok(())),
            Err(error) => match send_error(error, conn()) {
                Some(error) => Poll::Ready(Err(error)),
                None => self.pend_write(cx),
            },
        }
    }

    /// Waits until the sending direction is of no more use; see [`stopped`](crate::SendStream::stopped).
    ///
    /// # Errors
    ///
    /// Those of [`stopped`](crate::SendStream::stopped).
    pub fn poll_stopped(
        &mut self,
        cx: &Context<'_>,
        conn: impl FnOnce() -> Option<Error>,
    ) -> Poll<Result<Option<u32>>> {
        match self.proto.send() {
            SendHalf::Stopped { code, .. } | SendHalf::ShutThenStopped { code } => {
                return Poll::Ready(Ok(Some(code)));
            }
            SendHalf::Shut { confirmed: true } => return Poll::Ready(Ok(None)),
            send => {
                let ended = conn();
                let cut = send.check_shutdown().err();
                let cut = cut.and_then(|error| send_error(error, ended.clone()));
                if let Some(error) = cut.or(ended) {
                    return Poll::Ready(Err(error));
                }
            }
        }
        self.pend_write(cx)
    }
}

fn keep(place: &mut Option<Waker>, cx: &Context<'_>) {
    match place {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *place = Some(cx.waker().clone()),
    }
}

impl<T: StreamState> StreamRef<T> {
    /// Creates a stream.
    pub fn new(state: T, unlocked: T::Unlocked) -> Self {
        Self(Arc::new(StreamInner {
            id: state.proto.id(),
            unlocked,
            state: Mutex::new(state),
        }))
    }

    /// Returns whether both refer to the same stream.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl<T: StreamState> StreamInner<T> {
    /// Locks the stream. The lock of the session comes before it.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.state.lock()
    }

    /// Wakes the tasks that wait for the stream.
    pub fn wake(&self) {
        let wakers = self.lock().take_wakers(true, true);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}

impl<T: StreamState> Clone for StreamRef<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: StreamState> Deref for StreamRef<T> {
    type Target = StreamInner<T>;

    fn deref(&self) -> &StreamInner<T> {
        &self.0
    }
}

impl<T: StreamState> StreamHandle for StreamRef<T> {
    fn with<R>(&self, act: impl FnOnce(&mut Stream) -> R) -> R {
        let mut state = self.lock();
        let done = act(&mut state.proto);
        state.on_change();
        done
    }
}

impl<T: StreamState> fmt::Debug for StreamRef<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl<T: StreamState> fmt::Debug for StreamInner<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Stream");
        shown.field("id", &self.id).finish_non_exhaustive()
    }
}
