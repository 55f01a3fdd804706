use std::sync::Arc;

use parking_lot::Mutex;
use rtc::crypto::{
    ActiveKeyExchange, AeadAlgorithm, AeadCipher, BlockCipherAlgorithm, CbcAlgorithm, CbcCipher,
    CryptoAlgorithm, CryptoError, HashAlgorithm, HmacAlgorithm, KeyExchangeAlgorithm, Mac,
    PublicKey, RTCCrypto, RTCCryptoProvider, RTCRandom, SignatureScheme, SigningKey, StreamCipher,
    StreamCipherAlgorithm, default_provider,
};

use super::sctp_filter::SctpFilter;
use super::vitals::Vitals;

/// The types of DTLS records (RFC 6347, section 4.1) that carry an alert, and SCTP.
const ALERT: u8 = 21;
const APPLICATION_DATA: u8 = 23;

/// Wraps the engine's cryptography, to look at the SCTP packets and the alerts of one connection in the
/// clear.
///
/// The engine discards a record that does not decrypt, and so one that the filter refuses.
struct Filtered {
    inner: Arc<dyn RTCCryptoProvider>,
    filter: Arc<Mutex<SctpFilter>>,
    vitals: Arc<Vitals>,
}

/// Returns the cryptography of one connection.
///
/// # Errors
///
/// Those of the engine's own provider.
pub(super) fn filtered(vitals: Arc<Vitals>) -> Result<Arc<dyn RTCCryptoProvider>, CryptoError> {
    Ok(Arc::new(Filtered {
        inner: default_provider()?,
        filter: Arc::new(Mutex::new(SctpFilter::new(vitals.clone()))),
        vitals,
    }))
}

impl RTCCryptoProvider for Filtered {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn crypto(&self) -> &dyn RTCCrypto {
        self
    }

    fn random(&self) -> &dyn RTCRandom {
        self.inner.random()
    }
}

impl RTCCrypto for Filtered {
    /// The ciphers that do not show the type of a record are left out. Every implementation of WebRTC has
    /// another (RFC 8827, section 6.5).
    fn supports(&self, algorithm: CryptoAlgorithm) -> bool {
        !matches!(algorithm, CryptoAlgorithm::Cbc(_)) && self.inner.crypto().supports(algorithm)
    }

    fn hash(&self, algorithm: HashAlgorithm, data: &[u8]) -> Result<Vec<u8>, CryptoError> {
        self.inner.crypto().hash(algorithm, data)
    }

    fn block_encrypt(
        &self,
        algorithm: BlockCipherAlgorithm,
        key: &[u8],
        block: &mut [u8],
    ) -> Result<(), CryptoError> {
        self.inner.crypto().block_encrypt(algorithm, key, block)
    }

    fn new_hmac(&self, algorithm: HmacAlgorithm, key: &[u8]) -> Result<Box<dyn Mac>, CryptoError> {
        self.inner.crypto().new_hmac(algorithm, key)
    }

    fn new_stream_cipher(
        &self,
        algorithm: StreamCipherAlgorithm,
        key: &[u8],
    ) -> Result<Box<dyn StreamCipher>, CryptoError> {
        self.inner.crypto().new_stream_cipher(algorithm, key)
    }

    fn new_aead(
        &self,
        algorithm: AeadAlgorithm,
        key: &[u8],
    ) -> Result<Box<dyn AeadCipher>, CryptoError> {
        Ok(Box::new(FilteredAead {
            inner: self.inner.crypto().new_aead(algorithm, key)?,
            filter: self.filter.clone(),
            vitals: self.vitals.clone(),
        }))
    }

    fn new_cbc(
        &self,
        algorithm: CbcAlgorithm,
        _key: &[u8],
    ) -> Result<Box<dyn CbcCipher>, CryptoError> {
        let algorithm = CryptoAlgorithm::Cbc(algorithm);
        Err(CryptoError::UnsupportedAlgorithm(algorithm))
    }

    fn start_key_exchange(
        &self,
        algorithm: KeyExchangeAlgorithm,
    ) -> Result<Box<dyn ActiveKeyExchange>, CryptoError> {
        self.inner.crypto().start_key_exchange(algorithm)
    }

    fn generate_signing_key(
        &self,
        scheme: SignatureScheme,
    ) -> Result<Arc<dyn SigningKey>, CryptoError> {
        self.inner.crypto().generate_signing_key(scheme)
    }

    fn import_signing_key(
        &self,
        scheme: SignatureScheme,
        pkcs8_der: &[u8],
    ) -> Result<Arc<dyn SigningKey>, CryptoError> {
        self.inner.crypto().import_signing_key(scheme, pkcs8_der)
    }

    fn verify_signature(
        &self,
        scheme: SignatureScheme,
        public_key: PublicKey<'_>,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), CryptoError> {
        let crypto = self.inner.crypto();
        crypto.verify_signature(scheme, public_key, message, signature)
    }
}

struct FilteredAead {
    inner: Box<dyn AeadCipher>,
    filter: Arc<Mutex<SctpFilter>>,
    vitals: Arc<Vitals>,
}

impl AeadCipher for FilteredAead {
    fn tag_len(&self) -> usize {
        self.inner.tag_len()
    }

    fn seal_in_place(
        &mut self,
        nonce: &[u8],
        aad: &[u8],
        buffer: &mut [u8],
        tag: &mut [u8],
    ) -> Result<(), CryptoError> {
        match record_type(aad) {
            Some(APPLICATION_DATA) => self.filter.lock().note_sent(buffer),
            Some(ALERT) => self.vitals.note_alert(buffer),
            _ => {}
        }
        self.inner.seal_in_place(nonce, aad, buffer, tag)
    }

    fn open_in_place(
        &mut self,
        nonce: &[u8],
        aad: &[u8],
        buffer: &mut [u8],
        tag: &[u8],
    ) -> Result<(), CryptoError> {
        self.inner.open_in_place(nonce, aad, buffer, tag)?;
        match record_type(aad) {
            Some(APPLICATION_DATA) => {
                let checked = self.filter.lock().check(buffer);
                checked.map_err(|refused| {
                    tracing::debug!(why = refused.0, "an SCTP packet of the peer is refused");
                    CryptoError::Provider(refused.0.to_owned())
                })
            }
            Some(ALERT) => {
                self.vitals.note_alert(buffer);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// Returns the type of the DTLS record that these additional data belong to (RFC 5246, section
/// 6.2.3.3).
fn record_type(aad: &[u8]) -> Option<u8> {
    match *aad {
        [_, _, _, _, _, _, _, _, kind, _, _, _, _] => Some(kind),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    /// Returns the alert found in a record with this type and content, which `opens` if it was not
    /// changed on its way.
    fn alert_of(kind: u8, content: &[u8], opens: bool) -> Option<u8> {
        let vitals = Vitals::new();
        let crypto = filtered(vitals.clone()).unwrap();
        let plain = default_provider().unwrap();
        let aead = |crypto: &dyn RTCCrypto| {
            let algorithm = AeadAlgorithm::Aes128Gcm;
            crypto.new_aead(algorithm, &[7; 16]).unwrap()
        };
        let mut aad = [0; 13];
        aad[8] = kind;
        let (mut buffer, mut tag) = (content.to_vec(), vec![0; 16]);
        aead(plain.crypto())
            .seal_in_place(&[1; 12], &aad, &mut buffer, &mut tag)
            .unwrap();
        if !opens {
            buffer[0] ^= 1;
        }
        let opened = aead(crypto.crypto()).open_in_place(&[1; 12], &aad, &mut buffer, &tag);
        assert_eq!(opened.is_ok(), opens);
        vitals.ended().now_or_never()
    }

    #[test]
    fn a_fatal_alert_under_the_keys_ends_the_association_and_no_other_does() {
        assert_eq!(alert_of(ALERT, &[2, 40], true), Some(40));
        assert_eq!(alert_of(ALERT, &[2, 0], true), Some(0));
        assert_eq!(alert_of(ALERT, &[1, 0], true), None);
        assert_eq!(alert_of(ALERT, &[2, 40], false), None);
        assert_eq!(alert_of(ALERT, &[2], true), None);
        assert_eq!(alert_of(22, &[2, 40], true), None);
    }
}
