//! Messages of TURN on a byte stream (RFC 8656, section 3.7).

use std::io;

use bytes::{Buf, Bytes, BytesMut};

/// Length of the header of a message of STUN, and of a packet of a channel, in bytes.
const STUN_HEADER: usize = 20;
pub(super) const CHANNEL_HEADER: usize = 4;

/// Returns whether a message that begins so is a packet of a channel (RFC 8656, section 12.4).
fn is_channel(first: u8) -> bool {
    matches!(first, 0x40..=0x4f)
}

/// Appends a message to a stream. Packets of a channel are padded to whole words there (RFC 8656, section
/// 12.5), which messages of STUN have always.
pub(super) fn frame(message: &[u8], out: &mut BytesMut) {
    out.extend_from_slice(message);
    if message.first().copied().is_some_and(is_channel) {
        let padding = message.len().next_multiple_of(4) - message.len();
        out.extend_from_slice(&[0; 3][..padding]);
    }
}

/// Takes the next message off a stream, if it is whole. None has more than 65,555 bytes.
///
/// # Errors
///
/// [`InvalidData`](io::ErrorKind::InvalidData) for bytes of another protocol.
pub(super) fn next(bytes: &mut BytesMut) -> io::Result<Option<Bytes>> {
    let Some(&[first, _, high, low]) = bytes.first_chunk() else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    let (length, padding) = match first {
        0..=3 => (STUN_HEADER + length, 0),
        first if is_channel(first) => {
            let padding = length.next_multiple_of(4) - length;
            (CHANNEL_HEADER + length, padding)
        }
        _ => {
            let why = format!("it sends neither STUN nor data of a channel, but {first:#04x}");
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
    };
    if bytes.len() < length + padding {
        return Ok(None);
    }
    let message = bytes.split_to(length).freeze();
    bytes.advance(padding);
    Ok(Some(message))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stun(words: usize) -> Vec<u8> {
        let [high, low] = ((words * 4) as u16).to_be_bytes();
        [&[0, 1, high, low][..], &vec![7; 16 + words * 4]].concat()
    }

    fn channel(length: usize) -> Vec<u8> {
        let [high, low] = (length as u16).to_be_bytes();
        [&[0x40, 0, high, low][..], &vec![9; length]].concat()
    }

    proptest! {
        #[test]
        fn messages_come_out_of_a_stream_as_they_went_in(
            sizes in prop::collection::vec((any::<bool>(), 0..200_usize), 0..20),
            pieces in prop::collection::vec(1..100_usize, 1..50),
        ) {
            let all: Vec<_> = sizes
                .into_iter()
                .map(|(is_stun, size)| if is_stun { stun(size) } else { channel(size) })
                .collect();
            let mut stream = BytesMut::new();
            for message in &all {
                frame(message, &mut stream);
            }
            let (mut bytes, mut received) = (BytesMut::new(), Vec::new());
            let mut pieces = pieces.into_iter().cycle();
            while !stream.is_empty() {
                let piece = pieces.next().unwrap_or(1).min(stream.len());
                bytes.extend_from_slice(&stream.split_to(piece));
                while let Some(message) = next(&mut bytes).unwrap() {
                    received.push(message.to_vec());
                }
            }
            prop_assert_eq!(received, all);
            prop_assert!(bytes.is_empty());
        }
    }

    #[test]
    fn other_protocols_are_refused() {
        for first in [4, 20, 63, 80, 255] {
            let error = next(&mut BytesMut::from(&[first, 0, 0, 0][..])).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{first}");
        }
    }
}
