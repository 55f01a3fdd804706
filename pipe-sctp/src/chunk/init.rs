//! INIT and INIT ACK (RFC 9260, sections 3.3.2 and 3.3.3).

use crate::{
    chunk::{self, kind},
    param,
    wire::{Put, Reader, Tlvs, put_tlv},
};

/// Most bytes of unknown parameters that are sent back to a peer.
const MAX_REPORT: usize = 256;

/// What one end can do beyond RFC 9260.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Features {
    /// RFC 3758.
    pub(crate) partial_reliability: bool,
    /// RFC 6525.
    pub(crate) reconfig: bool,
    /// RFC 8260.
    pub(crate) interleaving: bool,
    /// RFC 9653, with DTLS as the method.
    pub(crate) zero_checksum: bool,
    /// Longest delay of a SACK in milliseconds, if announced.
    pub(crate) ack_delay: Option<u16>,
}

impl Features {
    /// Packs the features into an integer, for a cookie.
    pub(crate) fn to_bits(self) -> u32 {
        u32::from(self.partial_reliability)
            | u32::from(self.reconfig) << 1
            | u32::from(self.interleaving) << 2
            | u32::from(self.zero_checksum) << 3
            | self
                .ack_delay
                .map_or(0, |delay| 1 << 4 | u32::from(delay) << 16)
    }

    pub(crate) fn from_bits(bits: u32) -> Self {
        Self {
            partial_reliability: bits & 1 != 0,
            reconfig: bits & 2 != 0,
            interleaving: bits & 4 != 0,
            zero_checksum: bits & 8 != 0,
            ack_delay: (bits & 16 != 0).then_some((bits >> 16) as u16),
        }
    }
}

/// The content of an INIT or INIT ACK.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Init {
    pub(crate) tag: u32,
    pub(crate) window: u32,
    pub(crate) outbound_streams: u16,
    pub(crate) inbound_streams: u16,
    pub(crate) initial_tsn: u32,
    pub(crate) features: Features,
    /// Of an INIT ACK.
    pub(crate) cookie: Option<Vec<u8>>,
    /// Unknown parameters that are to be reported, each as received and padded.
    pub(crate) unrecognized: Vec<u8>,
    pub(crate) has_host_name: bool,
}

impl Init {
    /// Reads the body of an INIT or INIT ACK. `None` if it is too short or its parameters are
    /// malformed.
    pub(crate) fn read(body: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(body);
        let mut init = Self {
            tag: reader.u32()?,
            window: reader.u32()?,
            outbound_streams: reader.u16()?,
            inbound_streams: reader.u16()?,
            initial_tsn: reader.u32()?,
            ..Self::default()
        };
        let mut parameters = Tlvs::new(reader.rest());
        for parameter in parameters.by_ref() {
            match parameter.kind {
                param::STATE_COOKIE => init.cookie = Some(parameter.value.to_vec()),
                param::HOST_NAME => init.has_host_name = true,
                param::FORWARD_TSN => init.features.partial_reliability = true,
                param::SUPPORTED_EXTENSIONS => {
                    for kind in parameter.value {
                        match *kind {
                            kind::RE_CONFIG => init.features.reconfig = true,
                            kind::FORWARD_TSN => init.features.partial_reliability = true,
                            kind::I_DATA => init.features.interleaving = true,
                            _ => {}
                        }
                    }
                }
                param::ZERO_CHECKSUM => {
                    let method = Reader::new(parameter.value).u32();
                    init.features.zero_checksum |= method == Some(param::CHECKED_BY_DTLS);
                }
                param::ACK_DELAY => init.features.ack_delay = Reader::new(parameter.value).u16(),
                param::UNRECOGNIZED => {}
                known if param::IGNORED.contains(&known) => {}
                unknown => {
                    let report = param::reported(unknown);
                    if report && init.unrecognized.len() + parameter.raw.len() <= MAX_REPORT {
                        put_tlv(&mut init.unrecognized, unknown, parameter.value);
                    }
                    if !param::continues(unknown) {
                        return Some(init);
                    }
                }
            }
        }
        (!parameters.malformed()).then_some(init)
    }

    /// Appends an INIT (or, with `ack`, an INIT ACK) chunk.
    pub(crate) fn put(&self, buf: &mut Vec<u8>, ack: bool) {
        let start = chunk::begin(buf, if ack { kind::INIT_ACK } else { kind::INIT }, 0);
        buf.put_u32(self.tag);
        buf.put_u32(self.window);
        buf.put_u16(self.outbound_streams);
        buf.put_u16(self.inbound_streams);
        buf.put_u32(self.initial_tsn);
        if let Some(cookie) = &self.cookie {
            put_tlv(buf, param::STATE_COOKIE, cookie);
        }
        let features = &self.features;
        if features.partial_reliability {
            put_tlv(buf, param::FORWARD_TSN, &[]);
        }
        let mut extensions = Vec::with_capacity(4);
        if features.reconfig {
            extensions.push(kind::RE_CONFIG);
        }
        if features.partial_reliability {
            extensions.push(kind::FORWARD_TSN);
        }
        if features.interleaving {
            extensions.push(kind::I_DATA);
            if features.partial_reliability {
                extensions.push(kind::I_FORWARD_TSN);
            }
        }
        if !extensions.is_empty() {
            put_tlv(buf, param::SUPPORTED_EXTENSIONS, &extensions);
        }
        if features.zero_checksum {
            put_tlv(
                buf,
                param::ZERO_CHECKSUM,
                &param::CHECKED_BY_DTLS.to_be_bytes(),
            );
        }
        if let Some(delay) = features.ack_delay {
            put_tlv(buf, param::ACK_DELAY, &delay.to_be_bytes());
        }
        for parameter in Tlvs::new(&self.unrecognized) {
            put_tlv(buf, param::UNRECOGNIZED, parameter.raw);
        }
        chunk::end(buf, start);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::Chunks;

    fn init() -> Init {
        Init {
            tag: 1,
            window: 2,
            outbound_streams: 3,
            inbound_streams: 4,
            initial_tsn: 5,
            features: Features {
                partial_reliability: true,
                reconfig: true,
                interleaving: true,
                zero_checksum: true,
                ack_delay: Some(10),
            },
            ..Init::default()
        }
    }

    fn body(init: &Init, ack: bool) -> Vec<u8> {
        let mut packet = vec![0; 12];
        init.put(&mut packet, ack);
        let chunk = Chunks::new(&packet).next().expect("chunk");
        chunk.body.to_vec()
    }

    #[test]
    fn an_init_ack_is_read_as_written() {
        let init = Init {
            cookie: Some(vec![1, 2, 3]),
            ..init()
        };
        assert_eq!(Init::read(&body(&init, true)), Some(init));
    }

    #[test]
    fn features_survive_a_cookie() {
        let features = init().features;
        assert_eq!(Features::from_bits(features.to_bits()), features);
        assert_eq!(
            Features::from_bits(Features::default().to_bits()),
            Features::default()
        );
    }

    #[test]
    fn unknown_parameters_are_handled_by_their_top_bits() {
        for (unknown, continues, reported) in [
            (0x3123, false, false),
            (0x7123, false, true),
            (0xa123, true, false),
            (0xf123, true, true),
        ] {
            let mut bytes = body(
                &Init {
                    features: Features::default(),
                    ..init()
                },
                false,
            );
            put_tlv(&mut bytes, unknown, b"x");
            put_tlv(&mut bytes, param::FORWARD_TSN, &[]);
            let read = Init::read(&bytes).expect("init");
            assert_eq!(read.features.partial_reliability, continues);
            assert_eq!(!read.unrecognized.is_empty(), reported);
        }
    }

    #[test]
    fn reports_are_bounded_and_malformed_parameters_refused() {
        let mut bytes = body(&init(), false);
        for _ in 0..100 {
            put_tlv(&mut bytes, 0xf123, b"12345678");
        }
        let read = Init::read(&bytes).expect("init");
        assert!(read.unrecognized.len() <= MAX_REPORT + 4);
        bytes.extend_from_slice(&[0xf1, 0, 0, 99]);
        assert_eq!(Init::read(&bytes), None);
        assert_eq!(Init::read(&bytes[..15]), None);
    }
}
