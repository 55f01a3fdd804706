//! Synchronisation of the files that `models/` builds with that of loom.

pub(crate) use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

pub(crate) use futures::task::AtomicWaker;
