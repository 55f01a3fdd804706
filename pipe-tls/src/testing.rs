//! Certificates and handshakes for tests.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ClientConnection, ServerConfig,
    ServerConnection,
};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use time::OffsetDateTime;

use crate::{Identity, Roots, server_name};

/// Creates a self-signed certificate and its key, in PEM.
pub(crate) fn pem_pair(names: &[&str]) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let cert = params(names).self_signed(&key).unwrap();
    (cert.pem(), key.serialize_pem())
}

fn params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|&name| name.into()).collect();
    CertificateParams::new(names).unwrap()
}

/// Makes certificates.
pub(crate) struct Cert;

/// A root with its name.
pub(crate) struct Issuer(CertifiedIssuer<'static, KeyPair>, String);

/// A certificate with its key.
pub(crate) struct Issued {
    der: CertificateDer<'static>,
    key: KeyPair,
}

impl Cert {
    pub(crate) fn root() -> Issuer {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        Issuer::named(&format!("root {}", COUNT.fetch_add(1, Ordering::Relaxed)))
    }
}

impl Issuer {
    fn named(name: &str) -> Self {
        let mut params = params(&[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        Self(
            CertifiedIssuer::self_signed(params, key).unwrap(),
            name.into(),
        )
    }

    /// Creates another issuer that pretends to be this one.
    pub(crate) fn of_the_same_name(&self) -> Self {
        Self::named(&self.1)
    }

    pub(crate) fn roots(&self) -> Roots {
        Roots::from_der([self.0.der().clone()]).unwrap()
    }

    pub(crate) fn issue(&self, names: &[&str]) -> Issued {
        self.issue_with(names, date(1975, 1, 1), date(4096, 1, 1))
    }

    pub(crate) fn issue_with(
        &self,
        names: &[&str],
        not_before: OffsetDateTime,
        not_after: OffsetDateTime,
    ) -> Issued {
        let key = KeyPair::generate().unwrap();
        let mut params = params(names);
        (params.not_before, params.not_after) = (not_before, not_after);
        let der = params.signed_by(&key, &self.0).unwrap().der().clone();
        Issued { der, key }
    }
}

impl Issued {
    pub(crate) fn identity(&self) -> Identity {
        let key = PrivatePkcs8KeyDer::from(self.key.serialized_der().to_vec());
        Identity::from_der(vec![self.der.clone()], key.into()).unwrap()
    }
}

pub(crate) fn date(year: i32, month: u8, day: u8) -> OffsetDateTime {
    rcgen::date_time_ymd(year, month, day)
}

/// The side of a handshake that found the fault.
#[derive(Debug, PartialEq)]
pub(crate) enum Side {
    Client,
    Server,
}

/// Runs a handshake without sockets, with the first error and the side that found it.
pub(crate) fn handshake(
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    name: &str,
) -> Result<(ClientConnection, ServerConnection), (Side, rustls::Error)> {
    let mut client = ClientConnection::new(client, server_name(name).unwrap()).unwrap();
    let mut server = ServerConnection::new(server).unwrap();
    while client.is_handshaking() || server.is_handshaking() {
        let mut flight = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut flight).unwrap();
        }
        let mut rest = &flight[..];
        while !rest.is_empty() {
            server.read_tls(&mut rest).unwrap();
            server
                .process_new_packets()
                .map_err(|error| (Side::Server, error))?;
        }
        let mut flight = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut flight).unwrap();
        }
        let mut rest = &flight[..];
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            client
                .process_new_packets()
                .map_err(|error| (Side::Client, error))?;
        }
    }
    Ok((client, server))
}

/// Returns the alert that a server sends with this error.
pub(crate) fn alert_of(error: &rustls::Error) -> AlertDescription {
    match error {
        rustls::Error::NoCertificatesPresented => AlertDescription::CertificateRequired,
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            AlertDescription::UnknownCA
        }
        other => panic!("an alert is not known for {other}"),
    }
}
