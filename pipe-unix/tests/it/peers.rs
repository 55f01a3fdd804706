//! Who is at the ends of a connection: addresses, names, credentials, and the socket itself.

use std::collections::HashSet;

use pipe_core::{Config, Conn, ErrorKind, Listener, PeerIdentity, Transport};
use pipe_mux::{Mux, Wire};
use pipe_unix::UnixTransport;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::common::{self, Folder, addr, expect, expect_service, listen, pair, soon};

#[cfg(any(target_os = "linux", target_os = "android"))]
#[tokio::test]
async fn the_ends_of_a_connection_tell_each_others_addresses() {
    let folder = Folder::new();
    let listener = listen(&folder.addr("a b%C3%A4")).await;
    let mut dialers = HashSet::new();
    for _ in 0..3 {
        let (dialed, accepted) = pair(&listener).await;
        assert_eq!(dialed.remote_addr(), listener.local_addr());
        assert_eq!(accepted.local_addr(), listener.local_addr());
        assert_eq!(accepted.remote_addr(), dialed.local_addr());
        let name = dialed.local_addr().path().to_owned();
        assert!(name.starts_with("/@"), "{name}");
        dialers.insert(name);
        // Nobody listens at a dialer's name.
        let error = common::dial_error(&dialed.local_addr()).await;
        expect(&error, ErrorKind::Refused, &["there is no listener"]);
    }
    assert_eq!(dialers.len(), 3);
}

#[cfg(any(target_os = "linux", target_os = "android"))]
#[tokio::test]
async fn an_abstract_name_is_used_once_and_leaves_nothing_behind() {
    let name = format!("unix:///@pipe-unix/{}%00%ff", std::process::id());
    let listener = listen(&addr(&name)).await;
    expect_service(&listener).await;
    let error = common::listen_error(&addr(&name)).await;
    expect(
        &error,
        ErrorKind::AddrInUse,
        &["there is a listener already"],
    );
    listener.close();
    let error = common::dial_error(&addr(&name)).await;
    expect(&error, ErrorKind::Refused, &["there is no listener"]);
    expect_service(&listen(&addr(&name)).await).await;
}

#[cfg(any(target_os = "linux", target_os = "android"))]
#[tokio::test]
async fn a_listener_without_a_name_gets_a_fresh_one() {
    let [a, b] = [
        listen(&addr("unix:///@")).await,
        listen(&addr("unix:///@")).await,
    ];
    assert_ne!(a.local_addr(), b.local_addr());
    assert_ne!(a.local_addr(), addr("unix:///@"));
    expect_service(&a).await;
    expect_service(&b).await;
    let error = common::dial_error(&addr("unix:///@")).await;
    expect(&error, ErrorKind::AddrInvalid, &["only a listener"]);
}

#[tokio::test]
async fn a_peer_without_a_name_has_an_opaque_address() {
    let folder = Folder::new();
    let listener = listen(&folder.addr("socket")).await;
    let foreign = async {
        let socket = UnixStream::connect(folder.file("socket")).await.unwrap();
        Mux::client(socket, Config::default()).await.unwrap()
    };
    let (here, there) = soon(async { tokio::join!(foreign, listener.accept()) }).await;
    let there = there.unwrap();
    assert_eq!(there.remote_addr().host().map(|host| &host[..1]), Some("~"));
    common::expect_bytes(&here, &there).await;
    let error = common::dial_error(&there.remote_addr()).await;
    expect(&error, ErrorKind::AddrInvalid, &["there is no host"]);
}

#[tokio::test]
async fn both_ends_know_the_process_at_the_other() {
    let folder = Folder::new();
    let listener = listen(&folder.addr("socket")).await;
    let (dialed, accepted) = pair(&listener).await;
    for conn in [&dialed, &accepted] {
        let Some(PeerIdentity::Unix(peer)) = conn.peer_identity() else {
            panic!("no credentials: {:?}", conn.peer_identity());
        };
        assert_eq!(peer.uid, rustix::process::geteuid().as_raw());
        assert_eq!(peer.gid, rustix::process::getegid().as_raw());
        if cfg!(target_os = "linux") {
            assert_eq!(peer.pid, i32::try_from(std::process::id()).ok());
        }
    }
}

#[tokio::test]
async fn the_socket_can_be_looked_at() {
    let folder = Folder::new();
    let listener = listen(&folder.addr("socket")).await;
    let (dialed, accepted) = pair(&listener).await;
    let socket = dialed.inner::<UnixStream>().unwrap();
    let peer = socket.peer_addr().unwrap();
    assert_eq!(peer.as_pathname(), Some(&*folder.file("socket")));
    assert!(accepted.inner::<UnixStream>().is_some());
    assert!(accepted.inner::<tokio::net::TcpStream>().is_none());
}

#[tokio::test]
async fn a_raw_wire_carries_streams_and_stands_in_the_addresses() {
    let folder = Folder::new();
    let listener = listen(&folder.addr("socket").with_param("wire", "raw")).await;
    assert_eq!(listener.local_addr().param("wire").as_deref(), Some("raw"));
    let (dialed, accepted) = pair(&listener).await;
    assert_eq!(dialed.remote_addr(), listener.local_addr());
    // Yamux has a ping of its own.
    soon(dialed.ping()).await.unwrap();
    let mut stream = dialed.open_stream().await.unwrap();
    stream.write_all(b"plain yamux").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut text = String::new();
    let mut stream = soon(accepted.accept_stream()).await.unwrap();
    soon(stream.read_to_string(&mut text)).await.unwrap();
    assert_eq!(text, "plain yamux");

    // A plain peer of another make needs nothing of this crate.
    let foreign = async {
        let socket = UnixStream::connect(folder.file("socket")).await.unwrap();
        Mux::builder().wire(Wire::Raw).client(socket).await.unwrap()
    };
    let (here, there) = soon(async { tokio::join!(foreign, listener.accept()) }).await;
    common::expect_bytes(&here, &there.unwrap()).await;
}

#[tokio::test]
async fn bad_settings_are_refused() {
    let config = Config::default().with_max_streams(0);
    let error = UnixTransport::new().with_config(config).unwrap_err();
    expect(&error, ErrorKind::ConfigInvalid, &["max_streams"]);
    assert_eq!(UnixTransport::new().schemes(), ["unix"]);
}
