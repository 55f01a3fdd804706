//! Peers that break the rules on the wire, over raw sockets: yamux by hand, and the control protocol on
//! it.

mod limits;
mod peer;

use std::alloc::System;
use std::io;
use std::time::Duration;

use bytes::BytesMut;
use peer::{
    ACK, CONTROL, DATA, FIN, GO_AWAY, PING, Peer, RST, SIDES, SYN, Side, WINDOW_UPDATE, about,
    control, data, header, listen, meet,
};
use pipe_core::backend::proto::codec::binary;
use pipe_core::backend::proto::{Frame, Hello, PING_LEN, StreamFrame};
use pipewerks::tcp::{MuxConn, MuxListener, TcpTransport};
use pipewerks::{
    CloseReason, Config, Conn, ConnState, Error, ErrorKind, Listener, Stream, Transport,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::{Instant, timeout};

#[global_allocator]
static HEAP: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// More than anything here takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// What all of these tests together may hold while one of them is flooded.
const HEAP_LIMIT: usize = 96 << 20;

async fn in_time<F: Future>(what: &str, work: F) -> F::Output {
    let done = timeout(LIMIT, work).await;
    done.unwrap_or_else(|_| panic!("{what}: not within {LIMIT:?}"))
}

fn error_of<T: std::fmt::Debug>(result: io::Result<T>) -> Error {
    let error = result.expect_err("an error");
    Error::from_io(&error).cloned().expect("a pipe error")
}

/// How the connection under test ended.
async fn failure(conn: &MuxConn) -> Error {
    match in_time("the end of the connection", conn.closed()).await {
        CloseReason::Failed(error) => error,
        reason => panic!("not a failure: {reason:?}"),
    }
}

/// An honest client is served by the listener.
async fn assert_serves(listener: &MuxListener) {
    let addr = listener.local_addr();
    let serving = async {
        let transport = TcpTransport::new();
        let (client, server) = tokio::join!(transport.dial(&addr), listener.accept());
        assert_healthy(&client.expect("a dial"), &server.expect("a connection")).await;
    };
    in_time("an honest client", serving).await;
}

/// A stream goes there and back.
async fn assert_healthy(client: &MuxConn, server: &MuxConn) {
    let echo = async {
        let mut stream = server.accept_stream().await?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await?;
        stream.write_all(&bytes).await?;
        stream.shutdown().await?;
        stream.into_split().0.stopped_or_taken().await
    };
    let ask = async {
        let mut stream = client.open_stream().await?;
        stream.write_all(b"are you well?").await?;
        stream.shutdown().await?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await?;
        Ok::<_, Error>(bytes)
    };
    let (echoed, asked) = in_time("an echo", async { tokio::join!(echo, ask) }).await;
    echoed.expect("the echo");
    assert_eq!(asked.expect("the answer"), b"are you well?");
}

/// Waits until the peer has the end of a direction.
trait Taken {
    async fn stopped_or_taken(self) -> Result<(), Error>;
}

impl<S: pipewerks::SendStream> Taken for S {
    async fn stopped_or_taken(mut self) -> Result<(), Error> {
        self.stopped().await.map(|_| ())
    }
}

#[tokio::test]
async fn garbage_first_bytes_cost_one_peer_and_the_listener_goes_on() {
    let listener = listen(Config::default()).await;
    let mut huge_frame = header(DATA, SYN, CONTROL, u32::MAX);
    huge_frame.extend([0; 64]);
    let garbage: [&[u8]; 8] = [
        b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a hello of TLS, more or less",
        &[0xff; 256],
        // Version 1 of yamux, an unknown type, a stream of the wrong side, no hello, half a frame.
        &[1, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0],
        &[0, 9, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0],
        &header(DATA, SYN, 2, 0),
        &[header(DATA, SYN, CONTROL, 8), b"no hello".to_vec()].concat(),
        &huge_frame,
    ];
    for bytes in garbage {
        let mut peer = Peer::connect(&listener.local_addr()).await;
        peer.send(bytes).await;
        let hung_up = in_time("hanging up", peer.drain());
        tokio::join!(hung_up, assert_serves(&listener));
    }
}

#[tokio::test]
async fn garbage_from_a_listener_is_an_error_of_the_dial() {
    let answers: [&[u8]; 4] = [
        b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n",
        &[0xff; 64],
        &control(&[Frame::Drain]),
        &header(GO_AWAY, 0, 0, 0),
    ];
    for answer in answers {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = format!("tcp://{}", socket.local_addr().unwrap());
        let (error, _peer) = in_time("the dial", async {
            let answering = async {
                let (socket, _) = socket.accept().await.unwrap();
                let mut peer = Peer::new(socket);
                peer.send(answer).await;
                peer
            };
            let addr = addr.parse().unwrap();
            let transport = TcpTransport::new();
            let (conn, peer) = tokio::join!(transport.dial(&addr), answering);
            (conn.unwrap_err(), peer)
        })
        .await;
        let fitting = [ErrorKind::Protocol, ErrorKind::Handshake, ErrorKind::Failed];
        assert!(fitting.contains(&error.kind()), "{error}");
    }
}

#[tokio::test]
async fn silent_clients_are_given_up_and_free_their_places() {
    let config = Config::default()
        .with_max_handshakes(2)
        .with_handshake_timeout(Duration::from_millis(500));
    let listener = listen(config).await;
    let mut silent = Vec::new();
    for greeting in [&[][..], &header(DATA, SYN, CONTROL, 0), &[0; 5], &[]] {
        let mut peer = Peer::connect(&listener.local_addr()).await;
        peer.send(greeting).await;
        silent.push(peer);
    }
    assert_serves(&listener).await;
    for mut peer in silent {
        in_time("hanging up", peer.drain()).await;
    }
}

#[tokio::test]
async fn a_silent_listener_is_given_up_by_the_dial() {
    let config = Config::default().with_handshake_timeout(Duration::from_millis(300));
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = format!("tcp://{}", socket.local_addr().unwrap());
    let transport = TcpTransport::new().with_config(config).unwrap();
    let dial = in_time("the dial", transport.dial(&addr.parse().unwrap())).await;
    let error = dial.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(error.to_string().contains(&addr), "{error}");
}

#[tokio::test]
async fn a_truncated_frame_is_an_error_and_no_end() {
    for side in SIDES {
        let id = side.first_stream();
        let whole = data(0, id, &[7; 100]);
        let end = control(&[about(u64::from(id), StreamFrame::End(200))]);
        // Within the header, within the body, and within a message of the control channel.
        for truncated in [&whole[..5], &whole[..50], &end[..20]] {
            let (mut peer, conn) = meet(side, Config::default()).await;
            peer.send(&data(SYN, id, &[7; 100])).await;
            let mut stream = conn.accept_stream().await.unwrap();
            stream.read_exact(&mut [0; 100]).await.unwrap();
            peer.send(truncated).await;
            drop(peer);
            let mut rest = Vec::new();
            let error = error_of(in_time("the read", stream.read_to_end(&mut rest)).await);
            assert_eq!(error.kind(), ErrorKind::Failed, "{side:?}: {error}");
            assert_eq!(failure(&conn).await.kind(), ErrorKind::Failed);
        }
    }
}

#[tokio::test]
async fn a_fin_without_a_word_is_no_end() {
    for side in SIDES {
        let (mut peer, conn) = meet(side, Config::default()).await;
        peer.send(&data(SYN | FIN, side.first_stream(), b"half"))
            .await;
        let mut stream = conn.accept_stream().await.unwrap();
        stream.read_exact(&mut [0; 4]).await.unwrap();
        drop(peer);
        let error = error_of(in_time("the read", stream.read(&mut [0; 1])).await);
        assert_eq!(error.kind(), ErrorKind::Failed, "{error}");
    }
}

#[tokio::test]
async fn data_behind_the_end_is_an_error() {
    for side in SIDES {
        let id = side.first_stream();
        let (mut peer, conn) = meet(side, Config::default()).await;
        let end = about(u64::from(id), StreamFrame::End(4));
        // In one write: what comes once the stream is over and forgotten is ignored.
        let frames = [
            data(SYN | FIN, id, b"four"),
            data(0, id, b"more"),
            control(&[end]),
        ];
        peer.send(&frames.concat()).await;
        // What is behind the end may come up before the stream is taken, or before the end is read.
        if let Ok(mut stream) = conn.accept_stream().await {
            let mut bytes = Vec::new();
            let read = in_time("the read", stream.read_to_end(&mut bytes)).await;
            assert!(read.is_err() || bytes == b"four", "{bytes:?}");
        }
        let error = failure(&conn).await;
        assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
    }
}

#[tokio::test]
async fn nothing_behind_a_close_counts() {
    for side in SIDES {
        let (mut peer, conn) = meet(side, Config::default()).await;
        let close = Frame::Close {
            code: 7,
            messages: 0,
            reason: "bye".into(),
        };
        // A message above the limit, which would be a broken rule.
        let frames = [control(&[close]), data(0, 1, b"\x04\xff\xff")];
        peer.send(&frames.concat()).await;
        let reason = in_time("the end of the connection", conn.closed()).await;
        assert!(
            matches!(&reason, CloseReason::Remote { code: 7, reason } if **reason == *"bye"),
            "{reason:?}"
        );
    }
}

#[tokio::test]
async fn an_end_that_lies_about_the_bytes_is_an_error() {
    for (bytes, twice) in [(2, false), (9, false), (4, true)] {
        let (mut peer, conn) = meet(Side::Client, Config::default()).await;
        let end = about(3, StreamFrame::End(bytes));
        peer.send(&data(SYN | FIN, 3, b"four")).await;
        let mut stream = conn.accept_stream().await.unwrap();
        stream.read_exact(&mut [0; 4]).await.unwrap();
        let ends = vec![end; if twice { 2 } else { 1 }];
        peer.send(&control(&ends)).await;
        if !twice {
            let read = in_time("the read", stream.read(&mut [0; 1])).await;
            assert_eq!(error_of(read).kind(), ErrorKind::Protocol);
        }
        assert_eq!(failure(&conn).await.kind(), ErrorKind::Protocol);
    }
}

#[tokio::test]
async fn frames_for_unknown_streams_disturb_nobody() {
    for side in SIDES {
        let (mut peer, conn) = meet(side, Config::default()).await;
        for id in [side.first_stream() + 40, side.first_stream() + 41, u32::MAX] {
            peer.send(&data(0, id, b"for nobody")).await;
            peer.send(&data(FIN, id, b"")).await;
            peer.send(&header(WINDOW_UPDATE, 0, id, 5)).await;
            peer.send(&header(DATA, RST, id, 0)).await;
        }
        peer.send(&control(&[
            about(999, StreamFrame::Done),
            about(999, StreamFrame::Taken),
            about(999, StreamFrame::Credit(u32::MAX)),
        ]))
        .await;
        let id = side.first_stream();
        peer.send(&data(SYN | FIN, id, b"still here")).await;
        peer.send(&control(&[about(u64::from(id), StreamFrame::End(10))]))
            .await;
        let mut stream = conn.accept_stream().await.unwrap();
        let mut bytes = Vec::new();
        in_time("the read", stream.read_to_end(&mut bytes))
            .await
            .unwrap();
        assert_eq!(bytes, b"still here");
        assert_eq!(*conn.state().borrow(), ConnState::Connected);
    }
}

#[tokio::test]
async fn a_stream_of_the_wrong_side_or_twice_ends_the_connection() {
    for side in SIDES {
        let id = side.first_stream();
        for frames in [data(SYN, id + 1, &[]), data(SYN, id, &[]).repeat(2)] {
            let (mut peer, conn) = meet(side, Config::default()).await;
            peer.send(&frames).await;
            let error = failure(&conn).await;
            assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
            in_time("hanging up", peer.drain()).await;
        }
    }
}

#[tokio::test]
async fn a_reset_without_a_message_ends_the_connection() {
    let (mut peer, conn) = meet(Side::Client, Config::default()).await;
    peer.send(&data(SYN, 3, b"half")).await;
    let mut stream = conn.accept_stream().await.unwrap();
    stream.read_exact(&mut [0; 4]).await.unwrap();
    peer.send(&header(DATA, RST, 3, 0)).await;
    let error = error_of(in_time("the read", stream.read(&mut [0; 1])).await);
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
}

#[tokio::test]
async fn a_huge_length_is_refused_before_its_bytes_come() {
    for side in SIDES {
        let id = side.first_stream();
        // Of a frame of yamux, and of a message of the control channel.
        for bytes in [
            header(DATA, SYN, id, u32::MAX),
            header(DATA, SYN, id, 1 << 30),
            data(0, CONTROL, &[0x02, 0xff, 0xff]),
            data(0, CONTROL, &[0x0a, 0x10, 0x01]),
        ] {
            let (mut peer, conn) = meet(side, Config::default()).await;
            peer.send(&bytes).await;
            let error = failure(&conn).await;
            assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
        }
    }
}

#[tokio::test]
async fn more_than_the_window_ends_the_connection() {
    for side in SIDES {
        let id = side.first_stream();
        let (mut peer, conn) = meet(side, Config::default()).await;
        peer.send(&data(SYN, id, &[])).await;
        let stream = conn.accept_stream().await.unwrap();
        for _ in 0..16 {
            peer.send(&data(0, id, &[1; 16 * 1024])).await;
        }
        conn.ping_of(&mut peer).await;
        assert_eq!(*conn.state().borrow(), ConnState::Connected);
        peer.send(&data(0, id, &[1; 1])).await;
        let error = failure(&conn).await;
        assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
        drop(stream);
    }
}

/// A round trip that the hostile peer answers honestly.
trait PingOf {
    async fn ping_of(&self, peer: &mut Peer);
}

impl PingOf for MuxConn {
    async fn ping_of(&self, peer: &mut Peer) {
        let answering = async {
            let mut said = BytesMut::new();
            while let Some(frame) = peer.next().await {
                if frame.kind == DATA && frame.stream == CONTROL {
                    said.extend_from_slice(&frame.body);
                }
                while let Some(message) = binary::decode(&mut said).unwrap() {
                    if let Frame::Ping(bytes) = message {
                        peer.send(&control(&[Frame::Pong(bytes)])).await;
                        return;
                    }
                }
            }
            panic!("the connection ended");
        };
        let (pong, ()) = in_time("a ping", async { tokio::join!(self.ping(), answering) }).await;
        pong.unwrap();
    }
}

/// Sends the same bytes again and again without reading, until the other side takes no more or hangs
/// up, and returns how many got out.
async fn flood(peer: &mut Peer, bytes: &[u8], most: usize) -> usize {
    let mut sent = 0;
    while sent < most {
        match timeout(Duration::from_millis(500), peer.socket.write(bytes)).await {
            Ok(Ok(count)) => sent += count,
            Ok(Err(_)) | Err(_) => break,
        }
        let stats = HEAP.stats();
        let held = stats.bytes_allocated - stats.bytes_deallocated;
        assert!(held < HEAP_LIMIT, "{held} B held after {sent} B");
    }
    sent
}

#[tokio::test]
async fn floods_cost_bounded_memory_and_no_other_connection() {
    let ping = Frame::Ping([5; PING_LEN]);
    let reset = |stream| about(stream, StreamFrame::Reset(1));
    let floods = [
        ("pings of yamux", header(PING, SYN, 0, 1).repeat(1000)),
        (
            "answers to pings of yamux",
            header(PING, ACK, 0, 77).repeat(1000),
        ),
        (
            "window updates",
            header(WINDOW_UPDATE, 0, CONTROL, 0).repeat(1000),
        ),
        ("pings", control(&vec![ping; 100])),
        (
            "resets of streams that do not come",
            control(&vec![reset(9_999); 100]),
        ),
        ("resets of one stream", control(&vec![reset(3); 100])),
        (
            "empty frames",
            [data(SYN, 3, &[]), data(0, 3, &[]).repeat(1000)].concat(),
        ),
        (
            "opens",
            (0..2000).flat_map(|n| data(SYN, 3 + 2 * n, &[])).collect(),
        ),
        (
            "opens that are cut at once",
            (0..2000)
                .flat_map(|n| [data(SYN, 3 + 2 * n, &[]), header(DATA, RST, 3 + 2 * n, 0)].concat())
                .collect(),
        ),
        (
            "optional messages",
            data(0, CONTROL, &[0xff, 0, 0].repeat(1000)),
        ),
    ];
    let listener = listen(Config::default()).await;
    let addr = listener.local_addr();
    for (what, bytes) in floods {
        let (mut peer, conn) = meet(Side::Client, Config::default()).await;
        let flooding = flood(&mut peer, &bytes, 64 << 20);
        let (sent, ()) = tokio::join!(flooding, assert_serves(&listener));
        // It still answers, or has ended with a reason.
        if let Some(reason) = conn.state().borrow().is_ended().then(|| conn.closed()) {
            let CloseReason::Failed(error) = reason.await else {
                panic!("{what}: not a failure");
            };
            assert_eq!(error.kind(), ErrorKind::Protocol, "{what}: {error}");
        }
        println!("{what}: {sent} B");
        conn.close(0, "");
    }
    assert_eq!(listener.local_addr(), addr);
}

/// Whether a state is an end.
trait IsEnded {
    fn is_ended(&self) -> bool;
}

impl IsEnded for ConnState {
    fn is_ended(&self) -> bool {
        matches!(self, ConnState::Failed | ConnState::Closed)
    }
}

#[tokio::test]
async fn a_peer_that_never_answers_a_close_is_torn_down() {
    for side in SIDES {
        for reads in [true, false] {
            let (mut peer, conn) = meet(side, Config::default()).await;
            if !reads {
                // The socket is full of what the peer does not read.
                peer.send(&data(SYN, side.first_stream(), &[])).await;
                let credit = header(WINDOW_UPDATE, 0, side.first_stream(), 1 << 28);
                peer.send(&credit).await;
                let mut stream = conn.accept_stream().await.unwrap();
                let bytes = vec![0; 64 * 1024];
                while let Ok(wrote) =
                    timeout(Duration::from_millis(500), stream.write(&bytes)).await
                {
                    wrote.unwrap();
                }
            }
            let started = Instant::now();
            conn.close(7, "that will do");
            assert_eq!(in_time("closed", conn.closed()).await.code(), Some(7));
            drop(conn);
            if reads {
                let mut said = BytesMut::new();
                while let Some(frame) = in_time("its last words", peer.next()).await {
                    if frame.kind == DATA && frame.stream == CONTROL {
                        said.extend_from_slice(&frame.body);
                    }
                }
                let mut last = None;
                while let Some(message) = binary::decode(&mut said).unwrap() {
                    last = Some(message);
                }
                assert!(
                    matches!(last, Some(Frame::Close { code: 7, .. })),
                    "{last:?}"
                );
            }
            // The socket goes away, which its peer notices when it writes.
            let torn = async {
                while peer.send(&header(PING, ACK, 0, 0)).await {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            in_time("the teardown", torn).await;
            println!("{side:?}, reads {reads}: {:?}", started.elapsed());
        }
    }
}

#[tokio::test]
async fn messages_that_break_the_control_protocol_end_the_connection() {
    let unknown = [0x7f, 0, 0];
    let foreign_pong = Frame::Pong([1; PING_LEN]);
    for bytes in [
        data(0, CONTROL, &unknown),
        control(&[foreign_pong]),
        control(&[Frame::Drain, Frame::Drain]),
        control(&[peer_hello()]),
        data(0, CONTROL, &[0x04, 0, 3, 1, 2, 3]),
        header(DATA, FIN, CONTROL, 0),
        header(DATA, RST, CONTROL, 0),
    ] {
        for side in SIDES {
            let (mut peer, conn) = meet(side, Config::default()).await;
            let mut stream = conn.open_stream().await.unwrap();
            peer.send(&bytes).await;
            let error = failure(&conn).await;
            let fitting = [ErrorKind::Protocol, ErrorKind::Failed];
            assert!(fitting.contains(&error.kind()), "{error}");
            let read = in_time("the read", stream.read(&mut [0; 1])).await;
            assert_eq!(error_of(read).kind(), error.kind());
        }
    }
}

fn peer_hello() -> Frame {
    Frame::Hello(Hello {
        max_streams: 1,
        stream_window: 1,
        connection_window: 0,
        flight: 0,
        takes_growth: false,
    })
}
