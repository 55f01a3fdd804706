//! Frames of WebSocket (RFC 6455, section 5), without I/O.

use std::fmt;

/// Maximum length of a header, in bytes.
pub(crate) const MAX_HEADER: usize = 14;

/// Maximum length of the payload of a control frame, in bytes (section 5.5).
pub(crate) const MAX_CONTROL: usize = 125;

/// Number of bytes that are copied and masked at a time: the second step finds them in the processor's first cache, and
/// the copy is too short for the instruction that some processors are slow at where the two ends lie unluckily. A
/// multiple of the length of a mask.
pub(crate) const BLOCK: usize = 2 * 1024;

/// The end of a connection, which this side is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Masks what it sends, and receives what is not masked.
    Client,
    /// Receives what is masked.
    Server,
}

/// The kind of a frame (section 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Whether the message ends with this frame.
    pub(crate) is_final: bool,
    pub(crate) opcode: Opcode,
    pub(crate) mask: Option<[u8; 4]>,
    /// Length of the payload, in bytes.
    pub(crate) length: u64,
}

/// A rule that the peer broke, with the code of the close that tells it (section 7.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) code: u16,
    pub(crate) why: &'static str,
}

impl Violation {
    pub(crate) const fn protocol(why: &'static str) -> Self {
        Self { code: 1002, why }
    }

    /// Returns that of a message whose kind is not accepted.
    pub(crate) const fn text() -> Self {
        Self {
            code: 1003,
            why: "a text message, where all are binary",
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the peer broke the rules of WebSocket: {}", self.why)
    }
}

impl Opcode {
    fn of(bits: u8) -> Result<Self, Violation> {
        Ok(match bits {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return Err(Violation::protocol("a frame of an unknown kind")),
        })
    }

    fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0,
            Self::Text => 1,
            Self::Binary => 2,
            Self::Close => 8,
            Self::Ping => 9,
            Self::Pong => 10,
        }
    }

    pub(crate) fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

impl Header {
    /// Returns the length of a header that begins with these bytes, as far as they tell.
    pub(crate) fn len_of(begin: &[u8]) -> usize {
        let Some(second) = begin.get(1) else {
            return 2;
        };
        let length = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask = if second & 0x80 == 0 { 0 } else { 4 };
        2 + length + mask
    }

    /// Reads a header of exactly [its length](Self::len_of).
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Violation> {
        let (first, second) = (bytes[0], bytes[1]);
        if first & 0x70 != 0 {
            return Err(Violation::protocol(
                "a frame of an extension that was not agreed on",
            ));
        }
        let opcode = Opcode::of(first & 0x0f)?;
        let is_final = first & 0x80 != 0;
        let mut rest = &bytes[2..];
        let mut number = |len: usize| {
            let (digits, after) = rest.split_at(len);
            rest = after;
            digits
                .iter()
                .fold(0, |value, &byte| value << 8 | u64::from(byte))
        };
        let (length, least) = match second & 0x7f {
            126 => (number(2), 126),
            127 => (number(8), 1 << 16),
            short => (u64::from(short), 0),
        };
        if length < least || length >> 63 != 0 {
            return Err(Violation::protocol(
                "a frame whose length is written in another way than the shortest",
            ));
        }
        if opcode.is_control() && (!is_final || length > MAX_CONTROL as u64) {
            return Err(Violation::protocol(
                "a control frame that is too long or fragmented",
            ));
        }
        let mask = rest.first_chunk().copied();
        Ok(Self {
            is_final,
            opcode,
            mask,
            length,
        })
    }

    /// Writes the header to the front of `buf`, and returns its length.
    pub(crate) fn encode(&self, buf: &mut [u8; MAX_HEADER]) -> usize {
        buf[0] = u8::from(self.is_final) << 7 | self.opcode.bits();
        let mut at = match self.length {
            short @ 0..=125 => {
                buf[1] = short as u8;
                2
            }
            medium @ 126..=0xffff => {
                buf[1] = 126;
                buf[2..4].copy_from_slice(&(medium as u16).to_be_bytes());
                4
            }
            long => {
                buf[1] = 127;
                buf[2..10].copy_from_slice(&long.to_be_bytes());
                10
            }
        };
        if let Some(mask) = self.mask {
            buf[1] |= 0x80;
            buf[at..at + 4].copy_from_slice(&mask);
            at += 4;
        }
        at
    }
}

/// Masks, or unmasks, bytes of a payload from this offset on (section 5.3).
pub(crate) fn apply_mask(bytes: &mut [u8], mask: [u8; 4], offset: usize) {
    let mut key = mask;
    key.rotate_left(offset % 4);
    let wide = u64::from_ne_bytes([
        key[0], key[1], key[2], key[3], key[0], key[1], key[2], key[3],
    ]);
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_as_it_is_written() {
        for length in [0, 1, 125, 126, 127, 0xffff, 0x1_0000, (1 << 63) - 1] {
            for mask in [None, Some([1, 2, 3, 4])] {
                let header = Header {
                    is_final: length % 2 == 0,
                    opcode: Opcode::Binary,
                    mask,
                    length,
                };
                let mut bytes = [0; MAX_HEADER];
                let len = header.encode(&mut bytes);
                assert_eq!(Header::len_of(&bytes[..1]), 2);
                assert_eq!(Header::len_of(&bytes[..2]), len);
                assert_eq!(Header::decode(&bytes[..len]), Ok(header));
            }
        }
    }

    #[test]
    fn the_examples_of_the_rfc_are_read() {
        // Section 5.7.
        let masked = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d];
        let header = Header::decode(&masked).unwrap();
        assert_eq!((header.opcode, header.length), (Opcode::Text, 5));
        let mut text = [0x7f, 0x9f, 0x4d, 0x51, 0x58];
        apply_mask(&mut text, header.mask.unwrap(), 0);
        assert_eq!(&text, b"Hello");
        let large = [0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0];
        assert_eq!(Header::decode(&large).unwrap().length, 65536);
    }

    #[test]
    fn a_mask_goes_on_at_any_offset() {
        let mask = [0x11, 0x22, 0x44, 0x88];
        let bytes: Vec<u8> = (0..100).collect();
        let mut whole = bytes.clone();
        apply_mask(&mut whole, mask, 0);
        for cut in 0..bytes.len() {
            let mut pieces = bytes.clone();
            let (front, back) = pieces.split_at_mut(cut);
            apply_mask(front, mask, 0);
            apply_mask(back, mask, cut);
            assert_eq!(pieces, whole, "cut at {cut}");
        }
    }

    #[test]
    fn what_breaks_a_rule_is_refused() {
        for (bytes, why) in [
            (&[0xc2, 0][..], "extension"),
            (&[0x83, 0], "unknown kind"),
            (&[0x8b, 0], "unknown kind"),
            (&[0x82, 126, 0, 125], "shortest"),
            (&[0x82, 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff], "shortest"),
            (&[0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0], "shortest"),
            (&[0x09, 0], "fragmented"),
            (&[0x89, 126, 0, 126], "too long"),
        ] {
            let violation = Header::decode(bytes).unwrap_err();
            assert_eq!(violation.code, 1002);
            assert!(violation.why.contains(why), "{violation}");
        }
    }
}
