use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pipe_core::backend::{Admission, Progress};
use pipe_core::{Addr, Admit, Config, Incoming, Result, Transport};
use pipe_mux::{MuxConn, MuxListener};
use pipe_net::first_byte;
use pipe_tls::rustls::ServerConfig;
use pipe_tls::{CertSha256, TlsOptions, explain, explain_io, find, peer_identity};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::door::Upgrade;
use crate::setup::{Setup, bind};
use crate::socket::SocketOptions;
use crate::tls_addr::{SCHEME, TlsAddr};

/// Time limit for a refused client to read the reason.
const FAREWELL: Duration = Duration::from_secs(1);

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

    /// Sets a function that decides for each raw connection of the listeners, before the handshake,
    /// whether to accept it. It must not block.
    #[must_use]
    pub fn with_admission(
        mut self,
        admit: impl Fn(&Incoming) -> Admit + Send + Sync + 'static,
    ) -> Self {
        self.setup.admission = Admission::new(admit);
        self
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
            let socket = self.setup.connect(addr, &to.at).await?;
            let (local, remote) = (socket.local_addr()?, socket.peer_addr()?);
            let (io, mux) = self.setup.share(socket, to.params.wire)?;
            let config = self
                .tls
                .client_config(to.params.pin, &to.params.protocols())?;
            let tls = TlsConnector::from(config)
                .connect(name, io)
                .await
                .map_err(|error| explain_io(&context, error))?;
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
                // In TLS 1.3 the listener judges this side's certificate after this side's handshake.
                .map_err(|error| match find(&error) {
                    Some(alert) => explain(&context, alert),
                    None => error,
                })
        };
        self.setup.in_time(addr, connect).await
    }

    async fn listen(&self, addr: &Addr) -> Result<MuxListener> {
        let on = TlsAddr::of(addr)?;
        let identity = on.params.listener_identity(addr, &on.at.host, &self.tls)?;
        let config = self.tls.server_config(&identity, &on.params.protocols())?;
        let socket = bind(addr, &on.at).await?;
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

struct TlsUpgrade {
    setup: Setup,
    config: Arc<ServerConfig>,
    on: TlsAddr,
    local: Addr,
}

impl Upgrade for TlsUpgrade {
    async fn upgrade(
        &self,
        socket: TcpStream,
        peer: SocketAddr,
        progress: &Progress,
    ) -> Result<MuxConn> {
        progress.first_byte(first_byte(&socket)).await?;
        let context = format!("refused {peer}");
        let (io, mux) = self.setup.share(socket, self.on.params.wire)?;
        let accept = TlsAcceptor::from(self.config.clone()).accept(io);
        let mut tls = match accept.into_fallible().await {
            Ok(tls) => tls,
            Err((error, io)) => {
                let error = explain_io(&context, error);
                farewell(io).await;
                return Err(error);
            }
        };
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

/// Ends a connection so that the last words reach the peer: a socket that is closed with unread data
/// would take them back.
async fn farewell(mut io: impl AsyncRead + AsyncWrite + Unpin) {
    let listen = async {
        let mut scratch = [0; 1024];
        io.shutdown().await?;
        while io.read(&mut scratch).await? > 0 {}
        std::io::Result::Ok(())
    };
    // The client is refused, whether it has read the reason or not.
    let _ = timeout(FAREWELL, listen).await;
}
