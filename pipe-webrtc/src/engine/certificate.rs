use std::fmt;
use std::sync::Arc;

use data_encoding::HEXUPPER;
use pipe_core::{Error, ErrorKind, Result};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use ring::digest::{SHA256, digest};

/// Labels of the parts of the text form. The first one, the end of the time for which the certificate is
/// valid, is of the form that the crate `webrtc` reads.
const EXPIRES: &str = "EXPIRES";
const PRIVATE_KEY: &str = "PRIVATE_KEY";
const CERTIFICATE: &str = "CERTIFICATE";

/// 1 January 4096 in seconds since 1970: the end of the time for which a certificate is valid.
const EXPIRY: u64 = 67_090_118_400;

/// The certificate that proves the identity of a side, and its private key: ECDSA on P-256.
///
/// A connection checks its peer's certificate against the fingerprint from the signalling channel.
/// A stored certificate lets peers recognise a side; without one, every transport makes its own.
#[derive(Clone)]
pub struct Certificate(Arc<Inner>);

struct Inner {
    /// The certificate in DER.
    certificate: Vec<u8>,
    /// The key in PKCS #8.
    key: Vec<u8>,
    /// Seconds since 1970.
    expires: u64,
}

impl Certificate {
    /// Makes a certificate and its key.
    ///
    /// # Errors
    ///
    /// [`Io`](ErrorKind::Io) when the system gives no random bytes.
    pub fn generate() -> Result<Self> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        let params = CertificateParams::new(vec!["webrtc".to_owned()]).map_err(failed)?;
        let certificate = params.self_signed(&key).map_err(failed)?;
        Ok(Self(Arc::new(Inner {
            certificate: certificate.der().to_vec(),
            key: key.serialize_der(),
            expires: EXPIRY,
        })))
    }

    /// Reads the output of [`to_pem`](Self::to_pem).
    ///
    /// # Errors
    ///
    /// [`ConfigInvalid`](ErrorKind::ConfigInvalid) for anything else.
    pub fn from_pem(pem: &str) -> Result<Self> {
        let bad = |why: &dyn fmt::Display| {
            let why = format!("the PEM text is no certificate with its key: {why}");
            Error::new(ErrorKind::ConfigInvalid, why)
        };
        let parts = pem::parse_many(pem).map_err(|error| bad(&error))?;
        let part = |label: &str| {
            let part = parts.iter().find(|part| part.tag() == label);
            part.map(pem::Pem::contents)
                .ok_or_else(|| bad(&format_args!("it has no part {label}")))
        };
        let (certificate, key) = (part(CERTIFICATE)?, part(PRIVATE_KEY)?);
        let pair = KeyPair::try_from(key).map_err(|error| bad(&error))?;
        if !pair.is_compatible(&PKCS_ECDSA_P256_SHA256) {
            return Err(bad(&"the key is not one of ECDSA on P-256"));
        }
        let expires = part(EXPIRES)?.try_into().map(u64::from_le_bytes);
        Ok(Self(Arc::new(Inner {
            certificate: certificate.to_vec(),
            key: key.to_vec(),
            expires: expires.map_err(|_| bad(&"its time is not one of 8 bytes"))?,
        })))
    }

    /// Returns the certificate and its private key as text, to be kept in a safe place.
    ///
    /// # Errors
    ///
    /// None on this engine; a key that cannot be taken out would be [`Unsupported`](ErrorKind::Unsupported).
    pub fn to_pem(&self) -> Result<String> {
        let part = |label: &str, bytes: &[u8]| pem::encode(&pem::Pem::new(label, bytes));
        let expires = part(EXPIRES, &self.0.expires.to_le_bytes());
        let key = part(PRIVATE_KEY, &self.0.key);
        let certificate = part(CERTIFICATE, &self.0.certificate);
        Ok(format!("{expires}\n{key}\n{certificate}"))
    }

    /// Returns the SHA-256 of the certificate, as in a session description: pairs of hexadecimal
    /// digits with colons between them (RFC 8122, section 5).
    ///
    /// # Errors
    ///
    /// [`Io`](ErrorKind::Io) when it cannot be computed.
    pub fn fingerprint(&self) -> Result<String> {
        let digest = digest(&SHA256, &self.0.certificate);
        let pairs = digest.as_ref().iter().map(|byte| HEXUPPER.encode(&[*byte]));
        Ok(pairs.collect::<Vec<_>>().join(":"))
    }

    /// Returns the certificate in DER.
    pub(crate) fn der(&self) -> &[u8] {
        &self.0.certificate
    }

    /// Returns the private key in PKCS #8.
    pub(crate) fn key(&self) -> &[u8] {
        &self.0.key
    }
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    let why = format!("making a certificate failed: {error}");
    Error::with_source(ErrorKind::Io, why, error)
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Certificate")
            .field(&self.fingerprint().unwrap_or_default())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_read_as_it_was_written() {
        let made = Certificate::generate().unwrap();
        let read = Certificate::from_pem(&made.to_pem().unwrap()).unwrap();
        assert_eq!(made.fingerprint().unwrap(), read.fingerprint().unwrap());
        assert_eq!(made.fingerprint().unwrap().len(), 95);
        let other = Certificate::generate().unwrap();
        assert_ne!(made.fingerprint().unwrap(), other.fingerprint().unwrap());
        let error = Certificate::from_pem("no certificate").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
    }
}
