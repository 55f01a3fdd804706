//! Byte streams to a listener, without pipewerks on them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use pipe_conformance::hostile::yamux::ByteStream;
use pipewerks::Addr;
use pipewerks::tls::TlsOptions;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_tungstenite::client_async_with_config;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use crate::messages::Messages;

pub(crate) fn socket_addr(addr: &Addr) -> io::Result<SocketAddr> {
    let (host, port) = (addr.as_url().host_str(), addr.port());
    let text = format!("{}:{}", host.unwrap_or(""), port.unwrap_or(0));
    text.parse().map_err(io::Error::other)
}

/// Where innocent peers connect from, and others.
pub(crate) const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
pub(crate) const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// Connects a socket that has little room for what it does not read.
async fn connect(addr: &Addr, from: IpAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    if socket.bind((from, 0).into()).is_err() {
        // It is another address of this machine on some systems only.
        socket.bind((HERE, 0).into())?;
    }
    socket.set_recv_buffer_size(16 * 1024)?;
    socket.set_nodelay(true)?;
    socket.connect(socket_addr(addr)?).await
}

pub(crate) async fn tcp(addr: Addr) -> io::Result<Box<dyn ByteStream>> {
    Ok(Box::new(connect(&addr, HERE).await?))
}

/// Connects from elsewhere, and sends the first byte of a frame.
pub(crate) async fn stalled_tcp(addr: Addr) -> io::Result<Box<dyn ByteStream>> {
    let mut socket = connect(&addr, ELSEWHERE).await?;
    socket.write_all(&[0]).await?;
    Ok(Box::new(socket))
}

pub(crate) async fn tls(addr: Addr) -> io::Result<Box<dyn ByteStream>> {
    tls_from(addr, HERE, b"pipe/1").await
}

/// Connects from elsewhere, and sends nothing once TLS stands.
pub(crate) async fn stalled_tls(addr: Addr) -> io::Result<Box<dyn ByteStream>> {
    tls_from(addr, ELSEWHERE, b"pipe/1").await
}

async fn tls_from(addr: Addr, from: IpAddr, alpn: &[u8]) -> io::Result<Box<dyn ByteStream>> {
    let socket = connect(&addr, from).await?;
    let pin = addr.param("cert-sha256").map(|pin| pin.parse());
    let pin = pin.transpose().map_err(io::Error::other)?;
    let config = TlsOptions::new().client_config(pin, &[alpn]);
    let connector = TlsConnector::from(config.map_err(io::Error::other)?);
    let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
    Ok(Box::new(connector.connect(name, socket).await?))
}

pub(crate) async fn ws(addr: Addr) -> io::Result<Box<dyn ByteStream>> {
    let socket = connect(&addr, HERE).await?;
    web_socket(socket, &addr).await
}

/// Connects from elsewhere, and sends a piece of a request.
pub(crate) async fn stalled_ws(addr: Addr) -> io::Result<Box<dyn ByteStream>> {
    let mut socket = connect(&addr, ELSEWHERE).await?;
    socket.write_all(b"GET / HTTP/1.1\r\nHost: ").await?;
    Ok(Box::new(socket))
}

pub(crate) async fn wss(addr: Addr) -> io::Result<Box<dyn ByteStream>> {
    let tls = tls_from(addr.clone(), HERE, b"http/1.1").await?;
    web_socket(tls, &addr).await
}

/// Connects from elsewhere, and sends nothing once TLS stands.
pub(crate) async fn stalled_wss(addr: Addr) -> io::Result<Box<dyn ByteStream>> {
    tls_from(addr, ELSEWHERE, b"http/1.1").await
}

/// Opens a WebSocket, whose messages carry the bytes of the attack.
async fn web_socket(socket: impl ByteStream, addr: &Addr) -> io::Result<Box<dyn ByteStream>> {
    let mut request = addr
        .as_str()
        .into_client_request()
        .map_err(io::Error::other)?;
    let subprotocol = HeaderValue::from_static("pipe.1");
    let headers = request.headers_mut();
    headers.insert("sec-websocket-protocol", subprotocol);
    let config = WebSocketConfig::default()
        .read_buffer_size(4 * 1024)
        .write_buffer_size(0);
    let opened = client_async_with_config(request, socket, Some(config)).await;
    let (socket, _) = opened.map_err(io::Error::other)?;
    Ok(Box::new(Messages::new(socket)))
}

#[cfg(unix)]
pub(crate) async fn unix(addr: Addr) -> io::Result<Box<dyn ByteStream>> {
    let socket = tokio::net::UnixStream::connect(addr.as_url().path()).await?;
    Ok(Box::new(socket))
}
