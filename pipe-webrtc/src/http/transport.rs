use std::sync::Arc;

use parking_lot::Mutex;
use pipe_core::backend::{Admission, HandshakeQueue};
use pipe_core::{Addr, Admit, Config, Incoming, Result, Transport};
use pipe_net::{
    HttpHeaders, HttpRequest, HttpVerdict, Origins, ProxyProtocol, Reception, SocketOptions,
    TcpDialer, bind, given_listener,
};
use pipe_tls::rustls::ServerConfig;
use pipe_tls::{CertSha256, TlsOptions};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::addr::{HttpAddr, PLAIN, SECURE};
use super::client::Client;
use super::dialing::Dialing;
use super::door::{Door, Serving};
use super::gate::Gate;
use super::offers::Offers;
use super::service::{Posted, WhipService};
use super::wire::HTTP;
use crate::conn::WebRtcConn;
use crate::engine::Faults;
use crate::listener::WebRtcListener;
use crate::settings::WebRtcSettings;
use crate::setup::Setup;

/// The TLS of a listener, and the hash of its certificate.
type Secrets = (Arc<ServerConfig>, CertSha256);

/// The transport of `webrtc+http://host:port/path` and `webrtc+https://host:port/path`: WebRTC whose sides find each other
/// by requests over HTTP, in the shape of WHIP (RFC 9725).
///
/// A dialer posts its offer (`application/sdp`) to the path, and the answer names a resource below it. Candidates that are
/// found later, and new paths (ICE restarts), are patches of this resource, and the end of the connection deletes it. A
/// program that speaks HTTP and has a WebRTC of its own needs nothing else: with `?wire=raw` curl is enough to carry an
/// offer and its answer.
///
/// # Addresses
///
/// The port is 80 for `webrtc+http://` and 443 for `webrtc+https://` where there is none. A listener answers at its path
/// and at the resources below it, and with 404 elsewhere. The options of `webrtc+https://` are those of `tls://` for
/// certificates (`?cert-sha256=…`, `?server-name=…`), and [`local_addr`](pipe_core::Listener::local_addr) of a listener
/// has the hash of its certificate, so that it can be dialed as it is. `wire` and `ping` are those of every address over
/// WebRTC.
///
/// # Requests
///
/// A dialer adds headers with [`with_header`](Self::with_header) and [`with_bearer_token`](Self::with_bearer_token). A
/// listener accepts pages of its own host and what is no browser; [`with_allowed_origins`](Self::with_allowed_origins)
/// names other pages, and [`with_request_check`](Self::with_request_check) looks at each request.
///
/// A request has a connection of its own, whose head has at most 16 KiB and 64 headers, and which ends after
/// [`Config::handshake_timeout`]. Connections of HTTP are bounded as handshakes are, and so are the offers that are
/// negotiated.
///
/// # Differences to other signalling
///
/// - An answer waits until the listener has its candidates, [`gather_timeout`](WebRtcSettings::gather_timeout) at most.
/// - Only the dialer can restart ICE: [`restart_ice`](WebRtcConn::restart_ice) of a listener's connection is
///   [`Unsupported`](pipe_core::ErrorKind::Unsupported). The dialer notices by itself when the peer is not reached.
/// - Restarts take a listener that is not closed: a closed one has no address where the resources could be patched.
///
/// ```
/// # tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
/// use pipe_core::{Conn, Listener, Transport};
/// use pipe_webrtc::WhipTransport;
///
/// let transport = WhipTransport::new();
/// let listener = transport.listen(&"webrtc+http://127.0.0.1:0/chat".parse()?).await?;
/// let addr = listener.local_addr(); // webrtc+http://127.0.0.1:40123/chat
/// let (conn, accepted) = tokio::try_join!(transport.dial(&addr), listener.accept())?;
/// assert_eq!(conn.remote_addr(), addr);
/// # drop(accepted);
/// # Ok::<(), pipe_core::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default)]
pub struct WhipTransport {
    setup: Setup,
    options: SocketOptions,
    reception: Reception,
    dialer: TcpDialer,
    tls: TlsOptions,
    headers: HttpHeaders,
    gate: Gate,
}

impl WhipTransport {
    /// Creates a transport with the [default configuration](crate::default_config) and settings.
    pub fn new() -> Self {
        Self::default()
    }

    /// Uses this configuration instead of the [default one](crate::default_config).
    ///
    /// # Errors
    ///
    /// [`ConfigInvalid`](pipe_core::ErrorKind::ConfigInvalid) when a setting is out of its range.
    pub fn with_config(mut self, config: Config) -> Result<Self> {
        config.validate()?;
        self.setup.config = config;
        Ok(self)
    }

    /// Uses these settings.
    ///
    /// # Errors
    ///
    /// [`ConfigInvalid`](pipe_core::ErrorKind::ConfigInvalid) when a setting is out of its range.
    pub fn with_settings(mut self, settings: WebRtcSettings) -> Result<Self> {
        settings.validate()?;
        self.setup.set_settings(settings);
        Ok(self)
    }

    /// Sets the sockets of HTTP up like this.
    #[must_use]
    pub fn with_socket_options(mut self, options: SocketOptions) -> Self {
        self.options = options;
        self
    }

    /// Sets the identity of this side, and the certificates that it trusts, for `webrtc+https://`.
    #[must_use]
    pub fn with_tls(mut self, options: TlsOptions) -> Self {
        self.tls = options;
        self
    }

    /// Connects the requests of dials by this dialer: through a proxy, from a local address, or by a function of the
    /// application.
    #[must_use]
    pub fn with_dialer(mut self, dialer: TcpDialer) -> Self {
        self.dialer = dialer;
        self
    }

    /// Sets a function that decides for each connection of HTTP to the listeners, before its request, whether to accept
    /// it; behind a web server, for each offer. It must not block.
    #[must_use]
    pub fn with_admission(
        mut self,
        admit: impl Fn(&Incoming) -> Admit + Send + Sync + 'static,
    ) -> Self {
        let admission = Admission::new(admit);
        self.reception = self.reception.with_admission(admission);
        self
    }

    /// Requires every connection of HTTP to the listeners to begin with a header of the PROXY protocol, which says where
    /// the client of the proxy is. It comes before the handshake of TLS, and is not for
    /// [`listen_behind`](Self::listen_behind), whose sockets are the server's.
    #[must_use]
    pub fn with_proxy_protocol(mut self, from: ProxyProtocol) -> Self {
        self.reception = self.reception.with_proxy_protocol(from);
        self
    }

    /// Adds a header to the requests of every dial.
    ///
    /// # Errors
    ///
    /// [`ConfigInvalid`](pipe_core::ErrorKind::ConfigInvalid) for a name or a value that no header can have, and for a header
    /// that the handshake itself sets.
    pub fn with_header(mut self, name: &str, value: &str) -> Result<Self> {
        let lower = name.to_ascii_lowercase();
        if matches!(lower.as_str(), "content-type" | "if-match" | "accept") {
            let why = format!("the handshake itself sets the header {name}");
            return Err(crate::error::invalid(why));
        }
        self.headers.add(name, value)?;
        Ok(self)
    }

    /// Adds `Authorization: Bearer …` to the requests of every dial (RFC 6750; RFC 9725, section 4.6). Over
    /// `webrtc+http://` everyone on the way can read it.
    ///
    /// # Errors
    ///
    /// [`ConfigInvalid`](pipe_core::ErrorKind::ConfigInvalid) for a token that is not printable ASCII.
    pub fn with_bearer_token(self, token: &str) -> Result<Self> {
        self.with_header("Authorization", &format!("Bearer {token}"))
    }

    /// Sets the origins (`https://example.org`) whose pages may dial the listeners, instead of those of the
    /// listener's own host. Browsers are told so (CORS). What is no browser names no origin, and is not affected.
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

    /// Sets a function that decides about every POST, PATCH and DELETE to the listeners whose path and origin are allowed.
    /// It must not block.
    #[must_use]
    pub fn with_request_check(
        mut self,
        check: impl Fn(&HttpRequest) -> HttpVerdict + Send + Sync + 'static,
    ) -> Self {
        self.gate = self.gate.with_check(Arc::new(check));
        self
    }

    /// Harms the packets of its connections, for tests.
    #[must_use]
    pub fn with_faults(mut self, faults: Faults) -> Self {
        self.setup.faults = Some(faults);
        self
    }

    /// Makes a listener without a socket, behind a web server: offers and pages share one port. The server gives the
    /// requests of a path, and those below it, to the [`WhipService`], which hands their offers to the listener.
    ///
    /// `addr` is where the server can be dialed, `webrtc+https://…` where it speaks TLS. Its path is where the resources
    /// are, and it is what [`local_addr`](pipe_core::Listener::local_addr) returns. TLS is the server's, so connections
    /// have no [`peer_identity`](pipe_core::Conn::peer_identity).
    ///
    /// The listener fails once the service and all of its clones are dropped.
    ///
    /// # Errors
    ///
    /// [`AddrUnsupported`](pipe_core::ErrorKind::AddrUnsupported) for another scheme,
    /// [`AddrInvalid`](pipe_core::ErrorKind::AddrInvalid), and those of the UDP port that connections share.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn listen_behind(&self, addr: &Addr) -> Result<(WebRtcListener, WhipService)> {
        let on = HttpAddr::of(addr)?;
        let admission = self.reception.admission().clone();
        let (service, posted) = self.service(&on, admission);
        let listener = self.listener(on, addr.clone(), posted, None)?;
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
    pub fn listen_on(&self, socket: std::net::TcpListener, addr: &Addr) -> Result<WebRtcListener> {
        let on = HttpAddr::of(addr)?;
        let secrets = self.secrets(addr, &on)?;
        self.listen_with(on, secrets, given_listener(addr, socket)?)
    }

    fn listen_with(
        &self,
        on: HttpAddr,
        secrets: Option<Secrets>,
        socket: TcpListener,
    ) -> Result<WebRtcListener> {
        let (tls, pin) = secrets.unzip();
        let local = on.listener(socket.local_addr()?, pin)?;
        let config = &self.setup.config;
        // The door asks the admission.
        let (service, posted) = self.service(&on, Admission::default());
        let serving = Serving {
            options: self.options,
            reception: self.reception.clone(),
            tls,
            service,
            limit: config.handshake_timeout,
        };
        let door = Door::open(socket, serving, local.clone(), config);
        self.listener(on, local, posted, Some(door))
    }

    /// Returns the TLS of a listener, if it has any.
    fn secrets(&self, addr: &Addr, on: &HttpAddr) -> Result<Option<Secrets>> {
        if !on.is_secure {
            return Ok(None);
        }
        let identity = on.params.listener_identity(addr, &on.at.host, &self.tls)?;
        let config = self.tls.server_config(&identity, &[HTTP])?;
        Ok(Some((config, identity.sha256())))
    }

    fn service(
        &self,
        on: &HttpAddr,
        admission: Admission,
    ) -> (WhipService, mpsc::Receiver<Posted>) {
        let config = &self.setup.config;
        let (feed, posted) = mpsc::channel(config.max_handshakes as usize);
        let (gate, limit) = (self.gate.clone(), config.handshake_timeout);
        let service = WhipService::new(on.base(), gate, admission, limit, feed);
        (service, posted)
    }

    fn listener(
        &self,
        on: HttpAddr,
        local: Addr,
        posted: mpsc::Receiver<Posted>,
        door: Option<Door>,
    ) -> Result<WebRtcListener> {
        let port = self.setup.shared_port();
        if let Some(port) = &port {
            let is_local = on.target(Some(&on.at.host)).local;
            port.open(&self.setup.settings.local_ips(is_local, None)?)?;
        }
        let source = Offers {
            setup: self.setup.clone(),
            on,
            local: local.clone(),
            posted: Mutex::new(posted),
            door,
        };
        let config = &self.setup.config;
        // Whoever hands the offers over has asked.
        let admission = Admission::default();
        let queue = HandshakeQueue::spawn(Arc::new(source), local.clone(), config, admission);
        Ok(WebRtcListener::of_queue(queue, local, port))
    }

    async fn connect(&self, addr: &Addr, to: HttpAddr) -> Result<WebRtcConn> {
        let client = Client {
            addr: addr.clone(),
            to,
            options: self.options,
            dialer: self.dialer.clone(),
            tls: self.tls.clone(),
            headers: self.headers.clone(),
        };
        let connected = client.connect().await?;
        let to = &client.to;
        let target = to.target(Some(&connected.remote.host));
        let local = to.dialer(connected.local)?;
        let remote = to.listener(connected.remote.clone(), connected.pin)?;
        let mut plan = self.setup.plan(true, target, (local, remote))?;
        plan.identity = connected.identity.clone();
        let limit = self.setup.config.handshake_timeout;
        let (lifetime, signaling) = Dialing::start(client, connected, limit);
        let conn = plan.establish(signaling).await?;
        lifetime.follow(&conn);
        Ok(conn)
    }
}

impl Transport for WhipTransport {
    type Conn = WebRtcConn;
    type Listener = WebRtcListener;

    fn schemes(&self) -> &[&'static str] {
        &[PLAIN, SECURE]
    }

    async fn dial(&self, addr: &Addr) -> Result<WebRtcConn> {
        let to = HttpAddr::of(addr)?;
        let (limit, at) = (self.setup.config.handshake_timeout, to.at.clone());
        let dial = self.connect(addr, to);
        self.dialer.within(limit, addr, &at, dial).await
    }

    async fn listen(&self, addr: &Addr) -> Result<WebRtcListener> {
        let on = HttpAddr::of(addr)?;
        let secrets = self.secrets(addr, &on)?;
        let socket = bind(addr, &on.at, TcpListener::bind).await?;
        self.listen_with(on, secrets, socket)
    }
}

impl std::fmt::Debug for WhipTransport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WhipTransport")
            .field("config", &self.setup.config)
            .field("settings", &self.setup.settings)
            .field("headers", &self.headers)
            .field("gate", &self.gate)
            .finish_non_exhaustive()
    }
}
