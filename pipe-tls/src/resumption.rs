use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use pipe_core::{Error, ErrorKind, Result};
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{
    ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls12Resumption,
    Tls13ClientSessionValue,
};
use rustls::server::ServerSessionMemoryCache;
use rustls::{ClientConfig, NamedGroup, ServerConfig};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::verdict::Judge;
use crate::{CertPins, Identity, TlsOptions, Verdict};

/// Maximum number of tickets of one listener that a dialer keeps. A listener gives two for each
/// connection, and each is good for one.
const TICKETS: usize = 4;

/// Number of tickets that a listener gives a client after the handshake.
const GIVEN: usize = 2;

/// The sessions of a dialer with one listener, for data before the next handshake is over (early
/// data, RFC 8446, section 2.3). For one address, one set of options and one protocol.
///
/// A session belongs to the certificate of its original handshake, and is resumed only while that
/// certificate would be trusted anew: [`judge`](Self::judge) verifies its names, its dates and its
/// issuer again. Resumption does not prove that the listener holds the certificate's key; it proves
/// that it is the same listener as in that handshake.
///
/// Without such a session every connection is a full handshake.
#[derive(Debug)]
pub struct ClientSessions {
    verifier: Arc<dyn ServerCertVerifier>,
    verdict: Verdict,
    tickets: Arc<Tickets>,
    full: Arc<ClientConfig>,
    resuming: Arc<ClientConfig>,
}

impl TlsOptions {
    /// Returns the same as [`client_config`](Self::client_config), for a dialer that may send early
    /// data to one listener. For QUIC: sessions of TLS 1.2 are not resumed.
    ///
    /// # Errors
    ///
    /// As in [`client_config`](Self::client_config).
    pub fn client_sessions(
        &self,
        pins: impl Into<CertPins>,
        alpn: &[&[u8]],
    ) -> Result<ClientSessions> {
        let (judge, verdict) = Judge::new(self.verifier(pins.into())?);
        let verifier: Arc<dyn ServerCertVerifier> = Arc::new(judge);
        let mut full = self.client_config_with(verifier.clone(), alpn)?;
        let tickets = Arc::new(Tickets::default());
        let resumption = |resumes| {
            let tickets = tickets.clone();
            let store = Resumption::store(Arc::new(Store { tickets, resumes }));
            store.tls12_resumption(Tls12Resumption::Disabled)
        };
        // A session is resumed by the very verifier and key that it was made with, which both have.
        let config = Arc::make_mut(&mut full);
        config.resumption = resumption(false);
        let mut resuming = config.clone();
        resuming.resumption = resumption(true);
        resuming.enable_early_data = true;
        Ok(ClientSessions {
            verifier,
            verdict,
            tickets,
            full,
            resuming: Arc::new(resuming),
        })
    }

    /// Returns the same as [`server_config`](Self::server_config), for a listener that accepts
    /// early data: it keeps up to `sessions` sessions, the latest, for up to a day, and each is
    /// good for one connection. Early data is thus accepted at most once, however often it is
    /// replayed to this listener. A session takes about 200 bytes.
    ///
    /// # Errors
    ///
    /// As in [`server_config`](Self::server_config), and
    /// [`ConfigInvalid`](ErrorKind::ConfigInvalid) when clients have to show certificates: a
    /// resumed session shows none, and the one of its original handshake may be invalid by now.
    pub fn server_config_with_early_data(
        &self,
        identity: &Identity,
        alpn: &[&[u8]],
        sessions: usize,
    ) -> Result<Arc<ServerConfig>> {
        if self.asks_clients() {
            let why = "early data (0-RTT) cannot be taken from clients that have to show certificates: \
                       with it they show none";
            return Err(Error::new(ErrorKind::ConfigInvalid, why));
        }
        let mut config = self.server_config(identity, alpn)?;
        let early = Arc::make_mut(&mut config);
        early.send_tls13_tickets = GIVEN;
        early.session_storage = ServerSessionMemoryCache::new(sessions);
        // The only number besides 0 that QUIC allows (RFC 9001, section 4.6.1).
        early.max_early_data_size = u32::MAX;
        Ok(config)
    }
}

impl ClientSessions {
    /// Returns the configuration for a full handshake, whose listener may give tickets for later
    /// connections.
    pub fn full(&self) -> Arc<ClientConfig> {
        self.full.clone()
    }

    /// Returns the configuration that resumes a session, if there is one.
    pub fn resuming(&self) -> Option<Arc<ClientConfig>> {
        (!self.tickets.0.lock().is_empty()).then(|| self.resuming.clone())
    }

    /// Returns the reason for the last refusal of a listener. All connections share it: it applies
    /// to a connection that failed because this side refused its listener, and to no other.
    pub fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    /// Judges certificates that were shown before as if they were shown now, without the proof that the
    /// listener holds the key.
    ///
    /// # Errors
    ///
    /// The fault, to be put into words by [`explain`](crate::explain).
    pub fn judge(
        &self,
        shown: &[CertificateDer<'_>],
        name: &ServerName<'_>,
    ) -> std::result::Result<(), rustls::Error> {
        let Some((own, others)) = shown.split_first() else {
            return Err(rustls::Error::NoCertificatesPresented);
        };
        let now = UnixTime::now();
        self.verifier
            .verify_server_cert(own, others, name, &[], now)
            .map(drop)
    }

    /// Forgets all sessions.
    pub fn forget(&self) {
        self.tickets.0.lock().clear();
    }
}

/// The tickets of one listener, the latest last.
#[derive(Default)]
struct Tickets(Mutex<VecDeque<Tls13ClientSessionValue>>);

impl Tickets {
    fn put(&self, ticket: Tls13ClientSessionValue) {
        let mut tickets = self.0.lock();
        if tickets.len() == TICKETS {
            tickets.pop_front();
        }
        tickets.push_back(ticket);
    }

    /// Returns the latest.
    fn take(&self) -> Option<Tls13ClientSessionValue> {
        self.0.lock().pop_back()
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tickets")
            .field(&self.0.lock().len())
            .finish()
    }
}

/// Keeps the tickets that a connection is given, and gives it some only if it may resume a session: one with
/// a full handshake may not. Of TLS 1.3 alone.
#[derive(Debug)]
struct Store {
    tickets: Arc<Tickets>,
    resumes: bool,
}

impl ClientSessionStore for Store {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        self.tickets.put(ticket);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        if self.resumes {
            self.tickets.take()
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use rustls::{ClientConnection, HandshakeKind, ServerConnection};

    use super::*;
    use crate::CertSha256;
    use crate::testing::{Cert, Side, date, handshake};
    use crate::{Roots, server_name};

    const ALPN: &[&[u8]] = &[b"pipe/1"];

    fn listening(identity: &Identity) -> Arc<ServerConfig> {
        TlsOptions::new()
            .server_config_with_early_data(identity, ALPN, 16)
            .unwrap()
    }

    /// Makes a connection, over which the listener's tickets come.
    fn connect(client: Arc<ClientConfig>, server: &Arc<ServerConfig>) -> HandshakeKind {
        let made = handshake(client, server.clone(), "localhost");
        let (mut client, mut server) = made.unwrap();
        let mut tickets = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut tickets).unwrap();
        }
        let mut rest = &tickets[..];
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            client.process_new_packets().unwrap();
        }
        client.handshake_kind().unwrap()
    }

    #[test]
    fn a_ticket_is_good_for_one_connection() {
        let identity = Identity::self_signed(["localhost"]).unwrap();
        let server = listening(&identity);
        let sessions = TlsOptions::new()
            .client_sessions(Some(identity.sha256()), ALPN)
            .unwrap();
        assert!(sessions.resuming().is_none());
        assert_eq!(connect(sessions.full(), &server), HandshakeKind::Full);
        assert_eq!(sessions.tickets.0.lock().len(), GIVEN);
        assert_eq!(connect(sessions.full(), &server), HandshakeKind::Full);
        let resuming = sessions.resuming().unwrap();
        assert_eq!(connect(resuming, &server), HandshakeKind::Resumed);
        assert_eq!(sessions.tickets.0.lock().len(), TICKETS);
        sessions.forget();
        assert!(sessions.resuming().is_none());
    }

    #[test]
    fn whoever_repeats_the_first_words_of_a_client_is_a_stranger() {
        let identity = Identity::self_signed(["localhost"]).unwrap();
        let server = listening(&identity);
        let sessions = TlsOptions::new()
            .client_sessions(Some(identity.sha256()), ALPN)
            .unwrap();
        connect(sessions.full(), &server);
        let name = server_name("localhost").unwrap();
        let mut client = ClientConnection::new(sessions.resuming().unwrap(), name).unwrap();
        client.early_data().unwrap().write_all(b"early").unwrap();
        let mut recorded = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut recorded).unwrap();
        }
        for (kind, taken) in [(HandshakeKind::Resumed, true), (HandshakeKind::Full, false)] {
            let mut server = ServerConnection::new(server.clone()).unwrap();
            let mut rest = &recorded[..];
            while !rest.is_empty() {
                server.read_tls(&mut rest).unwrap();
                server.process_new_packets().unwrap();
            }
            assert_eq!(server.handshake_kind(), Some(kind));
            assert_eq!(server.early_data().is_some(), taken);
        }
    }

    #[test]
    fn another_listener_and_one_that_was_not_asked_resume_nothing() {
        let identity = Identity::self_signed(["localhost"]).unwrap();
        let sessions = TlsOptions::new()
            .client_sessions(Some(identity.sha256()), ALPN)
            .unwrap();
        let plain = TlsOptions::new().server_config(&identity, ALPN).unwrap();
        connect(sessions.full(), &plain);
        assert!(sessions.resuming().is_none());
        connect(sessions.full(), &listening(&identity));
        let resuming = sessions.resuming().unwrap();
        assert_eq!(
            connect(resuming, &listening(&identity)),
            HandshakeKind::Full
        );
        let resuming = sessions.resuming().unwrap();
        assert_eq!(connect(resuming, &plain), HandshakeKind::Full);
    }

    #[test]
    fn a_resumed_session_has_the_identity_of_its_handshake_and_another_listener_is_judged() {
        let root = Cert::root();
        let own = root.issue(&["localhost"]).identity();
        let stranger = Identity::self_signed(["localhost"]).unwrap();
        for pin in [None, Some(own.sha256())] {
            let options = TlsOptions::new().with_roots(root.roots());
            let sessions = options.client_sessions(pin, ALPN).unwrap();
            let server = listening(&own);
            connect(sessions.full(), &server);
            let resuming = sessions.resuming().unwrap();
            let (client, _) = handshake(resuming, server, "localhost").unwrap();
            assert_eq!(client.handshake_kind(), Some(HandshakeKind::Resumed));
            let shown = client.peer_certificates().unwrap();
            assert_eq!(CertSha256::of(&shown[0]), own.sha256());

            // A ticket is left, and another listener has taken the address.
            let resuming = sessions.resuming().unwrap();
            let made = handshake(resuming, listening(&stranger), "localhost");
            let (side, error) = made.unwrap_err();
            assert_eq!(side, Side::Client);
            let kept = sessions.verdict().error().unwrap();
            assert_eq!(kept.to_string(), error.to_string());
        }
    }

    #[test]
    fn what_was_shown_is_judged_again() {
        let root = Cert::root();
        let name = server_name("localhost").unwrap();
        let options = TlsOptions::new().with_roots(root.roots());
        let sessions = options.client_sessions(None, ALPN).unwrap();
        let good = root.issue(&["localhost"]).identity();
        sessions.judge(&good.key().cert, &name).unwrap();
        let old = root.issue_with(&["localhost"], date(2001, 2, 3), date(2004, 5, 6));
        let error = sessions.judge(&old.identity().key().cert, &name);
        let error = crate::explain("ctx", &error.unwrap_err());
        assert!(error.to_string().contains("expired on 2004"), "{error}");
        sessions.judge(&[], &name).unwrap_err();
    }

    #[test]
    fn clients_that_have_to_show_certificates_send_nothing_early() {
        let identity = Identity::self_signed(["localhost"]).unwrap();
        let strict = TlsOptions::new().with_client_roots(Roots::of(&identity).unwrap());
        let refused = strict.server_config_with_early_data(&identity, ALPN, 16);
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
        assert!(error.to_string().contains("early data"), "{error}");
    }
}
