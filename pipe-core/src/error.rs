use std::borrow::Cow;
use std::convert::Infallible;
use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::Arc;

/// The result of a pipewerks operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The error of an operation: a [kind](Self::kind) to act on, and a text for people that names the
/// cause.
///
/// An error is one word wide and cheap to clone. It converts into an [`io::Error`] of the matching
/// kind, and [`Error::from_io`] takes it back out.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    kind: ErrorKind,
    code: Option<u32>,
    message: Cow<'static, str>,
    source: Option<Source>,
}

enum Source {
    Other(Box<dyn StdError + Send + Sync>),
    Error(Error),
    Close(Box<CloseReason>),
}

/// The kind of failure of an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The address is malformed, or makes no sense to its transport.
    AddrInvalid,
    /// No registered transport serves the scheme of the address.
    AddrUnsupported,
    /// A listener uses the address already.
    AddrInUse,
    /// A setting is out of its range.
    ConfigInvalid,
    /// No route leads to the address.
    Unreachable,
    /// The address was reached, and no listener is there.
    Refused,
    /// The peer speaks another protocol, or broke off while the connection was being made.
    Handshake,
    /// The peer could not prove the expected identity.
    Unauthenticated,
    /// The operation took longer than the time allowed.
    TimedOut,
    /// A configured limit stands in the way.
    LimitReached,
    /// The sender reset the stream; [`Error::code`] returns its code.
    Reset,
    /// The receiver stopped the stream; [`Error::code`] returns its code.
    Stopped,
    /// The peer cannot be reached at the moment; the transport goes on trying.
    Disconnected,
    /// The connection is lost for good.
    Failed,
    /// The connection or the listener was closed by one of the applications.
    Closed,
    /// The peer broke the rules of the protocol.
    Protocol,
    /// The transport, or the peer, cannot do this.
    Unsupported,
    /// The operating system reported an error.
    Io,
}

impl Error {
    /// Creates an error of this kind, with a text that names the cause.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Arc::new(Inner {
            kind,
            code: None,
            message: message.into(),
            source: None,
        }))
    }

    /// Returns the same, with the error that caused it. Its text is not part of this one's: a
    /// reporter that follows [`source`](StdError::source) shows both.
    pub fn with_source(
        kind: ErrorKind,
        message: impl Into<Cow<'static, str>>,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        let source = match source.into().downcast::<Error>() {
            Ok(error) => Source::Error(*error),
            Err(other) => Source::Other(other),
        };
        Self(Arc::new(Inner {
            kind,
            code: None,
            message: message.into(),
            source: Some(source),
        }))
    }

    /// Creates the error of a stream that its sender reset with this code.
    pub fn reset(code: u32) -> Self {
        Self::with_code(
            ErrorKind::Reset,
            code,
            format!("stream reset with code {code}"),
        )
    }

    /// Creates the error of a stream that its receiver stopped with this code.
    pub fn stopped(code: u32) -> Self {
        Self::with_code(
            ErrorKind::Stopped,
            code,
            format!("stream stopped with code {code}"),
        )
    }

    /// Creates the error of a connection that is over for this reason: of kind
    /// [`Closed`](ErrorKind::Closed) with the code, or, after a failure, that failure.
    pub fn closed(reason: &CloseReason) -> Self {
        if let CloseReason::Failed(error) = reason {
            return error.clone();
        }
        Self(Arc::new(Inner {
            kind: ErrorKind::Closed,
            code: reason.code(),
            message: format!("connection {reason}").into(),
            source: Some(Source::Close(Box::new(reason.clone()))),
        }))
    }

    /// Creates the error of a write to a direction that this side has shut down.
    pub fn write_after_shutdown() -> Self {
        let broken = io::Error::new(io::ErrorKind::BrokenPipe, "write after shutdown");
        Self::with_source(ErrorKind::Io, "the sending direction is shut down", broken)
    }

    fn with_code(kind: ErrorKind, code: u32, message: String) -> Self {
        Self(Arc::new(Inner {
            kind,
            code: Some(code),
            message: message.into(),
            source: None,
        }))
    }

    /// Returns the kind of failure.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns the application's code that came with a [`Reset`](ErrorKind::Reset),
    /// [`Stopped`](ErrorKind::Stopped) or [`Closed`](ErrorKind::Closed).
    pub fn code(&self) -> Option<u32> {
        self.0.code
    }

    /// Returns the reason why the connection was closed, where that is the error.
    pub fn close_reason(&self) -> Option<&CloseReason> {
        match &self.0.source {
            Some(Source::Close(reason)) => Some(reason),
            _ => None,
        }
    }

    /// Returns whether the same operation on the same object may succeed later.
    ///
    /// True for [`Disconnected`](ErrorKind::Disconnected), [`LimitReached`](ErrorKind::LimitReached)
    /// and [`TimedOut`](ErrorKind::TimedOut).
    pub fn may_recover(&self) -> bool {
        matches!(
            self.0.kind,
            ErrorKind::Disconnected | ErrorKind::LimitReached | ErrorKind::TimedOut
        )
    }

    /// Returns the error inside an [`io::Error`], if a read or write of a pipewerks stream made it.
    pub fn from_io(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }

    fn io_kind(&self) -> io::ErrorKind {
        match self.0.kind {
            ErrorKind::AddrInvalid | ErrorKind::ConfigInvalid => io::ErrorKind::InvalidInput,
            ErrorKind::AddrUnsupported | ErrorKind::Unsupported => io::ErrorKind::Unsupported,
            ErrorKind::AddrInUse => io::ErrorKind::AddrInUse,
            ErrorKind::Unreachable => io::ErrorKind::HostUnreachable,
            ErrorKind::Refused => io::ErrorKind::ConnectionRefused,
            ErrorKind::Handshake | ErrorKind::Protocol => io::ErrorKind::InvalidData,
            ErrorKind::Unauthenticated => io::ErrorKind::PermissionDenied,
            ErrorKind::TimedOut => io::ErrorKind::TimedOut,
            ErrorKind::LimitReached => io::ErrorKind::QuotaExceeded,
            ErrorKind::Reset => io::ErrorKind::ConnectionReset,
            ErrorKind::Stopped => io::ErrorKind::BrokenPipe,
            ErrorKind::Disconnected => io::ErrorKind::NotConnected,
            ErrorKind::Failed => io::ErrorKind::ConnectionAborted,
            ErrorKind::Closed => io::ErrorKind::UnexpectedEof,
            ErrorKind::Io => match &self.0.source {
                Some(Source::Other(source)) => source
                    .downcast_ref::<io::Error>()
                    .map_or(io::ErrorKind::Other, io::Error::kind),
                _ => io::ErrorKind::Other,
            },
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut s = f.debug_struct("Error");
        s.field("kind", &self.0.kind);
        if let Some(code) = self.0.code {
            s.field("code", &code);
        }
        s.field("message", &self.0.message);
        if let Some(source) = self.source() {
            s.field("source", &source);
        }
        s.finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self.0.source.as_ref()? {
            Source::Other(source) => Some(&**source),
            Source::Error(source) => Some(source),
            Source::Close(_) => None,
        }
    }
}

/// An [`io::Error`] that carries a pipewerks error gives that one back; any other becomes one of kind
/// [`Io`](ErrorKind::Io), or of the kind that its own stands for.
impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        if let Some(inner) = Self::from_io(&error) {
            return inner.clone();
        }
        let kind = match error.kind() {
            io::ErrorKind::AddrInUse => ErrorKind::AddrInUse,
            io::ErrorKind::ConnectionRefused => ErrorKind::Refused,
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
                ErrorKind::Unreachable
            }
            io::ErrorKind::TimedOut => ErrorKind::TimedOut,
            io::ErrorKind::Unsupported => ErrorKind::Unsupported,
            _ => ErrorKind::Io,
        };
        Self::with_source(kind, error.to_string(), error)
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::new(error.io_kind(), error)
    }
}

/// Lets [`Addr`](crate::Addr) stand where anything that converts into one is taken.
impl From<Infallible> for Error {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// Maximum length of the reason of a close, in bytes. A longer one is cut at a character's
/// boundary.
///
/// This is what fits into the one packet that QUIC closes a connection with (RFC 9000, section
/// 19.19, in a datagram of 1,200 bytes), so that a reason arrives unchanged over every transport.
pub const MAX_REASON_LEN: usize = pipe_proto::MAX_REASON_LEN;

/// Why a connection is over.
#[derive(Clone, Debug)]
pub enum CloseReason {
    /// This side closed it, or dropped its last handle (code 0, no reason).
    Local {
        /// The application's code.
        code: u32,
        /// The application's reason, for people.
        reason: Arc<str>,
    },
    /// The peer closed it, or dropped its last handle (code 0, no reason).
    Remote {
        /// The application's code.
        code: u32,
        /// The application's reason, for people.
        reason: Arc<str>,
    },
    /// The connection was lost for the reason in the error.
    Failed(Error),
}

impl CloseReason {
    /// Creates a close by this side. A reason above [`MAX_REASON_LEN`] is cut.
    pub fn local(code: u32, reason: &str) -> Self {
        Self::Local {
            code,
            reason: cut(reason).into(),
        }
    }

    /// Creates a close by the peer. A reason above [`MAX_REASON_LEN`] is cut.
    pub fn remote(code: u32, reason: &str) -> Self {
        Self::Remote {
            code,
            reason: cut(reason).into(),
        }
    }

    /// Returns the application's code; none after a failure.
    pub fn code(&self) -> Option<u32> {
        match self {
            Self::Local { code, .. } | Self::Remote { code, .. } => Some(*code),
            Self::Failed(_) => None,
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (by, code, reason) = match self {
            Self::Local { code, reason } => ("locally", code, reason),
            Self::Remote { code, reason } => ("by the peer", code, reason),
            Self::Failed(error) => return write!(f, "failed: {error}"),
        };
        write!(f, "closed {by} with code {code}")?;
        if !reason.is_empty() {
            write!(f, ": {reason}")?;
        }
        Ok(())
    }
}

fn cut(reason: &str) -> &str {
    let mut end = reason.len().min(MAX_REASON_LEN);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    &reason[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [(ErrorKind, io::ErrorKind); 18] = [
        (ErrorKind::AddrInvalid, io::ErrorKind::InvalidInput),
        (ErrorKind::AddrUnsupported, io::ErrorKind::Unsupported),
        (ErrorKind::AddrInUse, io::ErrorKind::AddrInUse),
        (ErrorKind::ConfigInvalid, io::ErrorKind::InvalidInput),
        (ErrorKind::Unreachable, io::ErrorKind::HostUnreachable),
        (ErrorKind::Refused, io::ErrorKind::ConnectionRefused),
        (ErrorKind::Handshake, io::ErrorKind::InvalidData),
        (ErrorKind::Unauthenticated, io::ErrorKind::PermissionDenied),
        (ErrorKind::TimedOut, io::ErrorKind::TimedOut),
        (ErrorKind::LimitReached, io::ErrorKind::QuotaExceeded),
        (ErrorKind::Reset, io::ErrorKind::ConnectionReset),
        (ErrorKind::Stopped, io::ErrorKind::BrokenPipe),
        (ErrorKind::Disconnected, io::ErrorKind::NotConnected),
        (ErrorKind::Failed, io::ErrorKind::ConnectionAborted),
        (ErrorKind::Closed, io::ErrorKind::UnexpectedEof),
        (ErrorKind::Protocol, io::ErrorKind::InvalidData),
        (ErrorKind::Unsupported, io::ErrorKind::Unsupported),
        (ErrorKind::Io, io::ErrorKind::Other),
    ];

    #[test]
    fn every_kind_survives_the_way_through_an_io_error() {
        for (kind, io_kind) in KINDS {
            let io = io::Error::from(Error::new(kind, "no such pipe"));
            assert_eq!(io.kind(), io_kind, "{kind:?}");
            assert_eq!(io.to_string(), "no such pipe");
            assert_eq!(Error::from_io(&io).map(Error::kind), Some(kind));
            assert_eq!(Error::from(io).kind(), kind);
        }
    }

    #[test]
    fn codes_survive_the_way_through_an_io_error() {
        for error in [Error::reset(u32::MAX), Error::stopped(u32::MAX)] {
            let io = io::Error::from(error);
            assert_eq!(Error::from_io(&io).and_then(Error::code), Some(u32::MAX));
        }
    }

    #[test]
    fn a_foreign_io_error_keeps_its_kind_and_is_the_source() {
        let error = Error::from(io::Error::new(io::ErrorKind::StorageFull, "disk full"));
        assert_eq!(error.kind(), ErrorKind::Io);
        assert_eq!(error.to_string(), "disk full");
        assert!(error.source().is_some_and(<dyn StdError>::is::<io::Error>));
        assert_eq!(io::Error::from(error).kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn a_close_tells_whose_it_was() {
        let local = CloseReason::local(5, "bye");
        let error = Error::closed(&local);
        assert_eq!(error.kind(), ErrorKind::Closed);
        assert_eq!(error.code(), Some(5));
        assert!(matches!(
            error.close_reason(),
            Some(CloseReason::Local { code: 5, .. })
        ));
        assert_eq!(
            error.to_string(),
            "connection closed locally with code 5: bye"
        );

        let failed = CloseReason::Failed(Error::new(ErrorKind::Failed, "silence for 30s"));
        assert_eq!(Error::closed(&failed).kind(), ErrorKind::Failed);
    }

    #[test]
    fn only_what_may_pass_may_recover() {
        for (kind, _) in KINDS {
            let expected = matches!(
                kind,
                ErrorKind::Disconnected | ErrorKind::LimitReached | ErrorKind::TimedOut
            );
            assert_eq!(Error::new(kind, "").may_recover(), expected, "{kind:?}");
        }
    }

    #[test]
    fn the_cause_can_be_followed() {
        let cause = Error::new(ErrorKind::TimedOut, "no answer");
        let error = Error::with_source(ErrorKind::Failed, "peer lost", cause);
        assert_eq!(
            error.source().map(ToString::to_string).as_deref(),
            Some("no answer")
        );
        assert_eq!(size_of::<Error>(), size_of::<usize>());
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let CloseReason::Local { reason, .. } = CloseReason::local(0, &"ä".repeat(40_000)) else {
            unreachable!()
        };
        assert_eq!(&*reason, "ä".repeat(MAX_REASON_LEN / 2));
        let CloseReason::Remote { reason, .. } =
            CloseReason::remote(0, &format!("x{}", "ä".repeat(40_000)))
        else {
            unreachable!()
        };
        assert_eq!(reason.len(), MAX_REASON_LEN - 1);
    }
}
