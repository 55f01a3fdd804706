//! The sockets of dials: who shares one, when one is closed, and what replaces one that has failed.

use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use pipe_core::{CloseReason, Config, Conn, ErrorKind, Listener, Transport};
use pipe_quic::quinn::udp::{RecvMeta, Transmit};
use pipe_quic::quinn::{AsyncUdpSocket, UdpPoller};
use pipe_quic::{Profile, QuicConn, QuicTransport, TlsOptions};
use tokio::runtime::{Builder, Runtime};

use crate::common::{addr, connect, echo, expect_service, listen, refused, soon};

fn port(conn: &QuicConn) -> u16 {
    conn.local_addr().port().unwrap()
}

/// Waits until this port of IPv4 is free.
async fn until_free(port: u16) {
    let free = async {
        while UdpSocket::bind(("0.0.0.0", port)).is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon(free).await;
}

#[tokio::test]
async fn dials_of_one_transport_and_its_clones_share_a_port() {
    let transport = QuicTransport::new();
    let (one, two) = (listen(&transport).await, listen(&transport).await);
    let raw = addr("quic://127.0.0.1:0?wire=raw&alpn=x");
    let raw = transport.listen(&raw).await.unwrap();
    let clone = transport.clone();
    let first = connect(&transport, &one, &one.local_addr()).await;
    let second = connect(&clone, &one, &one.local_addr()).await;
    let third = connect(&clone.with_zero_rtt(true), &two, &two.local_addr()).await;
    let fourth = connect(&transport, &raw, &raw.local_addr()).await;
    for (here, there) in [&first, &second, &third, &fourth] {
        assert_eq!(port(here), port(&first.0));
        assert_eq!(there.remote_addr(), here.local_addr());
        soon(echo(here, there)).await.unwrap();
    }
    // The end of one is not that of the others.
    let (here, there) = second;
    here.close(3, "done");
    assert_eq!(soon(there.closed()).await.code(), Some(3));
    for (here, there) in [&first, &third, &fourth] {
        soon(echo(here, there)).await.unwrap();
    }
    let (again, _there) = expect_service(&transport, &two, &two.local_addr()).await;
    assert_eq!(port(&again), port(&first.0));
}

#[tokio::test]
async fn dials_with_other_settings_or_of_another_family_have_another_port() {
    let transport = QuicTransport::new();
    let listener = listen(&transport).await;
    let to = listener.local_addr();
    let (first, _there) = connect(&transport, &listener, &to).await;
    let others = [
        QuicTransport::new(),
        transport.clone().with_tls(TlsOptions::new()),
        transport.clone().with_profile(Profile::Loopback),
        transport.clone().with_config(Config::default()).unwrap(),
    ];
    for other in others {
        let (here, _there) = expect_service(&other, &listener, &to).await;
        assert_ne!(port(&here), port(&first));
    }
    let v6 = transport.listen(&addr("quic://[::1]:0")).await.unwrap();
    let (here, _there) = expect_service(&transport, &v6, &v6.local_addr()).await;
    let (again, _there) = expect_service(&transport, &v6, &v6.local_addr()).await;
    assert_ne!(port(&here), port(&first));
    assert_eq!(port(&again), port(&here));
}

#[tokio::test]
async fn each_dial_has_its_port_where_that_is_asked() {
    let transport = QuicTransport::new().with_socket_per_dial(true);
    let listener = listen(&transport).await;
    let to = listener.local_addr();
    let (one, at_one) = expect_service(&transport, &listener, &to).await;
    let (two, at_two) = expect_service(&transport, &listener, &to).await;
    assert_ne!(port(&one), port(&two));
    // One moves, and the other stays where it is.
    let (before, stays) = (at_one.remote_addr(), at_two.remote_addr());
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    one.endpoint().unwrap().rebind(socket).unwrap();
    soon(echo(&one, &at_one)).await.unwrap();
    soon(echo(&two, &at_two)).await.unwrap();
    assert_ne!(at_one.remote_addr(), before);
    assert_eq!(at_two.remote_addr(), stays);
    // Without the option the same transport shares again.
    let transport = transport.with_socket_per_dial(false);
    let (three, _there) = connect(&transport, &listener, &to).await;
    let (four, _there) = connect(&transport, &listener, &to).await;
    assert_eq!(port(&three), port(&four));
}

#[tokio::test]
async fn connections_on_one_socket_move_together_and_later_dials_do_not() {
    let transport = QuicTransport::new();
    let listener = listen(&transport).await;
    let to = listener.local_addr();
    let (one, at_one) = expect_service(&transport, &listener, &to).await;
    let (two, at_two) = expect_service(&transport, &listener, &to).await;
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let moved = socket.local_addr().unwrap().port();
    one.endpoint().unwrap().rebind(socket).unwrap();
    for (here, there) in [(&one, &at_one), (&two, &at_two)] {
        soon(echo(here, there)).await.unwrap();
        assert_eq!(there.remote_addr().port(), Some(moved));
        assert_eq!(port(here), moved);
    }
    let (three, _there) = expect_service(&transport, &listener, &to).await;
    assert_ne!(port(&three), moved);
}

#[tokio::test]
async fn a_shared_socket_is_closed_some_time_after_its_last_connection() {
    let transport = QuicTransport::new();
    let listener = listen(&transport).await;
    let to = listener.local_addr();
    let (here, there) = connect(&transport, &listener, &to).await;
    let first = port(&here);
    here.close(0, "");
    soon(there.closed()).await;
    // Its handle is there, and so is the transport.
    until_free(first).await;
    expect_service(&transport, &listener, &to).await;
    drop(here);
}

#[tokio::test]
async fn a_shared_socket_goes_with_its_transport_when_the_last_close_is_sent() {
    let listening = QuicTransport::new();
    let listener = listen(&listening).await;
    let transport = QuicTransport::new();
    let (here, there) = connect(&transport, &listener, &listener.local_addr()).await;
    let port = port(&here);
    drop(transport);
    soon(echo(&here, &there)).await.unwrap();
    assert!(UdpSocket::bind(("0.0.0.0", port)).is_err());
    drop(here);
    let end = soon(there.closed()).await;
    assert!(
        matches!(end, CloseReason::Remote { code: 0, .. }),
        "{end:?}"
    );
    until_free(port).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_keeps_its_socket_when_its_transport_is_dropped_at_once() {
    let listener = listen(&QuicTransport::new()).await;
    let to = listener.local_addr();
    for _ in 0..100 {
        let (here, there) = connect(&QuicTransport::new(), &listener, &to).await;
        soon(echo(&here, &there)).await.unwrap();
        assert!(UdpSocket::bind(("0.0.0.0", port(&here))).is_err());
    }
}

/// The socket of this port of IPv4, as the system calls it.
#[cfg(target_os = "linux")]
fn inode(port: u16) -> Option<String> {
    let table = std::fs::read_to_string("/proc/self/net/udp").unwrap();
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let is_it = fields[1].ends_with(&format!(":{port:04X}"));
        is_it.then(|| fields[9].to_owned())
    })
}

#[cfg(target_os = "linux")]
fn is_open(inode: &str) -> bool {
    let name = format!("socket:[{inode}]");
    let open = std::fs::read_dir("/proc/self/fd").unwrap();
    open.filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok())
        .any(|to| to.as_os_str() == name.as_str())
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn no_descriptor_is_left_when_everything_is_dropped() {
    let transport = QuicTransport::new();
    let listener = listen(&transport).await;
    let to = listener.local_addr();
    let mut sockets = vec![inode(to.port().unwrap()).unwrap()];
    for dialing in [
        transport.clone(),
        transport.clone().with_socket_per_dial(true),
        listener.transport(),
        transport,
    ] {
        let (here, there) = expect_service(&dialing, &listener, &to).await;
        let socket = inode(port(&here)).unwrap();
        assert!(is_open(&socket));
        sockets.push(socket);
        drop(dialing);
        drop((here, there));
    }
    // A dial that is given up in the middle.
    let unheard = UdpSocket::bind("127.0.0.1:0").unwrap();
    let unheard = addr(&format!("quic://{}", unheard.local_addr().unwrap()));
    let config = Config::default().with_handshake_timeout(Duration::from_millis(100));
    let dialing = QuicTransport::new().with_config(config).unwrap();
    refused(&dialing, &unheard).await;
    drop((dialing, listener));
    let closed = async {
        while sockets.iter().any(|socket| is_open(socket)) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon(closed).await;
}

/// A socket that fails at the next receive.
#[derive(Debug)]
struct Broken(SocketAddr);

impl AsyncUdpSocket for Broken {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Writable)
    }

    fn try_send(&self, _: &Transmit<'_>) -> io::Result<()> {
        Ok(())
    }

    fn poll_recv(
        &self,
        _: &mut Context<'_>,
        _: &mut [IoSliceMut<'_>],
        _: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::NotConnected.into()))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.0)
    }
}

#[derive(Debug)]
struct Writable;

impl UdpPoller for Writable {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_socket_that_has_failed_is_replaced_by_the_next_dial() {
    let transport = QuicTransport::new();
    let listener = listen(&transport).await;
    let to = listener.local_addr();
    let (here, _there) = expect_service(&transport, &listener, &to).await;
    let endpoint = here.endpoint().unwrap();
    let broken = Broken(endpoint.local_addr().unwrap());
    endpoint.rebind_abstract(Arc::new(broken)).unwrap();
    let CloseReason::Failed(error) = soon(here.closed()).await else {
        panic!("its socket has failed");
    };
    assert_eq!(error.kind(), ErrorKind::Failed, "{error}");
    let (again, there) = expect_service(&transport, &listener, &to).await;
    soon(echo(&again, &there)).await.unwrap();
}

#[tokio::test]
async fn an_endpoint_that_the_application_closes_is_replaced_and_its_closes_are_sent() {
    let transport = QuicTransport::new();
    let listener = listen(&transport).await;
    let to = listener.local_addr();
    let (here, there) = expect_service(&transport, &listener, &to).await;
    let first = port(&here);
    here.endpoint().unwrap().close(7_u32.into(), b"all");
    // At once, before anything has taken notice.
    let (again, other) = connect(&transport, &listener, &to).await;
    assert_ne!(port(&again), first);
    assert_eq!(soon(there.closed()).await.code(), Some(7));
    until_free(first).await;
    soon(echo(&again, &other)).await.unwrap();
}

fn runtime() -> Runtime {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(1).enable_all().build().unwrap()
}

#[test]
fn a_transport_dials_in_several_runtimes_and_outlives_them() {
    let (one, two, three) = (runtime(), runtime(), runtime());
    let (transport, listening) = (QuicTransport::new(), QuicTransport::new());
    let listener = three.block_on(listen(&listening));
    let to = listener.local_addr();
    let (here, at_here) = one.block_on(connect(&transport, &listener, &to));
    let (there, at_there) = two.block_on(connect(&transport, &listener, &to));
    let (again, _at_again) = one.block_on(connect(&transport, &listener, &to));
    assert_ne!(port(&here), port(&there));
    assert_eq!(port(&here), port(&again));
    let gone = port(&here);
    one.shutdown_background();
    two.block_on(async {
        let end = soon(here.closed()).await;
        assert!(matches!(end, CloseReason::Failed(_)), "{end:?}");
        soon(echo(&there, &at_there)).await.unwrap();
        // The socket went with the runtime, though all handles are there.
        until_free(gone).await;
    });
    // Another one at the place of the first.
    let next = runtime();
    let (here, at_here_again) = next.block_on(expect_service(&transport, &listener, &to));
    next.block_on(async {
        soon(echo(&here, &at_here_again)).await.unwrap();
        drop((at_here, again));
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_dials_at_once_have_one_socket() {
    const DIALS: usize = 64;
    let transport = QuicTransport::new();
    let listener = listen(&transport).await;
    let to = listener.local_addr();
    let accepting = async {
        let mut conns = Vec::new();
        for _ in 0..DIALS {
            conns.push(listener.accept().await.unwrap());
        }
        conns
    };
    let dialing = async {
        let dials: Vec<_> = (0..DIALS)
            .map(|_| {
                let (transport, to) = (transport.clone(), to.clone());
                tokio::spawn(async move { transport.dial(&to).await.unwrap() })
            })
            .collect();
        let mut conns = Vec::new();
        for dial in dials {
            conns.push(dial.await.unwrap());
        }
        conns
    };
    let (there, here) = soon(async { tokio::join!(accepting, dialing) }).await;
    let own = port(&here[0]);
    assert!(here.iter().all(|conn| port(conn) == own));
    assert_eq!(there.len(), DIALS);
}
