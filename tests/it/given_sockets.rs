//! Listeners on sockets that were made elsewhere, and connections with the PROXY protocol.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pipewerks::prelude::*;
use pipewerks::quic::{QuicTransport, WtTransport};
use pipewerks::tcp::{ProxyProtocol, TcpDialer, TcpTransport};
use pipewerks::tls::TlsTransport;
use pipewerks::ws::WsTransport;
use pipewerks::{
    Addr, Admit, BoxConn, BoxListener, BoxTransport, Config, Error, ErrorKind, Incoming, Registry,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(60);

const V1: &[u8] = b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 7\r\n";

/// The address of the client in [`V1`] and [`v2`].
const CLIENT: &str = "192.0.2.7:4711";

fn v2(command: u8) -> Vec<u8> {
    let addresses = b"\xc0\x00\x02\x07\x7f\x00\x00\x01\x12\x67\x00\x07";
    let more = b"\x04\x00\x03abc";
    let fixed = [b"\r\n\r\n\0\r\nQUIT\n", &[command, 0x11, 0, 18][..]].concat();
    [&fixed[..], addresses, more].concat()
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(LIMIT, what).await.expect("it took too long")
}

fn addr(text: &str) -> Addr {
    text.parse().unwrap()
}

async fn echo(here: &BoxConn, there: &BoxConn) {
    let mut stream = here.open_stream().await.unwrap();
    stream.write_all(b"hello").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut text = String::new();
    let mut stream = there.accept_stream().await.unwrap();
    stream.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "hello");
}

fn tcp_socket() -> (std::net::TcpListener, SocketAddr) {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = socket.local_addr().unwrap();
    (socket, at)
}

async fn serves(listener: &BoxListener, begin: &str) {
    let to = listener.local_addr();
    assert!(to.as_str().starts_with(begin), "{to} and {begin}");
    let both = async { tokio::try_join!(pipewerks::dial(&to), listener.accept()) };
    let (here, there) = soon(both).await.unwrap();
    soon(echo(&here, &there)).await;
}

#[tokio::test]
async fn every_transport_over_tcp_listens_on_a_given_socket() {
    let (socket, at) = tcp_socket();
    let listener = TcpTransport::new().listen_on(socket, &addr("tcp://any:1?wire=raw"));
    let listener = BoxListener::new(listener.unwrap());
    serves(&listener, &format!("tcp://{at}?wire=raw")).await;
    listener.close();
    let error = soon(pipewerks::dial(format!("tcp://{at}"))).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Refused);

    let (socket, at) = tcp_socket();
    let listener = TlsTransport::new().listen_on(socket, &addr("tls://localhost:1"));
    let begin = format!("tls://{at}?cert-sha256=");
    serves(&BoxListener::new(listener.unwrap()), &begin).await;

    for scheme in ["ws", "wss"] {
        let (socket, at) = tcp_socket();
        let on = addr(&format!("{scheme}://localhost/a/b"));
        let listener = WsTransport::new().listen_on(socket, &on).unwrap();
        let begin = format!("{scheme}://{at}/a/b");
        serves(&BoxListener::new(listener), &begin).await;
    }
}

#[tokio::test]
async fn a_given_socket_needs_an_address_of_the_transport() {
    let (socket, _) = tcp_socket();
    let error = TcpTransport::new().listen_on(socket, &addr("tls://a:1"));
    assert_eq!(error.unwrap_err().kind(), ErrorKind::AddrUnsupported);
    let (socket, _) = tcp_socket();
    let error = TlsTransport::new().listen_on(socket, &addr("tls://a:1?wier=raw"));
    assert_eq!(error.unwrap_err().kind(), ErrorKind::AddrInvalid);
}

#[tokio::test]
async fn quic_listens_on_a_given_socket() {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let at = socket.local_addr().unwrap();
    let again = socket.try_clone().unwrap();
    let transport = QuicTransport::new();
    let listener = transport.listen_on(socket, &addr("quic://localhost:1"));
    let listener = BoxListener::new(listener.unwrap());
    serves(&listener, &format!("quic://{at}?cert-sha256=")).await;
    let web = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let begin = format!("wt://{}/a?cert-sha256=", web.local_addr().unwrap());
    let web = WtTransport::new().listen_on(web, &addr("wt://localhost/a"));
    serves(&BoxListener::new(web.unwrap()), &begin).await;
    let error = transport.listen_on(again, &addr("quic://localhost:1"));
    assert_eq!(error.unwrap_err().kind(), ErrorKind::AddrInUse);
}

#[cfg(unix)]
#[tokio::test]
async fn a_given_unix_socket_keeps_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let transport = pipewerks::unix::UnixTransport::new();
    let listener = transport.listen_on(socket, &addr("unix:///any"));
    let listener = BoxListener::new(listener.unwrap());
    serves(&listener, &format!("unix://{}", path.display())).await;
    listener.close();
    drop(listener);
    assert!(path.exists());
}

/// Dials that begin with these bytes.
fn beginning_with(header: &[u8]) -> TcpDialer {
    let header = Arc::new(header.to_vec());
    TcpDialer::new().with_dialer(move |to| {
        let header = header.clone();
        async move {
            let mut socket = TcpStream::connect((&*to.host, to.port)).await?;
            socket.write_all(&header).await?;
            Ok(socket)
        }
    })
}

fn dialing_by(dialer: TcpDialer) -> Registry {
    Registry::new()
        .with(TcpTransport::new().with_dialer(dialer.clone()))
        .with(TlsTransport::new().with_dialer(dialer.clone()))
        .with(WsTransport::new().with_dialer(dialer))
}

/// Who was asked about.
type Asked = Arc<Mutex<Vec<String>>>;

fn listening(
    from: &ProxyProtocol,
    admit: impl Fn(&str) -> bool + Clone + Send + Sync + 'static,
) -> (Vec<(&'static str, BoxTransport)>, Asked) {
    let asked = Asked::default();
    let tell = asked.clone();
    let decide = move |incoming: &Incoming| {
        let remote = incoming.remote().unwrap().to_string();
        let admitted = admit(&remote);
        tell.lock().unwrap().push(remote);
        if admitted {
            Admit::Accept
        } else {
            Admit::Refuse
        }
    };
    let tcp = TcpTransport::new()
        .with_proxy_protocol(from.clone())
        .with_admission(decide.clone());
    let tls = TlsTransport::new()
        .with_proxy_protocol(from.clone())
        .with_admission(decide.clone());
    let ws = WsTransport::new()
        .with_proxy_protocol(from.clone())
        .with_admission(decide);
    let transports = vec![
        ("tcp://127.0.0.1:0", BoxTransport::new(tcp.clone())),
        ("tcp://127.0.0.1:0?wire=raw", BoxTransport::new(tcp)),
        ("tls://127.0.0.1:0", BoxTransport::new(tls)),
        ("ws://127.0.0.1:0", BoxTransport::new(ws.clone())),
        ("wss://127.0.0.1:0", BoxTransport::new(ws)),
    ];
    (transports, asked)
}

#[tokio::test]
async fn the_peer_is_where_the_header_says() {
    let from = ProxyProtocol::required_from(["127.0.0.0/8"]).unwrap();
    for header in [V1.to_vec(), v2(0x21)] {
        let dialer = dialing_by(beginning_with(&header));
        let (transports, asked) = listening(&from, |_| true);
        for (on, transport) in transports {
            let listener = transport.listen(&addr(on)).await.unwrap();
            let to = listener.local_addr();
            let both = async { tokio::try_join!(dialer.dial(&to), listener.accept()) };
            let (here, there) = soon(both).await.unwrap();
            let remote = there.remote_addr();
            assert!(remote.as_str().contains(CLIENT), "{remote}");
            assert_eq!(remote.scheme(), to.scheme());
            soon(echo(&here, &there)).await;
            soon(echo(&there, &here)).await;
            assert_eq!(std::mem::take(&mut *asked.lock().unwrap()), [CLIENT]);
        }
    }
}

#[tokio::test]
async fn a_connection_of_the_proxy_itself_keeps_the_address_of_its_socket() {
    let from = ProxyProtocol::required_from_all();
    for header in [&b"PROXY UNKNOWN\r\n"[..], &v2(0x20)] {
        let dialer = dialing_by(beginning_with(header));
        let (transports, asked) = listening(&from, |_| true);
        for (on, transport) in transports {
            let listener = transport.listen(&addr(on)).await.unwrap();
            let to = listener.local_addr();
            let both = async { tokio::try_join!(dialer.dial(&to), listener.accept()) };
            let (here, there) = soon(both).await.unwrap();
            assert_eq!(there.remote_addr().host(), Some("127.0.0.1"));
            assert_eq!(there.remote_addr().port(), here.local_addr().port());
            let asked = std::mem::take(&mut *asked.lock().unwrap());
            let port = here.local_addr().port().unwrap();
            assert_eq!(asked, [format!("127.0.0.1:{port}")]);
        }
    }
}

async fn fails(dialer: &Registry, to: &Addr) -> Error {
    match soon(dialer.dial(to)).await {
        Ok(_) => panic!("the dial to {to} went well"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn a_client_that_is_not_admitted_is_refused_by_its_own_address() {
    let from = ProxyProtocol::required_from_all();
    let good = dialing_by(beginning_with(V1));
    let bad = dialing_by(beginning_with(b"PROXY TCP4 203.0.113.9 127.0.0.1 5 7\r\n"));
    let (transports, asked) = listening(&from, |remote| remote == CLIENT);
    for (on, transport) in transports {
        let listener = transport.listen(&addr(on)).await.unwrap();
        let to = listener.local_addr();
        if !on.contains("raw") {
            fails(&bad, &to).await;
            let asked = std::mem::take(&mut *asked.lock().unwrap());
            assert_eq!(asked, ["203.0.113.9:5"]);
        }
        let both = async { tokio::try_join!(good.dial(&to), listener.accept()) };
        soon(both).await.unwrap();
        assert_eq!(std::mem::take(&mut *asked.lock().unwrap()), [CLIENT]);
    }
}

#[tokio::test]
async fn others_than_the_proxies_are_refused_and_nobody_is_asked() {
    let from = ProxyProtocol::required_from(["10.0.0.0/8", "::1"]).unwrap();
    let dialer = dialing_by(beginning_with(V1));
    let (transports, asked) = listening(&from, |_| true);
    for (on, transport) in transports {
        let listener = transport.listen(&addr(on)).await.unwrap();
        if !on.contains("raw") {
            fails(&dialer, &listener.local_addr()).await;
        }
    }
    assert!(asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_peer_without_a_header_costs_its_own_connection() {
    let from = ProxyProtocol::required_from_all();
    let good = dialing_by(beginning_with(V1));
    let long = [b"PROXY TCP4 ", &[b'1'; 300][..]].concat();
    let (transports, asked) = listening(&from, |_| true);
    for (on, transport) in transports {
        let listener = transport.listen(&addr(on)).await.unwrap();
        let to = listener.local_addr();
        // One says nothing, one stops within its header.
        let port = to.port().unwrap();
        let silent = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let mut half = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        half.write_all(&V1[..20]).await.unwrap();
        if !on.contains("raw") {
            fails(&dialing_by(TcpDialer::new()), &to).await;
            fails(&dialing_by(beginning_with(&long)), &to).await;
        }
        assert!(asked.lock().unwrap().is_empty());
        let both = async { tokio::try_join!(good.dial(&to), listener.accept()) };
        let (here, there) = soon(both).await.unwrap();
        soon(echo(&here, &there)).await;
        assert_eq!(std::mem::take(&mut *asked.lock().unwrap()), [CLIENT]);
        // Neither is kept for longer than a first byte may take.
        for mut socket in [silent, half] {
            let ended = soon(socket.read(&mut [0])).await;
            assert!(matches!(ended, Ok(0) | Err(_)));
        }
    }
}

#[tokio::test]
async fn handshakes_count_by_client_behind_one_proxy() {
    let config = Config::default().with_max_handshakes(4);
    let transport = TcpTransport::new()
        .with_config(config)
        .unwrap()
        .with_proxy_protocol(ProxyProtocol::required_from_all());
    let listener = transport.listen(&addr("tcp://127.0.0.1:0")).await.unwrap();
    let to = listener.local_addr();
    let port = to.port().unwrap();
    // An innocent client, whose handshake has begun.
    let mut innocent = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    innocent.write_all(V1).await.unwrap();
    innocent.write_all(&[0]).await.unwrap();
    // Another one begins many, and each displaces one of its own.
    let mut crowd = Vec::new();
    for client_port in 1..=20 {
        let header = format!("PROXY TCP4 203.0.113.9 127.0.0.1 {client_port} 7\r\n\0");
        let mut socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        socket.write_all(header.as_bytes()).await.unwrap();
        crowd.push(socket);
    }
    // The first of the crowd are gone once the last have begun.
    for socket in &mut crowd[..10] {
        soon(socket.read(&mut [0; 100])).await.ok();
    }
    let kept = innocent.try_read(&mut [0]);
    assert!(
        kept.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock),
        "the innocent client was displaced"
    );
}
