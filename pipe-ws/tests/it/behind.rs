//! A listener behind a web server on axum.

use std::net::SocketAddr;

use axum::Router;
use axum::routing::get;
use pipe_core::{Addr, Admit, Config, Conn, ErrorKind, Listener, Transport};
use pipe_ws::{HttpVerdict, MuxListener, WsCarrier, WsService, WsTransport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::timeout;

use crate::common::{LIMIT, accept, addr, connect, read_all};

/// Serves a page and the service, and returns the address to dial.
async fn serve(transport: &WsTransport) -> (MuxListener, WsService, Addr) {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = addr(&format!("ws://{}/pipe", socket.local_addr().unwrap()));
    let (listener, service) = transport.listen_behind(&at).unwrap();
    let app = Router::new()
        .route("/", get(|| async { "a page" }))
        .route_service("/pipe", service.clone());
    tokio::spawn(async move { axum::serve(socket, app).await });
    (listener, service, at)
}

#[tokio::test]
async fn a_page_and_streams_share_a_port() {
    let transport = WsTransport::new().with_request_check(|request| {
        if request.bearer_token() == Some("key") {
            HttpVerdict::Accept
        } else {
            HttpVerdict::Unauthorized
        }
    });
    let (listener, _service, at) = serve(&transport).await;
    assert_eq!(listener.local_addr(), at);

    let mut socket = connect(&at).await;
    let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    socket.write_all(request.as_bytes()).await.unwrap();
    let page = String::from_utf8(read_all(&mut socket).await).unwrap();
    assert!(page.ends_with("a page"), "{page}");

    let error = WsTransport::new().dial(&at).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");

    let dialing = WsTransport::new().with_bearer_token("key").unwrap();
    let dialed = dialing.dial(&at).await.unwrap();
    let accepted = accept(&listener).await;
    let carrier = accepted.inner::<WsCarrier>().unwrap();
    assert!(carrier.socket().is_none());
    assert_eq!(carrier.request().unwrap().path(), "/pipe");
    let sent: Vec<u8> = (0..1_000_003).map(|i| (i / 7) as u8).collect();
    let mut stream = dialed.open_stream().await.unwrap();
    let mut other = accepted.accept_stream().await.unwrap();
    let exchange = async {
        let writing = async {
            stream.write_all(&sent).await.unwrap();
            stream.shutdown().await.unwrap();
        };
        let mut received = Vec::new();
        let reading = other.read_to_end(&mut received);
        let ((), read) = tokio::join!(writing, reading);
        read.unwrap();
        assert!(received == sent);
        dialed.close(7, "enough");
        let closed = accepted.closed().await;
        assert_eq!(closed.code(), Some(7), "{closed:?}");
    };
    timeout(LIMIT, exchange).await.expect("in time");
}

#[tokio::test]
async fn what_is_no_upgrade_gets_an_answer() {
    let (listener, _service, at) = serve(&WsTransport::new()).await;
    let ask = async |method: &str| {
        let mut socket = connect(&at).await;
        let request = format!("{method} /pipe HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        String::from_utf8(read_all(&mut socket).await).unwrap()
    };
    let answer = ask("GET").await;
    assert!(answer.starts_with("HTTP/1.1 426 "), "{answer}");
    assert!(answer.contains("upgrade: websocket"), "{answer}");
    let answer = ask("POST").await;
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    listener.close();
    let error = WsTransport::new().dial(&at).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    assert!(error.to_string().contains("503"), "{error}");
}

const HEADERS: [(&str, &[u8]); 6] = [
    ("Host", b"a"),
    ("Upgrade", b"websocket"),
    ("Connection", b"Upgrade"),
    ("Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ=="),
    ("Sec-WebSocket-Version", b"13"),
    ("Sec-WebSocket-Protocol", b"pipe.1"),
];

#[tokio::test]
async fn places_are_bounded_and_given_back() {
    let config = Config::default().with_max_handshakes(1);
    let transport = WsTransport::new().with_config(config).unwrap();
    let at = addr("ws://a/pipe");
    let (_listener, service) = transport.listen_behind(&at).unwrap();
    let mut first = service.answer("/pipe", HEADERS, None);
    assert_eq!(first.status(), 101);
    let place = first.take_upgrade().unwrap();
    assert!(first.take_upgrade().is_none());
    let second = service.answer("/pipe", HEADERS, None);
    assert_eq!(second.status(), 503);
    assert!(second.body().contains("too many"), "{second:?}");
    drop(place);
    assert_eq!(service.answer("/pipe", HEADERS, None).status(), 101);
}

#[tokio::test]
async fn an_admission_is_asked_before_the_answer() {
    let near = |remote: Option<SocketAddr>| remote.is_some_and(|remote| remote.ip().is_loopback());
    let transport = WsTransport::new().with_admission(move |incoming| {
        if near(incoming.remote()) {
            Admit::Accept
        } else {
            Admit::Refuse
        }
    });
    let (_listener, service) = transport.listen_behind(&addr("wss://a/pipe")).unwrap();
    for (remote, status) in [("127.0.0.1:1", 101), ("192.0.2.1:1", 403)] {
        let remote = Some(remote.parse().unwrap());
        assert_eq!(service.answer("/pipe", HEADERS, remote).status(), status);
    }
}

#[tokio::test]
async fn a_byte_stream_is_handed_over_by_hand() {
    let at = addr("ws://a/pipe?wire=raw");
    let (listener, service) = WsTransport::new().listen_behind(&at).unwrap();
    let mut answer = service.answer("/x?y=z", HEADERS, None);
    let (here, mut there) = tokio::io::duplex(1024);
    answer.take_upgrade().unwrap().complete(here);
    let conn = accept(&listener).await;
    let request = conn.inner::<WsCarrier>().unwrap().request().unwrap();
    assert_eq!((request.path(), request.query()), ("/x", Some("y=z")));
    // A ping of yamux.
    let ping = [0x82, 0x8c, 0, 0, 0, 0, 0, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 5];
    there.write_all(&ping).await.unwrap();
    let mut pong = [0; 14];
    let read = timeout(LIMIT, there.read_exact(&mut pong)).await;
    read.expect("in time").unwrap();
    assert_eq!(pong, [0x82, 12, 0, 2, 0, 2, 0, 0, 0, 0, 0, 0, 0, 5]);
    drop((service, answer));
    let error = timeout(LIMIT, listener.accept()).await.expect("in time");
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Failed);
}
