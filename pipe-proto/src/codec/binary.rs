//! Frames as bytes: one of type, two of length, then the payload, with numbers in network byte order.
//!
//! A payload may be longer than its fields, for what later versions add. `docs/wire.md` lists the types.

use bytes::{Buf, BufMut, BytesMut};

use crate::frame::{Frame, Hello, MAX_REASON_LEN, PING_LEN, StreamFrame, cut_reason};
use crate::violation::Violation;

/// The longest payload, in bytes.
pub const MAX_PAYLOAD: usize = 4096;

/// What the payload of a hello starts with.
const MAGIC: &[u8; 6] = b"pipe/1";

/// The bit of the flags of a hello that says that the sender takes growth of windows.
const TAKES_GROWTH: u8 = 1;

/// Type and length.
const HEADER_LEN: usize = 3;

/// From this type on, a receiver ignores types that it does not know.
const FIRST_OPTIONAL: u8 = 0x80;

const HELLO: u8 = 0x01;
const PING: u8 = 0x02;
const PONG: u8 = 0x03;
const END: u8 = 0x04;
const RESET: u8 = 0x05;
const STOP: u8 = 0x06;
const DONE: u8 = 0x07;
const DRAIN: u8 = 0x08;
const DRAINED: u8 = 0x09;
const CLOSE: u8 = 0x0a;
const TAKEN: u8 = 0x0b;
const CREDIT: u8 = 0x0c;
const OPEN: u8 = 0x0d;

/// Appends a frame. Nothing is appended for one that this codec does not have.
pub fn encode(frame: &Frame, out: &mut BytesMut) {
    let start = out.len();
    out.put_bytes(0, HEADER_LEN);
    let kind = match frame {
        Frame::Hello(hello) => {
            out.put_slice(MAGIC);
            out.put_u32(hello.max_streams);
            out.put_u32(hello.stream_window);
            out.put_u64(hello.connection_window);
            if hello.takes_growth {
                out.put_u8(TAKES_GROWTH);
            }
            HELLO
        }
        Frame::Ping(bytes) => {
            out.put_slice(bytes);
            PING
        }
        Frame::Pong(bytes) => {
            out.put_slice(bytes);
            PONG
        }
        Frame::Stream { id, frame } => {
            out.put_u64(*id);
            match frame {
                StreamFrame::Open => OPEN,
                StreamFrame::End(bytes) => {
                    out.put_u64(*bytes);
                    END
                }
                StreamFrame::Reset(code) => {
                    out.put_u32(*code);
                    RESET
                }
                StreamFrame::Stop(code) => {
                    out.put_u32(*code);
                    STOP
                }
                StreamFrame::Credit(bytes) => {
                    out.put_u32(*bytes);
                    CREDIT
                }
                StreamFrame::Taken => TAKEN,
                StreamFrame::Done => DONE,
            }
        }
        Frame::Drain => DRAIN,
        Frame::Drained { .. } => DRAINED,
        Frame::Close { code, reason, .. } => {
            out.put_u32(*code);
            out.put_slice(cut_reason(reason).as_bytes());
            CLOSE
        }
        Frame::Received(_) | Frame::Closed => return out.truncate(start),
    };
    let length = (out.len() - start - HEADER_LEN) as u16;
    out[start] = kind;
    out[start + 1..start + HEADER_LEN].copy_from_slice(&length.to_be_bytes());
}

/// Takes the next frame from the front of `input`, if it is whole. Optional frames of an unknown type are skipped.
///
/// # Errors
///
/// A violation: a payload above [`MAX_PAYLOAD`], before it is waited for; one too short for its fields; a type that
/// is unknown and not optional.
pub fn decode(input: &mut BytesMut) -> Result<Option<Frame>, Violation> {
    loop {
        let Some(&[kind, high, low]) = input.first_chunk::<HEADER_LEN>() else {
            return Ok(None);
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length > MAX_PAYLOAD {
            return Err(Violation::new(format_args!(
                "a message of {length} bytes is above the limit"
            )));
        }
        let Some(payload) = input.get(HEADER_LEN..HEADER_LEN + length) else {
            return Ok(None);
        };
        let frame = decode_payload(kind, payload)?;
        input.advance(HEADER_LEN + length);
        if frame.is_some() {
            return Ok(frame);
        }
    }
}

fn decode_payload(kind: u8, mut payload: &[u8]) -> Result<Option<Frame>, Violation> {
    let short = |_| Violation::new(format_args!("a message of type {kind:#04x} is too short"));
    let frame = match kind {
        HELLO => {
            if payload.get(..MAGIC.len()) != Some(MAGIC) {
                return Err(Violation::new("the peer does not speak pipe/1"));
            }
            payload.advance(MAGIC.len());
            Frame::Hello(Hello {
                max_streams: payload.try_get_u32().map_err(short)?,
                stream_window: payload.try_get_u32().map_err(short)?,
                connection_window: payload.try_get_u64().map_err(short)?,
                flight: 0,
                takes_growth: payload
                    .first()
                    .is_some_and(|flags| flags & TAKES_GROWTH != 0),
            })
        }
        PING | PONG => {
            let mut bytes = [0; PING_LEN];
            payload.try_copy_to_slice(&mut bytes).map_err(short)?;
            if kind == PING {
                Frame::Ping(bytes)
            } else {
                Frame::Pong(bytes)
            }
        }
        END | RESET | STOP | CREDIT | TAKEN | DONE | OPEN => {
            let id = payload.try_get_u64().map_err(short)?;
            let frame = match kind {
                END => StreamFrame::End(payload.try_get_u64().map_err(short)?),
                RESET => StreamFrame::Reset(payload.try_get_u32().map_err(short)?),
                STOP => StreamFrame::Stop(payload.try_get_u32().map_err(short)?),
                CREDIT => StreamFrame::Credit(payload.try_get_u32().map_err(short)?),
                TAKEN => StreamFrame::Taken,
                DONE => StreamFrame::Done,
                _ => StreamFrame::Open,
            };
            Frame::Stream { id, frame }
        }
        DRAIN => Frame::Drain,
        DRAINED => Frame::Drained { streams: 0 },
        CLOSE => {
            let code = payload.try_get_u32().map_err(short)?;
            let reason = &payload[..payload.len().min(MAX_REASON_LEN)];
            // A replacement character is longer than the byte that it stands for.
            let reason = String::from_utf8_lossy(reason);
            Frame::Close {
                code,
                messages: 0,
                reason: cut_reason(&reason).to_owned(),
            }
        }
        FIRST_OPTIONAL.. => return Ok(None),
        _ => {
            return Err(Violation::new(format_args!(
                "a message of the unknown type {kind:#04x}"
            )));
        }
    };
    Ok(Some(frame))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(frame: &Frame) -> BytesMut {
        let mut out = BytesMut::new();
        encode(frame, &mut out);
        out
    }

    fn about(id: u64, frame: StreamFrame) -> Frame {
        Frame::Stream { id, frame }
    }

    /// The bytes of `pipe/1`, and the frames that they are read as. A hello had no flags at first.
    #[test]
    fn frames_have_their_bytes_on_the_wire() {
        let hello = |takes_growth| {
            Frame::Hello(Hello {
                max_streams: 256,
                stream_window: 1 << 18,
                connection_window: 3,
                flight: 9,
                takes_growth,
            })
        };
        let close = Frame::Close {
            code: 7,
            messages: 5,
            reason: "bye".into(),
        };
        let mut nonce = [0; PING_LEN];
        for (i, byte) in nonce.iter_mut().enumerate() {
            *byte = b'0' + i as u8;
        }
        let traces: [(Frame, &[u8]); 16] = [
            (
                hello(true),
                b"\x01\x00\x17pipe/1\x00\x00\x01\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x03\x01",
            ),
            (
                hello(false),
                b"\x01\x00\x16pipe/1\x00\x00\x01\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x03",
            ),
            (
                Frame::Ping(nonce),
                b"\x02\x00\x400123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmno",
            ),
            (
                Frame::Pong(nonce),
                b"\x03\x00\x400123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmno",
            ),
            (
                about(1, StreamFrame::End(258)),
                b"\x04\x00\x10\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01\x02",
            ),
            (
                about(2, StreamFrame::Reset(3)),
                b"\x05\x00\x0c\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x03",
            ),
            (
                about(2, StreamFrame::Stop(4)),
                b"\x06\x00\x0c\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x04",
            ),
            (
                about(5, StreamFrame::Done),
                b"\x07\x00\x08\x00\x00\x00\x00\x00\x00\x00\x05",
            ),
            (Frame::Drain, b"\x08\x00\x00"),
            (Frame::Drained { streams: 3 }, b"\x09\x00\x00"),
            (close, b"\x0a\x00\x07\x00\x00\x00\x07bye"),
            (
                about(5, StreamFrame::Taken),
                b"\x0b\x00\x08\x00\x00\x00\x00\x00\x00\x00\x05",
            ),
            (
                about(6, StreamFrame::Credit(255)),
                b"\x0c\x00\x0c\x00\x00\x00\x00\x00\x00\x00\x06\x00\x00\x00\xff",
            ),
            (
                about(6, StreamFrame::Open),
                b"\x0d\x00\x08\x00\x00\x00\x00\x00\x00\x00\x06",
            ),
            // Those that are no messages over a byte stream.
            (Frame::Received(1), b""),
            (Frame::Closed, b""),
        ];
        for (frame, trace) in traces {
            assert_eq!(bytes(&frame), trace, "{frame:?}");
            let read = decode(&mut BytesMut::from(trace)).unwrap();
            let again = read.map(|frame| bytes(&frame)).unwrap_or_default();
            assert_eq!(again, trace, "{frame:?}");
        }
    }

    #[test]
    fn broken_messages_are_violations_before_they_are_whole() {
        for (wire, what) in [
            (&b"\x04\x10\x01"[..], "4097 bytes"),
            (b"\x05\x00\x02\x00\x00", "too short"),
            (b"\x7f\x00\x00", "unknown type 0x7f"),
            (b"\x01\x00\x06pipe/2", "does not speak"),
            (b"\x01\x00\x06pipe/1", "too short"),
        ] {
            let error = decode(&mut BytesMut::from(wire)).unwrap_err();
            assert!(error.to_string().contains(what), "{error}");
        }
        let mut optional = BytesMut::from(&b"\x80\x00\x01x\x08\x00\x00\x09"[..]);
        assert_eq!(decode(&mut optional), Ok(Some(Frame::Drain)));
        assert_eq!(decode(&mut optional), Ok(None));
    }

    #[test]
    fn a_reason_that_is_no_text_is_made_one_within_the_limit() {
        let mut wire = BytesMut::from(&b"\x0a\x04\x04\x00\x00\x00\x01"[..]);
        wire.put_bytes(0xff, 1024);
        let Ok(Some(Frame::Close { reason, .. })) = decode(&mut wire) else {
            panic!("no close")
        };
        assert!(reason.len() <= MAX_REASON_LEN && reason.starts_with('\u{fffd}'));
    }
}
