use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use pipe_core::{Addr, Config, Error, ErrorKind, Result, Transport};
use pipe_mux::{Acceptor, Mux, MuxConn, MuxListener, Wire};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::host_port::{HostPort, to_addr};
use crate::race;
use crate::socket::{SharedSocket, SocketOptions};

const SCHEME: &str = "tcp";

/// The transport of `tcp://host:port`: yamux over TCP, in the clear.
///
/// Names are resolved when dialing, and the addresses of a name are raced (RFC 8305). Port 0 listens
/// on a free port. With `?wire=raw` it speaks plain yamux to peers of other makes, see
/// [`Wire::Raw`].
///
/// [`MuxConn::inner`] gives the [`TcpStream`] under a connection.
#[derive(Clone, Debug, Default)]
pub struct TcpTransport {
    config: Config,
    options: SocketOptions,
}

impl TcpTransport {
    /// With the default configuration.
    pub fn new() -> Self {
        Self::default()
    }

    /// Uses this configuration. Of the windows, yamux fixes the one of a stream at 256 KiB.
    ///
    /// # Errors
    ///
    /// [`ConfigInvalid`](ErrorKind::ConfigInvalid) when a setting is out of its range.
    pub fn with_config(self, config: Config) -> Result<Self> {
        config.validate()?;
        Ok(Self { config, ..self })
    }

    /// Sets sockets up like this.
    #[must_use]
    pub fn with_socket_options(self, options: SocketOptions) -> Self {
        Self { options, ..self }
    }
}

impl Transport for TcpTransport {
    type Conn = MuxConn;
    type Listener = MuxListener;

    fn schemes(&self) -> &[&'static str] {
        &[SCHEME]
    }

    async fn dial(&self, addr: &Addr) -> Result<MuxConn> {
        let to = HostPort::of(addr, SCHEME, &[])?;
        let limit = self.config.handshake_timeout;
        let connect = async {
            let socket = race::connect(addr, &to.host, to.port).await?;
            let local = to_addr(SCHEME, socket.local_addr()?, to.wire)?;
            let remote = to_addr(SCHEME, socket.peer_addr()?, to.wire)?;
            let (io, mux) = set_up(socket, &self.config, &self.options, to.wire)?;
            mux.addrs(local, remote).client(io).await
        };
        timeout(limit, connect)
            .await
            .unwrap_or_else(|_| Err(timed_out(addr, limit)))
    }

    async fn listen(&self, addr: &Addr) -> Result<MuxListener> {
        let on = HostPort::of(addr, SCHEME, &[])?;
        let socket = bind(addr, &on.host, on.port).await?;
        let local = to_addr(SCHEME, socket.local_addr()?, on.wire)?;
        let upgrade = TcpUpgrade {
            config: self.config.clone(),
            options: self.options,
            wire: on.wire,
            local: local.clone(),
        };
        Ok(MuxListener::new(
            TcpDoor(socket),
            upgrade,
            local,
            &self.config,
        ))
    }
}

struct TcpDoor(TcpListener);

struct TcpUpgrade {
    config: Config,
    options: SocketOptions,
    wire: Wire,
    local: Addr,
}

impl Acceptor for TcpDoor {
    type Raw = (TcpStream, SocketAddr);
    type Upgrade = TcpUpgrade;

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Self::Raw>> {
        self.0.poll_accept(cx)
    }

    async fn upgrade(upgrade: &TcpUpgrade, (socket, peer): Self::Raw) -> Result<MuxConn> {
        let TcpUpgrade {
            config,
            options,
            wire,
            local,
        } = upgrade;
        let remote = to_addr(SCHEME, peer, *wire)?;
        let (io, mux) = set_up(socket, config, options, *wire)?;
        mux.addrs(local.clone(), remote).server(io).await
    }
}

fn set_up(
    socket: TcpStream,
    config: &Config,
    options: &SocketOptions,
    wire: Wire,
) -> Result<(SharedSocket, pipe_mux::MuxBuilder)> {
    options.apply(&socket)?;
    let socket = Arc::new(socket);
    let mux = Mux::builder()
        .config(config.clone())
        .wire(wire)
        .inner(socket.clone());
    Ok((SharedSocket(socket), mux))
}

/// Binds the first of the host's addresses that can be.
pub(crate) async fn bind(addr: &Addr, host: &str, port: u16) -> Result<TcpListener> {
    TcpListener::bind((host, port)).await.map_err(|error| {
        let (kind, what) = match error.kind() {
            io::ErrorKind::AddrInUse => (ErrorKind::AddrInUse, "somebody listens there".into()),
            io::ErrorKind::AddrNotAvailable => (
                ErrorKind::Unreachable,
                "it is no address of this host".into(),
            ),
            _ => (ErrorKind::Io, error.to_string()),
        };
        Error::with_source(kind, format!("cannot listen on {addr}: {what}"), error)
    })
}

pub(crate) fn timed_out(addr: &Addr, limit: std::time::Duration) -> Error {
    Error::new(
        ErrorKind::TimedOut,
        format!("{addr} made no connection within {limit:?}"),
    )
}
