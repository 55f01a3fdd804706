//! The text messages of `pipe/1` over data channels: what is said beside the bytes.
//!
//! Each is one line of words with a space between them, so that a peer in a browser needs nothing but
//! `split`. See `docs/wire-webrtc.md`.

use std::fmt;

use pipe_core::{CloseReason, MAX_REASON_LEN, Result};

use crate::error::protocol;

/// The protocol of every channel that carries streams, and the first word of the hello.
pub(crate) const PROTOCOL: &str = "pipe/1";

/// The largest message that is sent, in bytes, where the peer takes it.
pub(crate) const MAX_MESSAGE: usize = 64 * 1024;

/// What is spoken over the data channels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Wire {
    /// The protocol `pipe/1`: both ends are pipewerks, or speak it, and the contract holds.
    #[default]
    Pipe,
    /// Plain data channels, for a peer of another make. Each channel is a stream, a message is bytes,
    /// and the channel's close is the end. What such a peer cannot be told does not arrive:
    ///
    /// - a shutdown closes the channel once the other direction has ended too, or is dropped;
    /// - a reset closes it at once, without a code, and reads as an end at the peer; a stop is not told;
    /// - the peer's close reads as a clean end, whether or not its data was complete;
    /// - a close of the connection carries no code and no reason;
    /// - [`drain`](pipe_core::Conn::drain) does not keep the peer from opening channels;
    /// - a stream that is left unread holds up the others once the window is full.
    Raw {
        /// Whether there are the channels "ping" and "echo", negotiated with the ids 1 and 2. Without
        /// them [`ping`](pipe_core::Conn::ping) is [`Unsupported`](pipe_core::ErrorKind::Unsupported).
        ping: bool,
    },
}

impl Wire {
    pub(crate) fn is_raw(self) -> bool {
        self != Self::Pipe
    }
}

/// The longest text message, in bytes.
pub(crate) const MAX_TEXT: usize = 4096;

/// What is said on the channel of a stream, about that stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamMessage {
    /// The sender opens a stream of this number on this channel.
    Open(u64),
    /// The sender's direction ends cleanly after so many bytes.
    End(u64),
    /// The sender abandons its direction.
    Reset(u32),
    /// The sender wants no more of the receiver's direction.
    Stop(u32),
    /// The sender has read so many more bytes.
    Credit(u32),
    /// The sender has read the receiver's direction to its end.
    Taken,
    /// The sender is done with a stream that the receiver opened.
    Done,
}

/// What is said on the control channel, about the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ControlMessage {
    Hello(Hello),
    /// So many more bytes have arrived, read or not.
    Got(u32),
    /// The sender opens no more streams and wants none.
    Drain,
    /// The sender has seen a drain, and had opened so many streams in all.
    Drained(u64),
    /// The sender closes the connection, and had sent so many messages on the channels of streams.
    Close {
        code: u32,
        messages: u64,
        reason: String,
    },
    /// The sender has seen a close.
    Closed,
}

/// What a side says of itself first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) max_streams: u32,
    pub(crate) stream_window: u32,
    /// 0 means any number of bytes.
    pub(crate) connection_window: u64,
    /// How many bytes may be on their way to the sender, 0 any number.
    pub(crate) flight: u32,
}

impl fmt::Display for StreamMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(id) => write!(f, "open {id}"),
            Self::End(bytes) => write!(f, "end {bytes}"),
            Self::Reset(code) => write!(f, "reset {code}"),
            Self::Stop(code) => write!(f, "stop {code}"),
            Self::Credit(bytes) => write!(f, "credit {bytes}"),
            Self::Taken => f.write_str("taken"),
            Self::Done => f.write_str("done"),
        }
    }
}

impl fmt::Display for ControlMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hello(hello) => write!(
                f,
                "hello {PROTOCOL} max_streams={} stream_window={} connection_window={} flight={}",
                hello.max_streams, hello.stream_window, hello.connection_window, hello.flight
            ),
            Self::Got(bytes) => write!(f, "got {bytes}"),
            Self::Drain => f.write_str("drain"),
            Self::Drained(streams) => write!(f, "drained {streams}"),
            Self::Close {
                code,
                messages,
                reason,
            } => write!(f, "close {code} {messages} {reason}"),
            Self::Closed => f.write_str("closed"),
        }
    }
}

impl StreamMessage {
    /// Reads a message; `None` for one that may be ignored.
    pub(crate) fn parse(text: &[u8]) -> Result<Option<Self>> {
        let mut words = Words::of(text)?;
        let message = match words.verb {
            "open" => Self::Open(words.number()?),
            "end" => Self::End(words.number()?),
            "reset" => Self::Reset(words.number()?),
            "stop" => Self::Stop(words.number()?),
            "credit" => Self::Credit(words.number()?),
            "taken" => Self::Taken,
            "done" => Self::Done,
            _ => return words.unknown(),
        };
        Ok(Some(message))
    }
}

impl ControlMessage {
    /// A close of this reason; `None` unless this side closed.
    pub(crate) fn close(reason: &CloseReason, messages: u64) -> Option<Self> {
        match reason {
            CloseReason::Local { code, reason } => Some(Self::Close {
                code: *code,
                messages,
                reason: reason.to_string(),
            }),
            _ => None,
        }
    }

    /// Reads a message; `None` for one that may be ignored.
    pub(crate) fn parse(text: &[u8]) -> Result<Option<Self>> {
        let mut words = Words::of(text)?;
        let message = match words.verb {
            "hello" => Self::Hello(Hello::parse(words.rest)?),
            "got" => Self::Got(words.number()?),
            "drain" => Self::Drain,
            "drained" => Self::Drained(words.number()?),
            "close" => {
                let (code, messages) = (words.number()?, words.number()?);
                if words.rest.len() > MAX_REASON_LEN {
                    return Err(protocol("the reason of a close is too long"));
                }
                Self::Close {
                    code,
                    messages,
                    reason: words.rest.to_owned(),
                }
            }
            "closed" => Self::Closed,
            _ => return words.unknown(),
        };
        Ok(Some(message))
    }
}

impl Hello {
    /// What a plain peer would say: anything goes.
    pub(crate) fn plain() -> Self {
        Self {
            max_streams: u32::MAX,
            stream_window: u32::MAX,
            connection_window: 0,
            flight: 0,
        }
    }

    fn parse(text: &str) -> Result<Self> {
        let mut words = text.split(' ');
        if words.next() != Some(PROTOCOL) {
            return Err(protocol(format_args!(
                "its hello is not of {PROTOCOL}: {text:?}"
            )));
        }
        let mut hello = Self {
            max_streams: u32::MAX,
            stream_window: u32::MAX,
            connection_window: 0,
            flight: 0,
        };
        for word in words {
            let Some((name, value)) = word.split_once('=') else {
                continue;
            };
            match name {
                "max_streams" => hello.max_streams = number(value)?,
                "stream_window" => hello.stream_window = number(value)?,
                "connection_window" => hello.connection_window = number(value)?,
                "flight" => hello.flight = number(value)?,
                // What later versions say.
                _ => {}
            }
        }
        if hello.stream_window == 0 || hello.max_streams == 0 {
            return Err(protocol("its hello allows no streams"));
        }
        Ok(hello)
    }
}

struct Words<'a> {
    verb: &'a str,
    rest: &'a str,
}

impl<'a> Words<'a> {
    fn of(text: &'a [u8]) -> Result<Self> {
        if text.len() > MAX_TEXT {
            let length = text.len();
            return Err(protocol(format_args!(
                "a text message of {length} bytes, where {MAX_TEXT} are allowed"
            )));
        }
        let text = std::str::from_utf8(text).map_err(|_| protocol("text that is not UTF-8"))?;
        let (verb, rest) = text.split_once(' ').unwrap_or((text, ""));
        Ok(Self { verb, rest })
    }

    fn number<N: TryFrom<u64>>(&mut self) -> Result<N> {
        let (word, rest) = self.rest.split_once(' ').unwrap_or((self.rest, ""));
        self.rest = rest;
        number(word)
    }

    /// Words that begin with `x-` are for those who know them.
    fn unknown<T>(&self) -> Result<Option<T>> {
        if self.verb.starts_with("x-") {
            return Ok(None);
        }
        Err(protocol(format_args!("an unknown message {:?}", self.verb)))
    }
}

fn number<N: TryFrom<u64>>(word: &str) -> Result<N> {
    // `parse` takes a sign, which is not of this protocol.
    let value = word
        .bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| word.parse::<u64>().ok())
        .flatten();
    value
        .and_then(|value| N::try_from(value).ok())
        .ok_or_else(|| protocol(format_args!("{word:?} is not a number in range")))
}

#[cfg(test)]
mod tests {
    use pipe_core::ErrorKind;

    use super::*;

    #[test]
    fn stream_messages_are_read_as_they_were_written() {
        for message in [
            StreamMessage::Open(u64::MAX),
            StreamMessage::End(0),
            StreamMessage::Reset(u32::MAX),
            StreamMessage::Stop(7),
            StreamMessage::Credit(65_536),
            StreamMessage::Taken,
            StreamMessage::Done,
        ] {
            let text = message.to_string();
            assert_eq!(
                StreamMessage::parse(text.as_bytes()).unwrap(),
                Some(message)
            );
        }
    }

    #[test]
    fn control_messages_are_read_as_they_were_written() {
        let hello = Hello {
            max_streams: 256,
            stream_window: 262_144,
            connection_window: 1 << 40,
            flight: 786_432,
        };
        for message in [
            ControlMessage::Hello(hello),
            ControlMessage::Got(1),
            ControlMessage::Drain,
            ControlMessage::Drained(3),
            ControlMessage::Close {
                code: 5,
                messages: 9,
                reason: " two words ".into(),
            },
            ControlMessage::Close {
                code: 0,
                messages: 0,
                reason: String::new(),
            },
            ControlMessage::Closed,
        ] {
            let text = message.to_string();
            assert_eq!(
                ControlMessage::parse(text.as_bytes()).unwrap(),
                Some(message)
            );
        }
    }

    #[test]
    fn a_hello_of_a_later_version_may_say_more() {
        let text = b"hello pipe/1 max_streams=3 colour=red stream_window=9 more";
        let Some(ControlMessage::Hello(hello)) = ControlMessage::parse(text).unwrap() else {
            panic!("no hello")
        };
        assert_eq!((hello.max_streams, hello.stream_window), (3, 9));
        assert_eq!((hello.connection_window, hello.flight), (0, 0));
        assert_eq!(ControlMessage::parse(b"x-later 1 2 3").unwrap(), None);
    }

    #[test]
    fn what_is_no_message_is_a_protocol_error() {
        let long = vec![b'x'; MAX_TEXT + 1];
        for text in [
            &b""[..],
            b"open",
            b"open -1",
            b"open +1",
            b"open 1x",
            b"reset 4294967296",
            b"end 18446744073709551616",
            b"hello",
            b"shout",
            b"\xff\xfe",
            &long,
        ] {
            let error = StreamMessage::parse(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Protocol);
        }
        for text in [
            &b"hello pipe/2"[..],
            b"hello pipe/1 max_streams=0",
            b"hello pipe/1 flight=-3",
            b"close",
            b"close 1",
            b"drained",
            b"open 1",
        ] {
            let error = ControlMessage::parse(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Protocol, "{text:?}");
        }
    }
}
