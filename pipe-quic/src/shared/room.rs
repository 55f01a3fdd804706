//! The connection window, where one side counts it.

use std::task::Context;

use super::state::Shared;
use crate::stream_core::StreamCore;

impl Shared {
    /// Notes that the peer has read of a stream.
    pub(crate) fn credit(&self, id: u64, bytes: u32) {
        let mut inner = self.inner.lock();
        let Some(core) = inner.table.get(id) else {
            return;
        };
        let mut room = core.room.lock();
        let freed = if bytes == u32::MAX {
            room.free()
        } else {
            room.credit(bytes)
        };
        drop(room);
        let settled = self.settle(&mut inner, id, |_| {});
        drop(inner);
        self.let_go(settled);
        self.give(freed);
    }

    /// Reserves credit at the peer for up to `want` bytes of a stream.
    pub(crate) fn take_room(&self, core: &StreamCore, want: usize, cx: &Context<'_>) -> usize {
        let Some(window) = &self.peer_window else {
            return want;
        };
        let mut room = core.room.lock();
        if room.free {
            return want;
        }
        window.take(want, &mut room.ticket, cx)
    }

    /// Notes how many of the bytes that there was room for were written.
    pub(crate) fn used_room(&self, core: &StreamCore, taken: usize, written: usize) {
        if let Some(window) = &self.peer_window {
            let mut room = core.room.lock();
            if room.free {
                return;
            }
            room.used += written as u32;
            drop(room);
            window.give((taken - written) as u64);
        }
    }

    /// Releases the credit of a stream whose written bytes will not be read.
    pub(crate) fn free_room(&self, core: &StreamCore) {
        if self.peer_window.is_some() {
            let unread = core.room.lock().free();
            self.give(unread);
        }
    }

    /// Returns whether the peer still has to return credit for a stream.
    pub(super) fn awaits_credit(&self, core: &StreamCore) -> bool {
        self.peer_window.is_some() && {
            let room = core.room.lock();
            room.used > 0 && !room.free
        }
    }

    fn give(&self, bytes: u32) {
        if let Some(window) = &self.peer_window {
            window.give(bytes.into());
        }
    }

    /// Lets a stream that waits for room look again, if there is some.
    pub(crate) fn nudge_writers(&self) {
        if let Some(window) = &self.peer_window {
            window.nudge();
        }
    }

    /// Returns credit to the peer for so many bytes read of its direction of a stream.
    pub(crate) fn has_read(&self, core: &StreamCore, bytes: usize) {
        if self.tight && bytes > 0 {
            let mut inner = self.inner.lock();
            inner.output.credit(core.id, bytes as u32);
            self.send(inner);
        }
    }
}
