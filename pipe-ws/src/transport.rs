use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use pipe_core::backend::Admission;
use pipe_core::{Addr, Admit, Config, Incoming, Result, Transport};
use pipe_mux::{MuxConn, MuxListener};
use pipe_net::{
    Dialed, HttpHeaders, HttpRequest, HttpVerdict, Origins, ProxyProtocol, Reception, SharedSocket,
    SocketOptions, TcpDialer, bind, given_listener, tls,
};
use pipe_tls::rustls::ServerConfig;
use pipe_tls::{CertSha256, TlsOptions, peer_identity};
use tokio::io::split;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::addr::{PLAIN, SECURE, WsAddr};
use crate::carrier::WsCarrier;
use crate::dialing::ask;
use crate::door::{Door, Upgrade, builder};
use crate::fed::{FedDoor, FedUpgrade};
use crate::frame::Role;
use crate::gate::Gate;
use crate::halves::halves;
use crate::service::WsService;

/// The protocol under TLS (ALPN).
const HTTP: &[u8] = b"http/1.1";

/// The TLS of a listener, and the hash of its certificate.
type Secrets = (Arc<ServerConfig>, CertSha256);

/// The transport of `ws://host:port/path` and `wss://host:port/path`: yamux in WebSocket messages, over TCP or TLS.
///
/// # Addresses
///
/// The port is 80 for `ws://` and 443 for `wss://` where there is none. A listener serves its path and all paths
/// below it, so `ws://0.0.0.0:80` serves every path; requests for others are answered with 404. The options of
/// `wss://` are those of `tls://` for certificates (`?cert-sha256=…`, `?server-name=…`), and
/// [`local_addr`](pipe_core::Listener::local_addr) of a listener has the hash of its certificate, so that it can be dialed
/// as it is.
///
/// Both ends name the subprotocol `pipe.1`. With `?wire=raw` the messages carry plain yamux
/// ([`pipe_mux`](pipe_mux#plain-yamux)) without a subprotocol, or with the one in `?subprotocol=…`.
///
/// # Requests
///
/// A dialer adds headers with [`with_header`](Self::with_header) and
/// [`with_bearer_token`](Self::with_bearer_token). A listener accepts pages of its own host and what is no browser;
/// [`with_allowed_origins`](Self::with_allowed_origins) names other pages, and
/// [`with_request_check`](Self::with_request_check) looks at the whole request. The head of a request has at most
/// 16 KiB and 64 headers, and the whole handshake runs within [`Config::handshake_timeout`].
///
/// # The end
///
/// A connection that ends without a close of its own has failed, whether the WebSocket was closed or broke off. A
/// text message and everything else that breaks the rules of RFC 6455 fails it as well. Pings are answered.
///
/// [`MuxConn::inner`] gives the [`WsCarrier`] of a connection: its socket, and the request.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// use pipe_core::{Conn, Listener, Transport};
/// use pipe_ws::WsTransport;
///
/// let transport = WsTransport::new();
/// let listener = transport.listen(&"wss://127.0.0.1:0/chat".parse()?).await?;
/// let addr = listener.local_addr(); // wss://127.0.0.1:40123/chat?cert-sha256=…
/// let conn = transport.dial(&addr).await?;
/// assert_eq!(conn.remote_addr(), addr);
/// # Ok::<(), pipe_core::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct WsTransport {
    config: Config,
    options: SocketOptions,
    reception: Reception,
    dialer: TcpDialer,
    tls: TlsOptions,
    headers: HttpHeaders,
    gate: Gate,
}

impl WsTransport {
    /// Creates a transport with the default configuration and options.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the configuration. A plain peer (`wire=raw`) may fill a window of 256 KiB even where it
    /// sets less.
    ///
    /// # Errors
    ///
    /// [`ConfigInvalid`](pipe_core::ErrorKind::ConfigInvalid) when a setting is out of its range.
    pub fn with_config(mut self, config: Config) -> Result<Self> {
        config.validate()?;
        self.config = config;
        Ok(self)
    }

    /// Sets sockets up like this.
    #[must_use]
    pub fn with_socket_options(mut self, options: SocketOptions) -> Self {
        self.options = options;
        self
    }

    /// Sets the identity of this side, and the certificates that it trusts, for `wss://`.
    #[must_use]
    pub fn with_tls(mut self, options: TlsOptions) -> Self {
        self.tls = options;
        self
    }

    /// Connects dials by this dialer: through a proxy, from a local address, or by a function of the application.
    #[must_use]
    pub fn with_dialer(mut self, dialer: TcpDialer) -> Self {
        self.dialer = dialer;
        self
    }

    /// Sets a function that decides for each raw connection of the listeners, before the handshake,
    /// whether to accept it. It must not block.
    #[must_use]
    pub fn with_admission(
        mut self,
        admit: impl Fn(&Incoming) -> Admit + Send + Sync + 'static,
    ) -> Self {
        let admission = Admission::new(admit);
        self.reception = self.reception.with_admission(admission);
        self
    }

    /// Requires every connection of the listeners to begin with a header of the PROXY protocol, which says where the client
    /// of the proxy is. It comes before the handshake of TLS, and is not for
    /// [`listen_behind`](Self::listen_behind), whose sockets are the server's.
    #[must_use]
    pub fn with_proxy_protocol(mut self, from: ProxyProtocol) -> Self {
        self.reception = self.reception.with_proxy_protocol(from);
        self
    }

    /// Adds a header to the request of every dial.
    ///
    /// # Errors
    ///
    /// [`ConfigInvalid`](pipe_core::ErrorKind::ConfigInvalid) for a name or a value that no header can have, and for a header
    /// that the handshake itself sets.
    pub fn with_header(mut self, name: &str, value: &str) -> Result<Self> {
        self.headers.add(name, value)?;
        Ok(self)
    }

    /// Adds `Authorization: Bearer …` to the request of every dial (RFC 6750). Over `ws://` everyone on the way can
    /// read it.
    ///
    /// # Errors
    ///
    /// [`ConfigInvalid`](pipe_core::ErrorKind::ConfigInvalid) for a token that is not printable ASCII.
    pub fn with_bearer_token(self, token: &str) -> Result<Self> {
        self.with_header("Authorization", &format!("Bearer {token}"))
    }

    /// Sets the origins (`https://example.org`) whose pages may dial the listeners, instead of those of the
    /// listener's own host. What is no browser names no origin, and is not affected.
    #[must_use]
    pub fn with_allowed_origins<T: Into<String>>(
        mut self,
        origins: impl IntoIterator<Item = T>,
    ) -> Self {
        let origins = origins.into_iter().map(Into::into).collect();
        self.gate = self.gate.with_origins(Origins::Listed(origins));
        self
    }

    /// Allows the pages of every origin to dial the listeners.
    #[must_use]
    pub fn with_any_origin(mut self) -> Self {
        self.gate = self.gate.with_origins(Origins::Any);
        self
    }

    /// Sets a function that decides about every request to the listeners whose path and origin are allowed. It must
    /// not block.
    #[must_use]
    pub fn with_request_check(
        mut self,
        check: impl Fn(&HttpRequest) -> HttpVerdict + Send + Sync + 'static,
    ) -> Self {
        self.gate = self.gate.with_check(Arc::new(check));
        self
    }

    /// Makes a listener without a socket, behind a web server: WebSockets and pages share one port. The server gives the
    /// requests of a path to the [`WsService`], which hands their connections to the listener.
    ///
    /// `addr` is where the server can be dialed, `wss://…` where it speaks TLS. It is what
    /// [`local_addr`](pipe_core::Listener::local_addr) returns. Which paths there are is up to the server. TLS is the
    /// server's as well, so connections have no [`peer_identity`](pipe_core::Conn::peer_identity).
    ///
    /// The listener fails once the service and all of its clones are dropped.
    ///
    /// # Errors
    ///
    /// [`AddrUnsupported`](pipe_core::ErrorKind::AddrUnsupported) for another scheme, and
    /// [`AddrInvalid`](pipe_core::ErrorKind::AddrInvalid).
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn listen_behind(&self, addr: &Addr) -> Result<(MuxListener, WsService)> {
        let on = WsAddr::of(addr)?;
        let (feed, fed) = mpsc::channel(self.config.max_handshakes as usize);
        let upgrade = FedUpgrade {
            config: self.config.clone(),
            on: on.clone(),
            local: addr.clone(),
        };
        // The service asks the admission, while it can still answer.
        let admission = Admission::default();
        let door = FedDoor(Mutex::new(fed));
        let listener = MuxListener::new(door, upgrade, addr.clone(), &self.config, admission);
        let (gate, admission) = (self.gate.clone(), self.reception.admission().clone());
        let service = WsService::new(on, gate, admission, self.config.clone(), feed);
        Ok((listener, service))
    }

    /// Listens on a socket that listens already, such as one of systemd's (`listen_fds`) or one that was bound with
    /// options of its own. The address gives the path, the options and the names of a certificate that is made on the spot, and
    /// [`local_addr`](pipe_core::Listener::local_addr) has the socket's own IP address and port. Closing the listener closes
    /// the socket.
    ///
    /// # Errors
    ///
    /// [`AddrUnsupported`](pipe_core::ErrorKind::AddrUnsupported) and [`AddrInvalid`](pipe_core::ErrorKind::AddrInvalid) as of
    /// [`listen`](Transport::listen); [`Io`](pipe_core::ErrorKind::Io) for a socket that does not listen, and for errors of the
    /// operating system, and those of the certificate.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn listen_on(&self, socket: std::net::TcpListener, addr: &Addr) -> Result<MuxListener> {
        let on = WsAddr::of(addr)?;
        let secrets = self.secrets(addr, &on)?;
        self.listen_with(on, secrets, given_listener(addr, socket)?)
    }

    /// Returns the TLS of a listener, if it has any.
    fn secrets(&self, addr: &Addr, on: &WsAddr) -> Result<Option<Secrets>> {
        if !on.is_secure {
            return Ok(None);
        }
        let identity = on.params.listener_identity(addr, &on.at.host, &self.tls)?;
        let config = self.tls.server_config(&identity, &[HTTP])?;
        Ok(Some((config, identity.sha256())))
    }

    fn listen_with(
        &self,
        on: WsAddr,
        secrets: Option<Secrets>,
        socket: TcpListener,
    ) -> Result<MuxListener> {
        let (tls, pin) = secrets.unzip();
        let local = on.listener(socket.local_addr()?, pin)?;
        let upgrade = Upgrade {
            config: self.config.clone(),
            options: self.options,
            reception: self.reception.clone(),
            gate: self.gate.clone(),
            tls,
            on,
            local: local.clone(),
        };
        Ok(MuxListener::new(
            Door(socket),
            upgrade,
            local,
            &self.config,
            self.reception.at_accept(),
        ))
    }

    async fn connect(&self, addr: &Addr, to: &WsAddr) -> Result<MuxConn> {
        let dialed = self.dialer.connect(addr, &to.at).await?;
        let Dialed { socket, remote, .. } = dialed;
        self.options.apply(&socket)?;
        let socket = Arc::new(socket);
        let local = socket.local_addr()?;
        let mut io = SharedSocket::new(socket.clone());
        let carrier = WsCarrier {
            socket: Some(socket),
            request: None,
        };
        let mux = builder(&self.config, to.params.wire, carrier);
        if !to.is_secure {
            let early = ask(&mut io, addr, to, &self.headers).await?;
            let mux = mux.addrs(to.dialer(local)?, to.listener(remote, None)?);
            let (reader, writer) = io.into_split();
            let (reader, writer) = halves(reader, writer, Role::Client, early);
            return mux.client_split(reader, writer).await;
        }
        let context = format!("could not connect to {addr}");
        let name = to.params.server_name(addr, &to.at.host)?;
        let config = self.tls.client_config(to.params.pins, &[HTTP])?;
        let mut tls = tls::connect(&context, config, name, io).await?;
        let shown = tls.get_ref().1.peer_certificates();
        let pin = shown
            .and_then(|list| list.first())
            .map(|own| CertSha256::of(own));
        let mux = mux
            .addrs(to.dialer(local)?, to.listener(remote, pin)?)
            .identity(peer_identity(shown));
        let early = ask(&mut tls, addr, to, &self.headers).await;
        let early: Bytes = early.map_err(|error| tls::blame_alert(&context, error))?;
        let (reader, writer) = split(tls);
        let (reader, writer) = halves(reader, writer, Role::Client, early);
        mux.client_split(reader, writer).await
    }
}

impl Transport for WsTransport {
    type Conn = MuxConn;
    type Listener = MuxListener;

    fn schemes(&self) -> &[&'static str] {
        &[PLAIN, SECURE]
    }

    async fn dial(&self, addr: &Addr) -> Result<MuxConn> {
        let to = WsAddr::of(addr)?;
        let limit = self.config.handshake_timeout;
        let dial = self.connect(addr, &to);
        self.dialer.within(limit, addr, &to.at, dial).await
    }

    async fn listen(&self, addr: &Addr) -> Result<MuxListener> {
        let on = WsAddr::of(addr)?;
        let secrets = self.secrets(addr, &on)?;
        let socket = bind(addr, &on.at, TcpListener::bind).await?;
        self.listen_with(on, secrets, socket)
    }
}
