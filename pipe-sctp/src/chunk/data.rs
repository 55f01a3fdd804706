//! DATA (RFC 9260, section 3.3.1; I bit: RFC 7053) and I-DATA (RFC 8260, section 2.1).

use crate::{
    chunk::{self, Chunk, kind},
    wire::{Put, Reader},
};

/// Flags of DATA and I-DATA.
pub(crate) mod flag {
    /// Last fragment of a message.
    pub(crate) const END: u8 = 1;
    /// First fragment of a message.
    pub(crate) const BEGIN: u8 = 2;
    pub(crate) const UNORDERED: u8 = 4;
    /// The receiver is asked to send its SACK at once.
    pub(crate) const IMMEDIATE: u8 = 8;
}

/// Length of the header of a DATA chunk in bytes.
pub(crate) const DATA_HEADER: usize = 16;
/// Length of the header of an I-DATA chunk in bytes.
pub(crate) const I_DATA_HEADER: usize = 20;

/// The fields of a DATA or I-DATA chunk before its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DataHeader {
    pub(crate) flags: u8,
    pub(crate) tsn: u32,
    pub(crate) stream: u16,
    /// The MID of an I-DATA chunk; the SSN of a DATA chunk in the low 16 bits.
    pub(crate) mid: u32,
    /// 0 in a fragment of I-DATA that is not the first.
    pub(crate) ppid: u32,
    /// The FSN of an I-DATA chunk; 0 in a DATA chunk.
    pub(crate) fsn: u32,
}

impl DataHeader {
    /// Reads a DATA or an I-DATA chunk. Returns the header and the payload, or `None` if the chunk is
    /// too short.
    pub(crate) fn read<'a>(chunk: &Chunk<'a>) -> Option<(Self, &'a [u8])> {
        let mut reader = Reader::new(chunk.body);
        let tsn = reader.u32()?;
        let stream = reader.u16()?;
        let header = if chunk.kind == kind::I_DATA {
            reader.u16()?;
            let mid = reader.u32()?;
            let last = reader.u32()?;
            let begins = chunk.flags & flag::BEGIN != 0;
            let (ppid, fsn) = if begins { (last, 0) } else { (0, last) };
            Self {
                flags: chunk.flags,
                tsn,
                stream,
                mid,
                ppid,
                fsn,
            }
        } else {
            let mid = u32::from(reader.u16()?);
            Self {
                flags: chunk.flags,
                tsn,
                stream,
                mid,
                ppid: reader.u32()?,
                fsn: 0,
            }
        };
        Some((header, reader.rest()))
    }

    /// Appends the chunk with `payload` to `buf`.
    pub(crate) fn put(&self, buf: &mut Vec<u8>, interleaved: bool, payload: &[u8]) {
        let start;
        if interleaved {
            start = chunk::begin(buf, kind::I_DATA, self.flags);
            buf.put_u32(self.tsn);
            buf.put_u16(self.stream);
            buf.put_u16(0);
            buf.put_u32(self.mid);
            let begins = self.flags & flag::BEGIN != 0;
            buf.put_u32(if begins { self.ppid } else { self.fsn });
        } else {
            start = chunk::begin(buf, kind::DATA, self.flags);
            buf.put_u32(self.tsn);
            buf.put_u16(self.stream);
            buf.put_u16(self.mid as u16);
            buf.put_u32(self.ppid);
        }
        buf.put(payload);
        chunk::end(buf, start);
    }
}

/// Returns the length of the header in bytes.
pub(crate) const fn header_len(interleaved: bool) -> usize {
    if interleaved {
        I_DATA_HEADER
    } else {
        DATA_HEADER
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::Chunks;

    #[test]
    fn both_kinds_are_read_as_written() {
        for interleaved in [false, true] {
            for flags in [flag::BEGIN | flag::UNORDERED, flag::END | flag::IMMEDIATE] {
                let begins = flags & flag::BEGIN != 0;
                let header = DataHeader {
                    flags,
                    tsn: 0x0102_0304,
                    stream: 7,
                    mid: 0x1122,
                    ppid: if begins || !interleaved { 53 } else { 0 },
                    fsn: if begins || !interleaved { 0 } else { 9 },
                };
                let mut packet = vec![0; 12];
                header.put(&mut packet, interleaved, b"hello");
                assert_eq!(packet.len(), 12 + header_len(interleaved) + 8);
                let chunk = Chunks::new(&packet).next().expect("chunk");
                let (read, payload) = DataHeader::read(&chunk).expect("data");
                assert_eq!((read, payload), (header, &b"hello"[..]));
            }
        }
    }

    #[test]
    fn a_short_chunk_is_refused() {
        for (kind, len) in [(kind::DATA, 11), (kind::I_DATA, 15)] {
            let mut packet = vec![0; 12];
            chunk::put(&mut packet, kind, 3, &vec![0; len]);
            let chunk = Chunks::new(&packet).next().expect("chunk");
            assert!(DataHeader::read(&chunk).is_none());
        }
    }
}
