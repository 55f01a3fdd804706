use std::fmt;
use std::io;

use pipe_core::{Error, ErrorKind};

/// Why a proxy has made no connection.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) kind: ErrorKind,
    pub(crate) why: String,
    pub(crate) source: Option<io::Error>,
}

impl Refusal {
    pub(crate) fn new(kind: ErrorKind, why: impl Into<String>) -> Self {
        Self {
            kind,
            why: why.into(),
            source: None,
        }
    }

    pub(crate) fn from_io(error: io::Error) -> Self {
        let why = match error.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe => "it broke off".to_owned(),
            _ => error.to_string(),
        };
        Self {
            kind: ErrorKind::Handshake,
            why,
            source: Some(error),
        }
    }

    /// Returns the error of a dial.
    pub(crate) fn into_error(self, context: impl fmt::Display) -> Error {
        let why = format!("{context}: {}", self.why);
        match self.source {
            Some(source) => Error::with_source(self.kind, why, source),
            None => Error::new(self.kind, why),
        }
    }
}
