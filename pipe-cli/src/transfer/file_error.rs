use std::fmt;
use std::io;

use crate::failure::io_text;

/// Why a file cannot be sent or received, for people.
#[derive(Clone, Debug)]
pub(crate) struct FileError {
    pub(crate) why: String,
    /// Whether other files would fail alike.
    pub(crate) fatal: bool,
}

impl FileError {
    pub(crate) fn new(why: impl Into<String>) -> Self {
        Self {
            why: why.into(),
            fatal: false,
        }
    }
}

impl From<io::Error> for FileError {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
        Self {
            fatal: matches!(
                error.kind(),
                QuotaExceeded | ReadOnlyFilesystem | StorageFull
            ),
            why: io_text(&error),
        }
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}
