//! Certificates, trust, and precise errors for `tls://` and `quic://`. No sockets.
//!
//! [`TlsOptions`] holds the identity of this side ([`Identity`]) and the certificates that it
//! trusts: the system's roots, roots of its own ([`Roots`]), or, for one address, the one
//! certificate whose hash stands in it ([`CertSha256`]). It makes the configurations of [`rustls`],
//! always with the cryptography of `ring`, whatever the default of the process is. [`explain`]
//! converts the errors of rustls.
//!
//! [`PeerParams`] reads the corresponding options of an address.
//!
//! Sessions are not resumed: every connection proves the identities of its ends anew, so a
//! certificate that has expired meanwhile is refused. The exception is early data over QUIC, where
//! both ends enable it: see [`ClientSessions`].

mod cert_pins;
mod cert_sha256;
mod explain;
mod identity;
mod made;
mod options;
mod peer_params;
mod pem;
mod pinned;
mod renewed;
mod resumption;
mod roots;
mod self_signed;
mod server_name;
#[cfg(test)]
mod testing;
mod verdict;

use std::sync::Arc;

use bytes::Bytes;
use pipe_core::PeerIdentity;
use rustls::CipherSuite;
use rustls::crypto::CryptoProvider;
use rustls_pki_types::CertificateDer;

pub use cert_pins::CertPins;
pub use cert_sha256::CertSha256;
pub use explain::{explain, explain_io, find};
pub use identity::Identity;
pub use options::TlsOptions;
pub use peer_params::PeerParams;
pub use resumption::ClientSessions;
pub use roots::Roots;
pub use rustls;
pub use server_name::server_name;
pub use verdict::Verdict;

/// Returns the certificates that the peer has shown, its own first, as the identity of a
/// connection. None when there are none.
pub fn peer_identity(certificates: Option<&[CertificateDer<'_>]>) -> Option<PeerIdentity> {
    let certificates = certificates.filter(|list| !list.is_empty())?;
    let list: Vec<_> = certificates
        .iter()
        .map(|der| Bytes::copy_from_slice(der))
        .collect();
    Some(PeerIdentity::Certificates(list.into()))
}

/// Returns the cryptography that everything here uses: that of `ring`, with AES-128 before AES-256,
/// which costs more.
fn provider() -> Arc<CryptoProvider> {
    let mut provider = rustls::crypto::ring::default_provider();
    provider
        .cipher_suites
        .sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    Arc::new(provider)
}
