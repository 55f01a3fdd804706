use std::future::pending;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use pipe_core::{Addr, Error, ErrorKind, Result};
use pipe_net::{connect_error, race, resolve};
use pipe_tls::rustls::pki_types::{CertificateDer, ServerName};
use pipe_tls::{CertSha256, Verdict};
use quinn::{ClientConfig, ConnectError, Connecting, ConnectionError, Endpoint, TokioRuntime};
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::addr::QuicAddr;
use crate::conn::QuicConn;
use crate::control_stream::{Greeting, certificates_of};
use crate::door::Door;
use crate::error::{by_this_side, handshake_error};
use crate::handshake::Handshake;
use crate::probe::{any_like, refusal_of};
use crate::sessions::Session;
use crate::settings::Settings;
use crate::socket::Socket;

/// Time after which the first packet of an attempt has been sent.
const FIRST_PACKET: Duration = Duration::from_millis(50);

/// A dial to a listener.
pub(crate) struct Dial<'a> {
    pub(crate) settings: &'a Settings,
    /// Whose socket it goes through, if it is not its own.
    pub(crate) door: Option<&'a Weak<Door>>,
    pub(crate) addr: &'a Addr,
    pub(crate) to: &'a QuicAddr,
    /// The name that the listener's certificate has to be for.
    pub(crate) name: &'a ServerName<'a>,
}

/// The parameters of a dial.
struct How {
    client: ClientConfig,
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
            let new = || tls.client_sessions(to.params.pin, &to.params.protocols());
            let session = settings.sessions.of(addr, new)?;
            return Ok(How {
                client: settings.client_config(session.tls.full(), to.params.wire)?,
                verdict: session.tls.verdict().clone(),
                session: Some(session),
            });
        }
        let (tls, verdict) =
            tls.client_config_with_verdict(to.params.pin, &to.params.protocols())?;
        Ok(How {
            client: settings.client_config(tls, to.params.wire)?,
            verdict,
            session: None,
        })
    }

    /// Returns the endpoint of a dial, and its socket if it is its own.
    fn endpoint(&self, to: SocketAddr) -> Result<(Endpoint, Option<Arc<Socket>>)> {
        if let Some(door) = self.door {
            let Some(door) = door.upgrade().filter(|door| door.is_attended()) else {
                let why = "the listener whose socket is to be dialed from is closed";
                return Err(Error::new(ErrorKind::Closed, why));
            };
            return Ok((door.endpoint.clone(), None));
        }
        let socket = Socket::bind(any_like(to))?;
        let endpoint = Endpoint::new_with_abstract_socket(
            self.settings.profile.endpoint(),
            None,
            socket.clone(),
            Arc::new(TokioRuntime),
        )?;
        Ok((endpoint, Some(socket)))
    }

    /// Connects to one of the addresses of the listener.
    async fn attempt(&self, how: &How, socket_addr: SocketAddr) -> Result<QuicConn> {
        let context = format!("could not connect to {}", self.addr);
        let (endpoint, socket) = self.endpoint(socket_addr)?;
        let connecting = endpoint
            .connect_with(how.client.clone(), socket_addr, &self.name.to_str())
            .map_err(|error| not_started(&context, error))?;
        let mut attempt = Attempt {
            connecting: Some(connecting),
            socket: socket.clone(),
        };
        let conn = tokio::select! {
            biased;
            conn = attempt.connected() => conn.map_err(|error| match how.verdict.error() {
                Some(refusal) if by_this_side(&error) => pipe_tls::explain(&context, &refusal),
                _ => handshake_error(&context, &error),
            })?,
            error = refusal_of(socket_addr) => {
                // No peer could receive a close.
                if let Some(socket) = socket {
                    socket.close();
                }
                return Err(connect_error(context, error));
            }
        };
        let shown = certificates_of(&conn).unwrap_or_default();
        self.handshake(context, &shown, endpoint, socket)?
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
        let (endpoint, socket) = self.endpoint(met.at)?;
        let connecting = endpoint
            .connect_with(
                self.settings.client_config(tls, self.to.params.wire)?,
                met.at,
                &self.name.to_str(),
            )
            .map_err(|error| not_started(&context, error))?;
        match connecting.into_0rtt() {
            Ok((conn, under_way)) => self
                .handshake(context, &met.certificates, endpoint, socket)?
                .run_early(conn, under_way, session.clone(), met)
                .map(Some),
            Err(connecting) => {
                // Another dial has taken the last ticket, or it is too old.
                drop(Attempt {
                    connecting: Some(connecting),
                    socket,
                });
                Ok(None)
            }
        }
    }

    /// Returns the handshake for a listener with these certificates.
    fn handshake(
        &self,
        context: String,
        shown: &[CertificateDer<'_>],
        endpoint: Endpoint,
        socket: Option<Arc<Socket>>,
    ) -> Result<Handshake> {
        Ok(Handshake {
            greeting: Greeting {
                context,
                params: self.to.params.clone(),
            },
            config: self.settings.config.clone(),
            wire: self.to.params.wire,
            form: self.to.form(),
            pin: shown.first().map(|own| CertSha256::of(own)),
            listens: false,
            local: endpoint.local_addr()?,
            endpoint,
            socket,
        })
    }
}

/// A connection in its handshake.
struct Attempt {
    connecting: Option<Connecting>,
    socket: Option<Arc<Socket>>,
}

impl Attempt {
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
