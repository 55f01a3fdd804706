//! FORWARD-TSN (RFC 3758, section 3.2) and I-FORWARD-TSN (RFC 8260, section 2.3.1).

use crate::{
    chunk::{self, kind},
    wire::{Put, Reader},
};

/// A stream and the last of its messages that is skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Skip {
    pub(crate) stream: u16,
    pub(crate) unordered: bool,
    /// The MID, or the SSN in the low 16 bits.
    pub(crate) mid: u32,
}

/// Length of the chunk without its list, in bytes.
pub(crate) const LEN: usize = 8;

/// Returns the length of one entry of the list in bytes.
pub(crate) const fn skip_len(interleaved: bool) -> usize {
    if interleaved { 8 } else { 4 }
}

/// Reads the body of a chunk: the new cumulative TSN, and the list in place.
pub(crate) fn read(
    body: &[u8],
    interleaved: bool,
) -> Option<(u32, impl Iterator<Item = Skip> + '_)> {
    let mut reader = Reader::new(body);
    let tsn = reader.u32()?;
    let skips = reader
        .rest()
        .chunks_exact(skip_len(interleaved))
        .filter_map(move |entry| {
            let mut reader = Reader::new(entry);
            let stream = reader.u16()?;
            Some(if interleaved {
                let unordered = reader.u16()? & 1 != 0;
                Skip {
                    stream,
                    unordered,
                    mid: reader.u32()?,
                }
            } else {
                Skip {
                    stream,
                    unordered: false,
                    mid: u32::from(reader.u16()?),
                }
            })
        });
    Some((tsn, skips))
}

/// Appends a chunk. Without interleaving the unordered entries are left out.
pub(crate) fn put(buf: &mut Vec<u8>, interleaved: bool, tsn: u32, skips: &[Skip]) {
    let kind = if interleaved {
        kind::I_FORWARD_TSN
    } else {
        kind::FORWARD_TSN
    };
    let start = chunk::begin(buf, kind, 0);
    buf.put_u32(tsn);
    for skip in skips {
        if interleaved {
            buf.put_u16(skip.stream);
            buf.put_u16(u16::from(skip.unordered));
            buf.put_u32(skip.mid);
        } else if !skip.unordered {
            buf.put_u16(skip.stream);
            buf.put_u16(skip.mid as u16);
        }
    }
    chunk::end(buf, start);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_are_read_as_written() {
        let skips = [
            Skip {
                stream: 3,
                unordered: false,
                mid: 4,
            },
            Skip {
                stream: 5,
                unordered: true,
                mid: 6,
            },
        ];
        let mut buf = Vec::new();
        put(&mut buf, true, 9, &skips);
        let (tsn, read_skips) = read(&buf[4..], true).expect("chunk");
        assert_eq!((tsn, read_skips.collect::<Vec<_>>()), (9, skips.to_vec()));
        buf.clear();
        put(&mut buf, false, 9, &skips);
        let (tsn, read_skips) = read(&buf[4..], false).expect("chunk");
        assert_eq!(
            (tsn, read_skips.collect::<Vec<_>>()),
            (9, skips[..1].to_vec())
        );
        assert!(read(&[0; 3], false).is_none());
    }
}
