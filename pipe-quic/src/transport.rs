use std::collections::VecDeque;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use pipe_core::backend::Admission;
use pipe_core::{Addr, Admit, Config, Error, ErrorKind, Incoming, Result, Transport};
use pipe_tls::rustls::pki_types::CertificateDer;
use pipe_tls::{CertSha256, TlsOptions, Verdict, rustls};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    ClientConfig, ConnectError, Connecting, ConnectionError, Endpoint, ServerConfig, TokioRuntime,
};
use tokio::net::lookup_host;
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::addr::{QuicAddr, SCHEME, Wire};
use crate::conn::QuicConn;
use crate::control_stream::{Greeting, certificates_of};
use crate::desk::Desk;
use crate::door::Door;
use crate::error::{by_this_side, handshake_error};
use crate::first_packet::OpensOnly;
use crate::handshake::Handshake;
use crate::listener::QuicListener;
use crate::profile::Profile;
use crate::race::{any_like, nobody_there, race, resolve, unreached};
use crate::sessions::{Session, Sessions};
use crate::socket::Socket;

/// How many bytes of a client's first packets are kept until its turn comes, and of all clients'.
const INCOMING_BUFFER: u64 = 32 * 1024;
const INCOMING_BUFFERS: u64 = 8 * 1024 * 1024;

/// How many sessions a listener remembers that takes early data.
const SESSIONS: usize = 1024;

/// By when the first packet of an attempt is surely sent.
const FIRST_PACKET: Duration = Duration::from_millis(50);

/// The transport of `quic://host:port`.
///
/// Names are resolved when dialing, and the addresses of a name are raced (RFC 8305). Port 0 listens
/// on a free port. The listener proves who it is, and the dialer trusts it
///
/// - if the address has the hash of its certificate (`?cert-sha256=…`, 64 hex digits): that one
///   certificate, whatever its names and dates, since the hash says which one is meant;
/// - else if one of the roots in its [`TlsOptions`] (by default those of the system) vouches for the
///   certificate and it is for the host, or for the name in `?server-name=…`.
///
/// [`local_addr`](pipe_core::Listener::local_addr) of a listener always has the hash, and so can be
/// dialed as it is. A listener without an identity makes one on the spot.
///
/// With `?wire=raw&alpn=…` it speaks plain QUIC streams to peers of other makes, see
/// [`Wire::Raw`](crate::Wire::Raw).
///
/// With `?zero-rtt=true` it sends and takes data before the handshake is over, see
/// [`with_zero_rtt`](Self::with_zero_rtt) for what that risks.
///
/// Each dial has a UDP socket of its own; [`QuicListener::transport`] makes dials that share the
/// listener's.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// use pipe_core::{Conn, Listener, Transport};
/// use pipe_quic::QuicTransport;
///
/// let transport = QuicTransport::new();
/// let listener = transport.listen(&"quic://127.0.0.1:0".parse()?).await?;
/// let addr = listener.local_addr(); // quic://127.0.0.1:40123?cert-sha256=…
/// let conn = transport.dial(&addr).await?;
/// assert_eq!(conn.remote_addr(), addr);
/// # Ok::<(), pipe_core::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default)]
pub struct QuicTransport {
    config: Config,
    tls: TlsOptions,
    profile: Profile,
    zero_rtt: bool,
    admission: Admission,
    /// Of the listeners that were dialed with early data.
    sessions: Sessions,
    /// Whose socket dials go through, if it is not their own.
    door: Option<Weak<Door>>,
}

impl QuicTransport {
    /// With the default configuration, options and profile.
    pub fn new() -> Self {
        Self::default()
    }

    /// Uses this configuration. A stream's window is of 1 KiB at least.
    ///
    /// # Errors
    ///
    /// [`ConfigInvalid`](ErrorKind::ConfigInvalid) when a setting is out of its range.
    pub fn with_config(mut self, config: Config) -> Result<Self> {
        config.validate()?;
        self.config = config;
        self.sessions = Sessions::default();
        Ok(self)
    }

    /// Says who this side is and whom it trusts.
    #[must_use]
    pub fn with_tls(mut self, options: TlsOptions) -> Self {
        self.tls = options;
        self.sessions = Sessions::default();
        self
    }

    /// Asks this function for each client of its listeners, before the handshake, whether to take it in.
    /// It must not block. Those that are refused are told so.
    #[must_use]
    pub fn with_admission(
        mut self,
        admit: impl Fn(&Incoming) -> Admit + Send + Sync + 'static,
    ) -> Self {
        self.admission = Admission::new(admit);
        self
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    pub(crate) fn admission(&self) -> Admission {
        self.admission.clone()
    }

    /// Says what the paths are like.
    #[must_use]
    pub fn with_profile(mut self, profile: Profile) -> Self {
        self.profile = profile;
        self.sessions = Sessions::default();
        self
    }

    /// Sends and takes data before the handshake is over (early data, 0-RTT: RFC 9001, section 4.6), or
    /// not, which is the default. `?zero-rtt=true` or `?zero-rtt=false` in an address goes before it. Only
    /// between two ends of pipewerks: with `?wire=raw` nothing is sent or taken early.
    ///
    /// # What it does
    ///
    /// A dialer keeps what it needs to resume the session of a connection: for the 64 addresses that it
    /// has dialed last, in memory, shared by the clones of the transport that have the same settings. The
    /// next dial to such an address returns at once, with a connection that can be used: what is
    /// written goes with the first datagrams, a round trip earlier. A listener remembers 1,024 sessions,
    /// for up to a day and as long as it lives, each good for one connection; it returns from `accept`
    /// with the first datagrams as well.
    ///
    /// The listener is who it was: the session is of the certificate that it has shown, which is judged
    /// again (its names, its dates, the roots, the hash in the address) before the session is resumed, and
    /// is what [`peer_identity`](pipe_core::Conn::peer_identity) gives. A listener that asks clients for
    /// certificates takes no early data, and with this on it is an error to listen.
    ///
    /// # When the listener takes none
    ///
    /// It need not: it may have been started again, or have forgotten the session. Then it has read
    /// nothing of what was sent, and the dialer's connection fails as a whole with
    /// [`Refused`](ErrorKind::Refused), since parts of what was sent may be forgotten by whoever wrote them;
    /// the session is forgotten, and the next dial is an ordinary one. Nothing is sent again behind the
    /// back of the application.
    ///
    /// A dial that resumes a session does not wait to see whether anybody is there. Where nobody
    /// is, the connection fails with `Refused` if the network says so, or else as one that was lost:
    /// [`Disconnected`](ErrorKind::Disconnected), then [`Failed`](ErrorKind::Failed).
    ///
    /// # The risk
    ///
    /// Whoever has recorded the first datagrams can send them again, without being able to read or change
    /// them. Early data is all that can be repeated so, never what was sent after the handshake. A listener
    /// takes each session once, so that a copy of what it has read is worth nothing, to it as to
    /// any other. But an attacker who keeps the datagrams from the listener can deliver them later, within
    /// a minute (rustls takes a ticket as fresh for so long), when the dialer has given up and sent the
    /// same over another connection: "pay 5" is then read twice. So
    ///
    /// - switch it on only for applications whose first requests may be done twice;
    /// - or let the listener wait for [`QuicConn::confirmed`] before it does what must not be: the
    ///   handshake ends only with the one who began it, not with a copy;
    /// - or let the dialer wait for it before it sends such a request.
    ///
    /// Early data also has no forward secrecy: who steals the listener's or the dialer's memory within the
    /// life of a session can read what was sent early with it (RFC 8446, section 2.3).
    #[must_use]
    pub fn with_zero_rtt(mut self, on: bool) -> Self {
        self.zero_rtt = on;
        self
    }

    pub(crate) fn through(mut self, door: &Arc<Door>) -> Self {
        self.door = Some(Arc::downgrade(door));
        self
    }

    fn how(&self, addr: &Addr, to: &QuicAddr) -> Result<How> {
        if self.zero_rtt(to) {
            let new = || self.tls.client_sessions(to.pin, &to.protocols());
            let session = self.sessions.of(addr, new)?;
            return Ok(How {
                client: self.over(session.tls.full(), to.wire)?,
                verdict: session.tls.verdict().clone(),
                session: Some(session),
            });
        }
        let (tls, verdict) = self
            .tls
            .client_config_with_verdict(to.pin, &to.protocols())?;
        Ok(How {
            client: self.over(tls, to.wire)?,
            verdict,
            session: None,
        })
    }

    /// QUIC over this TLS.
    fn over(&self, tls: Arc<rustls::ClientConfig>, wire: Wire) -> Result<ClientConfig> {
        let tls = QuicClientConfig::try_from(tls).map_err(unusable)?;
        let mut client = ClientConfig::new(Arc::new(tls));
        client.transport_config(self.profile.transport(&self.config, wire));
        Ok(client)
    }

    /// Whether early data is wanted at this address.
    fn zero_rtt(&self, at: &QuicAddr) -> bool {
        at.zero_rtt.unwrap_or(self.zero_rtt) && at.wire == Wire::Pipe
    }

    fn server_config(&self, on: &QuicAddr, identity: &pipe_tls::Identity) -> Result<ServerConfig> {
        let tls = if self.zero_rtt(on) {
            let (tls, protocols) = (&self.tls, on.protocols());
            tls.server_config_with_early_data(identity, &protocols, SESSIONS)?
        } else {
            self.tls.server_config(identity, &on.protocols())?
        };
        let tls = QuicServerConfig::try_from(tls).map_err(unusable)?;
        let mut server = ServerConfig::with_crypto(Arc::new(OpensOnly(Arc::new(tls))));
        let waiting = self.config.accept_backlog + 4 * self.config.max_handshakes;
        server
            .transport_config(self.profile.transport(&self.config, on.wire))
            .max_incoming(waiting as usize)
            .incoming_buffer_size(INCOMING_BUFFER)
            .incoming_buffer_size_total(INCOMING_BUFFERS);
        Ok(server)
    }

    /// The endpoint of a dial, and its socket if it is its own.
    fn endpoint(&self, to: SocketAddr) -> Result<(Endpoint, Option<Arc<Socket>>)> {
        if let Some(door) = &self.door {
            let Some(door) = door.upgrade().filter(|door| door.is_attended()) else {
                let why = "the listener whose socket is to be dialed from is closed";
                return Err(Error::new(ErrorKind::Closed, why));
            };
            return Ok((door.endpoint.clone(), None));
        }
        let socket = Socket::bind(any_like(to))?;
        let endpoint = Endpoint::new_with_abstract_socket(
            self.profile.endpoint(),
            None,
            socket.clone(),
            Arc::new(TokioRuntime),
        )?;
        Ok((endpoint, Some(socket)))
    }

    async fn attempt(
        &self,
        addr: &Addr,
        to: &QuicAddr,
        how: &How,
        name: &str,
        socket_addr: SocketAddr,
    ) -> Result<QuicConn> {
        let context = format!("could not connect to {addr}");
        let (endpoint, socket) = self.endpoint(socket_addr)?;
        let connecting = endpoint
            .connect_with(how.client.clone(), socket_addr, name)
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
            error = nobody_there(socket_addr) => {
                // Nobody is there to hear a farewell.
                if let Some(socket) = socket {
                    socket.close();
                }
                return Err(unreached(&context, error));
            }
        };
        let shown = certificates_of(&conn).unwrap_or_default();
        self.handshake(context, to, &shown, endpoint, socket)?
            .run(conn, None, how.session.as_deref())
            .await
    }

    /// A connection that can be used before the listener has said anything, if there is a session to be
    /// resumed.
    fn attempt_early(
        &self,
        addr: &Addr,
        to: &QuicAddr,
        session: &Arc<Session>,
        name: &str,
        found: &VecDeque<SocketAddr>,
    ) -> Result<Option<QuicConn>> {
        let Some((tls, met)) = session.resume(found, name) else {
            return Ok(None);
        };
        let context = format!("could not connect to {addr}");
        let (endpoint, socket) = self.endpoint(met.at)?;
        let connecting = endpoint
            .connect_with(self.over(tls, to.wire)?, met.at, name)
            .map_err(|error| not_started(&context, error))?;
        match connecting.into_0rtt() {
            Ok((conn, under_way)) => self
                .handshake(context, to, &met.certificates, endpoint, socket)?
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

    /// What a connection is made with, whose listener has shown these certificates.
    fn handshake(
        &self,
        context: String,
        to: &QuicAddr,
        shown: &[CertificateDer<'_>],
        endpoint: Endpoint,
        socket: Option<Arc<Socket>>,
    ) -> Result<Handshake> {
        Ok(Handshake {
            greeting: Greeting {
                context,
                alpn: to.alpn.clone(),
            },
            config: self.config.clone(),
            wire: to.wire,
            form: to.form(),
            pin: shown.first().map(|own| CertSha256::of(own)),
            listens: false,
            local: endpoint.local_addr()?,
            endpoint,
            socket,
        })
    }
}

/// How a listener is dialed.
struct How {
    client: ClientConfig,
    /// Where quinn leaves the reason for a refusal.
    verdict: Verdict,
    /// What is kept of the listener, if early data is wanted.
    session: Option<Arc<Session>>,
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

impl Transport for QuicTransport {
    type Conn = QuicConn;
    type Listener = QuicListener;

    fn schemes(&self) -> &[&'static str] {
        &[SCHEME]
    }

    async fn dial(&self, addr: &Addr) -> Result<QuicConn> {
        let to = QuicAddr::of(addr)?;
        let name = to.server_name(addr)?;
        let limit = self.config.handshake_timeout;
        let connect = async {
            let how = self.how(addr, &to)?;
            let found = resolve(addr, &to.host, to.port).await?;
            if let Some(session) = &how.session
                && let Some(conn) = self.attempt_early(addr, &to, session, &name, &found)?
            {
                return Ok(conn);
            }
            race(found, |socket| self.attempt(addr, &to, &how, &name, socket)).await
        };
        timeout(limit, connect).await.unwrap_or_else(|_| {
            let why = format!("{addr} made no connection within {limit:?}");
            Err(Error::new(ErrorKind::TimedOut, why))
        })
    }

    async fn listen(&self, addr: &Addr) -> Result<QuicListener> {
        let on = QuicAddr::of(addr)?;
        let identity = self
            .tls
            .listener_identity(&on.host, on.pin)
            .map_err(|error| match error.kind() {
                ErrorKind::AddrInvalid => addr.invalid(error),
                _ => error,
            })?;
        let server = self.server_config(&on, &identity)?;
        let failed = |error| cannot_listen(addr, error);
        let found = lookup_host((on.host.as_str(), on.port));
        let found: Vec<_> = found.await.map_err(failed)?.collect();
        let desk = Desk::new(
            &self.config,
            on,
            identity.sha256(),
            server,
            self.tls.asks_clients(),
        );
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for socket in found {
            match Door::open(socket, self.profile, &desk) {
                Ok(door) => return Ok(QuicListener::new(desk, door, self.clone())),
                Err(error) => last = error,
            }
        }
        Err(failed(last))
    }
}

fn cannot_listen(addr: &Addr, error: io::Error) -> Error {
    let (kind, what) = match error.kind() {
        io::ErrorKind::AddrInUse => (ErrorKind::AddrInUse, "somebody listens there".into()),
        io::ErrorKind::AddrNotAvailable => (
            ErrorKind::Unreachable,
            "it is no address of this host".into(),
        ),
        _ => (ErrorKind::Io, error.to_string()),
    };
    Error::with_source(kind, format!("cannot listen on {addr}: {what}"), error)
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

fn unusable(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    let why = format!("the TLS options are not usable over QUIC: {error}");
    Error::with_source(ErrorKind::ConfigInvalid, why, error)
}

impl std::fmt::Debug for QuicTransport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QuicTransport")
            .field("config", &self.config)
            .field("tls", &self.tls)
            .field("profile", &self.profile)
            .field("zero_rtt", &self.zero_rtt)
            .finish_non_exhaustive()
    }
}
