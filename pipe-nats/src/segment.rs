//! The messages that carry the bytes of a connection.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use pipe_core::Result;
use pipe_core::backend::protocol;

/// Length of what stands before the bytes in a segment.
pub(crate) const HEADER: usize = 1 + 8 + 8 + 4;

/// No bytes of the sender follow behind those of this segment.
pub(crate) const END: u8 = 1;
/// The receiver has not got all that was sent before: it is to be sent again from `received` on.
pub(crate) const GAP: u8 = 2;
/// The receiver is to answer with what it has received.
pub(crate) const PROBE: u8 = 4;
/// The sender has given the connection up.
pub(crate) const RESET: u8 = 8;

/// A message of a connection. On the wire: the flags in a byte, `offset` and `received` in eight bytes each, `window` in
/// four, the most significant byte first, and then the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) flags: u8,
    /// The place of its bytes in the stream of the sender.
    pub(crate) offset: u64,
    /// How much the sender has received of the other stream; the end of that counts as a byte.
    pub(crate) received: u64,
    /// How many bytes behind `received` the sender has room for.
    pub(crate) window: u32,
    pub(crate) bytes: Bytes,
}

impl Segment {
    /// Creates the message with which a connection is given up.
    pub(crate) fn reset() -> Self {
        Self {
            flags: RESET,
            offset: 0,
            received: 0,
            window: 0,
            bytes: Bytes::new(),
        }
    }

    pub(crate) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    pub(crate) fn encode(&self) -> Bytes {
        let mut buf = BytesMut::with_capacity(HEADER + self.bytes.len());
        buf.put_u8(self.flags);
        buf.put_u64(self.offset);
        buf.put_u64(self.received);
        buf.put_u32(self.window);
        buf.put_slice(&self.bytes);
        buf.freeze()
    }

    /// Reads a message.
    ///
    /// # Errors
    ///
    /// [`Protocol`](pipe_core::ErrorKind::Protocol) for one that is no segment, and for unknown flags.
    pub(crate) fn decode(mut message: Bytes) -> Result<Self> {
        if message.len() < HEADER {
            let len = message.len();
            return Err(protocol(format_args!(
                "a segment of {len} bytes, which is no header"
            )));
        }
        let flags = message.get_u8();
        if flags & !(END | GAP | PROBE | RESET) != 0 {
            return Err(protocol(format_args!(
                "a segment with the flags {flags:#04x}"
            )));
        }
        Ok(Self {
            flags,
            offset: message.get_u64(),
            received: message.get_u64(),
            window: message.get_u32(),
            bytes: message,
        })
    }
}

#[cfg(test)]
mod tests {
    use pipe_core::ErrorKind;

    use super::*;

    #[test]
    fn a_segment_comes_back_from_its_bytes() {
        let segment = Segment {
            flags: END | PROBE,
            offset: 0x0102_0304_0506_0708,
            received: 9,
            window: 10,
            bytes: Bytes::from_static(b"end"),
        };
        let encoded = segment.encode();
        let expected = b"\x05\x01\x02\x03\x04\x05\x06\x07\x08\0\0\0\0\0\0\0\x09\0\0\0\x0aend";
        assert_eq!(&encoded[..], expected);
        assert_eq!(Segment::decode(encoded).unwrap(), segment);
    }

    #[test]
    fn what_is_no_segment_is_an_error() {
        let short = Segment::reset().encode().slice(1..);
        for message in [Bytes::new(), short, Bytes::from_static(&[0x10; HEADER])] {
            let error = Segment::decode(message).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Protocol);
        }
    }
}
