use std::time::Duration;

use pipe_core::{Addr, Listener, Transport};
use pipe_ws::{MuxConn, MuxListener, WsTransport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long anything may take on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

pub(crate) fn addr(text: &str) -> Addr {
    text.parse().expect("an address")
}

/// Listens at an address, and returns where to dial.
pub(crate) async fn listen(transport: &WsTransport, at: &str) -> (MuxListener, Addr) {
    let listener = transport.listen(&addr(at)).await.expect("a listener");
    let local = listener.local_addr();
    (listener, local)
}

/// Waits for an accepted connection.
pub(crate) async fn accept(listener: &MuxListener) -> MuxConn {
    let accepted = timeout(LIMIT, listener.accept()).await;
    accepted.expect("in time").expect("a connection")
}

/// Connects to the port of an address.
pub(crate) async fn connect(addr: &Addr) -> TcpStream {
    let port = addr.port().expect("a port");
    TcpStream::connect(("127.0.0.1", port))
        .await
        .expect("a socket")
}

/// A request that opens a WebSocket, with further lines.
pub(crate) fn request(path: &str, lines: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{lines}\r\n"
    )
}

/// Sends a request, and returns the socket after the answer, which has to be an upgrade.
pub(crate) async fn upgraded(addr: &Addr, lines: &str) -> TcpStream {
    let mut socket = connect(addr).await;
    let request = request(addr.path(), lines);
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = timeout(LIMIT, socket.read_u8()).await.expect("in time");
        head.push(byte.expect("an answer"));
    }
    let head = String::from_utf8(head).unwrap();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(head.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
    socket
}

/// Returns all that comes until the end.
pub(crate) async fn read_all(socket: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read = timeout(LIMIT, socket.read_to_end(&mut bytes)).await;
    read.expect("in time").expect("an end");
    bytes
}
