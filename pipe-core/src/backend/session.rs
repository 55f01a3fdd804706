//! Conversions between the sessions of `pipe-proto` and the types of this crate.

use std::time::Instant;

use pipe_proto::{
    Hello, Liveness, OpenError, RecvError, SendError, SessionConfig, Totals, Violation,
    ViolationKind,
};

use super::common::protocol;
use crate::{Config, ConnStats, Error, ErrorKind, OnDisconnect};

impl From<&Config> for Hello {
    /// Converts a configuration into the limits of the peer. A connection window that the windows
    /// of all streams cannot fill is left out.
    fn from(config: &Config) -> Self {
        let ample = config.connection_window_is_ample();
        Self {
            max_streams: config.max_streams,
            stream_window: config.stream_window,
            connection_window: if ample { 0 } else { config.connection_window },
            flight: 0,
            takes_growth: true,
        }
    }
}

impl From<&Config> for SessionConfig {
    fn from(config: &Config) -> Self {
        Self {
            hello: config.into(),
            max_stream_window: config.max_stream_window,
            window_growth: config.effective_window_growth(),
            growth_budget: Some(config.growth_budget.clone()),
            keep_alive: config.keep_alive,
            disconnected_after: config.disconnected_after,
            failed_after: config.failed_after,
            fails_streams: config.on_disconnect == OnDisconnect::FailStreams,
        }
    }
}

impl From<Totals> for ConnStats {
    fn from(totals: Totals) -> Self {
        Self {
            bytes_sent: totals.bytes_sent,
            bytes_received: totals.bytes_read,
            streams_opened: totals.opened,
            streams_accepted: totals.accepted,
            streams_open: totals.open,
            last_round_trip: totals.last_round_trip,
        }
    }
}

impl From<Violation> for Error {
    fn from(violation: Violation) -> Self {
        match violation.kind() {
            ViolationKind::Handshake => Self::new(ErrorKind::Handshake, violation.to_string()),
            _ => protocol(violation),
        }
    }
}

/// Starts a [`Liveness`] as a configuration has it.
pub fn liveness(config: &Config, now: Instant) -> Liveness {
    Liveness::new(
        config.keep_alive,
        config.disconnected_after,
        config.failed_after,
        now,
    )
}

/// Returns the error of a connection whose peer was silent for [`failed_after`](Config::failed_after).
pub fn lost(config: &Config) -> Error {
    let silence = config.failed_after;
    let why = format!("nothing heard from the peer for {silence:?}");
    Error::new(ErrorKind::Failed, why)
}

/// Returns the error of a write. `conn` is the error of the connection, if it has ended; `None` if it is missing where
/// it is the cause.
#[cold]
pub fn send_error(error: SendError, conn: Option<Error>) -> Option<Error> {
    Some(match error {
        SendError::Shut => Error::write_after_shutdown(),
        SendError::Reset(code) => Error::reset(code),
        SendError::Stopped(code) => Error::stopped(code),
        SendError::Disconnected => disconnected(),
        _ => return conn,
    })
}

/// Returns the error of a read; see [`send_error`].
#[cold]
pub fn recv_error(error: RecvError, conn: Option<Error>) -> Option<Error> {
    Some(match error {
        RecvError::Reset(code) => Error::reset(code),
        RecvError::Stopped(code) => Error::stopped(code),
        RecvError::Disconnected => disconnected(),
        _ => return conn,
    })
}

/// Returns the error of an open of a stream; see [`send_error`].
pub fn open_error(error: OpenError, conn: Option<Error>) -> Error {
    match error {
        OpenError::Ended => {
            conn.unwrap_or_else(|| Error::new(ErrorKind::Closed, "no more streams"))
        }
        draining => Error::new(ErrorKind::Closed, draining.to_string()),
    }
}

fn disconnected() -> Error {
    let why = "the peer was silent for too long, and streams end on a disconnect";
    Error::new(ErrorKind::Disconnected, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_end_of_a_half_has_its_error() {
        let kind = |error: Option<Error>| error.map(|error| error.kind());
        let lost = || Some(Error::new(ErrorKind::Failed, "lost"));
        assert_eq!(
            kind(send_error(SendError::ConnEnded, lost())),
            Some(ErrorKind::Failed)
        );
        assert_eq!(
            kind(recv_error(RecvError::ConnEnded, lost())),
            Some(ErrorKind::Failed)
        );
        assert_eq!(kind(send_error(SendError::ConnEnded, None)), None);
        assert_eq!(
            kind(send_error(SendError::Shut, lost())),
            Some(ErrorKind::Io)
        );
        let stopped = send_error(SendError::Stopped(9), lost()).unwrap();
        assert_eq!(stopped.code(), Some(9));
        let reset = recv_error(RecvError::Reset(8), None).unwrap();
        assert_eq!((reset.kind(), reset.code()), (ErrorKind::Reset, Some(8)));
        assert_eq!(
            kind(recv_error(RecvError::Disconnected, None)),
            Some(ErrorKind::Disconnected)
        );
    }

    #[test]
    fn a_violation_says_whether_the_peer_spoke_the_protocol() {
        let error = Error::from(Violation::new("a second hello"));
        assert_eq!(error.kind(), ErrorKind::Protocol);
        assert!(error.to_string().contains("a second hello"), "{error}");
        let error = Error::from(Violation::handshake(
            "the peer's first message is not its hello",
        ));
        assert_eq!(error.kind(), ErrorKind::Handshake);
    }
}
