use std::sync::Arc;

use pipe_core::{Error, ErrorKind, Result};
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, ServerConfig, SupportedProtocolVersion};

use crate::made::Made;
use crate::pinned::Pinned;
use crate::verdict::{Judge, Verdict};
use crate::{CertPins, Identity, Roots, provider};

/// The identity of this side, and the certificates that it trusts.
///
/// By default a dialer trusts the system's roots and has no certificate, and a listener makes its
/// certificate on the spot and asks clients for none.
///
/// ```
/// use pipe_tls::{Identity, Roots, TlsOptions};
///
/// let server = Identity::self_signed(["example.org"])?;
/// let client = Identity::self_signed(["device 7"])?;
///
/// let listening = TlsOptions::new()
///     .with_identity(server.clone())
///     .with_client_roots(Roots::of(&client)?);
/// let dialing = TlsOptions::new()
///     .with_identity(client)
///     .with_roots(Roots::of(&server)?);
/// # Ok::<(), pipe_core::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct TlsOptions {
    identity: Option<Identity>,
    roots: Option<Roots>,
    client_roots: Option<Roots>,
    made: Made,
}

impl TlsOptions {
    /// Returns the defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the certificate of this side: a listener shows it to all clients, a dialer to listeners
    /// that request one.
    #[must_use]
    pub fn with_identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// As a dialer, trusts listeners that these roots vouch for, instead of those of the system.
    ///
    /// A hash in the address (`?cert-sha256=…`) overrides both: that one certificate is trusted,
    /// with any issuer.
    #[must_use]
    pub fn with_roots(mut self, roots: Roots) -> Self {
        self.roots = Some(roots);
        self
    }

    /// As a listener, requires a certificate of every client, and refuses those that these roots do
    /// not vouch for (mutual TLS). The application judges the names in it, from
    /// [`peer_identity`](pipe_core::Conn::peer_identity).
    #[must_use]
    pub fn with_client_roots(mut self, roots: Roots) -> Self {
        self.client_roots = Some(roots);
        self
    }

    /// Returns whether a listener requests a certificate of every client.
    pub fn asks_clients(&self) -> bool {
        self.client_roots.is_some()
    }

    /// Returns the identity that was given.
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// Returns the identity of a listener on this host (an IPv6 address without brackets): the
    /// configured one, or one generated on the spot for `localhost`, the host, `127.0.0.1` and
    /// `::1`. A generated one is kept, so the same host has the same certificate as long as these
    /// options and their clones live.
    ///
    /// The address of a listener always carries the [hash](Identity::sha256) of its certificate,
    /// not only when that was generated. A listener's own address is of IP, which few certificates
    /// name, and the dialer need not know the issuer; with the hash it can be dialed as it is, by
    /// any dialer with the certificate that the listener may require.
    ///
    /// `pins` are the hashes in the address to listen on.
    ///
    /// # Errors
    ///
    /// [`AddrInvalid`](ErrorKind::AddrInvalid) when `pins` are the hashes of other certificates: every
    /// dial to that address would fail.
    pub fn listener_identity(&self, host: &str, pins: impl Into<CertPins>) -> Result<Identity> {
        self.identity_for(host, pins.into(), Made::get)
    }

    /// Returns the same for a listener that browsers dial by the hash of its certificate: one that is generated is
    /// [short-lived](Identity::short_lived).
    ///
    /// # Errors
    ///
    /// As in [`listener_identity`](Self::listener_identity).
    pub fn listener_identity_for_browsers(
        &self,
        host: &str,
        pins: impl Into<CertPins>,
    ) -> Result<Identity> {
        self.identity_for(host, pins.into(), Made::get_short_lived)
    }

    fn identity_for(
        &self,
        host: &str,
        pins: CertPins,
        make: impl FnOnce(&Made, &str, CertPins) -> Result<Identity>,
    ) -> Result<Identity> {
        let identity = match &self.identity {
            Some(identity) => identity.clone(),
            None => make(&self.made, host, pins)?,
        };
        let own = identity.sha256();
        if !pins.is_empty() && !pins.contains(own) {
            let why = format!("it asks for the certificate {pins}, but the listener's is {own}");
            return Err(Error::new(ErrorKind::AddrInvalid, why));
        }
        Ok(identity)
    }

    /// Returns the configuration of a listener with `identity` and these protocols (ALPN, RFC 7301;
    /// none to leave ALPN out). TLS 1.3, and 1.2 for clients without it.
    ///
    /// # Errors
    ///
    /// [`ConfigInvalid`](ErrorKind::ConfigInvalid) when the roots for clients are not usable.
    pub fn server_config(&self, identity: &Identity, alpn: &[&[u8]]) -> Result<Arc<ServerConfig>> {
        let verifier: Arc<dyn ClientCertVerifier> = match &self.client_roots {
            Some(roots) => WebPkiClientVerifier::builder_with_provider(roots.store(), provider())
                .build()
                .map_err(unusable)?,
            None => WebPkiClientVerifier::no_client_auth(),
        };
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(VERSIONS)
            .map_err(unusable)?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(identity.resolver());
        config.alpn_protocols = protocols(alpn);
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Arc::new(config))
    }

    /// Returns the configuration of a dialer with these protocols (ALPN, RFC 7301; none to leave
    /// ALPN out). It trusts the certificates with the hashes in the address, if there are any, or
    /// else the roots.
    ///
    /// A pinned certificate is trusted regardless of its names and dates: the hash identifies the
    /// certificate, and names and dates are only its own claims. The peer has to prove in the
    /// handshake that it holds the key.
    ///
    /// The system's roots are read at the first call that needs them, which takes milliseconds.
    ///
    /// # Errors
    ///
    /// [`Unauthenticated`](ErrorKind::Unauthenticated) when the system has no roots and they are
    /// needed.
    pub fn client_config(
        &self,
        pins: impl Into<CertPins>,
        alpn: &[&[u8]],
    ) -> Result<Arc<ClientConfig>> {
        let verifier = self.verifier(pins.into())?;
        self.client_config_with(verifier, alpn)
    }

    /// Returns the same, with the reason why this side refused its listener, for protocols that
    /// lose the error of rustls on its way (quinn keeps the number of the alert). For one dial.
    ///
    /// # Errors
    ///
    /// As in [`client_config`](Self::client_config).
    pub fn client_config_with_verdict(
        &self,
        pins: impl Into<CertPins>,
        alpn: &[&[u8]],
    ) -> Result<(Arc<ClientConfig>, Verdict)> {
        let (judge, verdict) = Judge::new(self.verifier(pins.into())?);
        let config = self.client_config_with(Arc::new(judge), alpn)?;
        Ok((config, verdict))
    }

    pub(crate) fn verifier(&self, pins: CertPins) -> Result<Arc<dyn ServerCertVerifier>> {
        if !pins.is_empty() {
            return Ok(Arc::new(Pinned::new(pins)));
        }
        let roots = match &self.roots {
            Some(roots) => roots.clone(),
            None => Roots::system()?,
        };
        let verifier = WebPkiServerVerifier::builder_with_provider(roots.store(), provider());
        Ok(verifier.build().map_err(unusable)?)
    }

    pub(crate) fn client_config_with(
        &self,
        verifier: Arc<dyn ServerCertVerifier>,
        alpn: &[&[u8]],
    ) -> Result<Arc<ClientConfig>> {
        let config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(VERSIONS)
            .map_err(unusable)?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match &self.identity {
            Some(identity) => {
                config.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity.key())))
            }
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols = protocols(alpn);
        config.resumption = Resumption::disabled();
        Ok(Arc::new(config))
    }
}

const VERSIONS: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];

fn protocols(alpn: &[&[u8]]) -> Vec<Vec<u8>> {
    alpn.iter().map(|name| name.to_vec()).collect()
}

fn unusable(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    let why = format!("the TLS options are not usable: {error}");
    Error::with_source(ErrorKind::ConfigInvalid, why, error)
}

#[cfg(test)]
mod tests {
    use pipe_core::PeerIdentity;

    use super::*;
    use crate::testing::{Cert, Side, date, handshake};
    use crate::{CertSha256, peer_identity};

    const ALPN: &[&[u8]] = &[b"pipe/1"];

    fn server(identity: &Identity) -> Arc<ServerConfig> {
        TlsOptions::new().server_config(identity, ALPN).unwrap()
    }

    fn client(roots: &Roots) -> Arc<ClientConfig> {
        let options = TlsOptions::new().with_roots(roots.clone());
        options.client_config(None, ALPN).unwrap()
    }

    #[test]
    fn a_certificate_that_the_roots_vouch_for_is_trusted() {
        let root = Cert::root();
        let (identity, roots) = (root.issue(&["localhost"]).identity(), root.roots());
        let (client, server) = handshake(client(&roots), server(&identity), "localhost").unwrap();
        assert_eq!(client.alpn_protocol(), Some(&b"pipe/1"[..]));
        assert_eq!(
            client.protocol_version(),
            Some(rustls::ProtocolVersion::TLSv1_3)
        );
        let suite = client.negotiated_cipher_suite().map(|suite| suite.suite());
        assert_eq!(suite, Some(rustls::CipherSuite::TLS13_AES_128_GCM_SHA256));
        let Some(PeerIdentity::Certificates(shown)) = peer_identity(client.peer_certificates())
        else {
            panic!("the server has shown nothing");
        };
        assert_eq!(CertSha256::of(&shown[0]), identity.sha256());
        assert_eq!(peer_identity(server.peer_certificates()), None);
        assert_eq!(peer_identity(Some(&[])), None);
    }

    #[test]
    fn a_client_refuses_and_says_why() {
        let root = Cert::root();
        let old = root.issue_with(&["localhost"], date(2001, 2, 3), date(2004, 5, 6));
        let early = root.issue_with(&["localhost"], date(2901, 2, 3), date(2904, 5, 6));
        let named = root.issue(&["example.org", "::1", "10.0.0.1"]);
        let stranger = Cert::root().issue(&["localhost"]);
        let impostor = root.of_the_same_name().issue(&["localhost"]);
        for (cert, why) in [
            (old, "ctx: the peer's certificate expired on 2004-05-06"),
            (
                early,
                "ctx: the peer's certificate is not valid yet, but from 2901-02-03 on",
            ),
            (
                named,
                "ctx: the peer's certificate is not for localhost, but for example.org, ::1, 10.0.0.1",
            ),
            (
                impostor,
                "ctx: the peer's certificate is not signed by the issuer that it names, or the peer \
                 does not hold its key",
            ),
            (
                stranger,
                "ctx: the peer's certificate has an unknown issuer, whom this side does not trust",
            ),
        ] {
            let made = handshake(client(&root.roots()), server(&cert.identity()), "localhost");
            let (side, error) = made.unwrap_err();
            assert_eq!(side, Side::Client);
            let error = crate::explain("ctx", &error);
            assert_eq!(error.kind(), ErrorKind::Unauthenticated);
            assert_eq!(error.to_string(), why);
        }
    }

    #[test]
    fn a_verdict_is_what_the_handshake_failed_of() {
        let root = Cert::root();
        let (good, bad) = (root.issue(&["localhost"]), root.issue(&["else"]));
        let options = TlsOptions::new().with_roots(root.roots());
        for (cert, refused) in [(good, false), (bad, true)] {
            let (config, verdict) = options.client_config_with_verdict(None, ALPN).unwrap();
            let made = handshake(config, server(&cert.identity()), "localhost");
            assert_eq!(verdict.error().is_some(), refused);
            assert_eq!(made.err().map(|(_, error)| error), verdict.error());
        }
        let identity = Identity::self_signed(["localhost"]).unwrap();
        let pin = Some(CertSha256::of(b"another"));
        let (config, verdict) = options.client_config_with_verdict(pin, ALPN).unwrap();
        handshake(config, server(&identity), "localhost").unwrap_err();
        let error = crate::explain("ctx", &verdict.error().unwrap());
        assert!(
            error
                .to_string()
                .starts_with("ctx: the pinned certificate is ")
        );
    }

    #[test]
    fn a_pin_trusts_one_certificate_whatever_it_says() {
        let old = Cert::root().issue_with(&["else"], date(2001, 2, 3), date(2004, 5, 6));
        let old = old.identity();
        // The pin goes before the roots.
        let options = TlsOptions::new().with_roots(Cert::root().roots());
        let pinned = options.client_config(Some(old.sha256()), ALPN).unwrap();
        handshake(pinned.clone(), server(&old), "localhost").unwrap();

        let other = Identity::self_signed(["localhost"]).unwrap();
        let (side, error) = handshake(pinned, server(&other), "localhost").unwrap_err();
        assert_eq!(side, Side::Client);
        let error = crate::explain("ctx", &error);
        assert_eq!(error.kind(), ErrorKind::Unauthenticated);
        let (old, other) = (old.sha256(), other.sha256());
        let why = format!("ctx: the pinned certificate is {old}, but the peer showed {other}");
        assert_eq!(error.to_string(), why);
    }

    #[test]
    fn a_pinned_certificate_without_its_key_is_worth_nothing() {
        let identity = Identity::self_signed(["localhost"]).unwrap();
        let thief = Identity::self_signed(["localhost"]).unwrap();
        let stolen = identity.with_key_of(&thief);
        for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
            let mut config = ServerConfig::builder_with_provider(provider())
                .with_protocol_versions(&[version])
                .unwrap()
                .with_no_client_auth()
                .with_cert_resolver(Arc::new(SingleCertAndKey::from(stolen.clone())));
            config.alpn_protocols = protocols(ALPN);
            let pinned = TlsOptions::new().client_config(Some(identity.sha256()), ALPN);
            let made = handshake(pinned.unwrap(), Arc::new(config), "localhost");
            let (side, error) = made.unwrap_err();
            assert_eq!(side, Side::Client);
            let error = crate::explain("ctx", &error);
            assert_eq!(error.kind(), ErrorKind::Unauthenticated);
            let why = "ctx: the peer's certificate is not signed by the issuer that it names, or the \
                       peer does not hold its key";
            assert_eq!(error.to_string(), why);
        }
    }

    #[test]
    fn clients_are_asked_for_certificates_of_the_right_roots() {
        let (ours, theirs) = (Cert::root(), Cert::root());
        let identity = ours.issue(&["localhost"]).identity();
        let strict = TlsOptions::new().with_client_roots(theirs.roots());
        let strict = strict.server_config(&identity, ALPN).unwrap();
        let dial = |identity: Option<Identity>| {
            let mut options = TlsOptions::new().with_roots(ours.roots());
            options.identity = identity;
            let config = options.client_config(None, ALPN).unwrap();
            handshake(config, strict.clone(), "localhost")
        };

        let device = theirs.issue(&["device 7"]).identity();
        let (_, server) = dial(Some(device.clone())).unwrap();
        let Some(PeerIdentity::Certificates(shown)) = peer_identity(server.peer_certificates())
        else {
            panic!("the client has shown nothing");
        };
        assert_eq!(CertSha256::of(&shown[0]), device.sha256());

        let stranger = ours.issue(&["device 7"]).identity();
        for (identity, here, there) in [
            (
                None,
                "the peer shows no certificate, and this side requires one",
                "the peer requires a certificate of this side, and there is none",
            ),
            (
                Some(stranger),
                "the peer's certificate has an unknown issuer",
                "the peer refused the certificate of this side: it has an unknown issuer",
            ),
        ] {
            let (side, error) = dial(identity).unwrap_err();
            assert_eq!(side, Side::Server);
            let mine = crate::explain("ctx", &error);
            assert_eq!(mine.kind(), ErrorKind::Unauthenticated);
            assert!(mine.to_string().contains(here), "{mine}");
            let alert = crate::testing::alert_of(&error);
            let heard = crate::explain("ctx", &rustls::Error::AlertReceived(alert));
            assert_eq!(heard.kind(), ErrorKind::Unauthenticated);
            assert!(heard.to_string().contains(there), "{heard}");
        }
    }

    #[test]
    fn the_roots_of_the_system_do_not_know_a_self_signed_one() {
        let identity = Identity::self_signed(["localhost"]).unwrap();
        let error = match TlsOptions::new().client_config(None, ALPN) {
            Ok(config) => {
                let made = handshake(config, server(&identity), "localhost");
                crate::explain("ctx", &made.unwrap_err().1)
            }
            // A system without roots trusts no certificate either.
            Err(error) => error,
        };
        assert_eq!(error.kind(), ErrorKind::Unauthenticated);
    }

    #[test]
    fn no_protocol_in_common() {
        let root = Cert::root();
        let server = server(&root.issue(&["localhost"]).identity());
        let options = TlsOptions::new().with_roots(root.roots());
        let config = options.client_config(None, &[b"else"]).unwrap();
        let (side, error) = handshake(config, server, "localhost").unwrap_err();
        assert_eq!(side, Side::Server);
        let error = crate::explain("ctx", &error);
        assert_eq!(error.kind(), ErrorKind::Handshake);
        assert!(error.to_string().contains("no protocol (ALPN)"), "{error}");
    }

    #[test]
    fn a_listener_without_an_identity_makes_one_and_keeps_it() {
        let options = TlsOptions::new();
        let first = options.listener_identity("example.org", None).unwrap();
        let again = options
            .clone()
            .listener_identity("example.org", None)
            .unwrap();
        assert_eq!(first.sha256(), again.sha256());
        let other = options.listener_identity("127.0.0.1", None).unwrap();
        assert_ne!(first.sha256(), other.sha256());
        let pin = Some(first.sha256());
        let pinned = options.listener_identity("127.0.0.1", pin).unwrap();
        assert_eq!(pinned.sha256(), first.sha256());

        let roots = Roots::of(&first).unwrap();
        for name in ["localhost", "example.org", "127.0.0.1", "::1"] {
            handshake(client(&roots), server(&first), name).unwrap();
        }
        // A host that no certificate can name is left out of it.
        options.listener_identity("~", None).unwrap();
    }

    #[test]
    fn a_listener_cannot_be_another_than_its_address_says() {
        let own = Identity::self_signed(["localhost"]).unwrap();
        let other = CertSha256::of(b"");
        for options in [
            TlsOptions::new(),
            TlsOptions::new().with_identity(own.clone()),
        ] {
            let error = options
                .listener_identity("localhost", Some(other))
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AddrInvalid);
            let why = format!("it asks for the certificate {other}, but the listener's is ");
            assert!(error.to_string().starts_with(&why), "{error}");
        }
        let options = TlsOptions::new().with_identity(own.clone());
        let given = options.listener_identity("a", Some(own.sha256())).unwrap();
        assert_eq!(given.sha256(), own.sha256());
    }
}
