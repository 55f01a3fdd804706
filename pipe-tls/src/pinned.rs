use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::{CertPins, CertSha256, provider};

/// Trusts the certificates with these hashes, and no other one.
///
/// The hash identifies the certificate, so no name and no date is checked: both are only the
/// certificate's own claims. The peer proves by its signature in the handshake that it holds the
/// certificate's key, and that is verified as usual.
#[derive(Debug)]
pub(crate) struct Pinned {
    pins: CertPins,
    algorithms: WebPkiSupportedAlgorithms,
}

/// The peer has another certificate than the pinned one.
#[derive(Debug)]
pub(crate) struct PinMismatch {
    pub(crate) pinned: CertPins,
    pub(crate) shown: CertSha256,
}

impl Pinned {
    pub(crate) fn new(pins: CertPins) -> Self {
        let algorithms = provider().signature_verification_algorithms;
        Self { pins, algorithms }
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let shown = CertSha256::of(end_entity);
        if self.pins.contains(shown) {
            return Ok(ServerCertVerified::assertion());
        }
        let pinned = self.pins;
        let mismatch = OtherError(Arc::new(PinMismatch { pinned, shown }));
        Err(CertificateError::Other(mismatch).into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl fmt::Display for PinMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pinned, shown } = self;
        write!(
            f,
            "the pinned certificate is {pinned}, but the peer showed {shown}"
        )
    }
}

impl std::error::Error for PinMismatch {}
