//! Chunks (RFC 9260, section 3.2): iteration over a packet, and one file for each kind.

pub(crate) mod data;
pub(crate) mod error;
pub(crate) mod forward;
pub(crate) mod init;
pub(crate) mod reconfig;
pub(crate) mod sack;

use crate::wire::{Put, padded};

/// The types of chunks.
pub(crate) mod kind {
    pub(crate) const DATA: u8 = 0;
    pub(crate) const INIT: u8 = 1;
    pub(crate) const INIT_ACK: u8 = 2;
    pub(crate) const SACK: u8 = 3;
    pub(crate) const HEARTBEAT: u8 = 4;
    pub(crate) const HEARTBEAT_ACK: u8 = 5;
    pub(crate) const ABORT: u8 = 6;
    pub(crate) const SHUTDOWN: u8 = 7;
    pub(crate) const SHUTDOWN_ACK: u8 = 8;
    pub(crate) const ERROR: u8 = 9;
    pub(crate) const COOKIE_ECHO: u8 = 10;
    pub(crate) const COOKIE_ACK: u8 = 11;
    pub(crate) const SHUTDOWN_COMPLETE: u8 = 14;
    /// RFC 8260, section 2.1.
    pub(crate) const I_DATA: u8 = 64;
    /// RFC 6525, section 3.1.
    pub(crate) const RE_CONFIG: u8 = 130;
    /// RFC 4820, section 3.
    pub(crate) const PAD: u8 = 132;
    /// RFC 3758, section 3.2.
    pub(crate) const FORWARD_TSN: u8 = 192;
    /// RFC 8260, section 2.3.1.
    pub(crate) const I_FORWARD_TSN: u8 = 194;
}

/// Length of the header of a chunk in bytes.
pub(crate) const HEADER: usize = 4;

/// The T bit of ABORT and SHUTDOWN COMPLETE (RFC 9260, section 3.3.7): the tag is the sender's own.
pub(crate) const TAG_REFLECTED: u8 = 1;

/// One chunk of a packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chunk<'a> {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    /// The chunk without header and padding.
    pub(crate) body: &'a [u8],
    /// Header and body.
    pub(crate) raw: &'a [u8],
    /// Where the body begins in the packet.
    pub(crate) offset: usize,
}

/// Iterates over the chunks of a packet. A chunk whose length is impossible ends the iteration.
#[derive(Clone, Debug)]
pub(crate) struct Chunks<'a> {
    packet: &'a [u8],
    at: usize,
}

impl<'a> Chunks<'a> {
    /// Starts behind the common header.
    pub(crate) fn new(packet: &'a [u8]) -> Self {
        Self {
            packet,
            at: crate::packet::HEADER,
        }
    }
}

impl<'a> Iterator for Chunks<'a> {
    type Item = Chunk<'a>;

    fn next(&mut self) -> Option<Chunk<'a>> {
        let rest = self.packet.get(self.at..)?;
        let [kind, flags, high, low, ..] = *rest else {
            return None;
        };
        let len = usize::from(u16::from_be_bytes([high, low]));
        if len < HEADER {
            return None;
        }
        let raw = rest.get(..len)?;
        let offset = self.at + HEADER;
        self.at += padded(len);
        Some(Chunk {
            kind,
            flags,
            body: &raw[HEADER..],
            raw,
            offset,
        })
    }
}

/// Appends the header of a chunk with a length to be filled in by [`end`]. Returns where it starts.
pub(crate) fn begin(buf: &mut Vec<u8>, kind: u8, flags: u8) -> usize {
    let start = buf.len();
    buf.put(&[kind, flags, 0, 0]);
    start
}

/// Writes the length of the chunk that starts at `start`, and pads it.
pub(crate) fn end(buf: &mut Vec<u8>, start: usize) {
    let len = buf.len() - start;
    let field = u16::try_from(len).unwrap_or(u16::MAX).to_be_bytes();
    buf[start + 2..start + 4].copy_from_slice(&field);
    buf.resize(start + padded(len), 0);
}

/// Appends a chunk with `body`.
pub(crate) fn put(buf: &mut Vec<u8>, kind: u8, flags: u8, body: &[u8]) {
    let start = begin(buf, kind, flags);
    buf.put(body);
    end(buf, start);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_read_as_written() {
        let mut packet = vec![0; 12];
        put(&mut packet, 10, 1, b"abcde");
        put(&mut packet, 11, 0, b"");
        let chunks: Vec<_> = Chunks::new(&packet).collect();
        assert_eq!(chunks.len(), 2);
        assert_eq!(
            (chunks[0].kind, chunks[0].flags, chunks[0].body),
            (10, 1, &b"abcde"[..])
        );
        assert_eq!(&packet[chunks[0].offset..][..5], b"abcde");
        assert_eq!((chunks[1].kind, chunks[1].body), (11, &b""[..]));
    }

    #[test]
    fn an_impossible_length_ends_the_packet() {
        for tail in [
            &[10, 0, 0, 3][..],
            &[10, 0, 0, 5],
            &[10, 0, 0],
            &[10, 0, 255, 255, 1],
        ] {
            let mut packet = vec![0; 12];
            put(&mut packet, 11, 0, b"");
            packet.extend_from_slice(tail);
            assert_eq!(Chunks::new(&packet).count(), 1);
        }
        assert_eq!(Chunks::new(&[]).count(), 0);
    }
}
