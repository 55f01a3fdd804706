use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use pipe_core::backend::{Admission, HandshakeQueue, dial_within};
use pipe_core::{Addr, Config, Error, Listener, Result, Transport};
use tokio::net::{TcpListener, TcpStream};

use crate::acceptor::{Acceptor, Upgrade};
use crate::conn::SocketsConn;

const SCHEME: &str = "sockets";

// ANCHOR: transport
/// The transport of `sockets://host:port`. Each stream is a TCP socket.
#[derive(Clone, Debug, Default)]
pub struct SocketsTransport {
    config: Config,
}

/// A listener of a [`SocketsTransport`].
#[derive(Debug)]
pub struct SocketsListener {
    addr: Addr,
    queue: HandshakeQueue<SocketsConn>,
}

impl SocketsTransport {
    /// Creates a transport with the default configuration.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the configuration.
    pub fn with_config(self, config: Config) -> Result<Self> {
        config.validate()?;
        Ok(Self { config })
    }
}

impl Transport for SocketsTransport {
    type Conn = SocketsConn;
    type Listener = SocketsListener;

    fn schemes(&self) -> &[&'static str] {
        &[SCHEME]
    }

    async fn dial(&self, addr: &Addr) -> Result<SocketsConn> {
        let to = host_port(addr)?;
        let dial = async {
            let socket = TcpStream::connect(to).await?;
            SocketsConn::dial(socket, &self.config).await
        };
        let named = async {
            dial.await
                .map_err(|error| at_addr("connect to", addr, error))
        };
        dial_within(addr, self.config.handshake_timeout, named).await
    }

    async fn listen(&self, addr: &Addr) -> Result<SocketsListener> {
        let socket = TcpListener::bind(host_port(addr)?).await;
        let socket = socket.map_err(|error| at_addr("listen on", addr, error.into()))?;
        let local = addr_of(socket.local_addr()?)?;
        let acceptor = Acceptor::new(socket, ConnUpgrade(self.config.clone()));
        let (acceptor, admission) = (Arc::new(acceptor), Admission::default());
        let queue = HandshakeQueue::spawn(acceptor, local.clone(), &self.config, admission);
        Ok(SocketsListener { addr: local, queue })
    }
}

struct ConnUpgrade(Config);

impl Upgrade for ConnUpgrade {
    type Conn = SocketsConn;

    async fn upgrade(&self, socket: TcpStream) -> Result<SocketsConn> {
        SocketsConn::accept(socket, &self.0).await
    }
}

impl Listener for SocketsListener {
    type Conn = SocketsConn;

    async fn accept(&self) -> Result<SocketsConn> {
        self.queue.accept().await
    }

    fn local_addr(&self) -> Addr {
        self.addr.clone()
    }

    fn close(&self) {
        self.queue.close();
    }
}
// ANCHOR_END: transport

// ANCHOR: address
/// Reads an address, and refuses what it has besides a host and a port.
fn host_port(addr: &Addr) -> Result<(&str, u16)> {
    addr.check_scheme(SCHEME)?;
    addr.check_params(&[])?;
    match (addr.host(), addr.port()) {
        (Some(host), Some(port)) if matches!(addr.path(), "" | "/") && !addr.has_user() => {
            Ok((host.trim_matches(['[', ']']), port))
        }
        _ => Err(addr.invalid("it has to be sockets://host:port")),
    }
}

/// Returns the address of a socket. It can be dialed, also where the socket is bound to all addresses.
pub(crate) fn addr_of(mut socket: SocketAddr) -> Result<Addr> {
    match socket {
        SocketAddr::V4(at) if at.ip().is_unspecified() => socket.set_ip(Ipv4Addr::LOCALHOST.into()),
        SocketAddr::V6(at) if at.ip().is_unspecified() => socket.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    Addr::parse(&format!("{SCHEME}://{socket}"))
}

fn at_addr(what: &str, addr: &Addr, error: Error) -> Error {
    Error::with_source(
        error.kind(),
        format!("could not {what} {addr}: {error}"),
        error,
    )
}
// ANCHOR_END: address
