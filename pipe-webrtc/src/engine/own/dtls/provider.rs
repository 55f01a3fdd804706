use std::sync::LazyLock;

use aes::cipher::{BlockEncrypt, KeyInit};
use aes::{Aes128, Aes256, Block};
use dimpl::crypto::{
    Cipher, CryptoProvider, Dtls13CipherSuite, HashAlgorithm, SupportedDtls13CipherSuite, aws_lc_rs,
};

static SUITES: LazyLock<&'static [&'static dyn SupportedDtls13CipherSuite]> = LazyLock::new(|| {
    let suites = aws_lc_rs::default_provider().dtls13_cipher_suites.iter();
    let suites = suites.map(|suite| &*Box::leak(Box::new(Suite(*suite))) as _);
    Box::leak(suites.collect())
});

/// Returns the cryptography of all associations: that of aws-lc, with [`Suite`] for its suites of DTLS 1.3.
pub(super) fn provider() -> CryptoProvider {
    CryptoProvider {
        dtls13_cipher_suites: *SUITES,
        ..aws_lc_rs::default_provider()
    }
}

/// A suite of aws-lc that encrypts the numbers of records (RFC 9147, section 4.2.3) by itself where that is one
/// block of AES: a key of aws-lc, which would be made anew for each record, costs many times the block.
#[derive(Debug)]
struct Suite(&'static dyn SupportedDtls13CipherSuite);

impl SupportedDtls13CipherSuite for Suite {
    fn suite(&self) -> Dtls13CipherSuite {
        self.0.suite()
    }

    fn hash_algorithm(&self) -> HashAlgorithm {
        self.0.hash_algorithm()
    }

    fn key_len(&self) -> usize {
        self.0.key_len()
    }

    fn iv_len(&self) -> usize {
        self.0.iv_len()
    }

    fn tag_len(&self) -> usize {
        self.0.tag_len()
    }

    fn min_protected_fragment_len(&self) -> usize {
        self.0.min_protected_fragment_len()
    }

    fn create_cipher(&self, key: &[u8]) -> Result<Box<dyn Cipher>, dimpl::CryptoError> {
        self.0.create_cipher(key)
    }

    fn encrypt_sn(&self, key: &[u8], sample: &[u8; 16]) -> [u8; 16] {
        let encrypted = match self.suite() {
            Dtls13CipherSuite::AES_128_GCM_SHA256 => block::<Aes128>(key, sample),
            Dtls13CipherSuite::AES_256_GCM_SHA384 => block::<Aes256>(key, sample),
            _ => None,
        };
        encrypted.unwrap_or_else(|| self.0.encrypt_sn(key, sample))
    }
}

/// Encrypts one block; `None` for a key of another length.
fn block<C>(key: &[u8], sample: &[u8; 16]) -> Option<[u8; 16]>
where
    C: KeyInit + BlockEncrypt<BlockSize = aes::cipher::consts::U16>,
{
    let cipher = C::new_from_slice(key).ok()?;
    let mut block = Block::from(*sample);
    cipher.encrypt_block(&mut block);
    Some(block.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_suite_encrypts_numbers_as_that_of_aws_lc_does() {
        let theirs = aws_lc_rs::default_provider().dtls13_cipher_suites;
        let ours = provider().dtls13_cipher_suites;
        assert_eq!((ours.len(), theirs.len()), (3, 3));
        for (ours, theirs) in ours.iter().zip(theirs) {
            assert_eq!(ours.suite(), theirs.suite());
            let key: Vec<u8> = (1..).take(ours.key_len()).collect();
            for byte in 0..=255 {
                let sample = [byte; 16];
                assert_eq!(
                    ours.encrypt_sn(&key, &sample),
                    theirs.encrypt_sn(&key, &sample)
                );
            }
        }
    }
}
