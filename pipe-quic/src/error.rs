pub(crate) use pipe_core::backend::protocol;
use pipe_core::{CloseReason, Error, ErrorKind};
use pipe_tls::rustls::{AlertDescription, Error as TlsError};
use quinn::{ConnectionError, TransportErrorCode, VarInt};

use crate::dialect::Codes;

/// Why pipewerks itself closes a connection: codes of QUIC's application close above those of the
/// application, which are of 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// The peer broke the rules of `pipe/1`.
    Protocol,
    /// No packet came from the peer for too long.
    Silent,
    /// The handshake of `pipe/1` failed.
    Handshake,
    /// The listener was closed before the connection was made.
    Refused,
}

/// The reason that quinn (0.11) gives when the endpoint's task is gone: its socket has failed, or its runtime is over.
const ENDPOINT_GONE: &str = "endpoint driver future was dropped";

const FIRST_CONDITION: u64 = 1 << 32;

impl Condition {
    const ALL: [Self; 4] = [Self::Protocol, Self::Silent, Self::Handshake, Self::Refused];

    /// Returns the code on the wire.
    pub(crate) fn code(self) -> VarInt {
        VarInt::from_u64(FIRST_CONDITION + self as u64).unwrap_or(VarInt::MAX)
    }

    fn of(code: VarInt) -> Option<Self> {
        Self::ALL.into_iter().find(|c| c.code() == code)
    }
}

/// Returns the reason for the loss of an established connection.
pub(crate) fn reason_of(error: &ConnectionError, codes: Codes) -> CloseReason {
    match error {
        ConnectionError::ApplicationClosed(close) => {
            let text = String::from_utf8_lossy(&close.reason);
            match Condition::of(close.error_code) {
                None => CloseReason::remote(codes.read_close(close.error_code), &text),
                Some(condition) => CloseReason::Failed(by_condition(condition, &text)),
            }
        }
        ConnectionError::LocallyClosed => CloseReason::local(0, ""),
        error => CloseReason::Failed(explain("the connection is lost", error)),
    }
}

/// Returns the error of a connection that was not established. `context` describes the attempt.
pub(crate) fn handshake_error(context: &str, error: &ConnectionError) -> Error {
    match error {
        ConnectionError::ApplicationClosed(close) => {
            let text = String::from_utf8_lossy(&close.reason);
            let (kind, why) = match Condition::of(close.error_code) {
                Some(Condition::Protocol | Condition::Handshake) => {
                    (ErrorKind::Handshake, format!("the peer aborted it: {text}"))
                }
                _ => (
                    ErrorKind::Refused,
                    format!("the peer closed the connection at once: {text}"),
                ),
            };
            Error::with_source(kind, format!("{context}: {why}"), error.clone())
        }
        error => explain(context, error),
    }
}

/// Returns whether this side ended the TLS handshake, with an error whose number quinn keeps.
pub(crate) fn by_this_side(error: &ConnectionError) -> bool {
    matches!(error, ConnectionError::TransportError(error) if alert(error.code).is_some())
}

fn by_condition(condition: Condition, text: &str) -> Error {
    let (kind, what) = match condition {
        Condition::Protocol => (
            ErrorKind::Protocol,
            "the peer reports that this side broke the protocol",
        ),
        Condition::Silent => (
            ErrorKind::Failed,
            "the peer received nothing from this side for too long",
        ),
        Condition::Handshake | Condition::Refused => {
            (ErrorKind::Failed, "the peer aborted the connection")
        }
    };
    Error::new(kind, format!("{what}: {text}"))
}

fn explain(context: &str, error: &ConnectionError) -> Error {
    let (kind, why) = match error {
        ConnectionError::VersionMismatch => (
            ErrorKind::Handshake,
            "the peer speaks no version of QUIC that this side speaks".to_owned(),
        ),
        ConnectionError::TransportError(error) => match alert(error.code) {
            // This side has ended the TLS handshake. quinn keeps the reason as a text.
            Some(alert) => {
                let alert = TlsError::AlertReceived(alert);
                (pipe_tls::explain("", &alert).kind(), error.reason.clone())
            }
            None if error.reason == ENDPOINT_GONE => (
                ErrorKind::Failed,
                format!("QUIC has failed at this side: {error}"),
            ),
            None => (
                ErrorKind::Protocol,
                format!("the peer broke the rules of QUIC: {error}"),
            ),
        },
        ConnectionError::ConnectionClosed(close) => {
            if let Some(alert) = alert(close.error_code) {
                let alert = TlsError::AlertReceived(alert);
                return pipe_tls::explain(context, &alert);
            }
            match close.error_code {
                TransportErrorCode::CONNECTION_REFUSED => (
                    ErrorKind::Refused,
                    "the peer takes no connections there".to_owned(),
                ),
                TransportErrorCode::APPLICATION_ERROR => (
                    ErrorKind::Refused,
                    "the peer closed the connection in its handshake".to_owned(),
                ),
                _ => (
                    ErrorKind::Failed,
                    format!("the peer's QUIC ended the connection: {close}"),
                ),
            }
        }
        ConnectionError::Reset => (
            ErrorKind::Failed,
            "the peer has no state of the connection any more; it may have been restarted"
                .to_owned(),
        ),
        ConnectionError::TimedOut => (
            ErrorKind::Failed,
            "the peer was silent for too long".to_owned(),
        ),
        ConnectionError::CidsExhausted => (
            ErrorKind::LimitReached,
            "this side has no more connection identifiers".to_owned(),
        ),
        error => (ErrorKind::Failed, error.to_string()),
    };
    Error::with_source(kind, format!("{context}: {why}"), error.clone())
}

/// Returns the alert of TLS in a code of QUIC (RFC 9001, section 4.8).
fn alert(code: TransportErrorCode) -> Option<AlertDescription> {
    let code = u64::from(code);
    (0x100..0x200)
        .contains(&code)
        .then(|| AlertDescription::from((code & 0xff) as u8))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use quinn::ApplicationClose;

    use super::*;

    fn closed(error_code: VarInt) -> ConnectionError {
        ConnectionError::ApplicationClosed(ApplicationClose {
            error_code,
            reason: Bytes::from_static(b"why \xff"),
        })
    }

    #[test]
    fn codes_of_the_application_and_conditions_do_not_collide() {
        for code in [0, 7, u32::MAX] {
            let CloseReason::Remote { code: told, reason } =
                reason_of(&closed(code.into()), Codes::Quic)
            else {
                panic!("{code} is the application's");
            };
            assert_eq!((told, &*reason), (code, "why \u{fffd}"));
        }
        for (condition, kind) in [
            (Condition::Protocol, ErrorKind::Protocol),
            (Condition::Silent, ErrorKind::Failed),
            (Condition::Handshake, ErrorKind::Failed),
        ] {
            assert!(condition.code().into_inner() > u64::from(u32::MAX));
            let CloseReason::Failed(error) = reason_of(&closed(condition.code()), Codes::Quic)
            else {
                panic!("{condition:?} is a failure");
            };
            assert_eq!(error.kind(), kind);
        }
        let CloseReason::Remote { code, .. } = reason_of(&closed(VarInt::MAX), Codes::Quic) else {
            panic!("a code of a foreign peer");
        };
        assert_eq!(code, u32::MAX);
    }

    #[test]
    fn a_close_in_the_handshake_tells_a_refusal_from_another_protocol() {
        for (code, kind) in [
            (Condition::Handshake.code(), ErrorKind::Handshake),
            (Condition::Refused.code(), ErrorKind::Refused),
            (0_u32.into(), ErrorKind::Refused),
        ] {
            assert_eq!(handshake_error("here", &closed(code)).kind(), kind);
        }
    }
}
