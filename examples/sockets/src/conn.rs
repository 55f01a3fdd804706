use std::net::SocketAddr;

use pipe_core::backend::proto::{Carrier, DrainMode};
use pipe_core::backend::{Admission, BoundConn, ConnCore, HandshakeQueue, random_ping};
use pipe_core::{Config, Error, ErrorKind, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::acceptor::Acceptor;
use crate::driver::Driver;
use crate::sockets::{Sockets, SocketsConn, Token, adopt};
use crate::transport::addr_of;

/// The first bytes of both sides on a control socket.
const MAGIC: &[u8; 9] = b"sockets/1";

// ANCHOR: handshake
/// Makes a connection of a control socket, as the side that dialed.
pub(crate) async fn dial(mut socket: TcpStream, config: &Config) -> Result<SocketsConn> {
    socket.set_nodelay(true)?;
    socket.write_all(MAGIC).await?;
    expect_magic(&mut socket).await?;
    let mut at = socket.peer_addr()?;
    at.set_port(socket.read_u16().await?);
    let mut token = Token::default();
    socket.read_exact(&mut token).await?;
    start(socket, config, token, Some(at), None).await
}

/// Makes a connection of a control socket, as the side that listens: with a port of its own for the sockets of
/// streams, and a token that these have to show.
pub(crate) async fn accept(mut socket: TcpStream, config: Config) -> Result<SocketsConn> {
    expect_magic(&mut socket).await?;
    socket.write_all(MAGIC).await?;
    let mut at = socket.local_addr()?;
    at.set_port(0);
    let listener = TcpListener::bind(at).await?;
    let mut token = Token::default();
    token.copy_from_slice(&random_ping()?[..size_of::<Token>()]);
    socket.write_u16(listener.local_addr()?.port()).await?;
    socket.write_all(&token).await?;
    start(socket, &config, token, None, Some(listener)).await
}

async fn expect_magic(socket: &mut TcpStream) -> Result<()> {
    let mut magic = [0; MAGIC.len()];
    socket.read_exact(&mut magic).await?;
    if magic == *MAGIC {
        return Ok(());
    }
    let why = "the peer does not speak sockets/1";
    Err(Error::new(ErrorKind::Handshake, why))
}
// ANCHOR_END: handshake

// ANCHOR: start
async fn start(
    socket: TcpStream,
    config: &Config,
    token: Token,
    at: Option<SocketAddr>,
    listener: Option<TcpListener>,
) -> Result<SocketsConn> {
    let carrier = Carrier {
        local_bit: u64::from(at.is_some()),
        opens_by_frame: true,
        has_orphans: false,
        ends_natively: false,
        drain: DrainMode::AtOnce,
        is_plain: false,
    };
    let local = addr_of(socket.local_addr()?)?;
    let addrs = [local.clone(), addr_of(socket.peer_addr()?)?];
    let conn = ConnCore::new(Sockets { token, at }, carrier, config, addrs);
    let of = conn.clone();
    let queue = listener.map(|listener| {
        let acceptor = Acceptor::new(listener, move |socket| adopt(of.clone(), socket));
        HandshakeQueue::spawn(acceptor, local, config, Admission::default())
    });
    let mut driver = Driver::new(conn.clone(), socket, queue);
    driver.greet().await?;
    tokio::spawn(driver.run());
    Ok(BoundConn::new(conn))
}
// ANCHOR_END: start
