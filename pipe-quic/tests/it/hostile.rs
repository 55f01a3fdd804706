//! Peers that break the rules, on the wire of QUIC: each costs an error, and nobody else anything.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use pipe_core::backend::proto::codec::binary;
use pipe_core::backend::proto::{Frame, Hello, StreamFrame};
use pipe_core::{CloseReason, Config, Conn, Error, ErrorKind, Listener, Transport};
use pipe_quic::{QuicConn, QuicListener, QuicTransport, TlsOptions, quinn};
use quinn::crypto::rustls::QuicClientConfig;
use tokio::io::AsyncReadExt;

use crate::common::{echo, expect_service, listen, soon, with};

/// A listener that gives up early on those who say nothing.
async fn strict() -> (QuicTransport, QuicListener) {
    let transport = with(Config::default().with_handshake_timeout(Duration::from_secs(2)));
    let listener = listen(&transport).await;
    (transport, listener)
}

fn socket_of(listener: &QuicListener) -> SocketAddr {
    ([127, 0, 0, 1], listener.local_addr().port().unwrap()).into()
}

/// A client of plain quinn that knows the listener's certificate and offers `pipe/1`.
struct Client {
    endpoint: quinn::Endpoint,
    to: SocketAddr,
}

impl Client {
    fn of(listener: &QuicListener) -> Self {
        Self::with(listener, quinn::TransportConfig::default())
    }

    /// One that lets the listener send so many bytes over each stream, and no more.
    fn that_takes(listener: &QuicListener, bytes: usize) -> Self {
        let mut transport = quinn::TransportConfig::default();
        transport.stream_receive_window(u32::try_from(bytes).unwrap().into());
        Self::with(listener, transport)
    }

    fn with(listener: &QuicListener, transport: quinn::TransportConfig) -> Self {
        let pin = listener.local_addr().param("cert-sha256").unwrap();
        let tls = TlsOptions::new()
            .client_config(Some(pin.parse().unwrap()), &[b"pipe/1"])
            .unwrap();
        let tls = QuicClientConfig::try_from(tls).unwrap();
        let mut config = quinn::ClientConfig::new(Arc::new(tls));
        config.transport_config(Arc::new(transport));
        let mut endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into()).unwrap();
        endpoint.set_default_client_config(config);
        Self {
            endpoint,
            to: socket_of(listener),
        }
    }

    async fn connect(&self) -> quinn::Connection {
        let connecting = self.endpoint.connect(self.to, "localhost").unwrap();
        soon(connecting).await.unwrap()
    }

    /// Connects and says hello, as it should be. Returns the streams of the control channel, too.
    async fn greet(&self, listener: &QuicListener) -> (Peer, QuicConn) {
        let conn = self.connect().await;
        let mut send = conn.open_uni().await.unwrap();
        send.write_all(&encode(&HELLO)).await.unwrap();
        let recv = soon(conn.accept_uni()).await.unwrap();
        let accepted = soon(listener.accept()).await.unwrap();
        (Peer { conn, send, recv }, accepted)
    }
}

/// A peer that has said hello.
struct Peer {
    conn: quinn::Connection,
    send: quinn::SendStream,
    recv: quinn::RecvStream,
}

const HELLO: Frame = Frame::Hello(Hello {
    max_streams: 256,
    stream_window: 256 * 1024,
    connection_window: 0,
    flight: 0,
    takes_growth: true,
});

fn about(id: u64, frame: StreamFrame) -> Frame {
    Frame::Stream { id, frame }
}

fn encode(frame: &Frame) -> BytesMut {
    let mut bytes = BytesMut::new();
    binary::encode(frame, &mut bytes);
    bytes
}

/// How a connection failed.
async fn failure(conn: &QuicConn) -> Error {
    match soon(conn.closed()).await {
        CloseReason::Failed(error) => error,
        other => panic!("a failure was due, but it was {other}"),
    }
}

/// The code that the peer was closed with.
async fn code_at_peer(conn: &quinn::Connection) -> u64 {
    match soon(conn.closed()).await {
        quinn::ConnectionError::ApplicationClosed(close) => close.error_code.into_inner(),
        other => panic!("a close was due, but it was {other}"),
    }
}

const PROTOCOL: u64 = 1 << 32;
const HANDSHAKE: u64 = (1 << 32) + 2;

#[tokio::test]
async fn garbage_datagrams_reach_nobody() {
    let (transport, listener) = strict().await;
    let to = socket_of(&listener);
    let (here, there) = expect_service(&transport, &listener, &listener.local_addr()).await;
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut state = 1_u64;
    for len in (0..1500).step_by(7) {
        let mut bytes = vec![0; len];
        for byte in &mut bytes {
            // An xorshift generator: the same bytes every time.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            *byte = state as u8;
        }
        socket.send_to(&bytes, to).unwrap();
        // The same with the first byte of a long header, of version 1, 0 and one that nobody knows.
        if len > 5 {
            bytes[0] = 0xc3;
            for version in [1_u32, 0, 0x0a0a_0a0a] {
                bytes[1..5].copy_from_slice(&version.to_be_bytes());
                socket.send_to(&bytes, to).unwrap();
            }
        }
    }
    soon(echo(&here, &there)).await.unwrap();
    expect_service(&transport, &listener, &listener.local_addr()).await;
}

#[tokio::test]
async fn a_flood_of_unknown_versions_stalls_nobody() {
    let (transport, listener) = strict().await;
    let to = socket_of(&listener);
    let (here, there) = expect_service(&transport, &listener, &listener.local_addr()).await;
    let flood = tokio::task::spawn_blocking(move || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut packet = [0; 1200];
        packet[0] = 0xc0;
        packet[1..5].copy_from_slice(&[0xfa; 4]);
        // Lengths of the two connection identifiers.
        (packet[5], packet[14]) = (8, 8);
        for i in 0..5000_u64 {
            packet[6..14].copy_from_slice(&i.to_be_bytes());
            // The system may have no room for it.
            let _ = socket.send_to(&packet, to);
        }
    });
    soon(echo(&here, &there)).await.unwrap();
    expect_service(&transport, &listener, &listener.local_addr()).await;
    flood.await.unwrap();
    soon(echo(&here, &there)).await.unwrap();
}

#[tokio::test]
async fn clients_that_close_with_their_first_packets_leave_nothing_behind() {
    let transport = with(Config::default());
    let listener = listen(&transport).await;
    let client = Client::of(&listener);
    for _ in 0..200 {
        let connecting = client.endpoint.connect(client.to, "localhost").unwrap();
        // Nothing of it has been sent.
        drop(connecting);
        tokio::task::yield_now().await;
    }
    // It comes after them, and is not refused for them.
    let there = soon(transport.dial(&listener.local_addr())).await.unwrap();
    let here = soon(listener.accept()).await.unwrap();
    soon(echo(&there, &here)).await.unwrap();
    soon(async {
        while listener.endpoint().open_connections() > 1 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn clients_that_say_nothing_hold_up_nobody_and_are_dropped() {
    let config = Config::default()
        .with_max_handshakes(4)
        .with_handshake_timeout(Duration::from_secs(2));
    let transport = with(config);
    let listener = listen(&transport).await;
    let client = Client::of(&listener);
    // Through QUIC's handshake, but without a hello; one less than there are turns.
    let mut silent = Vec::new();
    for _ in 0..3 {
        silent.push(client.connect().await);
    }
    expect_service(&transport, &listener, &listener.local_addr()).await;
    for conn in &silent {
        code_at_peer(conn).await;
    }
    expect_service(&transport, &listener, &listener.local_addr()).await;
}

#[tokio::test]
async fn first_packets_from_addresses_that_do_not_answer_take_no_turns() {
    let config = Config::default()
        .with_max_handshakes(2)
        .with_handshake_timeout(Duration::from_secs(60));
    let transport = with(config);
    let listener = listen(&transport).await;
    // The first datagram of a client each, from a socket that answers nothing.
    let trap = UdpSocket::bind("127.0.0.1:0").unwrap();
    trap.set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let client = Client {
        to: trap.local_addr().unwrap(),
        ..Client::of(&listener)
    };
    let mut mute = Vec::new();
    for _ in 0..20 {
        let connecting = client.endpoint.connect(client.to, "localhost").unwrap();
        let (len, first) = tokio::task::spawn_blocking({
            let trap = trap.try_clone().unwrap();
            move || {
                let mut buf = vec![0; 2000];
                (trap.recv(&mut buf).unwrap(), buf)
            }
        })
        .await
        .unwrap();
        drop(connecting);
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.send_to(&first[..len], socket_of(&listener)).unwrap();
        mute.push(socket);
    }
    expect_service(&transport, &listener, &listener.local_addr()).await;
}

#[tokio::test]
async fn a_client_that_closes_with_its_first_packet_harms_nobody() {
    let config = Config::default()
        .with_keep_alive(Duration::from_millis(200))
        .with_disconnected_after(Duration::from_millis(500))
        .with_failed_after(Duration::from_secs(1));
    let transport = with(config);
    let listener = listen(&transport).await;
    let client = Client::of(&listener);
    for _ in 0..200 {
        // Dropped before anything was sent.
        drop(client.endpoint.connect(client.to, "localhost").unwrap());
    }
    soon(client.endpoint.wait_idle()).await;
    drop(expect_service(&transport, &listener, &listener.local_addr()).await);
    // Nothing is kept of them.
    soon(listener.endpoint().wait_idle()).await;
}

#[tokio::test]
async fn another_protocol_on_the_control_stream_is_a_failed_handshake() {
    let (transport, listener) = strict().await;
    let client = Client::of(&listener);
    let huge = [0x01, 0xff, 0xff];
    for first in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &huge,
        &encode(&Frame::Ping([7; 64])),
        // A hello of another protocol.
        &[0x01, 0, 6, b'p', b'i', b'p', b'e', b'/', b'2'],
    ] {
        let conn = client.connect().await;
        let mut send = conn.open_uni().await.unwrap();
        send.write_all(first).await.unwrap();
        assert_eq!(code_at_peer(&conn).await, HANDSHAKE);
    }
    // One that is cut off.
    let conn = client.connect().await;
    let mut send = conn.open_uni().await.unwrap();
    send.write_all(&encode(&HELLO)[..10]).await.unwrap();
    send.finish().unwrap();
    assert_eq!(code_at_peer(&conn).await, HANDSHAKE);
    expect_service(&transport, &listener, &listener.local_addr()).await;
}

#[tokio::test]
async fn messages_against_the_rules_end_the_connection() {
    let (transport, listener) = strict().await;
    let client = Client::of(&listener);
    let (here, there) = expect_service(&transport, &listener, &listener.local_addr()).await;
    for (bytes, why) in [
        (encode(&HELLO).to_vec(), "a second hello"),
        (
            encode(&Frame::Pong([1; 64])).to_vec(),
            "a ping that was not sent",
        ),
        (
            encode(&Frame::Drained { streams: 0 }).to_vec(),
            "a drain that was not sent",
        ),
        (
            [encode(&Frame::Drain), encode(&Frame::Drain)].concat(),
            "a second drain",
        ),
        (
            encode(&about(0, StreamFrame::End(1))).to_vec(),
            "whose ends the multiplexer signals",
        ),
        (vec![0x02, 0xff, 0xff], "above the limit"),
        (vec![0x02, 0, 1, 0], "too short"),
        (vec![0x7f, 0, 0], "unknown type"),
    ] {
        let (mut peer, accepted) = client.greet(&listener).await;
        peer.send.write_all(&bytes).await.unwrap();
        let error = failure(&accepted).await;
        assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
        assert!(error.to_string().contains(why), "{error}");
        assert_eq!(code_at_peer(&peer.conn).await, PROTOCOL);
    }
    for cut in [true, false] {
        let (mut peer, accepted) = client.greet(&listener).await;
        if cut {
            peer.send.reset(1_u32.into()).unwrap();
        } else {
            peer.send.write_all(&[0x02, 0, 64, 1, 2]).await.unwrap();
            peer.send.finish().unwrap();
        }
        let error = failure(&accepted).await;
        assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
    }
    // Messages about streams that there are not are of no effect.
    let (mut peer, accepted) = client.greet(&listener).await;
    for stream in [0, 1, 5, u64::MAX] {
        let messages = [
            encode(&about(stream, StreamFrame::Done)),
            encode(&about(stream, StreamFrame::Credit(u32::MAX))),
        ];
        peer.send.write_all(&messages.concat()).await.unwrap();
    }
    peer.send
        .write_all(&encode(&Frame::Ping([9; 64])))
        .await
        .unwrap();
    let mut answer = vec![0; encode(&HELLO).len() + 3 + 64];
    soon(peer.recv.read_exact(&mut answer)).await.unwrap();
    assert!(answer.ends_with(&[9; 64]));
    assert!(accepted.state().borrow().to_string().contains("connected"));
    soon(echo(&here, &there)).await.unwrap();
}

#[tokio::test]
async fn streams_that_start_with_garbage_end_the_connection() {
    let (_, listener) = strict().await;
    let client = Client::of(&listener);
    for (first, finish, why) in [
        (&[0x02, 1, 2][..], false, "the unknown kind 0x02"),
        (&[], true, "before its first byte"),
    ] {
        let (peer, accepted) = client.greet(&listener).await;
        let (mut send, _recv) = soon(peer.conn.open_bi()).await.unwrap();
        send.write_all(first).await.unwrap();
        if finish {
            send.finish().unwrap();
        }
        let mut stream = soon(accepted.accept_stream()).await.unwrap();
        let read = soon(stream.read(&mut [0; 8])).await;
        let error = Error::from(read.unwrap_err());
        assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
        assert!(error.to_string().contains(why), "{error}");
        assert_eq!(failure(&accepted).await.kind(), ErrorKind::Protocol);
        assert_eq!(code_at_peer(&peer.conn).await, PROTOCOL);
    }
}

#[tokio::test]
async fn pings_whose_answers_are_not_taken_end_the_connection() {
    let (transport, listener) = strict().await;
    let client = Client::of(&listener);
    let (here, there) = expect_service(&transport, &listener, &listener.local_addr()).await;
    let (mut peer, accepted) = client.greet(&listener).await;
    let ping = encode(&Frame::Ping([5; 64]));
    let flood = async { while peer.send.write_all(&ping).await.is_ok() {} };
    soon(flood).await;
    let error = failure(&accepted).await;
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert!(error.to_string().contains("a flood of pings"), "{error}");
    soon(echo(&here, &there)).await.unwrap();
}

#[tokio::test]
async fn words_about_streams_that_are_not_taken_end_the_connection() {
    let transport = with(Config::default().with_max_streams(16));
    let listener = listen(&transport).await;
    let (here, there) = expect_service(&transport, &listener, &listener.local_addr()).await;
    // Room for a hello, and nothing after it.
    let client = Client::that_takes(&listener, encode(&HELLO).len());
    let (peer, accepted) = client.greet(&listener).await;
    let open = async {
        while let Ok((mut send, _recv)) = peer.conn.open_bi().await {
            if send.write_all(&[0x01]).await.is_err() {
                break;
            }
        }
    };
    let accept = async { while accepted.accept_stream().await.is_ok() {} };
    soon(async { tokio::join!(open, accept) }).await;
    let error = failure(&accepted).await;
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert!(
        error
            .to_string()
            .contains("does not read its control stream"),
        "{error}"
    );
    assert_eq!(code_at_peer(&peer.conn).await, PROTOCOL);
    soon(echo(&here, &there)).await.unwrap();
}

#[tokio::test]
async fn nonsense_in_answer_to_a_close_is_not_collected() {
    // No window grows, so that QUIC's is a small one.
    let transport = with(Config::default().with_max_stream_window(0));
    let listener = listen(&transport).await;
    let (here, there) = expect_service(&transport, &listener, &listener.local_addr()).await;
    // The close does not get through.
    let client = Client::that_takes(&listener, encode(&HELLO).len());
    let (mut peer, accepted) = client.greet(&listener).await;
    accepted.close(7, "enough");
    let flood = async {
        let nonsense = [0xff; 16 * 1024];
        let mut written = 0;
        while let Ok(count) = peer.send.write(&nonsense).await {
            written += count;
        }
        written
    };
    // The stream's window, and a little more that is looked at before the end is heard of.
    let written = soon(flood).await;
    assert!(written < 1 << 20, "{written} bytes were taken in");
    assert_eq!(code_at_peer(&peer.conn).await, 7);
    soon(echo(&here, &there)).await.unwrap();
}

#[tokio::test]
async fn floods_of_streams_and_resets_stay_within_the_limits() {
    let config = Config::default().with_max_streams(16);
    let transport = with(config);
    let listener = listen(&transport).await;
    let client = Client::of(&listener);
    let (here, there) = expect_service(&transport, &listener, &listener.local_addr()).await;
    let (peer, accepted) = client.greet(&listener).await;

    // Nobody accepts: the peer comes to a limit a little above the one that was told.
    let mut open = Vec::new();
    while let Ok(Ok((mut send, recv))) =
        tokio::time::timeout(Duration::from_millis(300), peer.conn.open_bi()).await
    {
        send.write_all(&[0x01]).await.unwrap();
        open.push((send, recv));
        assert!(open.len() <= 2 * 16, "{} streams", open.len());
    }
    assert!(open.len() >= 16);
    soon(async {
        while accepted.stats().streams_open < open.len() as u64 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    drop(open);

    // Opened and reset at once, while they are accepted and dropped.
    let flood = async {
        for _ in 0..3000 {
            let (mut send, _recv) = peer.conn.open_bi().await.unwrap();
            send.write_all(&[0x01]).await.unwrap();
            send.reset(3_u32.into()).unwrap();
        }
    };
    let accept = async {
        loop {
            accepted.accept_stream().await.unwrap();
        }
    };
    soon(async {
        tokio::select! {
            () = flood => {}
            () = accept => {}
        }
    })
    .await;
    soon(echo(&here, &there)).await.unwrap();
    expect_service(&transport, &listener, &listener.local_addr()).await;
    peer.conn.close(0_u32.into(), b"");
}

#[tokio::test]
async fn a_second_control_stream_is_against_the_limits_of_quic() {
    let (_, listener) = strict().await;
    let (peer, accepted) = Client::of(&listener).greet(&listener).await;
    let more = tokio::time::timeout(Duration::from_millis(300), peer.conn.open_uni()).await;
    assert!(more.is_err(), "another stream in one direction");
    assert!(
        peer.conn
            .send_datagram(bytes::Bytes::from_static(b"x"))
            .is_err()
    );
    accepted.close(0, "");
    // The close comes over the control stream, and then over QUIC.
    let mut heard = peer.recv;
    let all = soon(heard.read_to_end(4096)).await.unwrap();
    let close = encode(&Frame::Close {
        code: 0,
        messages: 0,
        reason: String::new(),
    });
    assert!(all.ends_with(&close));
    assert_eq!(code_at_peer(&peer.conn).await, 0);
}
