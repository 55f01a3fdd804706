use pipe_core::{Error, ErrorKind, Result};

/// The length of a header in bytes. Only data frames have a body behind it.
pub(crate) const HEADER: usize = 12;

/// Bytes of a stream; the length counts them.
pub(crate) const DATA: u8 = 0;
/// Grants credit for as many more bytes of a stream as the length field holds.
pub(crate) const WINDOW_UPDATE: u8 = 1;
/// A ping, with SYN, or its answer, with ACK; the length is any value, which the answer repeats.
pub(crate) const PING: u8 = 2;
/// The end of the connection; the length is a code.
pub(crate) const GO_AWAY: u8 = 3;

/// Opens a stream, or requests the answer to a ping.
pub(crate) const SYN: u16 = 1;
/// Acknowledges a stream, or answers a ping.
pub(crate) const ACK: u16 = 2;
/// Ends the sender's direction of a stream.
pub(crate) const FIN: u16 = 4;
/// Cuts a stream in both directions.
pub(crate) const RST: u16 = 8;

/// The codes of a GoAway: an end as it should be, a broken rule, and trouble of the sender's own.
pub(crate) const NORMAL: u32 = 0;
pub(crate) const PROTOCOL_ERROR: u32 = 1;
pub(crate) const INTERNAL_ERROR: u32 = 2;

/// The header of a frame, as in the
/// [specification](https://github.com/hashicorp/yamux/blob/master/spec.md#framing).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: u8,
    pub(crate) flags: u16,
    /// The number of the stream; 0 in frames about the connection.
    pub(crate) stream: u32,
    pub(crate) length: u32,
}

impl Header {
    pub(crate) fn encode(self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[1] = self.kind;
        bytes[2..4].copy_from_slice(&self.flags.to_be_bytes());
        bytes[4..8].copy_from_slice(&self.stream.to_be_bytes());
        bytes[8..].copy_from_slice(&self.length.to_be_bytes());
        bytes
    }

    /// Decodes a header. Unknown flags are ignored.
    pub(crate) fn decode(bytes: [u8; HEADER]) -> Result<Self> {
        let [version, kind, f, g, s, t, u, v, a, b, c, d] = bytes;
        let header = Self {
            kind,
            flags: u16::from_be_bytes([f, g]),
            stream: u32::from_be_bytes([s, t, u, v]),
            length: u32::from_be_bytes([a, b, c, d]),
        };
        if version != 0 {
            return Err(broken(&format!("version {version} is unknown")));
        }
        match kind {
            DATA | WINDOW_UPDATE if header.stream == 0 => Err(broken("a frame of stream 0")),
            PING | GO_AWAY if header.stream != 0 => Err(broken(&format!(
                "a frame about the connection that names stream {}",
                header.stream
            ))),
            DATA | WINDOW_UPDATE | PING | GO_AWAY => Ok(header),
            _ => Err(broken(&format!("a frame of the unknown type {kind}"))),
        }
    }

    pub(crate) fn has(self, flag: u16) -> bool {
        self.flags & flag != 0
    }
}

/// Returns the error of a peer that broke the rules.
pub(crate) fn broken(what: &str) -> Error {
    Error::new(
        ErrorKind::Protocol,
        format!("the peer broke the yamux protocol: {what}"),
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_header_is_twelve_bytes_in_network_order() {
        let header = Header {
            kind: WINDOW_UPDATE,
            flags: SYN | FIN,
            stream: 0x0102_0304,
            length: 0x0506_0708,
        };
        assert_eq!(header.encode(), [0, 1, 0, 5, 1, 2, 3, 4, 5, 6, 7, 8]);
    }

    #[test]
    fn headers_have_the_bytes_of_the_specification() {
        let header = |kind, flags, stream, length| Header {
            kind,
            flags,
            stream,
            length,
        };
        for (header, bytes) in [
            (
                header(DATA, SYN, 1, 0),
                [0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0],
            ),
            (
                header(DATA, FIN, 2, 9),
                [0, 0, 0, 4, 0, 0, 0, 2, 0, 0, 0, 9],
            ),
            (
                header(WINDOW_UPDATE, ACK, 1, 256),
                [0, 1, 0, 2, 0, 0, 0, 1, 0, 0, 1, 0],
            ),
            (
                header(WINDOW_UPDATE, RST, 1, 0),
                [0, 1, 0, 8, 0, 0, 0, 1, 0, 0, 0, 0],
            ),
            (
                header(PING, SYN, 0, 7),
                [0, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7],
            ),
            (
                header(PING, ACK, 0, 7),
                [0, 2, 0, 2, 0, 0, 0, 0, 0, 0, 0, 7],
            ),
            (
                header(GO_AWAY, 0, 0, INTERNAL_ERROR),
                [0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2],
            ),
        ] {
            assert_eq!(header.encode(), bytes);
            assert_eq!(Header::decode(bytes).unwrap(), header);
        }
    }

    #[test]
    fn what_is_no_header_is_named() {
        let error = |bytes| Header::decode(bytes).unwrap_err().to_string();
        assert!(error([1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]).contains("version 1"));
        assert!(error([0, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]).contains("type 4"));
        assert!(error([0; HEADER]).contains("stream 0"));
        assert!(error([0, 2, 0, 1, 0, 0, 0, 9, 0, 0, 0, 0]).contains("stream 9"));
    }

    proptest! {
        #[test]
        fn headers_survive_the_wire(kind in 0_u8..4, flags: u16, stream: u32, length: u32) {
            let about_a_stream = kind == DATA || kind == WINDOW_UPDATE;
            let stream = if about_a_stream { stream.max(1) } else { 0 };
            let header = Header { kind, flags, stream, length };
            prop_assert_eq!(Header::decode(header.encode()).unwrap(), header);
        }
    }
}
