use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Waker;

use futures::task::AtomicWaker;
use parking_lot::{Mutex, MutexGuard};
use pipe_core::Error;
use tokio::sync::Notify;

use super::core::{Core, Turn};
use super::unread::Unread;
use crate::engine::task::Parts;

/// What the handles of a connection and its loop share.
pub(super) struct Shared {
    core: Mutex<Core>,
    /// The loop, and whether there is something for it to do.
    waker: AtomicWaker,
    woken: AtomicBool,
    /// The task that the loop runs in.
    parts: Arc<Parts>,
    /// Number of packets of the peer.
    heard: AtomicU64,
    unread: Unread,
    acknowledged: Notify,
    broken: Notify,
    ended: Notify,
}

impl Shared {
    pub(super) fn new(core: Core, parts: Arc<Parts>, unread_limit: usize) -> Arc<Self> {
        Arc::new(Self {
            core: Mutex::new(core),
            waker: AtomicWaker::new(),
            woken: AtomicBool::new(true),
            parts,
            heard: AtomicU64::new(0),
            unread: Unread::new(unread_limit),
            acknowledged: Notify::new(),
            broken: Notify::new(),
            ended: Notify::new(),
        })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock()
    }

    pub(super) fn parts(&self) -> &Arc<Parts> {
        &self.parts
    }

    /// Makes the loop turn.
    pub(super) fn wake(&self) {
        if !self.woken.swap(true, Ordering::AcqRel) {
            self.waker.wake();
        }
    }

    /// Sets what [`wake`](Self::wake) wakes.
    pub(super) fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    /// Returns whether the loop was woken since the last call.
    pub(super) fn take_woken(&self) -> bool {
        self.woken.swap(false, Ordering::AcqRel)
    }

    pub(super) fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    pub(super) fn unread(&self) -> &Unread {
        &self.unread
    }

    /// Counts messages that were read.
    pub(super) fn note_read(&self, cost: usize) {
        if cost > 0 && self.unread.remove(cost) {
            self.wake();
        }
    }

    /// Returns a future of the next acknowledgement, from the time of this call on.
    pub(super) fn acknowledged(&self) -> tokio::sync::futures::Notified<'_> {
        self.acknowledged.notified()
    }

    /// Passes on what a turn has found.
    pub(super) fn note_turn(&self, turn: &Turn) {
        if turn.heard > 0 {
            self.heard.fetch_add(turn.heard, Ordering::Relaxed);
        }
        if turn.is_broken {
            self.broken.notify_waiters();
        }
        if turn.is_acknowledged {
            self.acknowledged.notify_waiters();
        }
    }

    /// Waits until the connection is broken, and gives the reason.
    pub(super) async fn broken(&self) -> Error {
        loop {
            let broken = self.broken.notified();
            if let Some(error) = self.lock().broken() {
                return error;
            }
            broken.await;
        }
    }

    pub(super) fn note_ended(&self) {
        self.ended.notify_waiters();
    }

    /// Waits until the loop has ended.
    pub(super) async fn ended(&self) {
        loop {
            let ended = self.ended.notified();
            if self.lock().is_over() {
                return;
            }
            ended.await;
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("heard", &self.heard)
            .field("unread", &self.unread)
            .finish_non_exhaustive()
    }
}
