//! Data Channel Establishment Protocol (RFC 8832) and the payload protocol identifiers of data channels
//! (RFC 8831, section 8).

use crate::wire::{Put, Reader};
use bytes::Bytes;
use std::{error::Error, fmt, str};

/// Payload protocol identifiers.
pub mod ppid {
    /// A message of this protocol (RFC 8832, section 8.1).
    pub const DCEP: u32 = 50;
    /// A text in UTF-8.
    pub const STRING: u32 = 51;
    /// Part of a binary message, deprecated (RFC 8831, section 6.6).
    pub const BINARY_PARTIAL: u32 = 52;
    /// A binary message.
    pub const BINARY: u32 = 53;
    /// Part of a text, deprecated (RFC 8831, section 6.6).
    pub const STRING_PARTIAL: u32 = 54;
    /// An empty text, sent as one zero byte.
    pub const STRING_EMPTY: u32 = 56;
    /// An empty binary message, sent as one zero byte.
    pub const BINARY_EMPTY: u32 = 57;
}

const ACK: u8 = 2;
const OPEN: u8 = 3;

/// How messages of a channel are delivered (RFC 8832, section 5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reliability {
    /// Sent again until they arrive.
    Reliable,
    /// Sent again at most this many times.
    MaxRetransmits(u32),
    /// Sent again for at most this many milliseconds.
    MaxLifetime(u32),
}

/// A DATA_CHANNEL_OPEN message (RFC 8832, section 5.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// Whether messages may be delivered out of order.
    pub unordered: bool,
    /// How often messages are sent again.
    pub reliability: Reliability,
    /// The share of the association (RFC 8831, section 6.4): 128 to 1,024 by steps of two.
    pub priority: u16,
    /// The name, at most 65,535 bytes.
    pub label: String,
    /// The name of a subprotocol, or empty, at most 65,535 bytes.
    pub protocol: String,
}

/// A message of the protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dcep {
    /// DATA_CHANNEL_OPEN.
    Open(Open),
    /// DATA_CHANNEL_ACK (RFC 8832, section 5.2).
    Ack,
}

/// A message that is not one of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DcepError {
    /// The message ends before its last field.
    Truncated,
    /// The type of the message, or that of the channel, is not defined.
    UnknownType(u8),
    /// The label or the protocol is not UTF-8.
    InvalidText,
}

impl fmt::Display for DcepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("a DCEP message ends before its last field"),
            Self::UnknownType(kind) => write!(f, "a DCEP message has the unknown type {kind:#04x}"),
            Self::InvalidText => f.write_str("a text of a DCEP message is not UTF-8"),
        }
    }
}

impl Error for DcepError {}

impl Dcep {
    /// Reads a message.
    ///
    /// # Errors
    ///
    /// A message that is truncated, of unknown type, or with a text that is not UTF-8.
    pub fn parse(message: &[u8]) -> Result<Self, DcepError> {
        let mut reader = Reader::new(message);
        match reader.u8().ok_or(DcepError::Truncated)? {
            ACK => Ok(Self::Ack),
            OPEN => Open::parse(reader).map(Self::Open),
            unknown => Err(DcepError::UnknownType(unknown)),
        }
    }

    /// Returns the message as it is sent.
    pub fn to_bytes(&self) -> Bytes {
        match self {
            Self::Ack => Bytes::from_static(&[ACK]),
            Self::Open(open) => open.to_bytes(),
        }
    }
}

impl Open {
    fn parse(mut reader: Reader<'_>) -> Result<Self, DcepError> {
        let kind = reader.u8().ok_or(DcepError::Truncated)?;
        let priority = reader.u16().ok_or(DcepError::Truncated)?;
        let parameter = reader.u32().ok_or(DcepError::Truncated)?;
        let label_len = reader.u16().ok_or(DcepError::Truncated)?;
        let protocol_len = reader.u16().ok_or(DcepError::Truncated)?;
        let mut text = |len: u16| {
            let bytes = reader.take(len.into()).ok_or(DcepError::Truncated)?;
            str::from_utf8(bytes)
                .map(str::to_owned)
                .map_err(|_| DcepError::InvalidText)
        };
        let reliability = match kind & 0x7f {
            0 => Reliability::Reliable,
            1 => Reliability::MaxRetransmits(parameter),
            2 => Reliability::MaxLifetime(parameter),
            _ => return Err(DcepError::UnknownType(kind)),
        };
        Ok(Self {
            unordered: kind & 0x80 != 0,
            reliability,
            priority,
            label: text(label_len)?,
            protocol: text(protocol_len)?,
        })
    }

    fn to_bytes(&self) -> Bytes {
        let (kind, parameter) = match self.reliability {
            Reliability::Reliable => (0, 0),
            Reliability::MaxRetransmits(count) => (1, count),
            Reliability::MaxLifetime(milliseconds) => (2, milliseconds),
        };
        let label = cut(&self.label);
        let protocol = cut(&self.protocol);
        let mut buf = Vec::with_capacity(12 + label.len() + protocol.len());
        buf.put(&[OPEN, kind | u8::from(self.unordered) << 7]);
        buf.put_u16(self.priority);
        buf.put_u32(parameter);
        buf.put_u16(label.len() as u16);
        buf.put_u16(protocol.len() as u16);
        buf.put(label.as_bytes());
        buf.put(protocol.as_bytes());
        Bytes::from(buf)
    }
}

/// Returns what of a text a 16-bit length can describe.
fn cut(text: &str) -> &str {
    let mut end = text.len().min(usize::from(u16::MAX));
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(unordered: bool, reliability: Reliability) -> Open {
        let (label, protocol) = ("caf\u{e9}".into(), "p".into());
        Open {
            unordered,
            reliability,
            priority: 256,
            label,
            protocol,
        }
    }

    #[test]
    fn messages_are_read_as_written() {
        for unordered in [false, true] {
            for reliability in [
                Reliability::Reliable,
                Reliability::MaxRetransmits(3),
                Reliability::MaxLifetime(9),
            ] {
                let message = Dcep::Open(open(unordered, reliability));
                assert_eq!(Dcep::parse(&message.to_bytes()), Ok(message));
            }
        }
        assert_eq!(Dcep::parse(&Dcep::Ack.to_bytes()), Ok(Dcep::Ack));
    }

    #[test]
    fn bad_messages_are_refused() {
        let bytes = Dcep::Open(open(true, Reliability::Reliable)).to_bytes();
        for len in 0..bytes.len() {
            assert_eq!(Dcep::parse(&bytes[..len]), Err(DcepError::Truncated));
        }
        assert_eq!(Dcep::parse(&[9]), Err(DcepError::UnknownType(9)));
        let mut bytes = bytes.to_vec();
        bytes[12] = 0xff;
        assert_eq!(Dcep::parse(&bytes), Err(DcepError::InvalidText));
        bytes[1] = 3;
        assert_eq!(Dcep::parse(&bytes), Err(DcepError::UnknownType(3)));
    }

    #[test]
    fn a_text_too_long_is_cut_at_a_character() {
        let label = "\u{e9}".repeat(40_000);
        let message = Dcep::Open(Open {
            label,
            ..open(false, Reliability::Reliable)
        });
        let Ok(Dcep::Open(read)) = Dcep::parse(&message.to_bytes()) else {
            panic!("an OPEN");
        };
        assert_eq!(read.label.len(), 65_534);
    }
}
