//! Frames by hand, over plain yamux.

use pipe_core::{CloseReason, Conn, ErrorKind};
use pipe_ws::{MuxConn, WsTransport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::common::{LIMIT, accept, listen, read_all, upgraded};

/// A frame of a client, masked with zeros.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    assert!(payload.len() < 126, "a short payload");
    let mut frame = vec![first, 0x80 | payload.len() as u8, 0, 0, 0, 0];
    frame.extend_from_slice(payload);
    frame
}

/// A connection over plain yamux, and the socket of its peer.
async fn pair() -> (MuxConn, TcpStream) {
    let (listener, at) = listen(&WsTransport::new(), "ws://127.0.0.1:0?wire=raw").await;
    let socket = upgraded(&at, "").await;
    (accept(&listener).await, socket)
}

async fn failure(conn: &MuxConn) -> String {
    match timeout(LIMIT, conn.closed()).await.expect("in time") {
        CloseReason::Failed(error) => {
            assert_eq!(error.kind(), ErrorKind::Failed);
            error.to_string()
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_broken_rule_fails_the_connection_and_tells_the_peer() {
    for (bytes, code, why) in [
        (frame(0x81, b"text"), 1003_u16, "text message"),
        (frame(0x80, b""), 1002, "before it began"),
        (frame(0xc2, b""), 1002, "extension"),
        (frame(0x83, b""), 1002, "unknown kind"),
        (frame(0x09, b""), 1002, "fragmented"),
        (vec![0x82, 1, 0], 1002, "not masked"),
        (frame(0x88, b"x"), 1002, "half a code"),
    ] {
        let (conn, mut socket) = pair().await;
        socket.write_all(&bytes).await.unwrap();
        let text = failure(&conn).await;
        assert!(text.contains(why), "{text}");
        let rest = read_all(&mut socket).await;
        let mut close = vec![0x88, 2];
        close.extend_from_slice(&code.to_be_bytes());
        assert!(rest.ends_with(&close), "{rest:?} after {why}");
    }
}

#[tokio::test]
async fn a_close_of_the_web_socket_is_no_close_of_the_connection() {
    for (payload, why) in [
        (&b"\x03\xe9bye"[..], r#"code 1001 (going away): "bye""#),
        (b"\x03\xe8", "without closing the connection"),
        (b"", "without closing the connection"),
    ] {
        let (conn, mut socket) = pair().await;
        socket.write_all(&frame(0x88, payload)).await.unwrap();
        let text = failure(&conn).await;
        assert!(text.contains(why), "{text}");
        let rest = read_all(&mut socket).await;
        let code = payload
            .first_chunk()
            .copied()
            .map_or(1000, u16::from_be_bytes);
        let mut close = vec![0x88, 2];
        close.extend_from_slice(&code.to_be_bytes());
        assert!(rest.ends_with(&close), "{rest:?}");
    }
}

#[tokio::test]
async fn an_end_without_a_close_is_a_failure() {
    let (conn, mut socket) = pair().await;
    socket.shutdown().await.unwrap();
    let text = failure(&conn).await;
    assert!(text.contains("without a close of the WebSocket"), "{text}");
}

#[tokio::test]
async fn pings_are_answered_also_between_the_pieces_of_a_message() {
    let (conn, mut socket) = pair().await;
    // A ping of yamux in two pieces, and a ping of WebSocket between them.
    let ping = [0, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7];
    let mut bytes = frame(0x02, &ping[..5]);
    bytes.extend(frame(0x89, b"hello"));
    bytes.extend(frame(0x80, &ping[5..]));
    socket.write_all(&bytes).await.unwrap();
    let pong = [0x8a, 5, b'h', b'e', b'l', b'l', b'o'];
    let mut answer = [0x82, 12, 0, 2, 0, 2, 0, 0, 0, 0, 0, 0, 0, 7].to_vec();
    answer.extend(pong);
    let mut seen = vec![0; answer.len()];
    timeout(LIMIT, socket.read_exact(&mut seen))
        .await
        .expect("in time")
        .unwrap();
    let (message, rest) = (&answer[..14], &answer[14..]);
    let front = seen.starts_with(message) || seen.starts_with(rest);
    let back = seen.ends_with(message) || seen.ends_with(rest);
    assert!(front && back, "{seen:?}");
    assert_eq!(*conn.state().borrow(), pipe_core::ConnState::Connected);
}

#[tokio::test]
async fn a_flood_of_pings_costs_one_answer_at_a_time() {
    let (conn, mut socket) = pair().await;
    let flood = frame(0x89, &[b'x'; 125]).repeat(80_000);
    // The answers are not read until the listener has taken all of it.
    socket.write_all(&flood).await.unwrap();
    let end = frame(0x88, b"\x0b\xb8");
    socket.write_all(&end).await.unwrap();
    let text = failure(&conn).await;
    assert!(text.contains("code 3000"), "{text}");
    let answers = read_all(&mut socket).await.len() / 127;
    assert!(answers > 0 && answers < 80_000, "{answers} answers");
}

#[tokio::test]
async fn a_frame_without_an_end_costs_nothing() {
    let (conn, mut socket) = pair().await;
    // It claims 2^62 bytes, and its payload is a ping of yamux and a stream that is not known.
    let mut bytes = vec![0x82, 0xff, 0x40, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    bytes.extend([0, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9]);
    socket.write_all(&bytes).await.unwrap();
    let mut answer = [0; 14];
    timeout(LIMIT, socket.read_exact(&mut answer))
        .await
        .expect("in time")
        .unwrap();
    assert_eq!(answer, [0x82, 12, 0, 2, 0, 2, 0, 0, 0, 0, 0, 0, 0, 9]);
    assert_eq!(*conn.state().borrow(), pipe_core::ConnState::Connected);
}
