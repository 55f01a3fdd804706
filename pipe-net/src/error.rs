use std::fmt;
use std::io;

use pipe_core::{Addr, Error, ErrorKind};

/// Creates the error of a dial that failed with an error of the operating system. The context, which the
/// text begins with, is what was tried: `could not connect to {addr}`.
///
/// It is [`Refused`](ErrorKind::Refused), [`TimedOut`](ErrorKind::TimedOut), or else
/// [`Unreachable`](ErrorKind::Unreachable).
pub fn connect_error(context: impl fmt::Display, error: io::Error) -> Error {
    let (kind, what) = match error.kind() {
        io::ErrorKind::ConnectionRefused => (ErrorKind::Refused, "there is no listener"),
        io::ErrorKind::TimedOut => (ErrorKind::TimedOut, "it did not answer"),
        _ => (ErrorKind::Unreachable, "it cannot be reached"),
    };
    Error::with_source(kind, format!("{context}: {what}"), error)
}

/// Creates the error of a listener that cannot be made: `cannot listen on {addr}: {why}`.
pub fn listen_error(
    addr: &Addr,
    kind: ErrorKind,
    why: impl fmt::Display,
    source: Option<io::Error>,
) -> Error {
    let message = format!("cannot listen on {addr}: {why}");
    match source {
        Some(source) => Error::with_source(kind, message, source),
        None => Error::new(kind, message),
    }
}

/// Creates the error of a socket that could not be bound.
pub(crate) fn bind_error(addr: &Addr, error: io::Error) -> Error {
    let (kind, why) = match error.kind() {
        io::ErrorKind::AddrInUse => (
            ErrorKind::AddrInUse,
            "there is a listener already".to_owned(),
        ),
        io::ErrorKind::AddrNotAvailable => (
            ErrorKind::Unreachable,
            "it is no address of this host".to_owned(),
        ),
        _ => (ErrorKind::Io, error.to_string()),
    };
    listen_error(addr, kind, why, Some(error))
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[test]
    fn errors_of_the_system_have_a_kind_and_name_the_address() {
        for (of, kind) in [
            (io::ErrorKind::ConnectionRefused, ErrorKind::Refused),
            (io::ErrorKind::TimedOut, ErrorKind::TimedOut),
            (io::ErrorKind::HostUnreachable, ErrorKind::Unreachable),
        ] {
            let error = connect_error("could not connect to tcp://a:1", of.into());
            assert_eq!(error.kind(), kind);
            let shown = error.to_string();
            assert!(
                shown.starts_with("could not connect to tcp://a:1: "),
                "{shown}"
            );
            assert!(error.source().is_some());
        }
        let addr = Addr::parse("tcp://a:1").unwrap();
        for (of, kind) in [
            (io::ErrorKind::AddrInUse, ErrorKind::AddrInUse),
            (io::ErrorKind::AddrNotAvailable, ErrorKind::Unreachable),
            (io::ErrorKind::PermissionDenied, ErrorKind::Io),
        ] {
            let error = bind_error(&addr, of.into());
            assert_eq!(error.kind(), kind);
            let shown = error.to_string();
            assert!(shown.starts_with("cannot listen on tcp://a:1: "), "{shown}");
            assert!(error.source().is_some());
        }
    }
}
