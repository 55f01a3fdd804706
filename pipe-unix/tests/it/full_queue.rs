//! A listener whose queue in the system is full. Elsewhere than on Linux it refuses.

use std::io;
use std::path::Path;
use std::time::Duration;

use pipe_core::{Config, ErrorKind, Transport};
use pipe_mux::Mux;
use pipe_unix::UnixTransport;
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::UnixListener;
use tokio::task::{JoinSet, yield_now};

use crate::common::{Folder, expect, listen_error, soon};

/// A listener with the shortest queue, which is full of connections.
fn full(path: &Path) -> (UnixListener, Vec<Socket>) {
    let target = SockAddr::unix(path).unwrap();
    let socket = || {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket
    };
    let listener = socket();
    listener.bind(&target).unwrap();
    listener.listen(0).unwrap();
    let mut waiting = Vec::new();
    loop {
        let dialer = socket();
        match dialer.connect(&target) {
            Ok(()) => waiting.push(dialer),
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                break;
            }
        }
    }
    let listener = UnixListener::from_std(listener.into()).unwrap();
    (listener, waiting)
}

#[tokio::test]
async fn many_dials_wait_while_the_queue_is_full() {
    const DIALS: usize = 50;
    let folder = Folder::new();
    let addr = folder.addr("socket");
    let (listener, waiting) = full(&folder.file("socket"));
    let mut dials = JoinSet::new();
    for _ in 0..DIALS {
        let addr = addr.clone();
        dials.spawn(async move { soon(UnixTransport::new().dial(&addr)).await });
    }
    // They have all begun, and none has an answer.
    for _ in 0..10 * DIALS {
        yield_now().await;
    }
    assert!(dials.try_join_next().is_none());

    let full = waiting.len();
    let mut accepted = Vec::new();
    for i in 0..full + DIALS {
        let (socket, _) = soon(listener.accept()).await.unwrap();
        if i >= full {
            accepted.push(tokio::spawn(Mux::server(socket, Config::default())));
        }
    }
    while let Some(dialed) = dials.join_next().await {
        dialed.unwrap().unwrap();
    }
    for conn in accepted {
        conn.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_dial_to_a_queue_that_stays_full_ends_in_time() {
    let folder = Folder::new();
    let _full = full(&folder.file("socket"));
    let config = Config::default().with_handshake_timeout(Duration::from_millis(200));
    let transport = UnixTransport::new().with_config(config).unwrap();
    let addr = folder.addr("socket");
    let error = soon(transport.dial(&addr)).await.unwrap_err();
    expect(
        &error,
        ErrorKind::TimedOut,
        &[addr.as_str(), "within 200ms"],
    );
}

#[tokio::test]
async fn it_is_alive_for_whoever_wants_its_address() {
    let folder = Folder::new();
    let _full = full(&folder.file("socket"));
    let error = listen_error(&folder.addr("socket")).await;
    expect(
        &error,
        ErrorKind::AddrInUse,
        &["there is a listener already"],
    );
    assert_eq!(folder.names(), ["socket"]);
}
