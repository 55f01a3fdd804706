use std::net::SocketAddr;

use pipe_core::backend::{Admission, Progress};
use pipe_core::{Addr, Admit, Config, Error, ErrorKind, Incoming, Result, Transport, Wire};
use pipe_mux::{MuxConn, MuxListener};
use pipe_net::{
    Dialed, FirstByte, ProxyProtocol, SocketOptions, TcpDialer, first_byte, given_listener,
};
use tokio::net::{TcpListener, TcpStream};

use crate::door::Upgrade;
use crate::setup::{Setup, bind};
use crate::tcp_addr::{SCHEME, TcpAddr};

/// The transport of `tcp://host:port`: yamux over TCP, in the clear.
///
/// Names are resolved when dialing, and the addresses of a name are raced (RFC 8305). Port 0
/// listens on a free port. With `?wire=raw` it speaks plain yamux to other implementations, see
/// [`pipe_mux`](pipe_mux#plain-yamux).
///
/// During an outage TCP retransmits at growing intervals, and the connection recovers only with the
/// next retransmission: after a silent outage of 26 s that may be at 52 s, so that a connection
/// whose [`failed_after`](Config::failed_after) is 30 s is then given up although the link is back.
///
/// [`MuxConn::inner`] gives the [`TcpStream`] under a connection.
#[derive(Clone, Debug, Default)]
pub struct TcpTransport {
    setup: Setup,
}

impl TcpTransport {
    /// Creates a transport with the default configuration.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the configuration. A plain peer (`wire=raw`) may fill a window of 256 KiB even where it
    /// sets less.
    ///
    /// # Errors
    ///
    /// [`ConfigInvalid`](ErrorKind::ConfigInvalid) when a setting is out of its range.
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
    /// of the proxy is.
    #[must_use]
    pub fn with_proxy_protocol(mut self, from: ProxyProtocol) -> Self {
        self.setup.reception = self.setup.reception.with_proxy_protocol(from);
        self
    }

    /// Listens on a socket that listens already, such as one of systemd's (`listen_fds`) or one that was bound with
    /// options of its own. The address gives the options, and
    /// [`local_addr`](pipe_core::Listener::local_addr) has the socket's own IP address and port. Closing the listener closes
    /// the socket.
    ///
    /// # Errors
    ///
    /// [`AddrUnsupported`](ErrorKind::AddrUnsupported) and [`AddrInvalid`](ErrorKind::AddrInvalid) as of
    /// [`listen`](Transport::listen); [`Io`](ErrorKind::Io) for a socket that does not listen, and for errors of the operating
    /// system.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn listen_on(&self, socket: std::net::TcpListener, addr: &Addr) -> Result<MuxListener> {
        let on = TcpAddr::of(addr)?;
        self.listen_with(&on, given_listener(addr, socket)?)
    }

    fn listen_with(&self, on: &TcpAddr, socket: TcpListener) -> Result<MuxListener> {
        let local = TcpAddr::end(socket.local_addr()?, on.wire)?;
        let upgrade = TcpUpgrade {
            setup: self.setup.clone(),
            wire: on.wire,
            local: local.clone(),
        };
        Ok(self.setup.listener(socket, upgrade, local))
    }
}

impl Transport for TcpTransport {
    type Conn = MuxConn;
    type Listener = MuxListener;

    fn schemes(&self) -> &[&'static str] {
        &[SCHEME]
    }

    async fn dial(&self, addr: &Addr) -> Result<MuxConn> {
        let to = TcpAddr::of(addr)?;
        let connect = async {
            let dialed = self.setup.dialer.connect(addr, &to.at).await?;
            let Dialed { socket, remote, .. } = dialed;
            let local = TcpAddr::end(socket.local_addr()?, to.wire)?;
            let remote = TcpAddr::end(remote, to.wire)?;
            let (io, mux) = self.setup.share(socket, to.wire)?;
            let first = io.first_byte();
            let (reader, writer) = io.into_split();
            let made = mux.addrs(local, remote).client_split(reader, writer).await;
            made.map_err(|error| blame_tls(error, &first, "the listener", addr))
        };
        self.setup.in_time(addr, &to.at, connect).await
    }

    async fn listen(&self, addr: &Addr) -> Result<MuxListener> {
        let on = TcpAddr::of(addr)?;
        let socket = bind(addr, &on.at).await?;
        self.listen_with(&on, socket)
    }
}

struct TcpUpgrade {
    setup: Setup,
    wire: Wire,
    local: Addr,
}

impl Upgrade for TcpUpgrade {
    async fn upgrade(
        &self,
        mut socket: TcpStream,
        peer: SocketAddr,
        progress: &Progress,
    ) -> Result<MuxConn> {
        let reception = &self.setup.reception;
        let peer = reception.peer(&mut socket, peer, progress).await?;
        if self.wire == Wire::Pipe {
            progress.first_byte(first_byte(&socket)).await?;
        }
        let remote = TcpAddr::end(peer, self.wire)?;
        let (io, mux) = self.setup.share(socket, self.wire)?;
        let first = io.first_byte();
        let (reader, writer) = io.into_split();
        let made = mux
            .addrs(self.local.clone(), remote)
            .server_split(reader, writer)
            .await;
        made.map_err(|error| blame_tls(error, &first, "the dialer", &self.local))
    }
}

/// Replaces the error of a handshake with a peer that speaks TLS, which the multiplexer's own error
/// does not show.
fn blame_tls(error: Error, first: &FirstByte, who: &str, addr: &Addr) -> Error {
    // A record of TLS: an alert or a handshake (RFC 8446, section 5.1).
    if !matches!(first.get(), Some(0x15 | 0x16)) {
        return error;
    }
    let why = format!("no connection at {addr}: {who} speaks TLS, which tls:// is for");
    Error::with_source(ErrorKind::Handshake, why, error)
}
