//! SACK (RFC 9260, section 3.3.4).

use crate::{
    chunk::{self, kind},
    wire::{Put, Reader},
};

/// Length of a SACK chunk without gap and duplicate reports, in bytes.
pub(crate) const LEN: usize = 16;

/// A SACK chunk as received; its lists are read in place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sack<'a> {
    pub(crate) cumulative: u32,
    pub(crate) window: u32,
    gaps: &'a [u8],
    duplicates: &'a [u8],
}

impl<'a> Sack<'a> {
    /// Reads the body of a SACK chunk; `None` if it is shorter than its lists.
    pub(crate) fn read(body: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(body);
        let cumulative = reader.u32()?;
        let window = reader.u32()?;
        let gaps = usize::from(reader.u16()?);
        let duplicates = usize::from(reader.u16()?);
        Some(Self {
            cumulative,
            window,
            gaps: reader.take(gaps * 4)?,
            duplicates: reader.take(duplicates * 4)?,
        })
    }

    /// Iterates over the gap reports: offsets from the cumulative TSN, both ends included.
    pub(crate) fn gaps(&self) -> impl Iterator<Item = (u16, u16)> + 'a {
        self.gaps.chunks_exact(4).map(|gap| {
            (
                u16::from_be_bytes([gap[0], gap[1]]),
                u16::from_be_bytes([gap[2], gap[3]]),
            )
        })
    }

    /// Iterates over the TSNs that were received more than once.
    pub(crate) fn duplicates(&self) -> impl Iterator<Item = u32> + 'a {
        self.duplicates
            .chunks_exact(4)
            .map(|tsn| u32::from_be_bytes([tsn[0], tsn[1], tsn[2], tsn[3]]))
    }
}

/// Appends a SACK chunk. `gaps` and `duplicates` together have at most `room` entries; what is beyond
/// is left out, duplicates first.
pub(crate) fn put(
    buf: &mut Vec<u8>,
    cumulative: u32,
    window: u32,
    gaps: impl Iterator<Item = (u16, u16)>,
    duplicates: &[u32],
    room: usize,
) {
    let start = chunk::begin(buf, kind::SACK, 0);
    buf.put_u32(cumulative);
    buf.put_u32(window);
    buf.put_u32(0);
    let mut count = 0u16;
    for (from, to) in gaps.take(room) {
        buf.put_u16(from);
        buf.put_u16(to);
        count += 1;
    }
    let duplicates = &duplicates[..duplicates.len().min(room - usize::from(count))];
    for tsn in duplicates {
        buf.put_u32(*tsn);
    }
    let at = start + 12;
    buf[at..at + 2].copy_from_slice(&count.to_be_bytes());
    let duplicates = u16::try_from(duplicates.len()).unwrap_or(u16::MAX);
    buf[at + 2..at + 4].copy_from_slice(&duplicates.to_be_bytes());
    chunk::end(buf, start);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_bounded_by_the_room() {
        let mut buf = Vec::new();
        put(&mut buf, 5, 6, [(2, 3), (5, 5)].into_iter(), &[1, 2, 3], 4);
        assert_eq!(buf.len(), LEN + 16);
        let sack = Sack::read(&buf[4..]).expect("sack");
        assert_eq!((sack.cumulative, sack.window), (5, 6));
        assert_eq!(sack.gaps().collect::<Vec<_>>(), [(2, 3), (5, 5)]);
        assert_eq!(sack.duplicates().collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn a_sack_shorter_than_its_lists_is_refused() {
        let mut buf = Vec::new();
        put(&mut buf, 5, 6, [(2, 3)].into_iter(), &[1], 4);
        for len in 0..buf.len() - 4 {
            assert!(Sack::read(&buf[4..4 + len]).is_none());
        }
    }
}
