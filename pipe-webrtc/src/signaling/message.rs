use pipe_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use crate::engine::Candidate;
use crate::error::protocol;

/// The version of the messages.
pub const SIGNALING_VERSION: u32 = 1;

/// The longest message, in bytes of its JSON text.
pub const MAX_SIGNAL_LEN: usize = 64 * 1024;

/// A message between the two sides of a negotiation.
///
/// The names of the fields are those of the W3C's dictionaries, so that a page can take a description
/// or candidate as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Signal {
    /// The dialer's description of the connection, or of a new path for it.
    Offer(Description),
    /// The listener's answer to the last offer.
    Answer(Description),
    /// A way to reach the sender. It may come before the description that it belongs to.
    Candidate(IceCandidate),
    /// The sender has no more candidates for now.
    EndOfCandidates,
    /// A request of the listener for an offer with a new path.
    Restart,
    /// The sender gives the negotiation up.
    Refused(Refusal),
    /// A message of a later version, to be ignored.
    #[serde(other)]
    Unknown,
}

/// A session description (RFC 8866).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// The version of the messages: [`SIGNALING_VERSION`].
    #[serde(default = "first_version")]
    pub version: u32,
    /// The description.
    pub sdp: String,
    /// In an offer, the dialed name, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// A candidate (RFC 8839, section 5.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IceCandidate {
    /// The candidate, as in a description.
    pub candidate: String,
    /// The part of the description that it belongs to, by its name.
    #[serde(rename = "sdpMid", default)]
    pub mid: Option<String>,
    /// The part of the description that it belongs to, by its number.
    #[serde(rename = "sdpMLineIndex", default)]
    pub line: Option<u16>,
}

/// Why a negotiation is given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The kind of failure: `unauthenticated`, `unreachable`, `timed-out`, `refused` or any other.
    pub cause: String,
    /// Text for people.
    #[serde(default)]
    pub reason: String,
}

fn first_version() -> u32 {
    SIGNALING_VERSION
}

impl Signal {
    /// Creates an offer.
    pub(crate) fn offer(sdp: String, name: Option<String>) -> Self {
        Self::Offer(Description {
            version: SIGNALING_VERSION,
            sdp,
            name,
        })
    }

    /// Creates an answer.
    pub(crate) fn answer(sdp: String) -> Self {
        Self::Answer(Description {
            version: SIGNALING_VERSION,
            sdp,
            name: None,
        })
    }

    /// Returns the message as JSON.
    ///
    /// # Errors
    ///
    /// [`LimitReached`](ErrorKind::LimitReached) when it is longer than [`MAX_SIGNAL_LEN`].
    pub fn to_json(&self) -> Result<String> {
        let json = serde_json::to_string(self)
            .map_err(|error| Error::new(ErrorKind::Io, format!("writing a signal: {error}")))?;
        if json.len() > MAX_SIGNAL_LEN {
            let length = json.len();
            return Err(Error::new(
                ErrorKind::LimitReached,
                format!("a signal of {length} bytes, where {MAX_SIGNAL_LEN} are allowed"),
            ));
        }
        Ok(json)
    }

    /// Reads a message.
    ///
    /// # Errors
    ///
    /// [`Protocol`](ErrorKind::Protocol) for malformed messages, and those of another version.
    pub fn from_json(json: &[u8]) -> Result<Self> {
        if json.len() > MAX_SIGNAL_LEN {
            let length = json.len();
            return Err(protocol(format_args!(
                "a signal of {length} bytes, where {MAX_SIGNAL_LEN} are allowed"
            )));
        }
        let signal: Self = serde_json::from_slice(json)
            .map_err(|error| protocol(format_args!("a signal that cannot be read: {error}")))?;
        if let Self::Offer(description) | Self::Answer(description) = &signal
            && description.version != SIGNALING_VERSION
        {
            let version = description.version;
            return Err(protocol(format_args!(
                "signals of version {version}, where {SIGNALING_VERSION} is known"
            )));
        }
        Ok(signal)
    }
}

impl From<Candidate> for IceCandidate {
    fn from(candidate: Candidate) -> Self {
        Self {
            candidate: candidate.candidate,
            mid: candidate.mid,
            line: candidate.line,
        }
    }
}

impl From<IceCandidate> for Candidate {
    fn from(candidate: IceCandidate) -> Self {
        Self {
            candidate: candidate.candidate,
            mid: candidate.mid,
            line: candidate.line,
        }
    }
}

impl Refusal {
    /// Converts this error for the other side.
    pub(crate) fn of(error: &Error) -> Self {
        let cause = match error.kind() {
            ErrorKind::Unauthenticated => "unauthenticated",
            ErrorKind::Unreachable => "unreachable",
            ErrorKind::TimedOut => "timed-out",
            ErrorKind::Refused => "refused",
            _ => "failed",
        };
        Self {
            cause: cause.to_owned(),
            reason: error.to_string(),
        }
    }

    pub(crate) fn error(&self) -> Error {
        let kind = match self.cause.as_str() {
            "unauthenticated" => ErrorKind::Unauthenticated,
            "unreachable" => ErrorKind::Unreachable,
            "timed-out" => ErrorKind::TimedOut,
            "refused" => ErrorKind::Refused,
            _ => ErrorKind::Handshake,
        };
        let why = format!("the peer aborted the negotiation: {}", self.reason);
        Error::new(kind, why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The texts that they have always had.
    #[test]
    fn signals_have_their_texts() {
        let candidate = |mid: Option<&str>, line| {
            Signal::Candidate(IceCandidate {
                candidate: "candidate:1 1 udp 1 127.0.0.1 9 typ host".into(),
                mid: mid.map(Into::into),
                line,
            })
        };
        for (signal, json) in [
            (
                Signal::offer("v=0\r\n".into(), Some("room".into())),
                r#"{"type":"offer","version":1,"sdp":"v=0\r\n","name":"room"}"#,
            ),
            (
                Signal::offer("v=0".into(), None),
                r#"{"type":"offer","version":1,"sdp":"v=0"}"#,
            ),
            (
                Signal::answer("v=0".into()),
                r#"{"type":"answer","version":1,"sdp":"v=0"}"#,
            ),
            (
                candidate(Some("0"), Some(0)),
                r#"{"type":"candidate","candidate":"candidate:1 1 udp 1 127.0.0.1 9 typ host","sdpMid":"0","sdpMLineIndex":0}"#,
            ),
            (
                candidate(None, None),
                r#"{"type":"candidate","candidate":"candidate:1 1 udp 1 127.0.0.1 9 typ host","sdpMid":null,"sdpMLineIndex":null}"#,
            ),
            (Signal::EndOfCandidates, r#"{"type":"end-of-candidates"}"#),
            (Signal::Restart, r#"{"type":"restart"}"#),
            (
                Signal::Refused(Refusal {
                    cause: "refused".into(),
                    reason: "why".into(),
                }),
                r#"{"type":"refused","cause":"refused","reason":"why"}"#,
            ),
        ] {
            assert_eq!(signal.to_json().unwrap(), json);
            assert_eq!(Signal::from_json(json.as_bytes()).unwrap(), signal);
        }
    }

    #[test]
    fn what_a_page_writes_is_read() {
        let offer = br#"{"type":"offer","sdp":"v=0"}"#;
        assert_eq!(
            Signal::from_json(offer).unwrap(),
            Signal::offer("v=0".into(), None)
        );
        let later = br#"{"type":"news"}"#;
        assert_eq!(Signal::from_json(later).unwrap(), Signal::Unknown);
    }

    #[test]
    fn what_is_no_signal_is_a_protocol_error() {
        let long = vec![b' '; MAX_SIGNAL_LEN + 1];
        for json in [
            &b""[..],
            b"{}",
            b"[1]",
            br#"{"type":"offer"}"#,
            br#"{"type":"offer","sdp":"v=0","version":2}"#,
            b"\xff",
            &long,
        ] {
            let error = Signal::from_json(json).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Protocol);
        }
        let long = Signal::offer("x".repeat(MAX_SIGNAL_LEN), None);
        let error = long.to_json().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LimitReached);
    }
}
