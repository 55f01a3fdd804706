//! Lists of addresses of real transports.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use pipewerks::{Addr, Conn, ErrorKind, Listener, Transport, dial, dial_any, listen, listen_all};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// Addresses of all transports to listen on. Each chooses its port or its name.
const OPEN: &[&str] = &[
    "inproc://",
    "tcp://127.0.0.1:0",
    "tls://127.0.0.1:0",
    "ws://127.0.0.1:0/pipe",
    "wss://127.0.0.1:0/pipe",
    "quic://127.0.0.1:0",
    "wt://127.0.0.1:0/pipe",
    "webrtc+tcp://127.0.0.1:0",
    #[cfg(target_os = "linux")]
    "unix:///@",
];

const LIMIT: Duration = Duration::from_secs(60);

/// Fails the test if it does not come to an end.
async fn in_time<F: Future>(what: F) -> F::Output {
    timeout(LIMIT, what).await.expect("an end in time")
}

/// Sends a word over a new stream, and back.
async fn exchange(one: &impl Conn, other: &impl Conn) {
    let ask = async {
        let mut stream = one.open_stream().await.unwrap();
        stream.write_all(b"word").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"word");
    };
    let answer = async {
        let mut stream = other.accept_stream().await.unwrap();
        let mut word = Vec::new();
        stream.read_to_end(&mut word).await.unwrap();
        stream.write_all(&word).await.unwrap();
        stream.shutdown().await.unwrap();
    };
    tokio::join!(ask, answer);
}

#[tokio::test]
async fn one_listener_takes_connections_over_every_transport() {
    in_time(async {
        let listener = listen_all(OPEN.iter().copied()).await.unwrap();
        let local = listener.local_addr();
        assert_eq!(local.alternatives().len(), OPEN.len());
        for (addr, open) in local.alternatives().iter().zip(OPEN) {
            assert_ne!(addr.as_str(), *open, "it is complete");
            let (dialed, accepted) = tokio::try_join!(dial(addr), listener.accept()).unwrap();
            assert_eq!(accepted.local_addr().scheme(), addr.scheme());
            exchange(&dialed, &accepted).await;
        }
        // As a whole, it is dialed at its first address.
        let text = local.to_string();
        let (dialed, accepted) = tokio::try_join!(dial(text), listener.accept()).unwrap();
        assert_eq!(dialed.remote_addr(), local.alternatives()[0]);
        exchange(&dialed, &accepted).await;
    })
    .await;
}

#[tokio::test]
async fn a_dial_goes_past_addresses_that_refuse_and_that_are_silent() {
    in_time(async {
        // It takes datagrams and answers none.
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let silent = silent_addr(&silent);
        let vacant = vacant_addr();
        for open in ["tls://127.0.0.1:0", "wss://127.0.0.1:0/pipe"] {
            let listener = listen(open).await.unwrap();
            let list = Addr::list([&silent, &vacant, &listener.local_addr()]).unwrap();
            for _ in 0..2 {
                let (dialed, accepted) = tokio::try_join!(dial(&list), listener.accept()).unwrap();
                assert_eq!(dialed.remote_addr().port(), listener.local_addr().port());
                exchange(&dialed, &accepted).await;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn an_address_that_was_not_taken_is_free_again() {
    in_time(async {
        let taken = listen("tcp://127.0.0.1:0").await.unwrap().local_addr();
        let other = listen(&taken).await.unwrap();
        let free = vacant_addr();
        let error = listen_all([&free, &taken]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        assert!(error.to_string().contains(taken.as_str()), "{error}");
        drop(other);
        let listener = listen_all([&free, &taken]).await.unwrap();
        assert_eq!(listener.local_addr(), Addr::list([free, taken]).unwrap());
    })
    .await;
}

#[tokio::test]
async fn what_makes_no_list_is_refused() {
    for none in [
        dial_any::<[&str; 0]>([]).await.map(drop),
        listen_all::<[&str; 0]>([]).await.map(drop),
    ] {
        assert_eq!(none.unwrap_err().kind(), ErrorKind::AddrInvalid);
    }
    let error = dial_any(["tcp://a:1", "b"]).await.unwrap_err();
    assert!(error.to_string().contains("\"b\""), "{error}");
    let error = dial("tcp://a:1,tcp://b:x").await.unwrap_err();
    assert!(error.to_string().contains("\"tcp://b:x\""), "{error}");
}

#[tokio::test]
async fn a_transport_by_itself_refuses_a_list() {
    let registry = pipewerks::registry();
    let schemes: Vec<_> = registry.schemes().to_vec();
    assert!(schemes.len() >= 12, "{schemes:?}");
    for scheme in schemes {
        let list: Addr = format!("{scheme}://127.0.0.1:1/a,{scheme}://127.0.0.1:2/a")
            .parse()
            .unwrap();
        let transport = registry.get(scheme).unwrap();
        for refused in [
            transport.dial(&list).await.map(drop),
            transport.listen(&list).await.map(drop),
        ] {
            let error = refused.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AddrUnsupported, "{error}");
            assert!(error.to_string().contains(list.as_str()), "{error}");
        }
    }
}

fn silent_addr(socket: &UdpSocket) -> Addr {
    let at = socket.local_addr().unwrap();
    format!("quic://{at}").parse().unwrap()
}

/// An address of a port that is free.
fn vacant_addr() -> Addr {
    let socket = std::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    format!("tcp://{}", socket.local_addr().unwrap())
        .parse()
        .unwrap()
}
