use std::fmt;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use pipe_core::{Error, ErrorKind, Result};
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;

use crate::{Identity, pem};

/// Certificates that are trusted by themselves, and to issue others.
///
/// At least one: an empty set would trust no peer. Cheap to clone.
#[derive(Clone)]
pub struct Roots(Arc<RootCertStore>);

impl Roots {
    /// Returns the roots of the system. `SSL_CERT_FILE` and `SSL_CERT_DIR` name others.
    ///
    /// They are read once in a process.
    ///
    /// # Errors
    ///
    /// [`Unauthenticated`](ErrorKind::Unauthenticated) when the system has none that can be read.
    pub fn system() -> Result<Self> {
        static SYSTEM: OnceLock<Roots> = OnceLock::new();
        if let Some(roots) = SYSTEM.get() {
            return Ok(roots.clone());
        }
        let found = rustls_native_certs::load_native_certs();
        let mut store = RootCertStore::empty();
        let (_, unusable) = store.add_parsable_certificates(found.certs);
        for error in &found.errors {
            tracing::debug!(%error, "a root certificate of the system could not be read");
        }
        if store.is_empty() {
            let why = match found.errors.into_iter().next() {
                Some(error) => error.to_string(),
                None => format!("{unusable} are there, and none is usable"),
            };
            let why = format!("the system has no root certificates to trust: {why}");
            return Err(Error::new(ErrorKind::Unauthenticated, why));
        }
        Ok(SYSTEM.get_or_init(|| Self(Arc::new(store))).clone())
    }

    /// Reads all certificates in this text in PEM.
    ///
    /// # Errors
    ///
    /// [`ConfigInvalid`](ErrorKind::ConfigInvalid), which says what is missing or malformed.
    pub fn from_pem(pem: &[u8]) -> Result<Self> {
        Self::read(pem, "the text of the roots")
    }

    /// Reads all certificates in this file in PEM.
    ///
    /// # Errors
    ///
    /// As in [`from_pem`](Self::from_pem), and [`Io`](ErrorKind::Io) when it cannot be read. Each
    /// names the file.
    pub fn from_pem_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::read(&pem::read(path)?, &path.display().to_string())
    }

    /// Uses these certificates in DER.
    ///
    /// # Errors
    ///
    /// As in [`from_pem`](Self::from_pem).
    pub fn from_der<'a>(
        certificates: impl IntoIterator<Item = CertificateDer<'a>>,
    ) -> Result<Self> {
        Self::new(certificates, "the roots given")
    }

    /// Returns the certificate of this identity, without those that lead to its root: for a
    /// self-signed one.
    ///
    /// # Errors
    ///
    /// As in [`from_pem`](Self::from_pem).
    pub fn of(identity: &Identity) -> Result<Self> {
        let own = identity.key().cert.first().cloned().into_iter();
        Self::new(own, "the identity given")
    }

    /// Joins two sets of roots.
    #[must_use]
    pub fn and(mut self, others: &Self) -> Self {
        let roots = &mut Arc::make_mut(&mut self.0).roots;
        roots.extend(others.0.roots.iter().cloned());
        self
    }

    /// Returns the set as rustls has it.
    pub fn store(&self) -> Arc<RootCertStore> {
        self.0.clone()
    }

    fn read(pem: &[u8], what: &str) -> Result<Self> {
        Self::new(pem::certificates(pem, what)?, what)
    }

    fn new<'a>(
        certificates: impl IntoIterator<Item = CertificateDer<'a>>,
        what: &str,
    ) -> Result<Self> {
        let mut store = RootCertStore::empty();
        for (place, certificate) in (1..).zip(certificates) {
            store.add(certificate).map_err(|error| {
                let why = format!("certificate {place} in {what} cannot be a root: {error}");
                Error::with_source(ErrorKind::ConfigInvalid, why, error)
            })?;
        }
        if store.is_empty() {
            return Err(pem::invalid(format!("there is no certificate in {what}")));
        }
        Ok(Self(Arc::new(store)))
    }
}

impl fmt::Debug for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Roots")
            .field("certificates", &self.0.len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pem_pair;

    #[test]
    fn sets_are_read_and_joined() {
        let (one, _) = pem_pair(&["one"]);
        let (two, key) = pem_pair(&["two"]);
        let both = Roots::from_pem(format!("{one}{two}{key}").as_bytes()).unwrap();
        assert_eq!(format!("{both:?}"), "Roots { certificates: 2 }");
        let third = Roots::of(&Identity::self_signed(["three"]).unwrap()).unwrap();
        assert_eq!(both.clone().and(&third).store().len(), 3);
        assert_eq!(both.store().len(), 2);
    }

    #[test]
    fn what_is_no_root_is_refused_with_the_reason() {
        let (cert, key) = pem_pair(&["one"]);
        for (pem, why) in [
            (
                "",
                "there is no certificate in the text of the roots, it is empty",
            ),
            (&*key, "there is a private key"),
            (
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                "certificate 1 in the text of the roots cannot be a root",
            ),
        ] {
            let error = Roots::from_pem(pem.as_bytes()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
            assert!(error.to_string().contains(why), "{error}");
        }
        assert!(Roots::from_der([]).is_err());

        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("roots.pem");
        let error = Roots::from_pem_file(&file).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(error.to_string().contains("roots.pem"), "{error}");
        std::fs::write(&file, cert).unwrap();
        assert_eq!(Roots::from_pem_file(&file).unwrap().store().len(), 1);
    }
}
