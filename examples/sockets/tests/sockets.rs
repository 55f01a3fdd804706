//! What is peculiar to sockets: those of strangers, those that come early, and those that are lost.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use pipe_core::backend::HandshakeQueue;
use pipe_core::backend::proto::codec::binary;
use pipe_core::backend::proto::{Frame, Hello, StreamFrame};
use pipe_core::{Addr, CloseReason, Config, Conn, Error, ErrorKind, Listener, Registry, Transport};
use pipe_sockets::{SocketsConn, SocketsTransport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A dialer that keeps no rules but those that a test lets it keep.
struct Raw {
    control: TcpStream,
    port: SocketAddr,
    token: [u8; 16],
    input: BytesMut,
}

impl Raw {
    async fn dial(addr: &Addr) -> Self {
        let at = ("127.0.0.1", addr.port().unwrap());
        let mut control = TcpStream::connect(at).await.unwrap();
        control.write_all(b"sockets/1").await.unwrap();
        control.read_exact(&mut [0; 9]).await.unwrap();
        let mut port = control.peer_addr().unwrap();
        port.set_port(control.read_u16().await.unwrap());
        let mut token = [0; 16];
        control.read_exact(&mut token).await.unwrap();
        let mut raw = Self {
            control,
            port,
            token,
            input: BytesMut::new(),
        };
        raw.send(&Frame::Hello(Hello::from(&Config::default())))
            .await;
        raw
    }

    async fn send(&mut self, frame: &Frame) {
        let mut output = BytesMut::new();
        binary::encode(frame, &mut output);
        self.control.write_all(&output).await.unwrap();
    }

    async fn open(&mut self, id: u64) {
        let frame = StreamFrame::Open;
        self.send(&Frame::Stream { id, frame }).await;
    }

    /// Connects a socket for a stream.
    async fn connect(&self, token: [u8; 16], id: u64) -> TcpStream {
        let mut socket = TcpStream::connect(self.port).await.unwrap();
        socket.write_all(&token).await.unwrap();
        socket.write_u64(id).await.unwrap();
        socket
    }

    /// Answers pings until the connection ends.
    async fn answer(mut self) {
        while self.control.read_buf(&mut self.input).await.unwrap_or(0) > 0 {
            while let Some(frame) = binary::decode(&mut self.input).unwrap() {
                if let Frame::Ping(bytes) = frame {
                    self.send(&Frame::Pong(bytes)).await;
                }
            }
        }
    }
}

async fn listen() -> HandshakeQueue<SocketsConn> {
    let addr = "sockets://127.0.0.1:0".parse().unwrap();
    SocketsTransport::default().listen(&addr).await.unwrap()
}

async fn raw_pair() -> (Raw, SocketsConn) {
    let listener = listen().await;
    let addr = listener.local_addr();
    let (raw, conn) = tokio::join!(Raw::dial(&addr), listener.accept());
    (raw, conn.unwrap())
}

/// Returns whether the peer closes a socket without a byte.
async fn is_closed(socket: &mut TcpStream) -> bool {
    let read = timeout(Duration::from_secs(30), socket.read(&mut [0])).await;
    matches!(read, Ok(Ok(0) | Err(_)))
}

/// Panics unless the connection has failed with an error of this kind, which says that.
async fn expect_failed(conn: &SocketsConn, kind: ErrorKind, what: &str) {
    let end = timeout(Duration::from_secs(30), conn.closed()).await;
    match end.expect("the end of the connection") {
        CloseReason::Failed(error) => {
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.to_string().contains(what), "{error}");
        }
        other => panic!("it ended as {other:?}"),
    }
}

// ANCHOR: registry
#[tokio::test]
async fn a_program_reaches_it_by_its_scheme() -> Result<(), Box<dyn std::error::Error>> {
    let transports: Registry = pipewerks::registry()
        .clone()
        .with(SocketsTransport::default());

    let listener = transports.listen(&"sockets://[::1]:0".parse()?).await?;
    let addr = listener.local_addr();
    let (dialed, accepted) = tokio::try_join!(transports.dial(&addr), listener.accept())?;
    // The listening side opens a stream as well as the one that dialed.
    let mut question = accepted.open_stream().await?;
    question.write_all(b"who is there?").await?;
    question.shutdown().await?;

    let mut text = String::new();
    let mut asked = dialed.accept_stream().await?;
    asked.read_to_string(&mut text).await?;
    assert_eq!(text, "who is there?");
    Ok(())
}
// ANCHOR_END: registry

// ANCHOR: strangers
#[tokio::test]
async fn strangers_at_the_port_of_streams_are_refused_and_delay_no_stream() {
    let (mut raw, conn) = raw_pair().await;
    let _silent = TcpStream::connect(raw.port).await.unwrap();
    let mut false_token = raw.connect([7; 16], 1).await;
    assert!(is_closed(&mut false_token).await);

    raw.open(1).await;
    let mut here = raw.connect(raw.token, 1).await;
    let mut there = conn.accept_stream().await.unwrap();
    assert_eq!(here.read_u8().await.unwrap(), 0);
    there.write_all(b"welcome").await.unwrap();
    let mut heard = [0; 7];
    here.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"welcome");

    let mut second = raw.connect(raw.token, 1).await;
    assert!(is_closed(&mut second).await);
    let mut of_no_stream = raw.connect(raw.token, 2).await;
    assert!(is_closed(&mut of_no_stream).await);
}
// ANCHOR_END: strangers

#[tokio::test]
async fn a_socket_may_come_before_its_stream() {
    let (mut raw, conn) = raw_pair().await;
    let mut here = raw.connect(raw.token, 1).await;
    here.write_all(b"early").await.unwrap();
    raw.open(1).await;
    let mut there = conn.accept_stream().await.unwrap();
    let mut heard = [0; 5];
    there.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"early");
}

#[tokio::test]
async fn a_stream_that_loses_its_socket_for_no_reason_fails_and_does_not_end() {
    let (mut raw, conn) = raw_pair().await;
    raw.open(1).await;
    let mut here = raw.connect(raw.token, 1).await;
    here.write_all(b"half a").await.unwrap();
    let mut there = conn.accept_stream().await.unwrap();
    tokio::spawn(raw.answer());
    let mut heard = [0; 6];
    there.read_exact(&mut heard).await.unwrap();
    drop(here);
    let read = timeout(Duration::from_secs(30), there.read(&mut heard)).await;
    let error = Error::from(read.expect("an error").unwrap_err());
    assert_eq!(error.kind(), ErrorKind::Failed);
    expect_failed(&conn, ErrorKind::Failed, "stream 1 lost").await;
}

#[tokio::test]
async fn bytes_behind_the_end_are_a_violation() {
    let (mut raw, conn) = raw_pair().await;
    raw.open(1).await;
    let mut here = raw.connect(raw.token, 1).await;
    assert_eq!(here.read_u8().await.unwrap(), 0);
    let frame = StreamFrame::End(3);
    raw.send(&Frame::Stream { id: 1, frame }).await;
    here.write_all(b"too many").await.unwrap();
    let mut there = conn.accept_stream().await.unwrap();
    let mut heard = Vec::new();
    let read = there.read_to_end(&mut heard).await;
    let error = Error::from(read.unwrap_err());
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
    expect_failed(&conn, ErrorKind::Protocol, "end of stream 1").await;
}

#[tokio::test]
async fn garbage_on_a_control_socket_ends_that_connection_alone() {
    let listener = listen().await;
    let addr = listener.local_addr();
    let (raw, conn) = tokio::join!(Raw::dial(&addr), listener.accept());
    let (mut raw, conn) = (raw, conn.unwrap());
    let transport = SocketsTransport::default();
    let (dialed, accepted) = tokio::join!(transport.dial(&addr), listener.accept());
    raw.control.write_all(&[0x7f; 1000]).await.unwrap();
    expect_failed(&conn, ErrorKind::Protocol, "above the limit").await;
    assert!(accepted.unwrap().ping().await.unwrap() > Duration::ZERO);
    drop(dialed);
}

#[tokio::test]
async fn a_peer_of_another_protocol_is_named_so() {
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = socket.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut peer, _) = socket.accept().await.unwrap();
        peer.write_all(&b"SSH-2.0-OpenSSH_9.9\r\n".repeat(3))
            .await
            .unwrap();
        let _ = peer.read_to_end(&mut Vec::new()).await;
    });
    let addr: Addr = format!("sockets://127.0.0.1:{port}").parse().unwrap();
    let transport = SocketsTransport::default();
    let error = transport.dial(&addr).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Handshake, "{error}");
    assert!(error.to_string().contains("does not speak"), "{error}");
}
