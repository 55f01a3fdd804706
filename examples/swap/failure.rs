//! [`Failure`]: what went wrong, and with what.

use std::error::Error;
use std::fmt;

/// Something that went wrong with one file, address or connection. Shown on one line: first with
/// what, then why.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    subject: String,
    why: String,
}

impl Failure {
    pub(crate) fn new(subject: impl fmt::Display, why: impl fmt::Display) -> Self {
        Self {
            subject: subject.to_string(),
            why: why.to_string(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.subject, self.why)
    }
}

/// Says with what an error came up.
pub(crate) trait At<T> {
    /// The error, with all its causes, as a [`Failure`] of `subject`.
    fn at(self, subject: impl fmt::Display) -> Result<T, Failure>;
}

impl<T, E: Error> At<T> for Result<T, E> {
    fn at(self, subject: impl fmt::Display) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(subject, with_causes(&error)))
    }
}

fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
