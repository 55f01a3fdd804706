//! Clients that close their connection with its first packet.

use std::sync::Arc;

use bytes::BytesMut;
use quinn::crypto::{CryptoError, Keys, PacketKey, ServerConfig, Session, UnsupportedVersion};
use quinn::{ConnectionId, crypto::rustls::QuicServerConfig};
use quinn_proto::transport_parameters::TransportParameters;

/// The cryptography of a listener, under which a first packet that closes its connection is not valid. quinn
/// (0.11) would make a connection of it, and keep that until it has been idle for its time: a client that gives
/// up just after the listener did would leave one behind.
pub(crate) struct OpensOnly(pub(crate) Arc<QuicServerConfig>);

impl ServerConfig for OpensOnly {
    /// Returns keys for a client's first packet. Later packets have keys of their session.
    fn initial_keys(&self, version: u32, to: &ConnectionId) -> Result<Keys, UnsupportedVersion> {
        let mut keys = self.0.initial_keys(version, to)?;
        keys.packet.remote = Box::new(FirstPacketKey(keys.packet.remote));
        Ok(keys)
    }

    fn retry_tag(&self, version: u32, to: &ConnectionId, packet: &[u8]) -> [u8; 16] {
        self.0.retry_tag(version, to, packet)
    }

    fn start_session(
        self: Arc<Self>,
        version: u32,
        params: &TransportParameters,
    ) -> Box<dyn Session> {
        self.0.clone().start_session(version, params)
    }
}

struct FirstPacketKey(Box<dyn PacketKey>);

impl PacketKey for FirstPacketKey {
    fn encrypt(&self, packet: u64, buf: &mut [u8], header_len: usize) {
        self.0.encrypt(packet, buf, header_len);
    }

    fn decrypt(
        &self,
        packet: u64,
        header: &[u8],
        payload: &mut BytesMut,
    ) -> Result<(), CryptoError> {
        self.0.decrypt(packet, header, payload)?;
        if closes(payload) {
            return Err(CryptoError);
        }
        Ok(())
    }

    fn tag_len(&self) -> usize {
        self.0.tag_len()
    }

    fn confidentiality_limit(&self) -> u64 {
        self.0.confidentiality_limit()
    }

    fn integrity_limit(&self) -> u64 {
        self.0.integrity_limit()
    }
}

/// Returns whether there is a CONNECTION_CLOSE among the frames of an Initial packet. Stops at
/// frames that may not be there (RFC 9000, section 12.4), or that are cut off: quinn refuses them.
fn closes(mut payload: &[u8]) -> bool {
    while let Some(kind) = number(&mut payload) {
        let skipped = match kind {
            // PADDING, PING
            0x00 | 0x01 => Some(()),
            // ACK, with and without counts of ECN
            0x02 | 0x03 => skip_ack(&mut payload, kind == 0x03),
            // CRYPTO
            0x06 => skip_crypto(&mut payload),
            // CONNECTION_CLOSE
            0x1c | 0x1d => return true,
            _ => None,
        };
        if skipped.is_none() {
            return false;
        }
    }
    false
}

fn skip_ack(payload: &mut &[u8], ecn: bool) -> Option<()> {
    let (_largest, _delay) = (number(payload)?, number(payload)?);
    let ranges = number(payload)?;
    let _first = number(payload)?;
    for _ in 0..ranges {
        let (_gap, _length) = (number(payload)?, number(payload)?);
    }
    if ecn {
        for _ in 0..3 {
            number(payload)?;
        }
    }
    Some(())
}

fn skip_crypto(payload: &mut &[u8]) -> Option<()> {
    let _offset = number(payload)?;
    let length = usize::try_from(number(payload)?).ok()?;
    *payload = payload.get(length..)?;
    Some(())
}

/// Takes a number of variable length (RFC 9000, section 16).
fn number(payload: &mut &[u8]) -> Option<u64> {
    let first = *payload.first()?;
    let (bytes, rest) = payload.split_at_checked(1 << (first >> 6))?;
    *payload = rest;
    let after = |value, byte: &u8| value << 8 | u64::from(*byte);
    Some(bytes[1..].iter().fold(u64::from(first & 0x3f), after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_is_found_wherever_it_is() {
        let crypto = [0x06, 0x00, 0x02, 0x1c, 0x1c];
        let long_crypto = [0x06, 0x40, 0x01, 0x80, 0x00, 0x00, 0x01, 0x1c];
        let ack = [0x02, 0x1c, 0x1c, 0x01, 0x1c, 0x1c, 0x1c];
        let ecn = [0x03, 0x05, 0x00, 0x00, 0x01, 0x1c, 0x1c, 0x1c];
        let close = [0x1c, 0x00, 0x00, 0x00];
        let opens: [&[u8]; 5] = [&[0x00, 0x01, 0x00], &crypto, &long_crypto, &ack, &ecn];
        for frames in opens {
            assert!(!closes(frames), "{frames:?}");
            assert!(closes(&[frames, &close].concat()), "{frames:?}");
        }
        assert!(closes(
            &opens.concat().into_iter().chain([0x1d]).collect::<Vec<_>>()
        ));
    }

    #[test]
    fn what_is_cut_off_or_may_not_be_there_closes_nothing() {
        let cut: [&[u8]; 6] = [
            &[],
            &[0x06, 0x00, 0x05, 0x1c],
            &[
                0x06, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x1c,
            ],
            &[0x02, 0x00, 0x00, 0xbf, 0xff, 0xff, 0xff, 0x1c],
            &[0x08, 0x1c],
            &[0x40],
        ];
        for frames in cut {
            assert!(!closes(frames), "{frames:?}");
        }
    }

    #[test]
    fn numbers_have_one_to_eight_bytes() {
        // The examples of RFC 9000, appendix A.1.
        let examples: [(&[u8], u64); 5] = [
            (
                &[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c],
                151_288_809_941_952_652,
            ),
            (&[0x9d, 0x7f, 0x3e, 0x7d], 494_878_333),
            (&[0x7b, 0xbd], 15_293),
            (&[0x25], 37),
            (&[0x40, 0x25], 37),
        ];
        for (mut bytes, value) in examples {
            assert_eq!(number(&mut bytes), Some(value));
            assert!(bytes.is_empty());
        }
    }
}
