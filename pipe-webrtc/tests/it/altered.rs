//! Cryptography of an attacker: the engine's own, and SCTP packets that are changed before they are
//! encrypted.

use std::sync::Arc;
use std::sync::Mutex;

use rtc::crypto::{
    ActiveKeyExchange, AeadAlgorithm, AeadCipher, BlockCipherAlgorithm, CryptoAlgorithm,
    CryptoError, HashAlgorithm, HmacAlgorithm, KeyExchangeAlgorithm, Mac, PublicKey, RTCCrypto,
    RTCCryptoProvider, RTCRandom, SignatureScheme, SigningKey, StreamCipher, StreamCipherAlgorithm,
    default_provider,
};

/// Changes what follows the common header of a packet, whose length stays.
pub(crate) type Change = fn(&mut [u8]);

/// The change to be made to the next packet that carries a message of 100 bytes or more.
#[derive(Clone, Default)]
pub(crate) struct Next(Arc<Mutex<Option<Change>>>);

impl Next {
    pub(crate) fn set(&self, change: Change) {
        *self.0.lock().unwrap() = Some(change);
    }

    pub(crate) fn is_done(&self) -> bool {
        self.0.lock().unwrap().is_none()
    }

    fn apply(&self, packet: &mut [u8]) {
        // A DATA chunk (RFC 9260, section 3.3.1).
        if packet.len() < 128 || packet[12] != 0 {
            return;
        }
        if let Some(change) = self.0.lock().unwrap().take() {
            change(&mut packet[12..]);
            packet[8..12].fill(0);
            let checksum = crc32c(packet);
            packet[8..12].copy_from_slice(&checksum.to_le_bytes());
        }
    }
}

/// RFC 9260, appendix A.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 * (crc & 1));
        }
    }
    !crc
}

pub(crate) struct Altered {
    inner: Arc<dyn RTCCryptoProvider>,
    next: Next,
}

impl Altered {
    pub(crate) fn new(next: Next) -> Self {
        let inner = default_provider().expect("the engine's cryptography");
        Self { inner, next }
    }
}

impl RTCCryptoProvider for Altered {
    fn name(&self) -> &'static str {
        "altered"
    }

    fn crypto(&self) -> &dyn RTCCrypto {
        self
    }

    fn random(&self) -> &dyn RTCRandom {
        self.inner.random()
    }
}

impl RTCCrypto for Altered {
    fn supports(&self, algorithm: CryptoAlgorithm) -> bool {
        self.inner.crypto().supports(algorithm)
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
        Ok(Box::new(AlteredAead {
            inner: self.inner.crypto().new_aead(algorithm, key)?,
            next: self.next.clone(),
        }))
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

struct AlteredAead {
    inner: Box<dyn AeadCipher>,
    next: Next,
}

impl AeadCipher for AlteredAead {
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
        // Application data (RFC 6347, section 4.1).
        if aad.get(8) == Some(&23) {
            self.next.apply(buffer);
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
        self.inner.open_in_place(nonce, aad, buffer, tag)
    }
}
