use std::fmt;
use std::sync::Arc;

use pipe_core::{Error, ErrorKind, Result};
use rtc::crypto::{SignatureScheme, default_provider};
use rtc::peer_connection::certificate::{CertificateParams, RTCCertificate};

/// The certificate that proves the identity of a side, and its private key: ECDSA on P-256.
///
/// A connection checks its peer's certificate against the fingerprint from the signalling channel.
/// A stored certificate lets peers recognise a side; without one, every transport makes its own.
#[derive(Clone)]
pub struct Certificate(Arc<RTCCertificate>);

impl Certificate {
    /// Makes a certificate and its key.
    ///
    /// # Errors
    ///
    /// [`Io`](ErrorKind::Io) when the system gives no random bytes.
    pub fn generate() -> Result<Self> {
        let provider = default_provider().map_err(failed)?;
        let params = CertificateParams::new(vec!["webrtc".to_owned()]).map_err(failed)?;
        let certificate =
            RTCCertificate::generate(provider.crypto(), SignatureScheme::EcdsaP256Sha256, params);
        Ok(Self(Arc::new(certificate.map_err(failed)?)))
    }

    /// Reads the output of [`to_pem`](Self::to_pem).
    ///
    /// # Errors
    ///
    /// [`ConfigInvalid`](ErrorKind::ConfigInvalid) for anything else.
    pub fn from_pem(pem: &str) -> Result<Self> {
        let provider = default_provider().map_err(failed)?;
        match RTCCertificate::from_pem(pem, provider.crypto()) {
            Ok(certificate) => Ok(Self(Arc::new(certificate))),
            Err(error) => {
                let why = format!("the PEM text is no certificate with its key: {error}");
                Err(Error::with_source(ErrorKind::ConfigInvalid, why, error))
            }
        }
    }

    /// Returns the certificate and its private key as text, to be kept in a safe place.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](ErrorKind::Unsupported) when the key cannot be taken out.
    pub fn to_pem(&self) -> Result<String> {
        self.0.serialize_pem().map_err(|error| {
            let why = format!("the certificate cannot be written: {error}");
            Error::with_source(ErrorKind::Unsupported, why, error)
        })
    }

    /// Returns the SHA-256 of the certificate, as in a session description: pairs of hexadecimal
    /// digits with colons between them (RFC 8122, section 5).
    ///
    /// # Errors
    ///
    /// [`Io`](ErrorKind::Io) when it cannot be computed.
    pub fn fingerprint(&self) -> Result<String> {
        let provider = default_provider().map_err(failed)?;
        let prints = self.0.get_fingerprints(provider.crypto()).map_err(failed)?;
        let print = prints.into_iter().next();
        print
            .map(|print| print.value)
            .ok_or_else(|| Error::new(ErrorKind::Io, "the certificate has no fingerprint"))
    }

    pub(crate) fn engine(&self) -> Result<RTCCertificate> {
        Ok((*self.0).clone())
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
