//! What an association reports and takes.

use crate::chunk::error::{Cause, code};
use bytes::Bytes;
use std::{error::Error, fmt, time::Duration};

/// The state of an association (RFC 9260, section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum State {
    Closed,
    CookieWait,
    CookieEchoed,
    Established,
    ShutdownPending,
    ShutdownSent,
    ShutdownReceived,
    ShutdownAckSent,
}

/// A change that the application is told of.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The association is established.
    Connected,
    /// The peer reset its direction of a stream (RFC 6525). Reported once all messages of the stream
    /// before the reset were taken with [`poll_message`](crate::Association::poll_message).
    IncomingReset {
        /// The stream.
        stream: u16,
    },
    /// The peer performed the reset of this end's direction of a stream, which may be used again.
    OutgoingReset {
        /// The stream.
        stream: u16,
    },
    /// The peer refused a reset. The stream takes messages again.
    ResetDenied {
        /// The stream.
        stream: u16,
    },
    /// The bytes that are queued or not yet acknowledged are down to
    /// [`Config::buffered_low`](crate::Config::buffered_low).
    BufferedLow,
    /// The peer began anew (RFC 9260, section 5.2.4.1): what was not yet delivered is lost, and all
    /// streams are as at the start.
    Restarted,
    /// The association ended; nothing follows.
    Closed(CloseReason),
}

/// Why an association ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// It was shut down by either end; all messages arrived.
    Shutdown,
    /// The peer aborted it.
    AbortedByPeer {
        /// The code of the error cause (RFC 9260, section 3.3.10), or 0.
        code: u16,
        /// The text of the cause.
        reason: String,
    },
    /// This end aborted it with [`abort`](crate::Association::abort).
    Aborted,
    /// The peer did not answer for [`Config::failed_after`](crate::Config::failed_after).
    Failed,
    /// The peer broke the protocol, or passed a limit of this end.
    ProtocolViolation(&'static str),
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shutdown => f.write_str("the association was shut down"),
            Self::AbortedByPeer { code, reason } if reason.is_empty() => {
                write!(f, "the peer aborted the association (cause {code})")
            }
            Self::AbortedByPeer { code, reason } => {
                write!(
                    f,
                    "the peer aborted the association: {reason} (cause {code})"
                )
            }
            Self::Aborted => f.write_str("the association was aborted"),
            Self::Failed => f.write_str("the peer does not answer"),
            Self::ProtocolViolation(what) => write!(f, "the association ended: {what}"),
        }
    }
}

impl Error for CloseReason {}

impl From<Cause> for CloseReason {
    fn from(cause: Cause) -> Self {
        Self::AbortedByPeer {
            code: cause.code,
            reason: cause.text,
        }
    }
}

/// A reason to end the association, found in a packet of the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    /// The code of the error cause that the peer is sent.
    pub(crate) code: u16,
    pub(crate) text: &'static str,
    /// What the cause carries, if it is not the text.
    pub(crate) value: Option<u32>,
}

impl Violation {
    pub(crate) const fn protocol(text: &'static str) -> Self {
        Self::new(code::PROTOCOL_VIOLATION, text)
    }

    pub(crate) const fn new(code: u16, text: &'static str) -> Self {
        Self {
            code,
            text,
            value: None,
        }
    }

    pub(crate) const fn resource(text: &'static str) -> Self {
        Self::new(code::OUT_OF_RESOURCE, text)
    }
}

/// A message from the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The stream it came on.
    pub stream: u16,
    /// The payload protocol identifier; those of data channels are in [`ppid`](crate::dcep::ppid).
    pub ppid: u32,
    /// The content, never empty.
    pub payload: Bytes,
    /// Whether it was sent to be delivered without regard to order.
    pub unordered: bool,
}

/// How a message is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SendOptions {
    /// Delivers the message as soon as it arrives, also before earlier ones of its stream.
    pub unordered: bool,
    /// Gives the message up after this many retransmissions (RFC 7496). Has no effect if the peer does not
    /// support it (RFC 3758).
    pub max_retransmits: Option<u16>,
    /// Gives the message up after this time (RFC 3758, section 3.4). Has no effect on a message of which a part
    /// was sent if the peer does not support it.
    pub lifetime: Option<Duration>,
    /// Asks the peer for an acknowledgement at once (RFC 7053).
    pub immediate: bool,
}

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError {
    /// [`Config::send_buffer`](crate::Config::send_buffer) is full.
    Full,
    /// The association ended or is being shut down.
    Closed,
    /// The stream is being reset.
    Resetting,
    /// The peer takes no messages on a stream of this id.
    InvalidStream,
    /// SCTP has no empty messages (RFC 9260, section 6.1).
    Empty,
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "the send buffer is full",
            Self::Closed => "the association is closed",
            Self::Resetting => "the stream is being reset",
            Self::InvalidStream => "the peer takes no messages on this stream",
            Self::Empty => "a message has at least one byte",
        })
    }
}

impl Error for SendError {}
