use std::sync::Arc;

use parking_lot::Mutex;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

/// Why a dialer refused its listener, if it did.
#[derive(Clone, Debug, Default)]
pub struct Verdict(Arc<Mutex<Option<Error>>>);

impl Verdict {
    /// Returns the error, to be put into words by [`explain`](crate::explain).
    pub fn error(&self) -> Option<Error> {
        self.0.lock().clone()
    }
}

/// Leaves the judgement to another verifier, and keeps its errors.
#[derive(Debug)]
pub(crate) struct Judge {
    inner: Arc<dyn ServerCertVerifier>,
    verdict: Verdict,
}

impl Judge {
    pub(crate) fn new(inner: Arc<dyn ServerCertVerifier>) -> (Self, Verdict) {
        let verdict = Verdict::default();
        let judge = Self {
            inner,
            verdict: verdict.clone(),
        };
        (judge, verdict)
    }

    fn keep<T>(&self, judged: Result<T, Error>) -> Result<T, Error> {
        if let Err(error) = &judged {
            *self.verdict.0.lock() = Some(error.clone());
        }
        judged
    }
}

impl ServerCertVerifier for Judge {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.keep(self.inner.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        ))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.keep(self.inner.verify_tls12_signature(message, cert, signed))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.keep(self.inner.verify_tls13_signature(message, cert, signed))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        self.inner.requires_raw_public_keys()
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        self.inner.root_hint_subjects()
    }
}
