use std::sync::Arc;
use std::time::SystemTime;

use pipe_core::{Error, ErrorKind, Result};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::{CertSha256, provider};

/// Creates a new key with a certificate for these names that is valid from a time on to another, with its hash.
pub(crate) fn short_lived(
    names: &[String],
    valid: (SystemTime, SystemTime),
) -> Result<(Arc<CertifiedKey>, CertSha256)> {
    let (certificate, key) = self_sign(names, Some(valid))?;
    let sha256 = CertSha256::of(&certificate);
    let key = CertifiedKey::from_der(vec![certificate], key, &provider()).map_err(|error| {
        let why = format!("a key that was made cannot be used: {error}");
        Error::with_source(ErrorKind::ConfigInvalid, why, error)
    })?;
    Ok((Arc::new(key), sha256))
}

/// Creates a new key with a certificate for these names.
pub(crate) fn self_sign(
    names: &[String],
    valid: Option<(SystemTime, SystemTime)>,
) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>)> {
    try_sign(names, valid).map_err(|error| {
        let why = format!("no certificate can be made for {names:?}: {error}");
        Error::with_source(ErrorKind::ConfigInvalid, why, error)
    })
}

fn try_sign(
    names: &[String],
    valid: Option<(SystemTime, SystemTime)>,
) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(names)?;
    if let Some((from, to)) = valid {
        params.not_before = from.into();
        params.not_after = to.into();
    }
    // As an issuer it has a name of its own, so that one is not taken for another.
    let hash = CertSha256::of(key.public_key_raw()).to_string();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, format!("self-signed {}", &hash[..16]));
    let certificate = params.self_signed(&key)?.der().clone();
    let key = PrivatePkcs8KeyDer::from(key.serialized_der().to_vec());
    Ok((certificate, key.into()))
}
