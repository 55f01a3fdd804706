use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use pipe_core::{Addr, Config, Error, ErrorKind, Result, Transport};
use pipe_tls::{CertSha256, TlsOptions, Verdict};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    ClientConfig, ConnectError, Connecting, ConnectionError, Endpoint, ServerConfig, TokioRuntime,
};
use tokio::net::lookup_host;
use tokio::time::timeout;

use crate::addr::{QuicAddr, SCHEME, invalid};
use crate::conn::QuicConn;
use crate::desk::Desk;
use crate::door::Door;
use crate::error::handshake_error;
use crate::handshake::Handshake;
use crate::listener::QuicListener;
use crate::profile::Profile;
use crate::race::{any_like, nobody_there, race, resolve};
use crate::socket::Socket;

/// How many bytes of a client's first packets are kept until its turn comes, and of all clients'.
const INCOMING_BUFFER: u64 = 32 * 1024;
const INCOMING_BUFFERS: u64 = 8 * 1024 * 1024;

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
        Ok(self)
    }

    /// Says who this side is and whom it trusts.
    #[must_use]
    pub fn with_tls(mut self, options: TlsOptions) -> Self {
        self.tls = options;
        self
    }

    /// Says what the paths are like.
    #[must_use]
    pub fn with_profile(mut self, profile: Profile) -> Self {
        self.profile = profile;
        self
    }

    pub(crate) fn through(mut self, door: &Arc<Door>) -> Self {
        self.door = Some(Arc::downgrade(door));
        self
    }

    /// How quinn dials, and where it leaves the reason for a refusal.
    fn client_config(&self, to: &QuicAddr) -> Result<(ClientConfig, Verdict)> {
        let (tls, verdict) = self
            .tls
            .client_config_with_verdict(to.pin, &to.protocols())?;
        let tls = QuicClientConfig::try_from(tls).map_err(unusable)?;
        let mut client = ClientConfig::new(Arc::new(tls));
        client.transport_config(self.profile.transport(&self.config, to.wire));
        Ok((client, verdict))
    }

    fn server_config(&self, on: &QuicAddr, identity: &pipe_tls::Identity) -> Result<ServerConfig> {
        let tls = self.tls.server_config(identity, &on.protocols())?;
        let tls = QuicServerConfig::try_from(tls).map_err(unusable)?;
        let mut server = ServerConfig::with_crypto(Arc::new(tls));
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
        (client, verdict): &(ClientConfig, Verdict),
        name: &str,
        socket_addr: SocketAddr,
    ) -> Result<QuicConn> {
        let context = format!("could not connect to {addr}");
        let (endpoint, socket) = self.endpoint(socket_addr)?;
        let connecting = endpoint
            .connect_with(client.clone(), socket_addr, name)
            .map_err(|error| not_started(&context, error))?;
        let mut attempt = Attempt {
            connecting: Some(connecting),
            socket: socket.clone(),
        };
        let conn = tokio::select! {
            biased;
            conn = attempt.connected() => conn.map_err(|error| match verdict.error() {
                Some(refusal) => pipe_tls::explain(&context, &refusal),
                None => handshake_error(&context, &error),
            })?,
            error = nobody_there(socket_addr) => {
                // Nobody is there to hear a farewell.
                if let Some(socket) = socket {
                    socket.close();
                }
                return Err(unreached(&context, error));
            }
        };
        let local = endpoint.local_addr()?;
        let pin = conn
            .peer_identity()
            .and_then(|any| {
                any.downcast::<Vec<pipe_tls::rustls::pki_types::CertificateDer<'_>>>()
                    .ok()
            })
            .and_then(|shown| shown.first().map(|own| CertSha256::of(own)));
        let handshake = Handshake {
            context,
            config: self.config.clone(),
            wire: to.wire,
            form: to.form(),
            alpn: to.alpn.clone(),
            pin,
            listens: false,
            local,
            endpoint,
            socket,
        };
        handshake.run(conn).await
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
                tokio::spawn(timeout(FIRST_PACKET, connecting));
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
            let client = self.client_config(&to)?;
            let found = resolve(addr, &to.host, to.port).await?;
            race(found, |socket| {
                self.attempt(addr, &to, &client, &name, socket)
            })
            .await
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
                ErrorKind::AddrInvalid => invalid(addr, &error.to_string()),
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

fn unreached(context: &str, error: io::Error) -> Error {
    let (kind, what) = match error.kind() {
        io::ErrorKind::ConnectionRefused => (ErrorKind::Refused, "nobody listens there"),
        _ => (ErrorKind::Unreachable, "it cannot be reached"),
    };
    Error::with_source(kind, format!("{context}: {what}"), error)
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
            .finish_non_exhaustive()
    }
}
