//! What follows from the events of a session.

use parking_lot::MutexGuard;
use pipe_proto::{Event, Stream, StreamHandle};

use super::conn_core::{Binding, ConnCore, State, now};
use super::stream_core::StreamCore;
use crate::CloseReason;
use crate::backend::{PeerWindows, PingWaiter, lost, random_ping};

impl<B: Binding> ConnCore<B> {
    /// Changes a stream for the application, and does what follows. Returns the result of the change.
    pub(super) fn change<R>(
        &self,
        stream: &StreamCore<B::Io>,
        act: impl FnOnce(&mut Stream) -> R,
    ) -> R {
        let (done, needs_session) = stream.with(|proto| (act(proto), proto.needs_session()));
        if needs_session {
            let mut state = self.lock();
            state.session.update(stream);
            self.settle(state);
        }
        done
    }

    /// Acts on the events of the session, once it is unlocked.
    pub(super) fn settle(&self, mut state: MutexGuard<'_, State<B>>) {
        let mut events = Vec::new();
        while let Some(event) = state.session.poll_event() {
            if let Event::Closed { code, reason, .. } = &event {
                // Before the lock is free, so that the end shows with its reason.
                self.status.end(CloseReason::remote(*code, reason));
            }
            events.push(event);
        }
        if state.session.has_frames() {
            self.work.notify_one();
        }
        drop(state);
        events.into_iter().for_each(|event| self.on_event(event));
    }

    fn on_event(&self, event: Event<StreamCore<B::Io>, PingWaiter>) {
        match event {
            Event::Hello(hello) => {
                self.slots.shrink(hello.max_streams);
                let windows = PeerWindows::new(hello.stream_window, hello.connection_window);
                // The session refuses a second hello.
                let _ = self.windows.set(windows);
            }
            Event::Wake {
                stream,
                reader,
                writer,
            } => {
                if stream.with(|proto| proto.is_retired()) {
                    stream.close_io();
                }
                stream.wake_some(reader, writer);
            }
            Event::Room(bytes) => self.windows().give_back(bytes),
            Event::SlotFreed(stream) => {
                let slot = stream.lock().slot.take();
                drop(slot);
            }
            Event::Retired(stream) => stream.close_io(),
            Event::Idle => self.idle.notify_waiters(),
            Event::Pong { waiter, round_trip } => waiter.answer(round_trip),
            Event::KeepAlive => self.keep_alive(),
            Event::Disconnected => drop(self.status.set_connected(false)),
            Event::Reconnected => drop(self.status.set_connected(true)),
            Event::Failed => self.end(CloseReason::Failed(lost(&self.config))),
            Event::Draining => self.slots.close(),
            Event::Closed { .. } => self.on_end(),
            // The rest is about wires of messages, or ends with a drop.
            _ => {}
        }
    }

    fn keep_alive(&self) {
        // A stream that was woken for room may have lost interest.
        self.windows().nudge();
        let Ok(bytes) = random_ping() else {
            return tracing::debug!("the system gives no random bytes for a ping");
        };
        let mut state = self.lock();
        state.session.keep_alive(bytes, now());
        self.settle(state);
    }
}
