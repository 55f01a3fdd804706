use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use pipe_core::{Error, ErrorKind, Result};
use rustls::server::ResolvesServerCert;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::renewed::Renewed;
use crate::self_signed::self_sign;
use crate::{CertPins, CertSha256, pem, provider};

/// The identity of one side: a certificate, those that lead to its root, and the private key.
///
/// Cheap to clone. Its `Debug` shows the hash of the certificate and nothing of the key.
#[derive(Clone)]
pub struct Identity(Kind);

#[derive(Clone)]
enum Kind {
    Fixed(Arc<CertifiedKey>, CertSha256),
    Renewed(Arc<Renewed>),
}

impl Identity {
    /// Reads an identity from texts in PEM: the certificates, one's own first and then those that
    /// lead to the root, and the private key (PKCS #8, PKCS #1 or SEC1, not encrypted).
    ///
    /// # Errors
    ///
    /// [`ConfigInvalid`](ErrorKind::ConfigInvalid), which names the missing or malformed part, or
    /// when the key belongs to another certificate.
    pub fn from_pem(certificates: &[u8], key: &[u8]) -> Result<Self> {
        Self::read(certificates, key, "the certificate text", "the key text")
    }

    /// Returns the same from two files, or from one that holds both.
    ///
    /// # Errors
    ///
    /// As in [`from_pem`](Self::from_pem), and [`Io`](ErrorKind::Io) for a file that cannot be read.
    /// Each names the file.
    pub fn from_pem_files(certificates: impl AsRef<Path>, key: impl AsRef<Path>) -> Result<Self> {
        let (certificates, key) = (certificates.as_ref(), key.as_ref());
        Self::read(
            &pem::read(certificates)?,
            &pem::read(key)?,
            &certificates.display().to_string(),
            &key.display().to_string(),
        )
    }

    /// Reads from DER: the certificates in the same order, and the private key.
    ///
    /// # Errors
    ///
    /// As in [`from_pem`](Self::from_pem).
    pub fn from_der(
        certificates: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self> {
        Self::new(certificates, key, "the certificate given", "the key given")
    }

    /// Generates a key (ECDSA on P-256) with a self-signed certificate for these names and IP
    /// addresses. It does not expire before the year 4096: a peer trusts this one certificate, by
    /// its [hash](Self::sha256) or as a [root](crate::Roots).
    ///
    /// # Errors
    ///
    /// [`ConfigInvalid`](ErrorKind::ConfigInvalid) when a name cannot be one.
    pub fn self_signed<N: Into<String>>(names: impl IntoIterator<Item = N>) -> Result<Self> {
        let names: Vec<String> = names.into_iter().map(Into::into).collect();
        let (certificate, key) = self_sign(&names, None)?;
        Self::from_der(vec![certificate], key)
    }

    /// Generates keys (ECDSA on P-256) with self-signed certificates for these names and IP addresses that browsers take by their
    /// [hash](Self::pins) over WebTransport: each is valid for 14 days, and after 12 days of use the next one takes its place,
    /// by itself. The hashes of both are known from the start: one that was given out is good for 12 to 24 days.
    ///
    /// # Errors
    ///
    /// [`ConfigInvalid`](ErrorKind::ConfigInvalid) when a name cannot be one.
    pub fn short_lived<N: Into<String>>(names: impl IntoIterator<Item = N>) -> Result<Self> {
        let names = names.into_iter().map(Into::into).collect();
        let renewed = Renewed::new(names, SystemTime::now())?;
        Ok(Self(Kind::Renewed(Arc::new(renewed))))
    }

    /// Returns the hash of the certificate, which names it in an address.
    pub fn sha256(&self) -> CertSha256 {
        match &self.0 {
            Kind::Fixed(_, sha256) => *sha256,
            Kind::Renewed(renewed) => renewed.at(SystemTime::now()).1,
        }
    }

    /// Returns the hashes for an address: that of the certificate, and of the one that will take its place.
    pub fn pins(&self) -> CertPins {
        match &self.0 {
            Kind::Fixed(_, sha256) => (*sha256).into(),
            Kind::Renewed(renewed) => renewed.pins(SystemTime::now()),
        }
    }

    /// Returns the certificates in DER, one's own first: see the feature `native`.
    #[cfg(feature = "native")]
    pub fn certificates(&self) -> Vec<CertificateDer<'static>> {
        self.key().cert.clone()
    }

    /// Combines this certificate with a key that is not its own.
    #[cfg(test)]
    pub(crate) fn with_key_of(&self, other: &Self) -> Arc<CertifiedKey> {
        let certificates = self.key().cert.clone();
        Arc::new(CertifiedKey::new(certificates, other.key().key.clone()))
    }

    /// Returns the key and the certificates in use now.
    pub(crate) fn key(&self) -> Arc<CertifiedKey> {
        match &self.0 {
            Kind::Fixed(key, _) => key.clone(),
            Kind::Renewed(renewed) => renewed.at(SystemTime::now()).0,
        }
    }

    /// Returns what a listener shows its dialers.
    pub(crate) fn resolver(&self) -> Arc<dyn ResolvesServerCert> {
        match &self.0 {
            Kind::Fixed(key, _) => Arc::new(SingleCertAndKey::from(key.clone())),
            Kind::Renewed(renewed) => renewed.clone(),
        }
    }

    fn read(certificates: &[u8], key: &[u8], in_cert: &str, in_key: &str) -> Result<Self> {
        let certificates = pem::certificates(certificates, in_cert)?;
        let key = pem::private_key(key, in_key)?;
        let cert = format!("the certificate in {in_cert}");
        Self::new(certificates, key, &cert, &format!("the key in {in_key}"))
    }

    fn new(
        certificates: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        the_cert: &str,
        the_key: &str,
    ) -> Result<Self> {
        let Some(own) = certificates.first() else {
            return Err(pem::invalid("an identity needs a certificate".into()));
        };
        let sha256 = CertSha256::of(own);
        let key = CertifiedKey::from_der(certificates, key, &provider()).map_err(|error| {
            let why = match &error {
                rustls::Error::InconsistentKeys(_) => {
                    format!("{the_key} does not belong to {the_cert}")
                }
                rustls::Error::InvalidCertificate(_) => {
                    format!("{the_cert} cannot be understood: {error}")
                }
                _ => format!("{the_key} cannot be used: {error}"),
            };
            Error::with_source(ErrorKind::ConfigInvalid, why, error)
        })?;
        Ok(Self(Kind::Fixed(Arc::new(key), sha256)))
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("sha256", &self.sha256())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rustls_pki_types::PrivatePkcs8KeyDer;

    use super::*;
    use crate::testing::pem_pair;

    #[test]
    fn pem_is_read_from_texts_and_files() {
        let (cert, key) = pem_pair(&["localhost"]);
        let identity = Identity::from_pem(cert.as_bytes(), key.as_bytes()).unwrap();
        let der = &identity.key().cert[0];
        assert_eq!(identity.sha256(), CertSha256::of(der));

        let dir = tempfile::tempdir().unwrap();
        let (cert_file, key_file) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
        fs::write(&cert_file, &cert).unwrap();
        fs::write(&key_file, &key).unwrap();
        let from_files = Identity::from_pem_files(&cert_file, &key_file).unwrap();
        assert_eq!(from_files.sha256(), identity.sha256());

        fs::write(&cert_file, cert + &key).unwrap();
        let from_one = Identity::from_pem_files(&cert_file, &cert_file).unwrap();
        assert_eq!(from_one.sha256(), identity.sha256());
    }

    #[test]
    fn what_is_wrong_with_pem_is_said() {
        let (cert, key) = pem_pair(&["localhost"]);
        let (_, other) = pem_pair(&["localhost"]);
        let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
        let header = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n";
        let encrypted_of_old = format!("{header}-----END RSA PRIVATE KEY-----\n");
        let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let no_key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        let cut = &cert[..cert.len() / 2];
        for (cert, key, why) in [
            (
                "",
                &*key,
                "no certificate in the certificate text, it is empty",
            ),
            (
                &*key,
                &*cert,
                "there is a private key: are the two mixed up?",
            ),
            (
                &*cert,
                &*cert,
                "there is a certificate: are the two mixed up?",
            ),
            (&*cert, "", "no private key in the key text, it is empty"),
            (&*cert, "hello", "there is no private key in the key text"),
            (&*cert, &*other, "does not belong to the certificate in the"),
            (
                &*cert,
                &*encrypted,
                "the private key in the key text is encrypted",
            ),
            (
                &*cert,
                &*encrypted_of_old,
                "the private key in the key text is encrypted",
            ),
            (cut, &*key, "is no well-formed PEM: the line"),
            (garbage, &*key, "the certificate text cannot be understood"),
            (&*cert, no_key, "the key in the key text cannot be used"),
        ] {
            let error = Identity::from_pem(cert.as_bytes(), key.as_bytes()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConfigInvalid, "{error}");
            assert!(error.to_string().contains(why), "{error} / {why}");
        }
        let none = Identity::from_der(Vec::new(), PrivatePkcs8KeyDer::from(vec![0]).into());
        assert_eq!(
            none.unwrap_err().to_string(),
            "an identity needs a certificate"
        );
    }

    #[test]
    fn an_error_names_the_file() {
        let (cert, key) = pem_pair(&["localhost"]);
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("cert.pem"), cert).unwrap();
        fs::write(path("key.pem"), key).unwrap();
        fs::write(path("empty.pem"), "").unwrap();

        let error = Identity::from_pem_files(path("none.pem"), path("key.pem")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(
            error.to_string().contains("none.pem: No such file"),
            "{error}"
        );

        let error = Identity::from_pem_files(path("cert.pem"), path("empty.pem")).unwrap_err();
        assert!(
            error.to_string().contains("empty.pem, it is empty"),
            "{error}"
        );
    }

    #[test]
    fn a_self_signed_one_is_new_each_time_and_keeps_its_key_to_itself() {
        let one = Identity::self_signed(["localhost", "127.0.0.1"]).unwrap();
        let two = Identity::self_signed(["localhost", "127.0.0.1"]).unwrap();
        assert_ne!(one.sha256(), two.sha256());
        let shown = format!("{one:?}");
        assert_eq!(
            shown,
            format!("Identity {{ sha256: {:?}, .. }}", one.sha256())
        );
        let error = Identity::self_signed(["nämlich"]).unwrap_err();
        assert!(error.to_string().contains("nämlich"), "{error}");
    }
}
