use std::net::SocketAddr;
use std::sync::Arc;

use pipe_core::backend::{Admission, Progress};
use pipe_core::{Addr, Admit, Config, Incoming, Result, Transport};
use pipe_mux::{MuxConn, MuxListener};
use pipe_net::{
    Dialed, ProxyProtocol, SocketOptions, TcpDialer, farewell, first_byte, given_listener, tls,
};
use pipe_tls::rustls::ServerConfig;
use pipe_tls::{CertSha256, Identity, TlsOptions, peer_identity};
use tokio::net::{TcpListener, TcpStream};

use crate::door::Upgrade;
use crate::setup::{Setup, bind};
use crate::tls_addr::{SCHEME, TlsAddr};

/// The transport of `tls://host:port`: yamux over TLS over TCP.
///
/// Names, ports and `?wire=raw` are as in [`TcpTransport`](crate::TcpTransport). The listener
/// proves its identity, and the dialer trusts it
///
/// - if the address has the hash of its certificate (`?cert-sha256=…`, 64 hex digits): that one
///   certificate, whatever its names and dates, since the hash says which one is meant;
/// - else if one of the roots in its [`TlsOptions`] (by default those of the system) vouches for the
///   certificate and it is for the host, or for the name in `?server-name=…`.
///
/// [`local_addr`](pipe_core::Listener::local_addr) of a listener always has the hash, and so can be
/// dialed as it is. A listener without an identity makes one on the spot.
///
/// The two agree on the protocol `pipe/1` (ALPN, RFC 7301). With `?wire=raw`, they agree on the one
/// in `?alpn=…`, or on none.
///
/// [`MuxConn::inner`] gives the [`TcpStream`] under a connection. A connection that ends without a
/// close_notify (RFC 8446, section 6.1) has failed.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// use pipe_core::{Conn, Listener, Transport};
/// use pipe_tcp::tls::TlsTransport;
///
/// let transport = TlsTransport::new();
/// let listener = transport.listen(&"tls://127.0.0.1:0".parse()?).await?;
/// let addr = listener.local_addr(); // tls://127.0.0.1:40123?cert-sha256=…
/// let conn = transport.dial(&addr).await?;
/// assert_eq!(conn.remote_addr(), addr);
/// # Ok::<(), pipe_core::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct TlsTransport {
    setup: Setup,
    tls: TlsOptions,
}

impl TlsTransport {
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
        self.setup.config = config;
        Ok(self)
    }

    /// Sets sockets up like this.
    #[must_use]
    pub fn with_socket_options(mut self, options: SocketOptions) -> Self {
        self.setup.options = options;
        self
    }

    /// Sets the identity of this side, and the certificates that it trusts.
    #[must_use]
    pub fn with_tls(mut self, options: TlsOptions) -> Self {
        self.tls = options;
        self
    }

    /// Connects dials by this dialer: through a proxy, from a local address, or by a function of the application.
    #[must_use]
    pub fn with_dialer(mut self, dialer: TcpDialer) -> Self {
        self.setup.dialer = dialer;
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
        self.setup.reception = self.setup.reception.with_admission(admission);
        self
    }

    /// Requires every connection of the listeners to begin with a header of the PROXY protocol, which says where the client
    /// of the proxy is. It comes before the handshake of TLS.
    #[must_use]
    pub fn with_proxy_protocol(mut self, from: ProxyProtocol) -> Self {
        self.setup.reception = self.setup.reception.with_proxy_protocol(from);
        self
    }

    /// Listens on a socket that listens already, such as one of systemd's (`listen_fds`) or one that was bound with
    /// options of its own. The address gives the options and the names of a certificate that is made on the spot, and
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
        let on = TlsAddr::of(addr)?;
        let identity = on.params.listener_identity(addr, &on.at.host, &self.tls)?;
        self.listen_with(on, &identity, given_listener(addr, socket)?)
    }

    fn listen_with(
        &self,
        on: TlsAddr,
        identity: &Identity,
        socket: TcpListener,
    ) -> Result<MuxListener> {
        let config = self.tls.server_config(identity, &on.params.protocols())?;
        let local = on.end(socket.local_addr()?, Some(identity.sha256()))?;
        let upgrade = TlsUpgrade {
            setup: self.setup.clone(),
            config,
            on,
            local: local.clone(),
        };
        Ok(self.setup.listener(socket, upgrade, local))
    }
}

impl Transport for TlsTransport {
    type Conn = MuxConn;
    type Listener = MuxListener;

    fn schemes(&self) -> &[&'static str] {
        &[SCHEME]
    }

    async fn dial(&self, addr: &Addr) -> Result<MuxConn> {
        let to = TlsAddr::of(addr)?;
        let name = to.params.server_name(addr, &to.at.host)?;
        let context = format!("could not connect to {addr}");
        let connect = async {
            let dialed = self.setup.dialer.connect(addr, &to.at).await?;
            let Dialed { socket, remote, .. } = dialed;
            let local = socket.local_addr()?;
            let (io, mux) = self.setup.share(socket, to.params.wire)?;
            let config = self
                .tls
                .client_config(to.params.pins, &to.params.protocols())?;
            let tls = tls::connect(&context, config, name, io).await?;
            let session = tls.get_ref().1;
            to.params
                .check_protocol(&context, session.alpn_protocol())?;
            let shown = session.peer_certificates();
            let pin = shown
                .and_then(|list| list.first())
                .map(|own| CertSha256::of(own));
            mux.addrs(to.end(local, None)?, to.end(remote, pin)?)
                .identity(peer_identity(shown))
                .client(tls)
                .await
                .map_err(|error| tls::blame_alert(&context, error))
        };
        self.setup.in_time(addr, &to.at, connect).await
    }

    async fn listen(&self, addr: &Addr) -> Result<MuxListener> {
        let on = TlsAddr::of(addr)?;
        let identity = on.params.listener_identity(addr, &on.at.host, &self.tls)?;
        let socket = bind(addr, &on.at).await?;
        self.listen_with(on, &identity, socket)
    }
}

struct TlsUpgrade {
    setup: Setup,
    config: Arc<ServerConfig>,
    on: TlsAddr,
    local: Addr,
}

impl Upgrade for TlsUpgrade {
    async fn upgrade(
        &self,
        mut socket: TcpStream,
        peer: SocketAddr,
        progress: &Progress,
    ) -> Result<MuxConn> {
        let reception = &self.setup.reception;
        let peer = reception.peer(&mut socket, peer, progress).await?;
        progress.first_byte(first_byte(&socket)).await?;
        let context = format!("refused {peer}");
        let (io, mux) = self.setup.share(socket, self.on.params.wire)?;
        let mut tls = tls::accept(&context, self.config.clone(), io).await?;
        let agreed = tls.get_ref().1.alpn_protocol();
        if let Err(error) = self.on.params.check_protocol(&context, agreed) {
            farewell(&mut tls).await;
            return Err(error);
        }
        progress.heard();
        let identity = peer_identity(tls.get_ref().1.peer_certificates());
        mux.addrs(self.local.clone(), self.on.end(peer, None)?)
            .identity(identity)
            .server(tls)
            .await
    }
}
