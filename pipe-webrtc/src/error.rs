//! Errors that several modules make.

pub(crate) use pipe_core::backend::protocol;
use pipe_core::{Error, ErrorKind};

pub(crate) fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::ConfigInvalid, message.into())
}

/// Creates the error of a peer that speaks something else, or broke off while the connection was
/// being made.
pub(crate) fn handshake(what: impl std::fmt::Display) -> Error {
    Error::new(
        ErrorKind::Handshake,
        format!("no connection was made: {what}"),
    )
}

/// Creates the error of a lost connection.
pub(crate) fn lost(what: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Failed, format!("the connection is lost: {what}"))
}
