/// How many random bytes a ping carries.
pub const PING_LEN: usize = 64;

/// The longest reason of a close, in bytes.
pub const MAX_REASON_LEN: usize = 1024;

/// The bytes of a ping, which its answer repeats.
pub type PingBytes = [u8; PING_LEN];

/// A message of `pipe/1`.
///
/// A wire leaves out what it does not need: a [codec](crate::codec) writes nothing for a frame, and drops a field,
/// that its wire does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// The first message of each side.
    Hello(Hello),
    /// Asks for a pong with the same bytes.
    Ping(PingBytes),
    /// Answers a ping.
    Pong(PingBytes),
    /// Concerns one stream.
    Stream {
        /// The stream.
        id: u64,
        /// The message.
        frame: StreamFrame,
    },
    /// The sender received so many more bytes of streams, read or not. Text only.
    Received(u64),
    /// The sender opens no more streams and wants none.
    Drain,
    /// Answers a drain: the sender opens no more streams.
    Drained {
        /// How many streams the sender opened in all. Text only.
        streams: u64,
    },
    /// The sender closes the connection. Nothing follows but [`Closed`](Self::Closed).
    Close {
        /// The application's code.
        code: u32,
        /// How many messages the sender sent on the channels of streams. Text only.
        messages: u64,
        /// The application's reason, of at most [`MAX_REASON_LEN`] bytes.
        reason: String,
    },
    /// The sender received a close. Text only.
    Closed,
}

/// A message about one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamFrame {
    /// The sender opens the stream. It is for [`Session::accept`](crate::Session::accept): as a frame about a stream
    /// it is a violation.
    Open,
    /// The sender's direction ends cleanly after so many bytes in all.
    End(u64),
    /// The sender abandons its direction, with the application's code.
    Reset(u32),
    /// The sender reads no more of the receiver's direction, with the application's code.
    Stop(u32),
    /// So many more bytes may come: the sender's application read as many, or its window changed.
    Credit(u32),
    /// The sender's application read the receiver's direction to its end.
    Taken,
    /// The sender's application is done with a stream that the receiver opened.
    Done,
}

/// What each side allows its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// How many streams of the peer may be open at once.
    pub max_streams: u32,
    /// How many unread bytes one direction of a stream may have. The multiplexer's own window may be smaller.
    pub stream_window: u32,
    /// How many unread bytes all streams may have; 0 for any number.
    pub connection_window: u64,
    /// How many bytes may be in flight; 0 for any number. Text only.
    pub flight: u32,
    /// Whether the sender makes use of credit beyond what it has sent, so that the receiver may grow a stream's window.
    pub takes_growth: bool,
}

impl Hello {
    /// Allows everything, as a peer that has no hello does.
    pub const UNLIMITED: Self = Self {
        max_streams: u32::MAX,
        stream_window: u32::MAX,
        connection_window: 0,
        flight: 0,
        takes_growth: false,
    };
}

/// Cuts a reason to the length that a close carries, at a character.
pub(crate) fn cut_reason(reason: &str) -> &str {
    let mut end = reason.len().min(MAX_REASON_LEN);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    &reason[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_reason_is_cut_at_a_character() {
        let reason = "ä".repeat(600);
        assert_eq!(cut_reason(&reason).len(), MAX_REASON_LEN);
        let reason = format!("a{reason}");
        assert_eq!(cut_reason(&reason).len(), MAX_REASON_LEN - 1);
        assert_eq!(cut_reason("short"), "short");
    }
}
