//! Reads and writes the fields of packets, all in network byte order.

/// Takes fields from the front of a slice; every read is checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|b| b[0])
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u16::from_be_bytes(*field))
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*field))
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_be_bytes(*field))
    }

    pub(crate) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    pub(crate) fn rest(self) -> &'a [u8] {
        self.0
    }
}

/// Appends fields to a buffer.
pub(crate) trait Put {
    fn put_u16(&mut self, value: u16);
    fn put_u32(&mut self, value: u32);
    fn put_u64(&mut self, value: u64);
    fn put(&mut self, bytes: &[u8]);
}

impl Put for Vec<u8> {
    fn put_u16(&mut self, value: u16) {
        self.extend_from_slice(&value.to_be_bytes());
    }

    fn put_u32(&mut self, value: u32) {
        self.extend_from_slice(&value.to_be_bytes());
    }

    fn put_u64(&mut self, value: u64) {
        self.extend_from_slice(&value.to_be_bytes());
    }

    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Returns `len` rounded up to a multiple of four, as chunks, parameters and causes are padded
/// (RFC 9260, section 3.2).
pub(crate) const fn padded(len: usize) -> usize {
    len.next_multiple_of(4)
}

/// Appends a type-length-value with a 16-bit type (a parameter or an error cause), padded.
pub(crate) fn put_tlv(buf: &mut Vec<u8>, kind: u16, value: &[u8]) {
    buf.put_u16(kind);
    buf.put_u16(u16::try_from(value.len() + 4).unwrap_or(u16::MAX));
    buf.put(value);
    buf.resize(buf.len() + padded(value.len()) - value.len(), 0);
}

/// A parameter or an error cause: a type, and its value without header and padding.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tlv<'a> {
    pub(crate) kind: u16,
    pub(crate) value: &'a [u8],
    /// Header and value, without padding.
    pub(crate) raw: &'a [u8],
}

/// Iterates over type-length-values. Ends early, with [`Tlvs::malformed`] set, where a length is
/// impossible.
#[derive(Clone, Debug)]
pub(crate) struct Tlvs<'a> {
    rest: &'a [u8],
    malformed: bool,
}

impl<'a> Tlvs<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            malformed: false,
        }
    }

    pub(crate) fn malformed(&self) -> bool {
        self.malformed
    }
}

impl<'a> Iterator for Tlvs<'a> {
    type Item = Tlv<'a>;

    fn next(&mut self) -> Option<Tlv<'a>> {
        if self.rest.is_empty() {
            return None;
        }
        let mut reader = Reader::new(self.rest);
        let (kind, len) = match (reader.u16(), reader.u16()) {
            (Some(kind), Some(len)) => (kind, usize::from(len)),
            _ => (0, 0),
        };
        if len < 4 || len > self.rest.len() {
            self.rest = &[];
            self.malformed = true;
            return None;
        }
        let raw = &self.rest[..len];
        self.rest = self.rest.get(padded(len)..).unwrap_or(&[]);
        Some(Tlv {
            kind,
            value: &raw[4..],
            raw,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tlvs_are_read_as_written() {
        let mut buf = Vec::new();
        put_tlv(&mut buf, 7, b"abcde");
        put_tlv(&mut buf, 9, b"");
        assert_eq!(buf.len(), 16);
        let mut tlvs = Tlvs::new(&buf);
        let first = tlvs.next().expect("first");
        assert_eq!((first.kind, first.value), (7, &b"abcde"[..]));
        let second = tlvs.next().expect("second");
        assert_eq!((second.kind, second.value), (9, &b""[..]));
        assert!(tlvs.next().is_none());
        assert!(!tlvs.malformed());
    }

    #[test]
    fn a_length_beyond_the_end_ends_the_list() {
        for bytes in [&[0, 1, 0, 9, 1][..], &[0, 1, 0, 3], &[0, 1, 0]] {
            let mut tlvs = Tlvs::new(bytes);
            assert!(tlvs.next().is_none());
            assert!(tlvs.malformed());
            assert!(tlvs.next().is_none());
        }
    }
}
