//! Dials of every transport over TCP through proxies: of HTTP, of SOCKS5, and by a function.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pipewerks::prelude::*;
use pipewerks::tcp::{NoProxy, Proxy, TcpDialer, TcpTransport};
use pipewerks::tls::TlsTransport;
use pipewerks::ws::WsTransport;
use pipewerks::{Addr, BoxConn, ErrorKind, Registry};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(60);

/// The name of a host that only the proxies know: this machine.
const NAME: &str = "name.invalid";

/// A proxy of both kinds, which passes on to this machine.
struct Passing {
    at: SocketAddr,
    /// What was asked of it.
    asked: mpsc::UnboundedReceiver<String>,
}

impl Passing {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let (tell, asked) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(pass(socket, tell.clone()));
            }
        });
        Self { at, asked }
    }
}

async fn pass(mut socket: TcpStream, tell: mpsc::UnboundedSender<String>) -> std::io::Result<()> {
    let mut first = [0];
    socket.peek(&mut first).await?;
    let (asked, port, granted) = if first[0] == 5 {
        let mut hello = [0; 4];
        socket.read_exact(&mut hello).await?;
        assert_eq!(hello, [5, 2, 0, 2]);
        socket.write_all(&[5, 2]).await?;
        let mut login = [0; 12];
        socket.read_exact(&mut login).await?;
        assert_eq!(&login, b"\x01\x02me\x07pass@wd");
        socket.write_all(&[1, 0]).await?;
        let mut head = [0; 5];
        socket.read_exact(&mut head).await?;
        assert_eq!(head[..4], [5, 1, 0, 3]);
        let mut name = vec![0; usize::from(head[4])];
        socket.read_exact(&mut name).await?;
        let port = socket.read_u16().await?;
        let granted: &[u8] = b"\x05\x00\x00\x01\0\0\0\0\0\0";
        (String::from_utf8(name).unwrap(), port, granted)
    } else {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(socket.read_u8().await?);
        }
        let head = String::from_utf8(head).unwrap();
        assert!(
            head.contains("\r\nProxy-Authorization: Basic bWU6cGFzc0B3ZA==\r\n"),
            "{head}"
        );
        let asked = head.strip_prefix("CONNECT ").unwrap();
        let (asked, _) = asked.split_once(" HTTP/1.1\r\n").unwrap();
        let (host, port) = asked.rsplit_once(':').unwrap();
        let granted: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";
        (host.to_owned(), port.parse().unwrap(), granted)
    };
    let mut onward = TcpStream::connect(("127.0.0.1", port)).await?;
    tell.send(asked).unwrap();
    socket.write_all(granted).await?;
    copy_bidirectional(&mut socket, &mut onward).await?;
    Ok(())
}

fn registry(dialer: &TcpDialer) -> Registry {
    Registry::new()
        .with(TcpTransport::new().with_dialer(dialer.clone()))
        .with(TlsTransport::new().with_dialer(dialer.clone()))
        .with(WsTransport::new().with_dialer(dialer.clone()))
}

async fn exchange(here: &BoxConn, there: &BoxConn) {
    let mut stream = here.open_stream().await.unwrap();
    let sent = vec![7; 300_000];
    let sending = async {
        stream.write_all(&sent).await.unwrap();
        stream.shutdown().await.unwrap();
    };
    let receiving = async {
        let mut received = Vec::new();
        let mut stream = there.accept_stream().await.unwrap();
        stream.read_to_end(&mut received).await.unwrap();
        received
    };
    let ((), received) = tokio::join!(sending, receiving);
    assert!(received == sent);
}

/// Returns the address of a listener with another host.
fn with_name(addr: &Addr) -> Addr {
    addr.as_str().replace("127.0.0.1", NAME).parse().unwrap()
}

async fn every_transport_dials_by(dialer: TcpDialer, mut seen: impl FnMut()) {
    let registry = registry(&dialer);
    for (on, wire) in [
        ("tcp://127.0.0.1:0", ""),
        ("tcp://127.0.0.1:0", "?wire=raw"),
        ("tls://127.0.0.1:0", ""),
        ("ws://127.0.0.1:0/a", ""),
        ("wss://127.0.0.1:0/a", ""),
    ] {
        let listener = pipewerks::listen(format!("{on}{wire}")).await.unwrap();
        let to = with_name(&listener.local_addr());
        let both = async { tokio::try_join!(registry.dial(&to), listener.accept()) };
        let (here, there) = timeout(LIMIT, both).await.unwrap().unwrap();
        assert_eq!(here.remote_addr(), to);
        timeout(LIMIT, exchange(&here, &there)).await.unwrap();
        seen();
    }
}

#[tokio::test]
async fn every_transport_dials_through_a_proxy_of_http() {
    let mut passing = Passing::start().await;
    let proxy = Proxy::parse(&format!("http://me:pass%40wd@{}", passing.at)).unwrap();
    every_transport_dials_by(TcpDialer::new().with_proxy(proxy), || {
        assert_eq!(passing.asked.try_recv().unwrap(), NAME);
    })
    .await;
}

#[tokio::test]
async fn every_transport_dials_through_a_proxy_of_socks5() {
    let mut passing = Passing::start().await;
    let proxy = Proxy::parse(&format!("socks5h://me:pass%40wd@{}", passing.at)).unwrap();
    every_transport_dials_by(TcpDialer::new().with_proxy(proxy), || {
        assert_eq!(passing.asked.try_recv().unwrap(), NAME);
    })
    .await;
}

#[tokio::test]
async fn every_transport_dials_by_a_function() {
    let (tell, mut asked) = mpsc::unbounded_channel();
    let tell = Arc::new(tell);
    let dialer = TcpDialer::new().with_dialer(move |to| {
        tell.send(to.host).unwrap();
        async move { TcpStream::connect(("127.0.0.1", to.port)).await }
    });
    every_transport_dials_by(dialer, || assert_eq!(asked.try_recv().unwrap(), NAME)).await;
}

#[tokio::test]
async fn a_host_without_need_of_the_proxy_is_dialed_directly() {
    let mut passing = Passing::start().await;
    let proxy = Proxy::parse(&format!("http://{}", passing.at)).unwrap();
    let dialer = TcpDialer::new()
        .with_proxy(proxy)
        .with_no_proxy(NoProxy::parse("localhost, 127.0.0.0/8"));
    let registry = registry(&dialer);
    for on in ["tcp", "tls", "ws", "wss"] {
        let listener = pipewerks::listen(format!("{on}://127.0.0.1:0"))
            .await
            .unwrap();
        let to = listener.local_addr();
        let both = async { tokio::try_join!(registry.dial(&to), listener.accept()) };
        let (here, _there) = timeout(LIMIT, both).await.unwrap().unwrap();
        assert_eq!(here.remote_addr(), to);
    }
    assert!(passing.asked.try_recv().is_err());
}

#[tokio::test]
async fn the_refusal_of_a_proxy_is_the_error_of_every_dial() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            socket
                .write_all(b"HTTP/1.1 403 Forbidden\r\n\r\n")
                .await
                .unwrap();
            let _ = socket.read_to_end(&mut Vec::new()).await;
        }
    });
    let proxy = Proxy::parse(&format!("http://me:secret@{at}")).unwrap();
    let registry = registry(&TcpDialer::new().with_proxy(proxy));
    for scheme in ["tcp", "tls", "ws", "wss"] {
        let to: Addr = format!("{scheme}://{NAME}:7").parse().unwrap();
        let error = timeout(LIMIT, registry.dial(&to)).await.unwrap();
        let error = error.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
        let named = format!("no connection to {to} through the proxy http://{at}: ");
        let shown = error.to_string();
        assert!(
            shown.starts_with(&named) && shown.contains("403 Forbidden"),
            "{shown}"
        );
    }
}
