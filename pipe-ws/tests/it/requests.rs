//! The handshake: requests that are refused, and answers that are no upgrade.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pipe_core::{Admit, Config, Conn, ErrorKind, Listener, Transport};
use pipe_ws::{HttpVerdict, WsCarrier, WsTransport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::timeout;

use crate::common::{LIMIT, accept, addr, connect, listen, read_all, request};

/// Sends a request, and returns the answer.
async fn ask(at: &pipe_core::Addr, request: &str) -> String {
    let mut socket = connect(at).await;
    socket.write_all(request.as_bytes()).await.unwrap();
    String::from_utf8(read_all(&mut socket).await).unwrap()
}

#[tokio::test]
async fn requests_are_refused_with_a_status_and_a_reason() {
    let (_listener, at) = listen(&WsTransport::new(), "ws://127.0.0.1:0/a").await;
    let pipe = "Sec-WebSocket-Protocol: pipe.1\r\n";
    for (request, status, why) in [
        ("nonsense\r\n\r\n".to_owned(), "400 ", "no HTTP"),
        (
            "GET /a HTTP/1.1\r\nHost: a\r\n\r\n".into(),
            "426 ",
            "Upgrade: websocket",
        ),
        ("POST /a HTTP/1.1\r\n\r\n".into(), "405 ", "Allow: GET"),
        (request("/b", pipe), "404 ", "no listener at this path"),
        (
            request("/a", ""),
            "400 ",
            "the subprotocol pipe.1 is expected",
        ),
        (
            request("/a", &format!("{pipe}Origin: https://b\r\n")),
            "403 ",
            "origin",
        ),
        (
            request("/a", &"X: y\r\n".repeat(65)),
            "431 ",
            "more than 64 headers",
        ),
        (
            request("/a", &format!("X: {}\r\n", "y".repeat(20_000))),
            "431 ",
            "longer than 16384 bytes",
        ),
    ] {
        let answer = ask(&at, &request).await;
        let line = format!("HTTP/1.1 {status}");
        assert!(answer.starts_with(&line), "{answer} to {request}");
        assert!(answer.contains(why), "{answer}");
    }
}

#[tokio::test]
async fn a_check_sees_the_request_and_its_refusals_have_a_kind() {
    let transport = WsTransport::new()
        .with_allowed_origins(["https://page"])
        .with_request_check(|request| match request.path() {
            "/hidden" => HttpVerdict::NotFound,
            "/closed" => HttpVerdict::Forbidden,
            _ if request.bearer_token() == Some("key") => HttpVerdict::Accept,
            _ => HttpVerdict::Unauthorized,
        });
    let (listener, at) = listen(&transport, "ws://127.0.0.1:0").await;
    let to = |path: &str| addr(&format!("{}{path}", at.as_str().trim_end_matches('/')));
    for (path, kind, status) in [
        ("/hidden", ErrorKind::Refused, "404 Not Found"),
        ("/closed", ErrorKind::Unauthenticated, "403 Forbidden"),
        ("/open", ErrorKind::Unauthenticated, "401 Unauthorized"),
    ] {
        let error = WsTransport::new().dial(&to(path)).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(status), "{error}");
        assert!(error.to_string().contains(to(path).as_str()), "{error}");
    }
    let dialing = WsTransport::new()
        .with_bearer_token("key")
        .and_then(|dialing| dialing.with_header("Origin", "https://page"))
        .and_then(|dialing| dialing.with_header("X-Room", "blue"))
        .unwrap();
    let dialed = dialing.dial(&to("/open/door")).await.unwrap();
    let accepted = accept(&listener).await;
    let carrier = accepted.inner::<WsCarrier>().unwrap();
    let request = carrier.request().unwrap();
    assert_eq!(request.path(), "/open/door");
    assert_eq!(request.header("x-room"), Some("blue"));
    assert_eq!(request.origin(), Some("https://page"));
    let peer = carrier.socket().unwrap().peer_addr().unwrap();
    assert_eq!(request.remote(), Some(peer));
    let own = dialed.inner::<WsCarrier>().unwrap();
    assert!(own.request().is_none() && own.socket().is_some());
}

#[tokio::test]
async fn a_head_that_does_not_end_is_given_up() {
    let config = Config::default().with_handshake_timeout(Duration::from_millis(300));
    let transport = WsTransport::new().with_config(config).unwrap();
    let (_listener, at) = listen(&transport, "ws://127.0.0.1:0").await;
    let mut socket = connect(&at).await;
    socket
        .write_all(b"GET / HTTP/1.1\r\nHost: a")
        .await
        .unwrap();
    assert_eq!(read_all(&mut socket).await, b"");
}

#[tokio::test]
async fn an_admission_comes_before_the_request() {
    let checks = Arc::new(AtomicUsize::new(0));
    let counted = checks.clone();
    let transport = WsTransport::new()
        .with_admission(|_| Admit::Refuse)
        .with_request_check(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
            HttpVerdict::Accept
        });
    let (_listener, at) = listen(&transport, "ws://127.0.0.1:0").await;
    WsTransport::new().dial(&at).await.unwrap_err();
    assert_eq!(checks.load(Ordering::SeqCst), 0);
}

/// Answers every dial with this text, and returns the error of a dial.
async fn dial_to(answer: &'static [u8]) -> pipe_core::Error {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = addr(&format!("ws://{}/x", socket.local_addr().unwrap()));
    tokio::spawn(async move {
        let (mut peer, _) = socket.accept().await.unwrap();
        let mut head = [0; 4096];
        let _ = peer.read(&mut head).await.unwrap();
        let _ = peer.write_all(answer).await;
        let _ = peer.shutdown().await;
        while peer.read(&mut head).await.is_ok_and(|count| count > 0) {}
    });
    let dial = timeout(LIMIT, WsTransport::new().dial(&at)).await;
    let error = dial.expect("in time").unwrap_err();
    assert!(error.to_string().contains(at.as_str()), "{error}");
    error
}

#[tokio::test]
async fn an_answer_that_is_no_upgrade_is_an_error_that_names_it() {
    static LONG: [u8; 40_000] = [b'a'; 40_000];
    for (answer, kind, why) in [
        (&b""[..], ErrorKind::Handshake, "broke off"),
        (b"HTTP/1.1 101", ErrorKind::Handshake, "broke off within"),
        (b"SSH-2.0-x\r\n\r\n", ErrorKind::Handshake, "is no HTTP"),
        (&LONG, ErrorKind::Handshake, "longer than 16384 bytes"),
        (
            b"\x15\x03\x01\x00\x02\x02\x0a",
            ErrorKind::Handshake,
            "wss:// is for",
        ),
        (
            b"HTTP/1.1 502 Bad Gateway\r\n\r\n",
            ErrorKind::Refused,
            "502 Bad Gateway",
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            ErrorKind::Handshake,
            "answers 200 OK",
        ),
    ] {
        let error = dial_to(answer).await;
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(why), "{error}");
    }
}

#[tokio::test]
async fn the_two_schemes_do_not_understand_each_other() {
    let transport = WsTransport::new();
    for (at, kind, why) in [
        ("ws://127.0.0.1:0", ErrorKind::Handshake, "TLS"),
        ("wss://127.0.0.1:0", ErrorKind::Handshake, "wss:// is for"),
    ] {
        let (listener, local) = listen(&transport, at).await;
        let other = if at.starts_with("wss") { "ws" } else { "wss" };
        let other = addr(&format!("{other}://127.0.0.1:{}", local.port().unwrap()));
        let error = transport.dial(&other).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(why), "{error}");
        listener.close();
    }
}

#[tokio::test]
async fn a_client_certificate_is_asked_for() {
    use pipe_ws::{Identity, Roots, TlsOptions};
    let client = Identity::self_signed(["client"]).unwrap();
    let options = TlsOptions::new().with_client_roots(Roots::of(&client).unwrap());
    let listening = WsTransport::new().with_tls(options);
    let (listener, at) = listen(&listening, "wss://127.0.0.1:0").await;
    let error = WsTransport::new().dial(&at).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
    let dialing = WsTransport::new().with_tls(TlsOptions::new().with_identity(client));
    let dialed = dialing.dial(&at).await.unwrap();
    assert!(accept(&listener).await.peer_identity().is_some());
    assert!(dialed.peer_identity().is_some());
}
