use std::error::Error as StdError;
use std::io;
use std::net::IpAddr;

use pipe_core::{Error, ErrorKind};
use rustls::{AlertDescription as Alert, CertificateError, Error as TlsError};
use rustls_pki_types::UnixTime;
use time::OffsetDateTime;

use crate::pinned::PinMismatch;

/// Maximum number of a peer's names that are quoted.
const NAMES: usize = 5;

/// Converts an error of TLS: [`Unauthenticated`](ErrorKind::Unauthenticated) when a certificate was
/// not accepted, by either side, and [`Handshake`](ErrorKind::Handshake) otherwise, with the reason
/// in words after `context` ("could not connect to …").
///
/// An alert of the peer is an error too: [`AlertReceived`](rustls::Error::AlertReceived). In TLS
/// 1.3 a client may get the one that refuses its certificate only after its own handshake, with the
/// first read.
pub fn explain(context: &str, error: &TlsError) -> Error {
    let (kind, reason) = reason(error);
    Error::with_source(kind, format!("{context}: {reason}"), error.clone())
}

/// Returns the same for the error of a byte stream under TLS. One that broke off or was reset
/// becomes [`Handshake`](ErrorKind::Handshake), any other keeps its kind.
pub fn explain_io(context: &str, error: io::Error) -> Error {
    if let Some(error) = find(&error) {
        return explain(context, error);
    }
    match error.kind() {
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe => {
            let why = "the peer broke off in the TLS handshake; perhaps it does not speak TLS";
            Error::with_source(ErrorKind::Handshake, format!("{context}: {why}"), error)
        }
        _ => {
            let kind = Error::from(io::Error::from(error.kind())).kind();
            Error::with_source(kind, format!("{context}: {error}"), error)
        }
    }
}

/// Returns the error of TLS among the causes of this one.
pub fn find<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a TlsError> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        // An io::Error is not the source of itself: its source is that of the error inside.
        let carried = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        next = match carried {
            Some(carried) => Some(carried),
            None => error.source(),
        };
    }
    None
}

fn reason(error: &TlsError) -> (ErrorKind, String) {
    let handshake = |reason: &str| (ErrorKind::Handshake, reason.to_owned());
    match error {
        TlsError::InvalidCertificate(error) => (ErrorKind::Unauthenticated, refusal(error)),
        TlsError::NoCertificatesPresented => {
            let reason = "the peer shows no certificate, and this side requires one";
            (ErrorKind::Unauthenticated, reason.into())
        }
        TlsError::AlertReceived(alert) => alert_reason(*alert),
        TlsError::NoApplicationProtocol => {
            handshake("the peer offers no protocol (ALPN) that this side speaks")
        }
        TlsError::InvalidMessage(_) => handshake("the peer does not speak TLS"),
        other => handshake(&format!("the TLS handshake failed: {other}")),
    }
}

/// Returns why this side refuses the peer's certificate.
fn refusal(error: &CertificateError) -> String {
    use CertificateError as E;
    let reason = match error {
        E::ExpiredContext { not_after, .. } => format!("expired on {}", date(*not_after)),
        E::Expired => "has expired".into(),
        E::NotValidYetContext { not_before, .. } => {
            format!("is not valid yet, but from {} on", date(*not_before))
        }
        E::NotValidYet => "is not valid yet".into(),
        E::NotValidForNameContext {
            expected,
            presented,
        } => format!(
            "is not for {}, but for {}",
            expected.to_str(),
            names(presented)
        ),
        E::NotValidForName => "is for another name".into(),
        E::UnknownIssuer => "has an unknown issuer, whom this side does not trust".into(),
        E::Revoked => "is revoked".into(),
        E::BadEncoding => "is malformed".into(),
        E::BadSignature => {
            "is not signed by the issuer that it names, or the peer does not hold its key".into()
        }
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => "is for another purpose".into(),
        E::Other(other) => match other.0.downcast_ref::<PinMismatch>() {
            Some(mismatch) => return mismatch.to_string(),
            None => format!("is not accepted: {other}"),
        },
        other => format!("is not accepted: {other}"),
    };
    format!("the peer's certificate {reason}")
}

/// Returns the kind and the text for an alert of the peer.
fn alert_reason(alert: Alert) -> (ErrorKind, String) {
    let refused = |why: &str| {
        let reason = format!("the peer refused the certificate of this side: {why}");
        (ErrorKind::Unauthenticated, reason)
    };
    match alert {
        Alert::CertificateRequired | Alert::NoCertificate => {
            let reason = "the peer requires a certificate of this side, and there is none";
            (ErrorKind::Unauthenticated, reason.into())
        }
        Alert::CertificateExpired => refused("it has expired or is not valid yet"),
        Alert::CertificateRevoked => refused("it is revoked"),
        Alert::UnknownCA => refused("it has an unknown issuer"),
        Alert::BadCertificate => refused("it is not for the name, or not well-formed"),
        Alert::UnsupportedCertificate => refused("it is of a kind that is not supported"),
        Alert::CertificateUnknown => refused("it is another one, or not acceptable"),
        Alert::DecryptError => refused("a signature in it, or with its key, does not fit"),
        Alert::AccessDenied => refused("it gives no access"),
        Alert::NoApplicationProtocol => {
            let reason = "the peer speaks no protocol (ALPN) that this side offers";
            (ErrorKind::Handshake, reason.into())
        }
        Alert::ProtocolVersion => {
            let reason = "the peer speaks no version of TLS that this side speaks";
            (ErrorKind::Handshake, reason.into())
        }
        other => {
            let reason = format!("the peer ended the TLS handshake with the alert {other:?}");
            (ErrorKind::Handshake, reason)
        }
    }
}

fn date(time: UnixTime) -> String {
    let date = i64::try_from(time.as_secs())
        .ok()
        .and_then(|secs| OffsetDateTime::from_unix_timestamp(secs).ok());
    match date {
        Some(date) => date.date().to_string(),
        None => "a day beyond the calendar".into(),
    }
}

/// Names in a certificate, which come as `DnsName("a")` and `IpAddress(::1)`. They are the peer's
/// words: few, and without control characters.
fn names(presented: &[String]) -> String {
    let name = |text: &String| {
        let inner = text
            .split_once('(')
            .and_then(|(_, rest)| rest.strip_suffix(')'));
        let plain = inner.unwrap_or(text).trim_matches('"');
        if let Ok(ip) = plain.parse::<IpAddr>() {
            return ip.to_string();
        }
        plain
            .chars()
            .take(253)
            .collect::<String>()
            .escape_debug()
            .to_string()
    };
    let shown: Vec<_> = presented.iter().take(NAMES).map(name).collect();
    match presented.len() {
        0 => "no name at all".into(),
        count if count > NAMES => format!("{} and {} more", shown.join(", "), count - NAMES),
        _ => shown.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn alerts_are_put_into_words() {
        for (alert, kind, words) in [
            (
                Alert::CertificateRequired,
                ErrorKind::Unauthenticated,
                "there is none",
            ),
            (
                Alert::CertificateExpired,
                ErrorKind::Unauthenticated,
                "has expired",
            ),
            (
                Alert::CertificateRevoked,
                ErrorKind::Unauthenticated,
                "is revoked",
            ),
            (
                Alert::UnknownCA,
                ErrorKind::Unauthenticated,
                "unknown issuer",
            ),
            (
                Alert::BadCertificate,
                ErrorKind::Unauthenticated,
                "the name",
            ),
            (
                Alert::CertificateUnknown,
                ErrorKind::Unauthenticated,
                "another one",
            ),
            (Alert::AccessDenied, ErrorKind::Unauthenticated, "no access"),
            (Alert::NoApplicationProtocol, ErrorKind::Handshake, "ALPN"),
            (
                Alert::ProtocolVersion,
                ErrorKind::Handshake,
                "version of TLS",
            ),
            (
                Alert::HandshakeFailure,
                ErrorKind::Handshake,
                "HandshakeFailure",
            ),
        ] {
            let error = explain("could not connect", &TlsError::AlertReceived(alert));
            assert_eq!(error.kind(), kind, "{error}");
            let text = error.to_string();
            assert!(text.starts_with("could not connect: the peer "), "{text}");
            assert!(text.contains(words), "{text}");
        }
    }

    #[test]
    fn an_error_of_tls_is_found_however_deep() {
        let tls = TlsError::AlertReceived(Alert::UnknownCA);
        let io = io::Error::new(io::ErrorKind::InvalidData, tls.clone());
        assert_eq!(find(&io), Some(&tls));
        let wrapped = Error::with_source(ErrorKind::Failed, "the connection is lost", io);
        assert_eq!(find(&wrapped), Some(&tls));
        let deep = io::Error::other(io::Error::from(wrapped));
        assert_eq!(find(&deep), Some(&tls));
        let error = explain_io("here", deep);
        assert_eq!(error.kind(), ErrorKind::Unauthenticated);
        assert_eq!(find(&error), Some(&tls));
        assert_eq!(find(&io::Error::other("else")), None);
    }

    #[test]
    fn what_is_not_of_tls_keeps_its_kind() {
        for (kind, expected) in [
            (io::ErrorKind::UnexpectedEof, ErrorKind::Handshake),
            (io::ErrorKind::ConnectionReset, ErrorKind::Handshake),
            (io::ErrorKind::TimedOut, ErrorKind::TimedOut),
            (io::ErrorKind::PermissionDenied, ErrorKind::Io),
        ] {
            let error = explain_io("could not connect", kind.into());
            assert_eq!(error.kind(), expected);
            assert!(
                error.to_string().starts_with("could not connect: "),
                "{error}"
            );
        }
        let garbage = TlsError::InvalidMessage(rustls::InvalidMessage::InvalidContentType);
        let error = explain("here", &garbage);
        assert_eq!(error.kind(), ErrorKind::Handshake);
        assert_eq!(error.to_string(), "here: the peer does not speak TLS");
    }

    #[test]
    fn names_of_a_peer_are_quoted_with_care() {
        let of = |names: &[&str]| {
            let presented = names.iter().map(|&name| name.into()).collect();
            let expected = crate::server_name("localhost").unwrap();
            let error = CertificateError::NotValidForNameContext {
                expected,
                presented,
            };
            refusal(&error)
        };
        let long = format!("DnsName(\"{}\")", "a".repeat(10_000));
        assert!(of(&[&long]).len() < 400);
        assert!(of(&[]).ends_with("but for no name at all"));
        assert!(of(&["DnsName(\"a\n\x1b[2Jb\")"]).ends_with(r"a\n\u{1b}[2Jb"));
        let many = of(&["DnsName(\"a\")"; 7]);
        assert!(many.ends_with("but for a, a, a, a, a and 2 more"), "{many}");
        let strange =
            CertificateError::Other(rustls::OtherError(Arc::new(io::Error::other("odd"))));
        assert_eq!(
            refusal(&strange),
            "the peer's certificate is not accepted: odd"
        );
        let endless = UnixTime::since_unix_epoch(std::time::Duration::MAX);
        assert_eq!(date(endless), "a day beyond the calendar");
    }
}
