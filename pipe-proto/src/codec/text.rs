//! Frames as lines of text: a word and its numbers, with a space between them, so that a page needs nothing but
//! `split`. `docs/wire-webrtc.md` lists the words.
//!
//! A stream is named by the channel that its lines are on, not by a number, except in `open`.

use std::fmt;

use crate::frame::{Frame, Hello, MAX_REASON_LEN, StreamFrame};
use crate::violation::Violation;

/// The longest line, in bytes.
pub const MAX_LEN: usize = 4096;

/// The name of the protocol, as the hello and the channels of streams have it.
pub const PROTOCOL: &str = "pipe/1";

/// Writes a frame about a stream as a line on its channel.
#[derive(Clone, Copy, Debug)]
pub struct StreamLine(pub u64, pub StreamFrame);

/// Writes a frame as a line on the control channel: an empty one for a frame that this codec does not have there.
#[derive(Clone, Copy, Debug)]
pub struct ControlLine<'a>(pub &'a Frame);

impl fmt::Display for StreamLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(id, frame) = self;
        match frame {
            StreamFrame::Open => write!(f, "open {id}"),
            StreamFrame::End(bytes) => write!(f, "end {bytes}"),
            StreamFrame::Reset(code) => write!(f, "reset {code}"),
            StreamFrame::Stop(code) => write!(f, "stop {code}"),
            StreamFrame::Credit(bytes) => write!(f, "credit {bytes}"),
            StreamFrame::Taken => f.write_str("taken"),
            StreamFrame::Done => f.write_str("done"),
        }
    }
}

impl fmt::Display for ControlLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Frame::Hello(hello) => {
                write!(
                    f,
                    "hello {PROTOCOL} max_streams={} stream_window={} connection_window={} flight={}",
                    hello.max_streams, hello.stream_window, hello.connection_window, hello.flight
                )?;
                f.write_str(if hello.takes_growth { " growth=1" } else { "" })
            }
            Frame::Received(bytes) => write!(f, "got {bytes}"),
            Frame::Drain => f.write_str("drain"),
            Frame::Drained { streams } => write!(f, "drained {streams}"),
            Frame::Close {
                code,
                messages,
                reason,
            } => write!(f, "close {code} {messages} {reason}"),
            Frame::Closed => f.write_str("closed"),
            Frame::Ping(_) | Frame::Pong(_) | Frame::Stream { .. } => Ok(()),
        }
    }
}

/// A line on the channel of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamWord {
    /// The sender opens the stream of this number on the channel.
    Open(u64),
    /// The line is about the stream that the channel carries.
    About(StreamFrame),
}

/// Reads a line on the channel of a stream. `None` for one that may be ignored.
///
/// # Errors
///
/// A violation: an unknown word, or a number that is missing or out of range.
pub fn decode_stream(line: &[u8]) -> Result<Option<StreamWord>, Violation> {
    let mut words = Words::of(line)?;
    let frame = match words.verb {
        "open" => return Ok(Some(StreamWord::Open(words.number()?))),
        "end" => StreamFrame::End(words.number()?),
        "reset" => StreamFrame::Reset(words.number()?),
        "stop" => StreamFrame::Stop(words.number()?),
        "credit" => StreamFrame::Credit(words.number()?),
        "taken" => StreamFrame::Taken,
        "done" => StreamFrame::Done,
        _ => return words.unknown(),
    };
    Ok(Some(StreamWord::About(frame)))
}

/// Reads a line on the control channel. `None` for one that may be ignored.
///
/// # Errors
///
/// A violation: an unknown word, a number that is missing or out of range, a hello that allows no streams.
pub fn decode_control(line: &[u8]) -> Result<Option<Frame>, Violation> {
    let mut words = Words::of(line)?;
    let frame = match words.verb {
        "hello" => Frame::Hello(decode_hello(words.rest)?),
        "got" => Frame::Received(u64::from(words.number::<u32>()?)),
        "drain" => Frame::Drain,
        "drained" => Frame::Drained {
            streams: words.number()?,
        },
        "close" => {
            let (code, messages) = (words.number()?, words.number()?);
            if words.rest.len() > MAX_REASON_LEN {
                return Err(Violation::new("the reason of a close is too long"));
            }
            Frame::Close {
                code,
                messages,
                reason: words.rest.to_owned(),
            }
        }
        "closed" => Frame::Closed,
        _ => return words.unknown(),
    };
    Ok(Some(frame))
}

fn decode_hello(text: &str) -> Result<Hello, Violation> {
    let mut words = text.split(' ');
    if words.next() != Some(PROTOCOL) {
        return Err(Violation::new(format_args!(
            "its hello is not of {PROTOCOL}: {text:?}"
        )));
    }
    let mut hello = Hello::UNLIMITED;
    for word in words {
        let Some((name, value)) = word.split_once('=') else {
            continue;
        };
        match name {
            "max_streams" => hello.max_streams = number(value)?,
            "stream_window" => hello.stream_window = number(value)?,
            "connection_window" => hello.connection_window = number(value)?,
            "flight" => hello.flight = number(value)?,
            "growth" => hello.takes_growth = number::<u8>(value)? != 0,
            // A later version.
            _ => {}
        }
    }
    if hello.stream_window == 0 || hello.max_streams == 0 {
        return Err(Violation::new("its hello allows no streams"));
    }
    Ok(hello)
}

struct Words<'a> {
    verb: &'a str,
    rest: &'a str,
}

impl<'a> Words<'a> {
    fn of(line: &'a [u8]) -> Result<Self, Violation> {
        if line.len() > MAX_LEN {
            let length = line.len();
            return Err(Violation::new(format_args!(
                "a text message of {length} bytes, where {MAX_LEN} are allowed"
            )));
        }
        let line =
            std::str::from_utf8(line).map_err(|_| Violation::new("text that is not UTF-8"))?;
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        Ok(Self { verb, rest })
    }

    fn number<N: TryFrom<u64>>(&mut self) -> Result<N, Violation> {
        let (word, rest) = self.rest.split_once(' ').unwrap_or((self.rest, ""));
        self.rest = rest;
        number(word)
    }

    /// Words that begin with `x-` may be ignored.
    fn unknown<T>(&self) -> Result<Option<T>, Violation> {
        if self.verb.starts_with("x-") {
            return Ok(None);
        }
        let verb = self.verb;
        Err(Violation::new(format_args!("an unknown message {verb:?}")))
    }
}

fn number<N: TryFrom<u64>>(word: &str) -> Result<N, Violation> {
    // `parse` takes a sign, which the protocol does not have.
    let value = word
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| word.parse::<u64>().ok())
        .flatten();
    value
        .and_then(|value| N::try_from(value).ok())
        .ok_or_else(|| Violation::new(format_args!("{word:?} is not a number in range")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_about_streams_have_their_words() {
        for (frame, line) in [
            (StreamFrame::End(0), "end 0"),
            (StreamFrame::Reset(u32::MAX), "reset 4294967295"),
            (StreamFrame::Stop(7), "stop 7"),
            (StreamFrame::Credit(65_536), "credit 65536"),
            (StreamFrame::Taken, "taken"),
            (StreamFrame::Done, "done"),
        ] {
            assert_eq!(StreamLine(9, frame).to_string(), line);
            let read = decode_stream(line.as_bytes());
            assert_eq!(read, Ok(Some(StreamWord::About(frame))));
        }
        let open = StreamLine(u64::MAX, StreamFrame::Open).to_string();
        assert_eq!(open, "open 18446744073709551615");
        assert_eq!(
            decode_stream(open.as_bytes()),
            Ok(Some(StreamWord::Open(u64::MAX)))
        );
    }

    #[test]
    fn lines_about_the_connection_have_their_words() {
        let hello = Frame::Hello(Hello {
            max_streams: 256,
            stream_window: 262_144,
            connection_window: 1 << 40,
            flight: 786_432,
            takes_growth: false,
        });
        let close = |code, messages, reason: &str| Frame::Close {
            code,
            messages,
            reason: reason.into(),
        };
        for (frame, line) in [
            (
                hello,
                "hello pipe/1 max_streams=256 stream_window=262144 connection_window=1099511627776 flight=786432",
            ),
            (Frame::Received(1), "got 1"),
            (Frame::Drain, "drain"),
            (Frame::Drained { streams: 3 }, "drained 3"),
            (close(5, 9, " two words "), "close 5 9  two words "),
            (close(0, 0, ""), "close 0 0 "),
            (Frame::Closed, "closed"),
        ] {
            assert_eq!(ControlLine(&frame).to_string(), line);
            assert_eq!(decode_control(line.as_bytes()), Ok(Some(frame)));
        }
        assert_eq!(ControlLine(&Frame::Ping([0; 64])).to_string(), "");
    }

    #[test]
    fn a_hello_says_that_credit_may_grow_windows() {
        let hello = Hello {
            takes_growth: true,
            ..Hello::UNLIMITED
        };
        let line = ControlLine(&Frame::Hello(hello)).to_string();
        assert!(line.ends_with(" flight=0 growth=1"), "{line}");
        assert_eq!(
            decode_control(line.as_bytes()),
            Ok(Some(Frame::Hello(hello)))
        );
        assert!(decode_control(b"hello pipe/1 growth=256").is_err());
    }

    #[test]
    fn a_hello_of_a_later_version_may_have_more() {
        let line = b"hello pipe/1 max_streams=3 colour=red stream_window=9 more";
        let hello = Hello {
            max_streams: 3,
            stream_window: 9,
            ..Hello::UNLIMITED
        };
        assert_eq!(decode_control(line), Ok(Some(Frame::Hello(hello))));
        assert_eq!(decode_control(b"x-later 1 2 3"), Ok(None));
        assert_eq!(decode_stream(b"x-later"), Ok(None));
    }

    #[test]
    fn other_lines_are_violations() {
        let long = vec![b'x'; MAX_LEN + 1];
        for line in [
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
            assert!(decode_stream(line).is_err());
        }
        for line in [
            &b"hello pipe/2"[..],
            b"hello pipe/1 max_streams=0",
            b"hello pipe/1 flight=-3",
            b"close",
            b"close 1",
            b"drained",
            b"got 4294967296",
            b"open 1",
        ] {
            assert!(decode_control(line).is_err(), "{line:?}");
        }
    }
}
