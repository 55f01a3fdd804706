//! Signalling by requests over HTTP.

mod behind;
mod dialing;
mod hostile;
mod requests;

use std::net::SocketAddr;

use pipe_core::{Conn, Listener, Stream, Transport};
use pipe_webrtc::{WebRtcConn, WebRtcListener, WhipTransport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::common::{loopback, soon};

/// A transport on loopback.
fn whip() -> WhipTransport {
    WhipTransport::new()
        .with_settings(loopback())
        .expect("settings that are valid")
}

async fn listen(transport: &WhipTransport, addr: &str) -> WebRtcListener {
    let addr = addr.parse().expect("an address");
    transport.listen(&addr).await.expect("a listener")
}

/// Returns the socket of a listener's own server.
fn socket(listener: &WebRtcListener) -> SocketAddr {
    let addr = listener.local_addr();
    let port = addr.port().expect("an address with a port");
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// The two ends of a connection: the dialer's and the listener's.
async fn connect(transport: &WhipTransport, listener: &WebRtcListener) -> (WebRtcConn, WebRtcConn) {
    let addr = listener.local_addr();
    let both = async { tokio::try_join!(transport.dial(&addr), listener.accept()) };
    soon("a connection", both).await.expect("a connection")
}

/// Sends some bytes through a stream of a connection, and back.
async fn echo(here: &WebRtcConn, there: &WebRtcConn) {
    let echo = async {
        let mut opened = here.open_stream().await.expect("an open");
        opened.write_all(b"hello").await.expect("a write");
        let mut accepted = there.accept_stream().await.expect("an accept");
        let mut bytes = [0; 5];
        accepted.read_exact(&mut bytes).await.expect("a read");
        accepted.write_all(&bytes).await.expect("a write");
        opened.read_exact(&mut bytes).await.expect("a read");
        assert_eq!(&bytes, b"hello");
        opened.reset(0);
    };
    soon("an echo", echo).await;
}

/// An answer of HTTP.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    /// Returns the value of a header.
    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(':'));
        let found = lines.find(|(found, _)| found.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.trim())
    }
}

/// Makes a request, over a connection of its own.
async fn request(to: SocketAddr, line: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut text = format!(
        "{line} HTTP/1.1\r\nHost: {to}\r\nContent-Length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str(&format!("Connection: close\r\n\r\n{body}"));
    let mut stream = TcpStream::connect(to).await.expect("a connection");
    stream.write_all(text.as_bytes()).await.expect("a request");
    soon("an answer", answer(&mut stream))
        .await
        .expect("an answer")
}

/// Reads an answer, up to the end of the connection. `None` where that is all.
async fn answer(stream: &mut TcpStream) -> Option<Answer> {
    let mut bytes = Vec::new();
    // A reset comes after what was read.
    let _ = stream.read_to_end(&mut bytes).await;
    let text = String::from_utf8(bytes).expect("text");
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    Some(Answer {
        status: status.expect("a status"),
        head: head.to_owned(),
        body: body.to_owned(),
    })
}
