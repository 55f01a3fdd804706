use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::Args;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::file_error::FileError;
use crate::rate::parse_bytes;

/// Maximum number of files hashed at once, regardless of the options.
const MAX_HASHING: usize = 2;

/// What may be received.
#[derive(Args, Clone, Debug)]
pub(crate) struct LimitArgs {
    /// How many bytes to receive at most, of all transfers together, as in 500M or 20G
    #[arg(long, value_name = "BYTES", default_value = "100G", value_parser = parse_bytes)]
    max_size: u64,
    /// How many files and folders to receive at most, of all transfers together
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    max_files: u64,
}

/// The remaining limits of a receiver. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    shared: Arc<Shared>,
    hashing: Arc<Semaphore>,
}

#[derive(Debug)]
struct Shared {
    max_size: u64,
    max_files: u64,
    bytes: AtomicU64,
    files: AtomicU64,
}

impl Limits {
    pub(super) fn new(args: &LimitArgs) -> Self {
        Self {
            shared: Arc::new(Shared {
                max_size: args.max_size,
                max_files: args.max_files,
                bytes: AtomicU64::new(0),
                files: AtomicU64::new(0),
            }),
            hashing: Arc::new(Semaphore::new(MAX_HASHING)),
        }
    }

    /// Returns whether so much more would fit. Nothing is taken.
    pub(super) fn fits(&self, files: u64, bytes: u64) -> Result<(), FileError> {
        let Shared {
            max_size,
            max_files,
            ..
        } = *self.shared;
        let fits = |taken: &AtomicU64, more: u64, max: u64| {
            let sum = taken.load(Ordering::Relaxed).checked_add(more);
            sum.is_some_and(|sum| sum <= max)
        };
        if !fits(&self.shared.bytes, bytes, max_size) {
            return Err(too_much(format!(
                "more than {max_size} bytes are not received (`pipe receive --max-size`)"
            )));
        }
        if !fits(&self.shared.files, files, max_files) {
            return Err(too_much(format!(
                "more than {max_files} files are not received (`pipe receive --max-files`)"
            )));
        }
        Ok(())
    }

    /// Takes so much of it.
    pub(super) fn take(&self, files: u64, bytes: u64) -> Result<(), FileError> {
        self.fits(files, bytes)?;
        self.shared.files.fetch_add(files, Ordering::Relaxed);
        self.shared.bytes.fetch_add(bytes, Ordering::Relaxed);
        // Others may have taken it in between.
        self.fits(0, 0)
    }

    /// Waits for a turn to hash.
    pub(super) async fn hashing(&self) -> Result<OwnedSemaphorePermit, FileError> {
        let turn = self.hashing.clone().acquire_owned().await;
        turn.map_err(|error| FileError::new(error.to_string()))
    }
}

fn too_much(why: String) -> FileError {
    FileError { why, fatal: true }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_taken_than_there_is() {
        let limits = Limits::new(&LimitArgs {
            max_size: 10,
            max_files: 2,
        });
        limits.fits(2, 10).unwrap();
        assert!(limits.fits(1, u64::MAX).unwrap_err().fatal);
        limits.take(1, 6).unwrap();
        assert!(limits.take(0, 5).is_err());
        limits.take(0, 4).unwrap();
        limits.take(1, 0).unwrap();
        assert!(limits.take(1, 0).is_err());
    }
}
