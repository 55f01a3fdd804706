//! Reading PEM (RFC 7468), with errors that name the text found instead.

use std::path::Path;

use pipe_core::{Error, ErrorKind, Result};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// Returns the certificates in this text, at least one. `what` names the text in errors.
pub(crate) fn certificates(pem: &[u8], what: &str) -> Result<Vec<CertificateDer<'static>>> {
    let list: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| malformed(what, error))?;
    if !list.is_empty() {
        return Ok(list);
    }
    let hint = match PrivateKeyDer::from_pem_slice(pem) {
        Ok(_) => "; there is a private key: are the two mixed up?",
        Err(_) => empty(pem),
    };
    Err(invalid(format!("there is no certificate in {what}{hint}")))
}

/// Returns the first private key in this text. `what` names the text in errors.
pub(crate) fn private_key(pem: &[u8], what: &str) -> Result<PrivateKeyDer<'static>> {
    let error = match PrivateKeyDer::from_pem_slice(pem) {
        Ok(key) => return Ok(key),
        Err(error) => error,
    };
    // In the section's name (PKCS #8), or in a header (RFC 1421), which is no PEM of today.
    if pem.windows(9).any(|part| part == b"ENCRYPTED") {
        let why = format!("the private key in {what} is encrypted; it has to be decrypted first");
        return Err(Error::with_source(ErrorKind::ConfigInvalid, why, error));
    }
    if !matches!(error, pem::Error::NoItemsFound) {
        return Err(malformed(what, error));
    }
    let hint = if CertificateDer::from_pem_slice(pem).is_ok() {
        "; there is a certificate: are the two mixed up?"
    } else {
        empty(pem)
    };
    Err(invalid(format!("there is no private key in {what}{hint}")))
}

/// Reads a whole file, with an error that names it.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| {
        let why = format!("cannot read {}: {error}", path.display());
        Error::with_source(ErrorKind::Io, why, error)
    })
}

pub(crate) fn invalid(why: String) -> Error {
    Error::new(ErrorKind::ConfigInvalid, why)
}

fn malformed(what: &str, error: pem::Error) -> Error {
    let why = match &error {
        pem::Error::MissingSectionEnd { end_marker } => {
            let end = String::from_utf8_lossy(end_marker).into_owned();
            format!("the line {end:?} is missing")
        }
        pem::Error::IllegalSectionStart { line } => {
            let line = String::from_utf8_lossy(line).into_owned();
            format!("the line {line:?} starts nothing")
        }
        other => other.to_string(),
    };
    let why = format!("{what} is no well-formed PEM: {why}");
    Error::with_source(ErrorKind::ConfigInvalid, why, error)
}

fn empty(pem: &[u8]) -> &'static str {
    if pem.is_empty() { ", it is empty" } else { "" }
}
