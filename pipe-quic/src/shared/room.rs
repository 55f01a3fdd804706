//! The connection window, where one side counts it.

use std::task::Context;

use pipe_core::wire::Message;

use super::Shared;
use crate::stream_core::StreamCore;

impl Shared {
    /// The peer has read of a stream.
    pub(crate) fn credit(&self, id: u64, bytes: u32) {
        let mut inner = self.inner.lock();
        let Some(core) = inner.streams.get(&id).cloned() else {
            return;
        };
        let mut state = core.state.lock();
        let freed = if bytes == u32::MAX {
            state.free()
        } else {
            state.credit(bytes)
        };
        drop(state);
        self.settle(&mut inner, &core);
        drop(inner);
        self.give(freed);
    }

    /// Takes room for up to `want` bytes of a stream at the peer.
    pub(crate) fn take_room(&self, core: &StreamCore, want: usize, cx: &Context<'_>) -> usize {
        match self.peer_window.get() {
            Some(Some(window)) if !core.state.lock().free => window.take(want, cx),
            _ => want,
        }
    }

    /// Notes how many of the bytes that there was room for were written.
    pub(crate) fn used_room(&self, core: &StreamCore, room: usize, written: usize) {
        if let Some(Some(window)) = self.peer_window.get() {
            let mut state = core.state.lock();
            if state.free {
                return;
            }
            state.used += written as u32;
            drop(state);
            window.give((room - written) as u32);
        }
    }

    /// What was written to a stream will not be read.
    pub(crate) fn free_room(&self, core: &StreamCore) {
        if let Some(Some(_)) = self.peer_window.get() {
            let unread = core.state.lock().free();
            self.give(unread);
        }
    }

    pub(super) fn give(&self, bytes: u32) {
        if let Some(Some(window)) = self.peer_window.get() {
            window.give(bytes);
        }
    }

    /// Tells the peer that so much of its direction of a stream was read.
    pub(crate) fn has_read(&self, core: &StreamCore, bytes: usize) {
        if self.tight && bytes > 0 {
            let message = Message::Credit {
                stream: core.id,
                bytes: bytes as u32,
            };
            let mut inner = self.inner.lock();
            inner.say(&message);
            self.send(inner);
        }
    }
}
