//! What is peculiar to WebTransport: requests, and peers that break the rules of HTTP/3.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use pipe_core::{Addr, CloseReason, Config, Conn, Error, ErrorKind, Listener, Stream, Transport};
use pipe_quic::{HttpVerdict, Identity, QuicConn, QuicListener, TlsOptions, WtTransport, quinn};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{RecvStream, SendStream, VarInt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use web_transport_proto::{
    Capsule, ConnectRequest, ConnectResponse, Frame, Settings, StreamUni, VarInt as Number,
};

use crate::common::{addr, echo, expect_service, refused, soon};

async fn listen(transport: &WtTransport, at: &str) -> QuicListener {
    transport.listen(&addr(at)).await.unwrap()
}

/// A listener of plain streams that gives up early on those who say nothing.
async fn strict() -> (WtTransport, QuicListener) {
    let config = Config::default().with_handshake_timeout(Duration::from_secs(2));
    let transport = WtTransport::new().with_config(config).unwrap();
    let listener = listen(&transport, "wt://127.0.0.1:0/here?wire=raw").await;
    (transport, listener)
}

/// The address of a listener, with another path.
fn at_path(listener: &QuicListener, path: &str) -> Addr {
    let own = listener.local_addr();
    let (begin, params) = own.as_str().split_once("/here").unwrap();
    addr(&format!("{begin}{path}{params}"))
}

/// A client of plain quinn that offers HTTP/3.
struct Client {
    conn: quinn::Connection,
    _endpoint: quinn::Endpoint,
}

/// A client that has asked for a session, and was granted it.
struct Peer {
    client: Client,
    _control: SendStream,
    send: SendStream,
    recv: RecvStream,
}

impl Client {
    async fn connect(listener: &QuicListener) -> Self {
        let at = listener.local_addr();
        let pins = at.param("cert-sha256").unwrap();
        let pins = pins.parse::<pipe_tls::CertPins>().unwrap();
        let tls = TlsOptions::new().client_config(pins, &[b"h3"]).unwrap();
        let tls = QuicClientConfig::try_from(tls).unwrap();
        let endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into()).unwrap();
        let to = SocketAddr::from(([127, 0, 0, 1], at.port().unwrap()));
        let config = quinn::ClientConfig::new(Arc::new(tls));
        let connecting = endpoint.connect_with(config, to, "localhost").unwrap();
        Self {
            conn: soon(connecting).await.unwrap(),
            _endpoint: endpoint,
        }
    }

    /// Opens a stream of one direction that begins with these bytes.
    async fn say(&self, bytes: &[u8]) -> SendStream {
        let mut send = self.conn.open_uni().await.unwrap();
        send.write_all(bytes).await.unwrap();
        send
    }

    /// Asks for a session, as it should be.
    async fn ask(self) -> Peer {
        let control = self.say(&settings()).await;
        let (mut send, mut recv) = self.conn.open_bi().await.unwrap();
        let request = ConnectRequest::new("https://127.0.0.1/here".parse::<url::Url>().unwrap());
        request.write(&mut send).await.unwrap();
        soon(ConnectResponse::read(&mut recv)).await.unwrap();
        Peer {
            client: self,
            _control: control,
            send,
            recv,
        }
    }

    async fn session(listener: &QuicListener) -> (Peer, QuicConn) {
        let client = Self::connect(listener).await;
        soon(async { tokio::join!(client.ask(), async { listener.accept().await.unwrap() }) }).await
    }

    /// Waits for the listener to close the connection, and returns why.
    async fn closed(&self) -> String {
        soon(self.conn.closed()).await.to_string()
    }
}

impl Peer {
    /// Sends a frame of data over the session's own stream.
    async fn data(&mut self, data: &[u8]) -> Result<(), quinn::WriteError> {
        self.send.write_all(&frame(Frame::DATA, data)).await
    }

    async fn close(&mut self, code: u32, reason: &str) {
        let mut capsule = BytesMut::new();
        let reason = reason.to_owned();
        Capsule::CloseWebTransportSession { code, reason }.encode(&mut capsule);
        self.data(&capsule).await.unwrap();
    }
}

fn settings() -> BytesMut {
    let mut settings = Settings::default();
    settings.enable_webtransport(1);
    let mut bytes = BytesMut::new();
    settings.encode(&mut bytes);
    bytes
}

fn frame(kind: Frame, payload: &[u8]) -> Bytes {
    let mut bytes = BytesMut::new();
    kind.encode(&mut bytes);
    Number::try_from(payload.len()).unwrap().encode(&mut bytes);
    bytes.extend_from_slice(payload);
    bytes.freeze()
}

async fn failure(conn: &QuicConn) -> Error {
    match soon(conn.closed()).await {
        CloseReason::Failed(error) => error,
        other => panic!("a failure was due, but it was {other}"),
    }
}

#[tokio::test]
async fn a_path_a_check_and_a_token_decide() {
    let transport = WtTransport::new().with_request_check(|request| match request.path() {
        "/here/closed" => HttpVerdict::Forbidden,
        _ if request.bearer_token() == Some("key") => HttpVerdict::Accept,
        _ => HttpVerdict::Unauthorized,
    });
    let listener = listen(&transport, "wt://127.0.0.1:0/here").await;
    let keyed = transport.clone().with_bearer_token("key").unwrap();
    for (path, transport, kind, why) in [
        ("/there", &keyed, ErrorKind::Refused, "404 Not Found"),
        (
            "/here",
            &transport,
            ErrorKind::Unauthenticated,
            "401 Unauthorized",
        ),
        (
            "/here/closed",
            &keyed,
            ErrorKind::Unauthenticated,
            "403 Forbidden",
        ),
    ] {
        let error = refused(transport, &at_path(&listener, path)).await;
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(why), "{error}");
    }
    expect_service(&keyed, &listener, &at_path(&listener, "/here/below")).await;
}

#[tokio::test]
async fn a_listener_that_speaks_something_else_is_named() {
    let quic = pipe_quic::QuicTransport::new();
    let other = quic.listen(&addr("quic://127.0.0.1:0")).await.unwrap();
    let there = addr(&other.local_addr().as_str().replace("quic://", "wt://"));
    let error = refused(&WtTransport::new(), &there).await;
    assert_eq!(error.kind(), ErrorKind::Handshake, "{error}");
    let pipe = WtTransport::new();
    let listener = listen(&pipe, "wt://127.0.0.1:0/here").await;
    let named = at_path(&listener, "/here");
    let other = named
        .with_param("wire", "raw")
        .with_param("subprotocol", "chat.1");
    let error = refused(&pipe, &other).await;
    assert!(error.to_string().contains("400 Bad Request"), "{error}");
}

#[tokio::test]
async fn the_address_has_the_certificate_in_use_and_the_next_one() {
    let transport = WtTransport::new();
    let listener = listen(&transport, "wt://127.0.0.1:0/here").await;
    let both = listener.local_addr().param("cert-sha256").unwrap();
    let (now, next) = both.split_once('.').expect("two hashes");
    let with = |pins: &str| addr(&listener.local_addr().as_str().replace(&both, pins));
    let (here, _) = expect_service(&transport, &listener, &listener.local_addr()).await;
    assert_eq!(here.remote_addr(), listener.local_addr());
    expect_service(&transport, &listener, &with(now)).await;
    expect_service(&transport, &listener, &with(&format!("{next}.{now}"))).await;
    let error = refused(&transport, &with(next)).await;
    assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
}

#[tokio::test]
async fn the_end_of_a_session_is_that_of_the_connection() {
    let (_, listener) = strict().await;
    let (mut peer, conn) = Client::session(&listener).await;
    peer.close(7, "enough of it").await;
    let CloseReason::Remote { code, reason } = soon(conn.closed()).await else {
        panic!("the peer has closed it");
    };
    assert_eq!((code, &*reason), (7, "enough of it"));

    let (mut peer, conn) = Client::session(&listener).await;
    peer.send.finish().unwrap();
    let ended = soon(conn.closed()).await;
    assert!(
        matches!(ended, CloseReason::Remote { code: 0, .. }),
        "{ended}"
    );

    let (mut peer, conn) = Client::session(&listener).await;
    peer.send.reset(VarInt::from_u32(0x10c)).unwrap();
    let error = failure(&conn).await;
    assert!(
        error
            .to_string()
            .contains("aborted the session's own stream"),
        "{error}"
    );

    let (mut peer, conn) = Client::session(&listener).await;
    conn.close(9, "we too");
    let said = soon(peer.recv.read_to_end(1000)).await.unwrap();
    let mut capsule = &said[2..];
    let Ok(Capsule::CloseWebTransportSession { code, reason }) = Capsule::decode(&mut capsule)
    else {
        panic!("a close was due: {said:?}");
    };
    assert_eq!((code, reason.as_str()), (9, "we too"));
}

#[tokio::test]
async fn a_request_that_is_none_costs_that_client_only() {
    let (transport, listener) = strict().await;
    let (here, there) = expect_service(&transport, &listener, &listener.local_addr()).await;
    let long = frame(Frame::HEADERS, &[0; 20 * 1024]);
    let huge = [0x01, 0xbf, 0xff, 0xff, 0xff].as_slice();
    for (what, control, request) in [
        (
            "settings of another kind",
            b"\0\x01\x03abc".as_slice(),
            None,
        ),
        ("settings without an end", b"\0\x04\x40\xffxyz", None),
        ("settings too long", b"\0\x04\xbf\xff\xff\xff", None),
        ("settings without WebTransport", b"\0\x04\0", None),
        ("no settings", b"", None),
        (
            "a request that is garbage",
            &settings(),
            Some(b"GET / HTTP/1.1\r\n\r\n".as_slice()),
        ),
        ("a request too long", &settings(), Some(&long)),
        ("a request that promises too much", &settings(), Some(huge)),
        (
            "half a request",
            &settings(),
            Some(&[0x01, 0x40, 0x80, 0, 0]),
        ),
    ] {
        let client = Client::connect(&listener).await;
        let _control = client.say(control).await;
        let asked = match request {
            Some(request) => {
                let (mut send, recv) = client.conn.open_bi().await.unwrap();
                send.write_all(request).await.unwrap();
                Some((send, recv))
            }
            None => None,
        };
        let why = client.closed().await;
        assert!(!why.is_empty(), "{what}");
        drop(asked);
        soon(echo(&here, &there)).await.unwrap();
    }
    expect_service(&transport, &listener, &listener.local_addr()).await;
}

#[tokio::test]
async fn a_session_that_breaks_the_rules_ends_and_no_other() {
    let (transport, listener) = strict().await;
    let (here, there) = expect_service(&transport, &listener, &listener.local_addr()).await;

    let (peer, conn) = Client::session(&listener).await;
    let _second = peer.client.say(&settings()).await;
    let error = failure(&conn).await;
    assert!(
        error.to_string().contains("a second control stream"),
        "{error}"
    );

    let (mut peer, conn) = Client::session(&listener).await;
    peer._control.finish().unwrap();
    let error = failure(&conn).await;
    assert!(
        error.to_string().contains("ended its control stream"),
        "{error}"
    );

    let (mut peer, conn) = Client::session(&listener).await;
    // Capsules of an unknown kind, without an end.
    let junk = [b"\x40\x99\x43\xe8".as_slice(), &[0; 1000]].concat();
    let flood = async { while peer.data(&junk).await.is_ok() {} };
    let (error, ()) = tokio::join!(failure(&conn), soon(flood));
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");

    let (mut peer, conn) = Client::session(&listener).await;
    // A close that is shorter than its code: more of it never comes.
    let flood = async { while peer.data(b"\x68\x43\x02\0\0").await.is_ok() {} };
    let (error, ()) = tokio::join!(failure(&conn), soon(flood));
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");

    for begin in [b"\x01\x05hello".as_slice(), b"\x40\x41\x08x"] {
        let (peer, conn) = Client::session(&listener).await;
        let (mut send, _recv) = peer.client.conn.open_bi().await.unwrap();
        send.write_all(begin).await.unwrap();
        let mut stream = soon(conn.accept_stream()).await.unwrap();
        let error = soon(stream.read_u8()).await.unwrap_err();
        assert_eq!(Error::from(error).kind(), ErrorKind::Protocol);
        assert_eq!(failure(&conn).await.kind(), ErrorKind::Protocol);
    }
    soon(echo(&here, &there)).await.unwrap();
}

#[tokio::test]
async fn streams_of_kinds_that_are_not_known_are_let_go() {
    let (_, listener) = strict().await;
    let (peer, conn) = Client::session(&listener).await;
    let mut other = BytesMut::new();
    StreamUni::WEBTRANSPORT.encode(&mut other);
    other.extend_from_slice(b"\x40\xff");
    // More than may be open at once.
    for round in 0..50 {
        for begin in [
            b"\x40\x99anything".as_slice(),
            &other,
            b"\x40\x54\0ours",
            b"\x40",
        ] {
            let opened = soon(peer.client.conn.open_uni()).await;
            let mut send = opened.unwrap_or_else(|error| panic!("round {round}: {error}"));
            // It may be stopped before it is over.
            let _ = send.write_all(begin).await;
            let _ = send.finish();
        }
    }
    let (mut send, _recv) = peer.client.conn.open_bi().await.unwrap();
    send.write_all(b"\x40\x41\0as ever").await.unwrap();
    send.finish().unwrap();
    let mut stream = soon(conn.accept_stream()).await.unwrap();
    let mut text = String::new();
    soon(stream.read_to_string(&mut text)).await.unwrap();
    assert_eq!(text, "as ever");
    stream.shutdown().await.unwrap();
}

/// An echo over a stream that one side opens, its codes, and a close.
async fn expect_plain_streams(ours: QuicConn, theirs: web_transport_quinn::Session) {
    let mut stream = ours.open_stream().await.unwrap();
    stream.write_all(b"hello").await.unwrap();
    stream.shutdown().await.unwrap();
    let (mut send, mut recv) = soon(theirs.accept_bi()).await.unwrap();
    assert_eq!(soon(recv.read_to_end(100)).await.unwrap(), b"hello");
    send.write_all(b"welcome").await.unwrap();
    send.finish().unwrap();
    let mut text = String::new();
    soon(stream.read_to_string(&mut text)).await.unwrap();
    assert_eq!(text, "welcome");

    let (mut send, mut recv) = soon(theirs.open_bi()).await.unwrap();
    send.write_all(b"!").await.unwrap();
    let mut stream = soon(ours.accept_stream()).await.unwrap();
    assert_eq!(soon(stream.read_u8()).await.unwrap(), b'!');
    send.reset(31).unwrap();
    let error = Error::from(soon(stream.read_u8()).await.unwrap_err());
    assert_eq!((error.kind(), error.code()), (ErrorKind::Reset, Some(31)));
    stream.reset(32);
    let error = soon(recv.read(&mut [0; 8])).await.unwrap_err();
    let web_transport_quinn::ReadError::Reset(code) = error else {
        panic!("a reset was due: {error}");
    };
    assert_eq!(code, 32);

    theirs.close(33, b"enough of it");
    let CloseReason::Remote { code, reason } = soon(ours.closed()).await else {
        panic!("the peer has closed it");
    };
    assert_eq!((code, &*reason), (33, "enough of it"));
}

#[tokio::test]
async fn the_session_of_another_crate_dials_ours() {
    let (_, listener) = strict().await;
    let client = Client::connect(&listener).await;
    let url = "https://127.0.0.1/here".parse::<url::Url>().unwrap();
    let ask = web_transport_quinn::Session::connect(client.conn.clone(), url);
    let (theirs, ours) = soon(async { tokio::join!(ask, listener.accept()) }).await;
    expect_plain_streams(ours.unwrap(), theirs.unwrap()).await;
}

#[tokio::test]
async fn ours_dials_the_session_of_another_crate() {
    let identity = Identity::self_signed(["localhost"]).unwrap();
    let tls = TlsOptions::new()
        .server_config(&identity, &[b"h3"])
        .unwrap();
    let tls = quinn::crypto::rustls::QuicServerConfig::try_from(tls).unwrap();
    let config = quinn::ServerConfig::with_crypto(Arc::new(tls));
    let endpoint = quinn::Endpoint::server(config, ([127, 0, 0, 1], 0).into()).unwrap();
    let port = endpoint.local_addr().unwrap().port();
    let pin = identity.sha256();
    let to = addr(&format!(
        "wt://127.0.0.1:{port}/there?wire=raw&cert-sha256={pin}"
    ));
    let grant = async {
        let conn = endpoint.accept().await.unwrap().await.unwrap();
        let asked = web_transport_quinn::Request::accept(conn).await.unwrap();
        assert_eq!(asked.url.path(), "/there");
        asked.ok().await.unwrap()
    };
    let transport = WtTransport::new();
    let (theirs, ours) = soon(async { tokio::join!(grant, transport.dial(&to)) }).await;
    expect_plain_streams(ours.unwrap(), theirs).await;
}
