use std::mem::replace;
use std::sync::Arc;
use std::task::Waker;

use parking_lot::{Mutex, MutexGuard};
use pipe_core::backend::proto::{SendHalf, Stream, StreamHandle};
use pipe_core::backend::{StreamSlot, WindowTicket};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;

// ANCHOR: stream
/// A stream: its state in the session, its socket, and the tasks that wait for either.
#[derive(Clone)]
pub(crate) struct StreamRef {
    pub(crate) id: u64,
    state: Arc<Mutex<StreamState>>,
}

pub(crate) struct StreamState {
    pub(crate) proto: Stream,
    pub(crate) socket: Socket,
    pub(crate) reader: Option<Waker>,
    pub(crate) writer: Option<Waker>,
    /// The place in the queue for the peer's connection window.
    pub(crate) ticket: WindowTicket,
    /// Held while a stream of this side counts against the peer's limit.
    pub(crate) slot: Option<StreamSlot>,
}

pub(crate) enum Socket {
    /// There is none yet. The dialer has a task that connects it.
    Awaited(Option<AbortHandle>),
    Open(TcpStream),
    Gone,
}

impl StreamHandle for StreamRef {
    fn with<R>(&self, act: impl FnOnce(&mut Stream) -> R) -> R {
        act(&mut self.lock().proto)
    }
}
// ANCHOR_END: stream

impl StreamRef {
    pub(crate) fn new(proto: Stream, slot: Option<StreamSlot>) -> Self {
        let id = proto.id();
        let state = StreamState {
            proto,
            socket: Socket::Awaited(None),
            reader: None,
            writer: None,
            ticket: WindowTicket::default(),
            slot,
        };
        let state = Arc::new(Mutex::new(state));
        Self { id, state }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, StreamState> {
        self.state.lock()
    }

    // ANCHOR: attach
    pub(crate) fn awaits_socket(&self) -> bool {
        matches!(self.lock().socket, Socket::Awaited(_))
    }

    /// Returns whether bytes may still have to come or go.
    pub(crate) fn needs_socket(&self) -> bool {
        self.with(|proto| proto.send() == SendHalf::Ready || proto.recv().takes_bytes())
    }

    /// Gives the stream its socket, and wakes the tasks that wait for it.
    pub(crate) fn attach(&self, socket: TcpStream) {
        let mut state = self.lock();
        if matches!(state.socket, Socket::Awaited(_)) {
            state.socket = Socket::Open(socket);
        }
        let wakers = [state.reader.take(), state.writer.take()];
        drop(state);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    /// Notes the task that connects the socket.
    pub(crate) fn connects(&self, task: AbortHandle) {
        match &mut self.lock().socket {
            Socket::Awaited(connecting) => *connecting = Some(task),
            _ => task.abort(),
        }
    }

    /// Closes the socket of a stream that is over. Nothing is under way on it, so that it may be reset, which leaves no
    /// port behind in TIME_WAIT.
    pub(crate) fn close_socket(&self) {
        if let Socket::Awaited(Some(task)) = replace(&mut self.lock().socket, Socket::Gone) {
            task.abort();
        }
    }
    // ANCHOR_END: attach
}
