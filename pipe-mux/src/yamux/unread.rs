use std::sync::atomic::{AtomicU64, Ordering};

use pipe_core::Result;

use super::frame::broken;

/// The unread bytes of all streams of a connection, counted only where they are limited.
pub(crate) struct Unread {
    bytes: AtomicU64,
    limit: Option<u64>,
    /// By how many bytes windows have grown.
    growth: AtomicU64,
}

impl Unread {
    /// Starts a count that may reach this limit.
    pub(crate) fn new(limit: Option<u64>) -> Self {
        Self {
            bytes: AtomicU64::new(0),
            limit,
            growth: AtomicU64::new(0),
        }
    }

    /// Counts bytes of a stream that are about to come. Fails if they are more than was granted.
    pub(crate) fn add(&self, bytes: u32) -> Result<()> {
        let Some(limit) = self.limit else {
            return Ok(());
        };
        let unread = self.bytes.fetch_add(u64::from(bytes), Ordering::Relaxed) + u64::from(bytes);
        let limit = limit.saturating_add(self.growth.load(Ordering::Relaxed));
        if unread > limit {
            return Err(broken(&format!(
                "flow control: {unread} unread bytes of all streams, where {limit} are granted"
            )));
        }
        Ok(())
    }

    /// Allows what windows have grown by, in bytes.
    pub(crate) fn set_growth(&self, bytes: u64) {
        self.growth.store(bytes, Ordering::Relaxed);
    }

    /// Takes bytes that were read, or will not be, out of the count.
    pub(crate) fn subtract(&self, bytes: usize) {
        if self.limit.is_some() && bytes > 0 {
            self.bytes.fetch_sub(bytes as u64, Ordering::Relaxed);
        }
    }
}
