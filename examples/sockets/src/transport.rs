use std::net::SocketAddr;

use pipe_core::backend::{Admission, HandshakeQueue, dial_within};
use pipe_core::{Addr, Config, Error, Result, Transport};
use tokio::net::{TcpListener, TcpStream};

use crate::acceptor::Acceptor;
use crate::conn::{accept, dial};
use crate::sockets::SocketsConn;

const SCHEME: &str = "sockets";

// ANCHOR: transport
/// The transport of `sockets://host:port`.
#[derive(Clone, Debug, Default)]
pub struct SocketsTransport(Config);

impl SocketsTransport {
    /// Creates a transport with this configuration.
    pub fn new(config: Config) -> Result<Self> {
        config.validate()?;
        Ok(Self(config))
    }
}

impl Transport for SocketsTransport {
    type Conn = SocketsConn;
    type Listener = HandshakeQueue<SocketsConn>;

    fn schemes(&self) -> &[&'static str] {
        &[SCHEME]
    }

    async fn dial(&self, addr: &Addr) -> Result<SocketsConn> {
        let to = host_port(addr)?;
        let dial = async {
            let socket = TcpStream::connect(to).await?;
            dial(socket, &self.0).await
        };
        let dialed = dial_within(addr, self.0.handshake_timeout, dial).await;
        dialed.map_err(|error| could_not("connect to", addr, error))
    }

    async fn listen(&self, addr: &Addr) -> Result<HandshakeQueue<SocketsConn>> {
        let socket = TcpListener::bind(host_port(addr)?).await;
        let socket = socket.map_err(|error| could_not("listen on", addr, error.into()))?;
        let local = addr_of(socket.local_addr()?)?;
        let config = self.0.clone();
        let acceptor = Acceptor::new(socket, move |socket| accept(socket, config.clone()));
        let admission = Admission::default();
        Ok(HandshakeQueue::spawn(acceptor, local, &self.0, admission))
    }
}
// ANCHOR_END: transport

// ANCHOR: address
/// Reads an address, and refuses what it has besides a host and a port.
fn host_port(addr: &Addr) -> Result<(&str, u16)> {
    addr.check_scheme(SCHEME)?;
    addr.check_params(&[])?;
    let is_bare = matches!(addr.path(), "" | "/") && !addr.has_user();
    match (addr.host(), addr.port()) {
        (Some(host), Some(port)) if is_bare => Ok((host.trim_matches(['[', ']']), port)),
        _ => Err(addr.invalid("it has to be sockets://host:port")),
    }
}

/// Returns the address of a socket. It can be dialed, also where the socket is bound to all addresses.
pub(crate) fn addr_of(socket: SocketAddr) -> Result<Addr> {
    let addr = format!("{SCHEME}://{socket}");
    Addr::parse(
        &addr
            .replace("//0.0.0.0:", "//127.0.0.1:")
            .replace("//[::]:", "//[::1]:"),
    )
}

fn could_not(what: &str, addr: &Addr, error: Error) -> Error {
    let why = format!("could not {what} {addr}: {error}");
    Error::with_source(error.kind(), why, error)
}
// ANCHOR_END: address
