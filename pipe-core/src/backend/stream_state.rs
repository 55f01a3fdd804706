use crate::{Error, ErrorKind};

/// The state of the sending direction of a stream, for transports that keep it themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SendState {
    /// Bytes can be written.
    #[default]
    Open,
    /// Shut down: the end is announced or under way.
    Shut,
    /// Abandoned by its writer.
    Reset(u32),
    /// Given up by the reader.
    Stopped {
        /// The application's code.
        code: u32,
        /// Whether it was shut down before; then the stop changes nothing for the writer.
        shut: bool,
    },
    /// Ended by a disconnect, as [`OnDisconnect::FailStreams`](crate::OnDisconnect) asks.
    Disconnected,
    /// Ended with this side of the connection.
    ConnEnded,
}

/// The state of the receiving direction of a stream, for transports that keep it themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RecvState {
    /// Bytes may come.
    #[default]
    Open,
    /// The end has come; unread bytes come before it.
    Ended,
    /// Abandoned by its writer.
    Reset(u32),
    /// Given up by its reader.
    Stopped(u32),
    /// Ended by a disconnect, as [`OnDisconnect::FailStreams`](crate::OnDisconnect) asks.
    Disconnected,
    /// Ended with this side of the connection.
    ConnEnded,
}

impl SendState {
    /// Transitions an open direction to `to`. Returns `None` in any other state.
    #[must_use]
    pub fn cut_open(self, to: Self) -> Option<Self> {
        (self == Self::Open).then_some(to)
    }

    /// Transitions a direction that its reader stops. Returns `None` for one that was cut.
    #[must_use]
    pub fn stop(self, code: u32) -> Option<Self> {
        match self {
            Self::Open => Some(Self::Stopped { code, shut: false }),
            Self::Shut => Some(Self::Stopped { code, shut: true }),
            _ => None,
        }
    }

    /// Returns the error of a write to a direction that takes none any more. `conn` is the error of
    /// the connection, if it has ended.
    #[cold]
    pub fn write_error(self, conn: Option<Error>) -> Error {
        match self {
            Self::Stopped { code, shut: false } => Error::stopped(code),
            other => other
                .shutdown_error(conn)
                .unwrap_or_else(Error::write_after_shutdown),
        }
    }

    /// Returns the error of a shutdown of a direction that this side or the network cut short.
    /// `conn` is the error of the connection, if it has ended.
    ///
    /// A stop by the peer is no error: no bytes are left to deliver.
    pub fn shutdown_error(self, conn: Option<Error>) -> Option<Error> {
        match self {
            Self::Open | Self::Shut | Self::Stopped { .. } => None,
            Self::Reset(code) => Some(Error::reset(code)),
            Self::Disconnected => Some(disconnected()),
            Self::ConnEnded => conn,
        }
    }
}

impl RecvState {
    /// Returns the error of a read of a direction that was cut short. `conn` is the error of the
    /// connection, if it has ended.
    #[cold]
    pub fn read_error(self, conn: Option<Error>) -> Option<Error> {
        match self {
            Self::Open | Self::Ended => None,
            Self::Reset(code) => Some(Error::reset(code)),
            Self::Stopped(code) => Some(Error::stopped(code)),
            Self::Disconnected => Some(disconnected()),
            Self::ConnEnded => conn,
        }
    }
}

fn disconnected() -> Error {
    Error::new(
        ErrorKind::Disconnected,
        "the peer was silent for too long, and streams end on a disconnect",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_after_the_shutdown_changes_nothing_for_the_writer() {
        let state = SendState::Shut.stop(9).unwrap();
        assert!(state.shutdown_error(None).is_none());
        assert_eq!(state.write_error(None).kind(), ErrorKind::Io);
        let state = SendState::Open.stop(9).unwrap();
        assert_eq!(state.write_error(None).code(), Some(9));
        assert!(state.shutdown_error(None).is_none());
        assert_eq!(state.stop(10), None);
    }

    #[test]
    fn the_end_of_the_connection_is_the_error_of_what_it_cut() {
        let lost = Error::new(ErrorKind::Failed, "lost");
        let error = SendState::ConnEnded.write_error(Some(lost.clone()));
        assert_eq!(error.kind(), ErrorKind::Failed);
        let error = RecvState::ConnEnded.read_error(Some(lost));
        assert_eq!(error.unwrap().kind(), ErrorKind::Failed);
    }
}
