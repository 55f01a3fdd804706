use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use pipewerks::nats::NatsTransport;
use pipewerks::quic::{QuicTransport, WtTransport};
use pipewerks::tcp::{Proxy, TcpDialer, TcpTransport};
use pipewerks::tls::{Identity, Roots, TlsOptions, TlsTransport};
use pipewerks::webrtc::{IceServer, WebRtcSettings, WebRtcTransport, WhipTransport};
use pipewerks::ws::WsTransport;
use pipewerks::{
    Addr, BoxConn, BoxListener, Config, Error, ErrorKind, Listener, Registry, Transport,
};
use tokio::time::timeout;
use tracing::debug;

use crate::address::Address;
use crate::duration;
use crate::failure::{Failure, explain};
use crate::given::Takers;
use crate::presenting::presenting;
use crate::proxy::{ProxyArgs, target};

/// Time limit of a connection's graceful end.
const FAREWELL: Duration = Duration::from_secs(5);

/// The options of the transports. Each counts where a transport has a use for it.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Transport options")]
pub(crate) struct NetArgs {
    /// Certificate to show (tls, wss, quic, wt, nats, webrtc+https), with those that lead to its root, in PEM. A listener without
    /// one makes one on the spot; the address that it prints has its hash
    #[arg(long, value_name = "FILE")]
    cert: Option<PathBuf>,
    /// Private key of the certificate, in PEM [default: in the file of the certificate]
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// Dialing, trust these roots, in PEM, instead of the system's. A cert-sha256 in the address goes
    /// before both
    #[arg(long, value_name = "FILE")]
    roots: Option<PathBuf>,
    /// Listening, ask clients for certificates, and refuse those that these roots, in PEM, do not
    /// vouch for
    #[arg(long, value_name = "FILE")]
    client_roots: Option<PathBuf>,
    /// How long making a connection may take [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    connect_timeout: Option<Duration>,
    /// After how much silence the peer is pinged [default: 5s; webrtc: 2s]
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    keep_alive: Option<Duration>,
    /// After how much silence of the peer a connection counts as disconnected [default: 10s; webrtc: 5s]
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    disconnected_after: Option<Duration>,
    /// After how much silence of the peer a connection has failed [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    failed_after: Option<Duration>,
    #[command(flatten)]
    proxy: ProxyArgs,
    /// Dialing, a header of the request, as in 'Cookie: a=b' (ws, wss, wt, webrtc+http; repeatable)
    #[arg(long, value_name = "NAME: VALUE", value_parser = header)]
    header: Vec<(String, String)>,
    /// Listening, an origin whose pages may connect, as in https://example.org (ws, wss, wt, webrtc+http; repeatable) [default: that of the
    /// listener's own host]
    #[allow(rustdoc::bare_urls, reason = "the help has no markup")]
    #[arg(long, value_name = "ORIGIN")]
    origin: Vec<String>,
    /// Listening on unix://, the permissions of the socket file, in octal digits [default: by the umask]
    #[cfg(unix)]
    #[arg(long, value_name = "MODE", value_parser = octal)]
    socket_mode: Option<u32>,
    /// Listening, take a socket that this command was started with, as by systemd (LISTEN_FDS), instead of making one: the
    /// first that fits the address, or the one with this name (tcp, tls, ws, wss, quic, wt, unix, webrtc+http)
    #[arg(
        long,
        value_name = "NAME",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = ""
    )]
    listen_fds: Option<String>,
    /// Credentials for the NATS server, a .creds file (nats)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["nats_user", "nats_token"])]
    nats_creds: Option<PathBuf>,
    /// User name at the NATS server (nats)
    #[arg(long, value_name = "NAME", conflicts_with = "nats_token")]
    nats_user: Option<String>,
    /// Password at the NATS server
    #[arg(
        long,
        value_name = "PASSWORD",
        env = "PIPE_NATS_PASSWORD",
        hide_env_values = true,
        default_value = ""
    )]
    nats_password: String,
    /// Token for the NATS server (nats)
    #[arg(
        long,
        value_name = "TOKEN",
        env = "PIPE_NATS_TOKEN",
        hide_env_values = true
    )]
    nats_token: Option<String>,
    /// STUN server (webrtc; repeatable)
    #[arg(long, value_name = "HOST:PORT")]
    stun: Vec<String>,
    /// TURN server (webrtc), as in turn:host:port?transport=udp
    #[arg(long, value_name = "URL", requires = "turn_user")]
    turn: Option<String>,
    /// User name at the TURN server
    #[arg(long, value_name = "NAME", requires = "turn")]
    turn_user: Option<String>,
    /// Password at the TURN server
    #[arg(
        long,
        value_name = "PASSWORD",
        env = "PIPE_TURN_PASSWORD",
        hide_env_values = true,
        default_value = ""
    )]
    turn_password: String,
    /// Send packets through the TURN server only (webrtc)
    #[arg(long, requires = "turn")]
    relay_only: bool,
    /// Listening, one UDP port for the packets of all connections (webrtc) [default: one for each
    /// connection]
    #[arg(long, value_name = "PORT")]
    udp_port: Option<u16>,
}

fn header(text: &str) -> Result<(String, String), String> {
    match text.split_once(':') {
        Some((name, value)) => Ok((name.to_owned(), value.trim().to_owned())),
        None => Err("expected a name, a colon and a value".to_owned()),
    }
}

#[cfg(unix)]
fn octal(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text, 8).map_err(|_| "expected octal digits, such as 660".to_owned())
}

/// The transports, set up from the options.
#[derive(Clone, Debug)]
pub(crate) struct Net {
    registry: Registry,
    takers: Takers,
    /// The name of the given socket to listen on, which may be empty.
    given: Option<String>,
    dialer: TcpDialer,
    /// Time limit for making a connection.
    pub(crate) connect_timeout: Duration,
}

impl Net {
    /// Reads the files that the options name.
    pub(crate) fn new(args: &NetArgs) -> Result<Self, Failure> {
        let misused = |error: Error| Failure::usage(explain(&error));
        let config = args.config(Config::default());
        let tls = args.tls().map_err(misused)?;
        let dialer = args.proxy.dialer().map_err(misused)?;
        let build = || -> pipewerks::Result<(Registry, Takers)> {
            let takers = args.takers(&config, &tls, &dialer)?;
            let registry = Registry::new()
                .with(takers.tcp.clone())
                .with(takers.tls.clone())
                .with(takers.ws.clone())
                .with(takers.wt.clone())
                .with(takers.quic.clone())
                .with(args.nats(&config, &tls)?);
            #[cfg(unix)]
            let registry = registry.with(takers.unix.clone());
            let webrtc = WebRtcTransport::new(registry.clone())
                .with_config(args.config(pipewerks::webrtc::default_config()))?
                .with_settings(args.webrtc().with_turn_dialer(dialer.clone()))?;
            Ok((registry.with(webrtc).with(takers.whip.clone()), takers))
        };
        let (registry, takers) = build().map_err(misused)?;
        Ok(Self {
            registry,
            takers,
            given: args.listen_fds.clone(),
            dialer,
            connect_timeout: config.handshake_timeout,
        })
    }

    /// Reads an address, and refuses one that no other process can have anything to do with.
    pub(crate) fn addr(text: &str) -> Result<Address, Failure> {
        let addr = Address::parse(text)?;
        let is_inside = |part: &Addr| matches!(part.scheme(), "inproc" | "webrtc+inproc");
        if let Some(addr) = addr.alternatives().iter().find(|part| is_inside(part)) {
            return Err(Failure::usage(format!(
                "{addr}: names of inproc:// live in one process, and this command is one by itself: use \
                 unix:// or tcp:// between two"
            )));
        }
        Ok(addr)
    }

    pub(crate) async fn dial(&self, addr: &Address) -> Result<BoxConn, Failure> {
        let conn = self.try_dial(addr).await;
        conn.map_err(|error| Failure::unreached(addr.as_str(), &error))
    }

    /// Returns the same with the error of the transport. The token of the address is shown to the
    /// peer. Of a list, the address wins whose peer takes its token, too.
    pub(crate) async fn try_dial(&self, addr: &Address) -> pipewerks::Result<BoxConn> {
        debug!(%addr, "dialing");
        let transports = presenting(&self.registry, addr, self.connect_timeout);
        let conn = transports.dial(addr).await;
        debug!(%addr, connected = conn.is_ok(), "dialed");
        conn
    }

    /// Returns the proxy that an address is dialed through, over the sockets of `under`.
    pub(crate) fn proxy(&self, addr: &Addr, under: &str) -> pipewerks::Result<Option<Proxy>> {
        match target(addr, under) {
            Some(to) if matches!(under, "tcp" | "tls" | "ws" | "wss" | "http" | "https") => {
                Ok(self.dialer.proxy(under, &to)?.cloned())
            }
            _ => Ok(None),
        }
    }

    pub(crate) async fn listen(&self, addr: &Addr) -> Result<BoxListener, Failure> {
        let listener = match &self.given {
            Some(name) => self.takers.listen(name, addr)?,
            None => {
                let listener = self.registry.listen(addr).await;
                listener.map_err(|error| Failure::unreached(addr.as_str(), &error))?
            }
        };
        debug!(addr = %listener.local_addr(), "listening");
        Ok(listener)
    }
}

impl NetArgs {
    /// A shorter time takes those along that have to be below it.
    fn config(&self, defaults: Config) -> Config {
        let failed_after = self.failed_after.unwrap_or(defaults.failed_after);
        let disconnected_after = self
            .disconnected_after
            .unwrap_or_else(|| defaults.disconnected_after.min(failed_after / 2));
        let keep_alive = self
            .keep_alive
            .unwrap_or_else(|| defaults.keep_alive.min(disconnected_after / 2));
        let handshake_timeout = self.connect_timeout.unwrap_or(defaults.handshake_timeout);
        defaults
            .with_failed_after(failed_after)
            .with_disconnected_after(disconnected_after)
            .with_keep_alive(keep_alive)
            .with_handshake_timeout(handshake_timeout)
    }

    /// Checks that there is a transport for the scheme.
    pub(crate) fn known(addr: &Addr) -> Result<(), Failure> {
        let schemes = pipewerks::registry().schemes();
        let known: Vec<_> = schemes
            .iter()
            .filter(|scheme| !scheme.contains("inproc"))
            .collect();
        if known.iter().any(|scheme| **scheme == addr.scheme()) {
            return Ok(());
        }
        let known: Vec<_> = known.iter().map(|scheme| **scheme).collect();
        Err(Failure::usage(format!(
            "{addr}: the scheme {:?} is unknown; the known schemes are {}",
            addr.scheme(),
            known.join(", ")
        )))
    }

    /// Returns the way in which the listener at this address is verified, for people.
    pub(crate) fn trust(&self, addr: &Addr) -> String {
        if let Some(hash) = addr.param("cert-sha256") {
            return format!("only the certificate with the SHA-256 {hash}");
        }
        let name = addr
            .param("server-name")
            .or_else(|| addr.host().map(str::to_owned));
        let roots = match &self.roots {
            Some(file) => format!("the roots in {}", file.display()),
            None => "the roots of the system".to_owned(),
        };
        format!("a certificate for {}, by {roots}", name.unwrap_or_default())
    }

    fn tls(&self) -> pipewerks::Result<TlsOptions> {
        let mut tls = TlsOptions::new();
        if let Some(cert) = &self.cert {
            let key = self.key.as_ref().unwrap_or(cert);
            tls = tls.with_identity(Identity::from_pem_files(cert, key)?);
        }
        if let Some(roots) = &self.roots {
            tls = tls.with_roots(Roots::from_pem_file(roots)?);
        }
        if let Some(roots) = &self.client_roots {
            tls = tls.with_client_roots(Roots::from_pem_file(roots)?);
        }
        Ok(tls)
    }

    /// Returns the transports that listen on given sockets, too.
    fn takers(
        &self,
        config: &Config,
        tls: &TlsOptions,
        dialer: &TcpDialer,
    ) -> pipewerks::Result<Takers> {
        let mut tcp = TcpTransport::new()
            .with_config(config.clone())?
            .with_dialer(dialer.clone());
        let mut over_tls = TlsTransport::new()
            .with_config(config.clone())?
            .with_dialer(dialer.clone())
            .with_tls(tls.clone());
        let mut ws = self.ws(config, tls)?.with_dialer(dialer.clone());
        let mut whip = self.whip(tls, dialer)?;
        if let Some(protocol) = self.proxy.protocol()? {
            tcp = tcp.with_proxy_protocol(protocol.clone());
            over_tls = over_tls.with_proxy_protocol(protocol.clone());
            ws = ws.with_proxy_protocol(protocol.clone());
            whip = whip.with_proxy_protocol(protocol);
        }
        Ok(Takers {
            tcp,
            tls: over_tls,
            ws,
            whip,
            quic: QuicTransport::new()
                .with_config(config.clone())?
                .with_tls(tls.clone()),
            wt: self.wt(config, tls)?,
            #[cfg(unix)]
            unix: self.unix(config)?,
        })
    }

    fn ws(&self, config: &Config, tls: &TlsOptions) -> pipewerks::Result<WsTransport> {
        let mut ws = WsTransport::new()
            .with_config(config.clone())?
            .with_tls(tls.clone());
        for (name, value) in &self.header {
            ws = ws.with_header(name, value)?;
        }
        if !self.origin.is_empty() {
            ws = ws.with_allowed_origins(&self.origin);
        }
        Ok(ws)
    }

    fn whip(&self, tls: &TlsOptions, dialer: &TcpDialer) -> pipewerks::Result<WhipTransport> {
        let mut whip = WhipTransport::new()
            .with_config(self.config(pipewerks::webrtc::default_config()))?
            .with_settings(self.webrtc().with_turn_dialer(dialer.clone()))?
            .with_tls(tls.clone())
            .with_dialer(dialer.clone());
        for (name, value) in &self.header {
            whip = whip.with_header(name, value)?;
        }
        if !self.origin.is_empty() {
            whip = whip.with_allowed_origins(&self.origin);
        }
        Ok(whip)
    }

    fn nats(&self, config: &Config, tls: &TlsOptions) -> pipewerks::Result<NatsTransport> {
        let nats = NatsTransport::new()
            .with_config(config.clone())?
            .with_tls(tls.clone());
        if let Some(file) = &self.nats_creds {
            let text = fs::read_to_string(file).map_err(|error| {
                let why = format!("{} cannot be read: {error}", file.display());
                Error::with_source(ErrorKind::ConfigInvalid, why, error)
            })?;
            return nats.with_credentials(&text);
        }
        if let Some(user) = &self.nats_user {
            return Ok(nats.with_user_and_password(user, &self.nats_password));
        }
        Ok(match self.nats_token.as_deref() {
            None | Some("") => nats,
            Some(token) => nats.with_token(token),
        })
    }

    fn wt(&self, config: &Config, tls: &TlsOptions) -> pipewerks::Result<WtTransport> {
        let mut wt = WtTransport::new()
            .with_config(config.clone())?
            .with_tls(tls.clone());
        for (name, value) in &self.header {
            wt = wt.with_header(name, value)?;
        }
        if !self.origin.is_empty() {
            wt = wt.with_allowed_origins(&self.origin);
        }
        Ok(wt)
    }

    #[cfg(unix)]
    fn unix(&self, config: &Config) -> pipewerks::Result<pipewerks::unix::UnixTransport> {
        let unix = pipewerks::unix::UnixTransport::new().with_config(config.clone())?;
        match self.socket_mode {
            Some(mode) => unix.with_mode(mode),
            None => Ok(unix),
        }
    }

    /// Returns the transport of connections whose signalling is carried by hand.
    pub(crate) fn by_hand(&self) -> Result<WebRtcTransport<Registry>, Failure> {
        let build = || -> pipewerks::Result<WebRtcTransport<Registry>> {
            let dialer = self.proxy.dialer()?;
            WebRtcTransport::new(Registry::new())
                .with_config(self.config(pipewerks::webrtc::default_config()))?
                .with_settings(self.webrtc().with_turn_dialer(dialer))
        };
        build().map_err(|error| Failure::usage(explain(&error)))
    }

    fn webrtc(&self) -> WebRtcSettings {
        let stun = self.stun.iter().map(|host| IceServer::stun(host));
        let turn = self.turn.iter().map(|url| {
            let user = self.turn_user.as_deref().unwrap_or_default();
            IceServer::turn(url, user, &self.turn_password)
        });
        let settings = WebRtcSettings::default()
            .with_ice_servers(stun.chain(turn))
            .with_relay_only(self.relay_only);
        match self.udp_port {
            Some(port) => settings.with_udp_port(port),
            None => settings,
        }
    }
}

/// Ends a connection in good order, or in any, but within seconds.
pub(crate) async fn farewell(conn: &BoxConn) {
    use pipewerks::Conn;
    let _ = timeout(FAREWELL, conn.drain()).await;
    conn.close(0, "");
}
