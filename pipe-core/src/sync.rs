//! Synchronisation of the files that `models/` builds with that of loom.

pub(crate) use std::sync::OnceLock;

pub(crate) use parking_lot::Mutex;
pub(crate) use tokio::sync::Notify;
