//! Synchronisation of the files that `models/` builds with that of loom.

pub(crate) use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use std::future::Future;
use std::pin::pin;
use std::task::Context;

pub(crate) use futures::task::AtomicWaker;
use tokio::task::yield_now;

/// Wakes the task when the runtime has run the others and has looked for events of sockets. A task that wakes
/// itself is in the runtime's queue all the time, and tokio looks for events only when that is empty or after 61
/// polls: a busy connection would hold up a quiet one for as long as those take.
pub(crate) fn wake_after_others(cx: &mut Context<'_>) {
    let mut yielded = pin!(yield_now());
    let _ = yielded.as_mut().poll(cx);
}
