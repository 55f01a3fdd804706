//! The `crate::sync` of every file here: that of the crates, made of loom's parts.

use std::task::{Context, Waker};

pub(crate) use std::sync::OnceLock;

pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU8, Ordering};

pub(crate) use crate::notify::{Notified, Notify};

/// A mutex of `parking_lot`.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(loom::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
        self.0.lock().expect("a sound lock")
    }
}

/// The place of a task's waker, of `futures`.
pub(crate) struct AtomicWaker(loom::future::AtomicWaker);

impl AtomicWaker {
    pub(crate) fn new() -> Self {
        Self(loom::future::AtomicWaker::new())
    }

    pub(crate) fn register(&self, waker: &Waker) {
        self.0.register_by_ref(waker);
    }

    pub(crate) fn wake(&self) {
        self.0.wake();
    }
}

/// Wakes the task; loom's threads take their turns anyway.
pub(crate) fn wake_after_others(cx: &Context<'_>) {
    cx.waker().wake_by_ref();
}
