use super::file_error::FileError;
use crate::channel::Broken;

/// Why a file was not carried over.
pub(super) enum Trouble {
    /// The other side, or the disk of this one, does not let it.
    File(FileError),
    Stream(Broken),
}

impl Trouble {
    /// Creates the error of a peer whose message is out of order.
    pub(super) fn out_of_turn(what: &str) -> Self {
        Self::Stream(Broken::Protocol(format!("{what} came out of turn")))
    }
}

impl From<FileError> for Trouble {
    fn from(error: FileError) -> Self {
        Self::File(error)
    }
}

impl From<Broken> for Trouble {
    fn from(error: Broken) -> Self {
        Self::Stream(error)
    }
}
