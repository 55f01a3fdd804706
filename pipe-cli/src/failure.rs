use std::error::Error as StdError;
use std::fmt::{self, Write as _};
use std::io;

use pipewerks::{Error, ErrorKind};

use crate::exit::Exit;
use crate::refusal::is_refusal;

/// The failure that ends the program: one line for people that names the cause, and the exit code.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        // Whatever texts went into it: it stays one line.
        let message = message.into().replace(['\n', '\r'], " ");
        Self { exit, message }
    }

    /// Creates a failure that none of the other codes stands for.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, message)
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// Creates the failure of a dial of, or a listen on, this address.
    pub(crate) fn unreached(addr: &str, error: &Error) -> Self {
        let exit = match error.kind() {
            ErrorKind::AddrInvalid | ErrorKind::AddrUnsupported | ErrorKind::ConfigInvalid => {
                Exit::Usage
            }
            ErrorKind::Unauthenticated => Exit::Unauthenticated,
            _ => Exit::Unreached,
        };
        Self::new(exit, about(addr, error))
    }

    /// Creates the failure of a connection that had been made to this address.
    pub(crate) fn on_conn(addr: &str, error: &Error) -> Self {
        let exit = match error.kind() {
            ErrorKind::Unauthenticated => Exit::Unauthenticated,
            ErrorKind::Closed if is_refusal(error) => Exit::Unauthenticated,
            ErrorKind::Failed | ErrorKind::Disconnected => Exit::Lost,
            // A peer that gives a reason has closed on purpose; one that vanished is lost.
            ErrorKind::Closed if is_silent(error) => Exit::Lost,
            _ => Exit::Failed,
        };
        Self::new(exit, about(addr, error))
    }

    /// Creates the failure of an operation on this machine, such as on a file.
    pub(crate) fn local(what: impl fmt::Display, error: &io::Error) -> Self {
        Self::failed(format!("{what}: {}", io_text(error)))
    }
}

/// Returns whether the peer closed without a code and a reason, as one does whose program has
/// ended.
fn is_silent(error: &Error) -> bool {
    use pipewerks::CloseReason::Remote;
    matches!(error.close_reason(), Some(Remote { code: 0, reason }) if reason.is_empty())
}

/// Returns an error with its causes, and the address in front if it does not name it itself.
fn about(addr: &str, error: &Error) -> String {
    let text = explain(error);
    if text.contains(addr) {
        text
    } else {
        format!("{addr}: {text}")
    }
}

/// Returns an error with its causes, in one line. A cause that the text has already is left out.
pub(crate) fn explain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let why = cause.to_string();
        if !text.contains(&why) {
            let _ = write!(text, ": {why}");
        }
        source = cause.source();
    }
    text
}

/// Returns the text of an error of the system, without its number.
pub(crate) fn io_text(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error ") {
        Some((text, _)) => text.to_owned(),
        None => text,
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_line_that_names_the_address_and_the_cause_once() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        let error = Error::with_source(ErrorKind::Refused, "no\nlistener", refused);
        let failure = Failure::unreached("tcp://a:1", &error);
        assert_eq!(failure.exit, Exit::Unreached);
        assert_eq!(
            failure.message,
            "tcp://a:1: no listener: connection refused"
        );
        let error = Error::with_source(ErrorKind::Io, "tcp://a:1 broke: x", io::Error::other("x"));
        let failure = Failure::on_conn("tcp://a:1", &error);
        assert_eq!(failure.message, "tcp://a:1 broke: x");
    }

    #[test]
    fn the_number_of_an_error_of_the_system_is_left_out() {
        let error = io::Error::from_raw_os_error(2);
        assert_eq!(io_text(&error), "No such file or directory");
    }
}
