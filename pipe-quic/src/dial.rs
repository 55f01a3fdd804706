use std::future::pending;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use pipe_core::{Addr, Error, ErrorKind, Result};
use pipe_net::{connect_error, race, resolve};
use pipe_tls::rustls::pki_types::{CertificateDer, ServerName};
use pipe_tls::{CertSha256, Verdict};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ConnectError, Connecting, ConnectionError, Endpoint};
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::addr::QuicAddr;
use crate::conn::QuicConn;
use crate::control_stream::{Greeting, certificates_of};
use crate::door::Door;
use crate::error::{by_this_side, handshake_error};
use crate::handshake::{Handshake, WebSide};
use crate::probe::{any_like, refusal_of};
use crate::sessions::Session;
use crate::settings::Settings;
use crate::socket::Socket;
use crate::web::WebDial;

/// Time after which the first packet of an attempt has been sent.
const FIRST_PACKET: Duration = Duration::from_millis(50);

/// A dial to a listener.
pub(crate) struct Dial<'a> {
    pub(crate) settings: &'a Settings,
    /// Whose socket it goes through, if it is a listener's.
    pub(crate) door: Option<&'a Weak<Door>>,
    pub(crate) addr: &'a Addr,
    pub(crate) to: &'a Arc<QuicAddr>,
    /// How the session of WebTransport is asked for, if it is one.
    pub(crate) web: Option<&'a WebDial>,
    /// The name that the listener's certificate has to be for.
    pub(crate) name: &'a ServerName<'a>,
}

/// The parameters of a dial.
struct How {
    crypto: Arc<QuicClientConfig>,
    /// Destination of the reason for a refusal, which quinn sets.
    verdict: Verdict,
    /// Session with the listener, if early data is used.
    session: Option<Arc<Session>>,
}

impl Dial<'_> {
    /// Makes a connection, for as long as it takes.
    pub(crate) async fn run(&self) -> Result<QuicConn> {
        let how = self.how()?;
        let found = resolve(self.addr, &self.to.at).await?;
        if let Some(session) = &how.session
            && let Some(conn) = self.attempt_early(session, &found)?
        {
            return Ok(conn);
        }
        race(&found, |socket| self.attempt(&how, socket)).await
    }

    /// Returns the parameters of the dial, with the session where early data is used.
    fn how(&self) -> Result<How> {
        let Self {
            settings, addr, to, ..
        } = self;
        let tls = &settings.tls;
        if settings.wants_early_data(to) {
            let new = || tls.client_sessions(to.params.pins, &to.protocols());
            let session = settings.sessions.of(addr, new)?;
            return Ok(How {
                crypto: Settings::client_crypto(session.tls.full())?,
                verdict: session.tls.verdict().clone(),
                session: Some(session),
            });
        }
        let (tls, verdict) = tls.client_config_with_verdict(to.params.pins, &to.protocols())?;
        Ok(How {
            crypto: Settings::client_crypto(tls)?,
            verdict,
            session: None,
        })
    }

    /// Begins a connection to this address.
    fn begin(
        &self,
        context: &str,
        crypto: Arc<QuicClientConfig>,
        to: SocketAddr,
    ) -> Result<Attempt> {
        let name = self.name.to_str();
        let settings = self.settings;
        let client = settings.client_config(crypto, self.to, to);
        let not_started = |error| not_started(context, error);
        if let Some(door) = self.door {
            let Some(door) = door.upgrade().filter(|door| door.is_attended()) else {
                let why = "the listener whose socket is to be dialed from is closed";
                return Err(Error::new(ErrorKind::Closed, why));
            };
            let endpoint = door.endpoint.clone();
            let connecting = endpoint.connect_with(client, to, &name);
            return Ok(Attempt::new(connecting.map_err(not_started)?, endpoint));
        }
        if !settings.socket_per_dial {
            let endpoints = &settings.endpoints;
            let begun = endpoints.connect(settings.profile, &client, to, &name)?;
            let (connecting, endpoint) = begun.map_err(not_started)?;
            return Ok(Attempt::new(connecting, endpoint));
        }
        let socket = Socket::bind(any_like(to), settings.profile)?;
        let endpoint = socket.clone().endpoint(None)?;
        let connecting = endpoint.connect_with(client, to, &name);
        let mut attempt = Attempt::new(connecting.map_err(not_started)?, endpoint);
        attempt.socket = Some(socket);
        Ok(attempt)
    }

    /// Connects to one of the addresses of the listener.
    async fn attempt(&self, how: &How, socket_addr: SocketAddr) -> Result<QuicConn> {
        let context = format!("could not connect to {}", self.addr);
        let mut attempt = self.begin(&context, how.crypto.clone(), socket_addr)?;
        let conn = tokio::select! {
            biased;
            conn = attempt.connected() => conn.map_err(|error| match how.verdict.error() {
                Some(refusal) if by_this_side(&error) => pipe_tls::explain(&context, &refusal),
                _ => handshake_error(&context, &error),
            })?,
            error = refusal_of(socket_addr) => {
                // No peer could receive a close.
                if let Some(socket) = &attempt.socket {
                    socket.close();
                }
                return Err(connect_error(context, error));
            }
        };
        let shown = certificates_of(&conn).unwrap_or_default();
        self.handshake(context, &shown, &attempt)?
            .run(conn, None, how.session.as_deref())
            .await
    }

    /// Begins a connection that can be used before the listener's first packet, if there is a
    /// session to resume.
    fn attempt_early(
        &self,
        session: &Arc<Session>,
        found: &[SocketAddr],
    ) -> Result<Option<QuicConn>> {
        let Some((tls, met)) = session.resume(found, self.name) else {
            return Ok(None);
        };
        let context = format!("could not connect to {}", self.addr);
        let crypto = Settings::client_crypto(tls)?;
        let mut attempt = self.begin(&context, crypto, met.at)?;
        match attempt.connecting.take().map(Connecting::into_0rtt) {
            Some(Ok((conn, under_way))) => self
                .handshake(context, &met.certificates, &attempt)?
                .run_early(conn, under_way, session.clone(), met)
                .map(Some),
            refused => {
                // Another dial has taken the last ticket, or it is too old.
                attempt.connecting = refused.and_then(std::result::Result::err);
                Ok(None)
            }
        }
    }

    /// Returns the handshake for a listener with these certificates.
    fn handshake(
        &self,
        context: String,
        shown: &[CertificateDer<'_>],
        attempt: &Attempt,
    ) -> Result<Handshake> {
        Ok(Handshake {
            greeting: Greeting {
                context,
                at: self.to.clone(),
            },
            config: self.settings.config.clone(),
            web: self.web.cloned().map(WebSide::Dials),
            pins: match shown.first().map(|own| CertSha256::of(own)) {
                // The address has the next one as well.
                Some(own) if self.to.params.pins.contains(own) => self.to.params.pins,
                own => own.into(),
            },
            listens: false,
            local: attempt.endpoint.local_addr()?,
            endpoint: attempt.endpoint.clone(),
            socket: attempt.socket.clone(),
        })
    }
}

/// A connection in its handshake.
struct Attempt {
    /// Absent once it is connected.
    connecting: Option<Connecting>,
    endpoint: Endpoint,
    /// The socket, if it is the connection's own.
    socket: Option<Arc<Socket>>,
}

impl Attempt {
    fn new(connecting: Connecting, endpoint: Endpoint) -> Self {
        Self {
            connecting: Some(connecting),
            endpoint,
            socket: None,
        }
    }

    async fn connected(&mut self) -> std::result::Result<quinn::Connection, ConnectionError> {
        let connected = match &mut self.connecting {
            Some(connecting) => connecting.await,
            None => pending().await,
        };
        self.connecting = None;
        connected
    }
}

/// An attempt that is given up sends a close, but not as its first packet: a listener on quinn (0.11)
/// would keep a connection for it.
impl Drop for Attempt {
    fn drop(&mut self) {
        let Some(connecting) = self.connecting.take() else {
            return;
        };
        match &self.socket {
            Some(socket) if socket.has_sent() => drop(connecting),
            Some(socket) => socket.close(),
            None => {
                // Without a runtime, nothing is sent any more.
                if let Ok(runtime) = Handle::try_current() {
                    runtime.spawn(async move {
                        let _ = timeout(FIRST_PACKET, connecting).await;
                    });
                }
            }
        }
    }
}

fn not_started(context: &str, error: ConnectError) -> Error {
    let kind = match error {
        ConnectError::EndpointStopping => ErrorKind::Closed,
        ConnectError::CidsExhausted => ErrorKind::LimitReached,
        ConnectError::InvalidServerName(_) => ErrorKind::AddrInvalid,
        ConnectError::InvalidRemoteAddress(_) => ErrorKind::Unreachable,
        _ => ErrorKind::Handshake,
    };
    Error::with_source(kind, format!("{context}: {error}"), error)
}
