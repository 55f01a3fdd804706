//! The common header and the checksum of a packet (RFC 9260, sections 3.1 and 6.8; RFC 9653).

use crate::wire::{Put, Reader};

/// Length of the common header in bytes.
pub(crate) const HEADER: usize = 12;

/// The common header of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) source_port: u16,
    pub(crate) destination_port: u16,
    pub(crate) tag: u32,
}

/// Whether the checksum of a packet matches its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Checksum {
    Valid,
    /// The field is zero, and zero is not the CRC32c of the packet (RFC 9653, section 4.3).
    Zero,
    Invalid,
}

/// Reads the common header, or returns `None` if the packet is too short.
pub(crate) fn read_header(packet: &[u8]) -> Option<Header> {
    let mut reader = Reader::new(packet);
    let header = Header {
        source_port: reader.u16()?,
        destination_port: reader.u16()?,
        tag: reader.u32()?,
    };
    reader.u32()?;
    Some(header)
}

/// Compares the checksum of a packet with its content. With `accept_zero` a field of zero is not
/// computed again.
pub(crate) fn check(packet: &[u8], accept_zero: bool) -> Checksum {
    let Some(Ok(field)) = packet.get(8..12).map(<[u8; 4]>::try_from) else {
        return Checksum::Invalid;
    };
    if accept_zero && field == [0; 4] {
        return Checksum::Zero;
    }
    if u32::from_le_bytes(field) == compute(packet) {
        Checksum::Valid
    } else if field == [0; 4] {
        Checksum::Zero
    } else {
        Checksum::Invalid
    }
}

/// Appends a common header with a checksum of zero to `buf`.
pub(crate) fn put_header(buf: &mut Vec<u8>, header: Header) {
    buf.put_u16(header.source_port);
    buf.put_u16(header.destination_port);
    buf.put_u32(header.tag);
    buf.put_u32(0);
}

/// Writes the CRC32c of `packet` into its header.
pub(crate) fn seal(packet: &mut [u8]) {
    let checksum = compute(packet);
    packet[8..HEADER].copy_from_slice(&checksum.to_le_bytes());
}

/// Returns the CRC32c of a packet as if its checksum field was zero.
fn compute(packet: &[u8]) -> u32 {
    let mut start = [0; HEADER];
    start[..8].copy_from_slice(&packet[..8]);
    crc32c::crc32c_append(crc32c::crc32c(&start), &packet[HEADER..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet() -> Vec<u8> {
        let mut buf = Vec::new();
        put_header(
            &mut buf,
            Header {
                source_port: 1,
                destination_port: 2,
                tag: 3,
            },
        );
        buf.put(b"0123");
        buf
    }

    #[test]
    fn a_sealed_packet_is_valid_and_a_changed_one_is_not() {
        let mut packet = packet();
        assert_eq!(check(&packet, false), Checksum::Zero);
        seal(&mut packet);
        assert_eq!(check(&packet, true), Checksum::Valid);
        packet[13] ^= 1;
        assert_eq!(check(&packet, true), Checksum::Invalid);
    }

    #[test]
    fn the_checksum_is_that_of_rfc_3720() {
        // RFC 3720, appendix B.4: 32 bytes of zero.
        assert_eq!(crc32c::crc32c(&[0; 32]), 0x8a91_36aa);
    }

    #[test]
    fn a_short_packet_has_no_header() {
        assert_eq!(read_header(&[0; 11]), None);
        assert_eq!(check(&[0; 11], true), Checksum::Invalid);
        let header = read_header(&packet()).expect("header");
        assert_eq!(
            header,
            Header {
                source_port: 1,
                destination_port: 2,
                tag: 3
            }
        );
    }
}
