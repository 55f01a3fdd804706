use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pipe_core::{Config, Result};

use crate::error::protocol;

/// Counts the bytes of all streams of a connection that have come and were not read.
///
/// The limit is twice the connection window: a sender does not count a stream any more once it has reset it,
/// and bytes of others may arrive before the reset does, as channels have no common order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unread(Option<Arc<Count>>);

#[derive(Debug)]
struct Count {
    bytes: AtomicU64,
    limit: u64,
    /// By how many bytes windows have grown.
    growth: AtomicU64,
}

impl Unread {
    /// Counts for a connection of this configuration, unless its streams can use all their windows at once.
    pub(crate) fn new(config: &Config) -> Self {
        if config.connection_window_is_ample() {
            return Self::default();
        }
        Self(Some(Arc::new(Count {
            bytes: AtomicU64::new(0),
            limit: config.connection_window.saturating_mul(2),
            growth: AtomicU64::new(0),
        })))
    }

    /// Counts bytes that have come. Fails if they are more than was granted.
    pub(super) fn add(&self, bytes: usize) -> Result<()> {
        let Some(count) = &self.0 else { return Ok(()) };
        let unread = count.bytes.fetch_add(bytes as u64, Ordering::Relaxed) + bytes as u64;
        let growth = count.growth.load(Ordering::Relaxed);
        if unread > count.limit.saturating_add(growth) {
            return Err(flow_control(format_args!(
                "{unread} unread bytes of all streams, where {} are granted",
                (count.limit / 2).saturating_add(growth)
            )));
        }
        Ok(())
    }

    /// Allows what windows have grown by, in bytes.
    pub(crate) fn set_growth(&self, bytes: u64) {
        if let Some(count) = &self.0 {
            count.growth.store(bytes, Ordering::Relaxed);
        }
    }

    /// Takes bytes that were read, or will not be, out of the count.
    pub(super) fn remove(&self, bytes: usize) {
        if let Some(count) = &self.0 {
            count.bytes.fetch_sub(bytes as u64, Ordering::Relaxed);
        }
    }
}

/// Returns the error of a peer that has sent more than it was granted.
pub(super) fn flow_control(what: impl Display) -> pipe_core::Error {
    protocol(format_args!("flow control: {what}"))
}
