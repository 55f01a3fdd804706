//! What QUIC brings to the contract, and what it must not take from it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pipe_conformance::Faults;
use pipe_core::{
    CloseReason, Config, Conn, ConnState, Error, ErrorKind, Listener, OnDisconnect, SendStream,
    Stream, Transport,
};
use pipe_quic::{Profile, QuicConn, QuicTransport, quinn};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UdpSocket;

use crate::common::{addr, connect, echo, expect_service, listen, refused, soon, with};
use crate::proxy::{Cable, Proxied};

/// Sends so many bytes over a stream, all of which arrive.
async fn carry(here: &QuicConn, there: &QuicConn, bytes: usize) {
    let (mut near, mut far) = tokio::try_join!(here.open_stream(), there.accept_stream()).unwrap();
    let send = async {
        near.write_all(&vec![1; bytes]).await.unwrap();
        near.shutdown().await.unwrap();
    };
    let receive = async {
        let mut all = Vec::new();
        far.read_to_end(&mut all).await.unwrap();
        all.len()
    };
    let ((), received) = soon(async { tokio::join!(send, receive) }).await;
    assert_eq!(received, bytes);
}

#[tokio::test]
async fn a_connection_survives_a_change_of_address() {
    let transport = QuicTransport::new();
    let listener = listen(&transport).await;
    let (here, there) = expect_service(&transport, &listener, &listener.local_addr()).await;
    let (mut near, mut far) = tokio::try_join!(here.open_stream(), there.accept_stream()).unwrap();
    near.write_all(b"before ").await.unwrap();
    let before = there.remote_addr();

    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let moved = socket.local_addr().unwrap();
    here.endpoint().unwrap().rebind(socket).unwrap();
    near.write_all(b"and after").await.unwrap();
    near.shutdown().await.unwrap();
    let mut text = String::new();
    soon(far.read_to_string(&mut text)).await.unwrap();
    assert_eq!(text, "before and after");
    soon(there.ping()).await.unwrap();
    assert_ne!(there.remote_addr(), before);
    assert_eq!(there.remote_addr().port(), Some(moved.port()));
    assert_eq!(here.local_addr(), there.remote_addr());
}

#[tokio::test]
async fn an_ipv4_client_of_a_listener_on_both_families_has_one_address() {
    let transport = QuicTransport::new();
    let listener = transport.listen(&addr("quic://[::]:0")).await.unwrap();
    let at = listener.local_addr();
    let (port, pin) = (at.port().unwrap(), at.param("cert-sha256").unwrap());
    let to = addr(&format!("quic://127.0.0.1:{port}?cert-sha256={pin}"));
    let (here, there) = connect(&transport, &listener, &to).await;
    assert_eq!(here.remote_addr(), to);
    assert_eq!(there.remote_addr().host(), Some("127.0.0.1"));
    let local_port = here.local_addr().port();
    assert_eq!(there.remote_addr().port(), local_port);
}

#[tokio::test]
async fn an_unspecified_address_is_dialed_on_this_host() {
    let transport = QuicTransport::new();
    for host in ["0.0.0.0", "[::]"] {
        let on = addr(&format!("quic://{host}:0"));
        let listener = transport.listen(&on).await.unwrap();
        let at = listener.local_addr();
        let (port, pin) = (at.port().unwrap(), at.param("cert-sha256").unwrap());
        let to = addr(&format!("quic://{host}:{port}?cert-sha256={pin}"));
        let (here, _there) = expect_service(&transport, &listener, &to).await;
        assert_eq!(here.remote_addr(), at);
    }
}

#[tokio::test]
async fn dials_can_share_the_socket_of_a_listener() {
    let transport = QuicTransport::new();
    let (one, two) = (listen(&transport).await, listen(&transport).await);
    let through = one.transport();
    let (here, there) = expect_service(&through, &two, &two.local_addr()).await;
    assert_eq!(there.remote_addr().port(), one.local_addr().port());
    // The other way round at the same time, and to itself.
    expect_service(&two.transport(), &one, &one.local_addr()).await;
    expect_service(&through, &one, &one.local_addr()).await;

    one.close();
    let error = refused(&through, &two.local_addr()).await;
    assert_eq!(error.kind(), ErrorKind::Closed);
    soon(echo(&here, &there)).await.unwrap();
}

#[tokio::test]
async fn a_port_is_free_when_nobody_uses_it_whatever_is_held() {
    let transport = QuicTransport::new();
    let listener = listen(&transport).await;
    let port = listener.local_addr().port().unwrap();
    let (here, there) = connect(&transport, &listener, &listener.local_addr()).await;
    let (near, far) = tokio::try_join!(here.open_stream(), there.accept_stream()).unwrap();
    let dialed_from = here.local_addr().port().unwrap();
    listener.close();
    assert!(std::net::UdpSocket::bind(("127.0.0.1", port)).is_err());

    here.close(0, "");
    soon(there.closed()).await;
    // The handles are there, but the connection is not.
    for port in [port, dialed_from] {
        let free = async {
            while std::net::UdpSocket::bind(("127.0.0.1", port)).is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        soon(free).await;
    }
    drop((near, far, here, there, listener));
}

#[tokio::test]
async fn an_address_without_a_listener_is_told_at_once() {
    let reserved = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let vacant = reserved.local_addr().unwrap();
    reserved.connect(vacant).unwrap();
    let transport = with(Config::default().with_handshake_timeout(Duration::from_secs(60)));
    let error = refused(&transport, &addr(&format!("quic://{vacant}"))).await;
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
}

#[tokio::test]
async fn streams_left_unread_hold_up_neither_pings_nor_closes() {
    let config = Config::default()
        .with_stream_window(16 * 1024)
        .with_connection_window(32 * 1024)
        .with_keep_alive(Duration::from_millis(100))
        .with_disconnected_after(Duration::from_secs(10));
    let transport = with(config);
    let listener = listen(&transport).await;
    let (here, there) = connect(&transport, &listener, &listener.local_addr()).await;
    let mut unread = Vec::new();
    for _ in 0..4 {
        let (mut near, far) = tokio::try_join!(here.open_stream(), there.accept_stream()).unwrap();
        let fill = near.write_all(&[0; 64 * 1024]);
        let filled = tokio::time::timeout(Duration::from_millis(200), fill).await;
        assert!(filled.is_err(), "more than a window was taken");
        unread.push((near, far));
    }
    let sent = here.stats().bytes_sent;
    assert!(sent <= 32 * 1024, "{sent} bytes are unread");
    for conn in [&here, &there] {
        soon(conn.ping()).await.unwrap();
        assert_eq!(*conn.state().borrow(), ConnState::Connected);
    }
    // A writer that waits for the window hears of a stop, and of the room that it makes.
    let (mut near, mut far) = unread.pop().unwrap();
    let (stopped, ()) = tokio::join!(soon(near.write_all(&[0; 64 * 1024])), async {
        far.stop(3);
    });
    let error = Error::from(stopped.unwrap_err());
    assert_eq!((error.kind(), error.code()), (ErrorKind::Stopped, Some(3)));
    drop((near, far));
    let (mut near, mut far) = unread.pop().unwrap();
    drop(unread);
    let rest = async {
        near.write_all(&[1; 64 * 1024]).await.unwrap();
        near.shutdown().await.unwrap();
    };
    let read = async {
        let mut all = Vec::new();
        far.read_to_end(&mut all).await.unwrap();
        all.len()
    };
    let ((), read) = soon(async { tokio::join!(rest, read) }).await;
    assert!(read >= 64 * 1024);
    here.close(9, "enough");
    assert_eq!(soon(there.closed()).await.code(), Some(9));
}

#[tokio::test]
async fn a_drain_waits_until_everything_has_arrived() {
    let transport = QuicTransport::new();
    let listener = listen(&transport).await;
    let (here, there) = connect(&transport, &listener, &listener.local_addr()).await;
    let mut near = here.open_stream().await.unwrap();
    let send = async {
        near.write_all(&vec![7; 3 << 20]).await.unwrap();
        near.shutdown().await.unwrap();
        drop(near);
        here.drain().await
    };
    let receive = async {
        let mut far = there.accept_stream().await.unwrap();
        let mut all = Vec::new();
        far.read_to_end(&mut all).await.unwrap();
        assert_eq!(all.len(), 3 << 20);
        far.shutdown().await.unwrap();
        there.closed().await
    };
    // The dialer reads nothing, so it lets its receiving direction go.
    let (drained, end) = soon(async { tokio::join!(send, receive) }).await;
    drained.unwrap();
    assert!(
        matches!(end, CloseReason::Remote { code: 0, .. }),
        "{end:?}"
    );
}

#[tokio::test]
async fn streams_end_with_a_disconnect_where_that_is_asked() {
    let config = Config::default()
        .with_keep_alive(Duration::from_millis(50))
        .with_disconnected_after(Duration::from_millis(300))
        .with_failed_after(Duration::from_secs(60))
        .with_on_disconnect(OnDisconnect::FailStreams);
    let cable = Arc::new(Cable::default());
    let proxied = Proxied {
        transport: with(config),
        cable: Some(cable.clone()),
    };
    let listener = proxied.listen(&addr("quic://127.0.0.1:0")).await.unwrap();
    let local = listener.local_addr();
    let (here, there) = tokio::try_join!(proxied.dial(&local), listener.accept()).unwrap();
    let (near, mut far) = tokio::try_join!(here.open_stream(), there.accept_stream()).unwrap();
    let (mut send, mut recv) = near.into_split();
    cable.cut();
    let mut buf = [0; 16];
    let pending = async {
        tokio::join!(recv.read(&mut buf), send.stopped(), async {
            far.read(&mut [0; 16]).await
        })
    };
    let (read, stopped, other) = soon(pending).await;
    for error in [
        Error::from(read.unwrap_err()),
        stopped.unwrap_err(),
        Error::from(other.unwrap_err()),
    ] {
        assert_eq!(error.kind(), ErrorKind::Disconnected, "{error}");
    }
    let write = Error::from(send.write(b"x").await.unwrap_err());
    assert_eq!(write.kind(), ErrorKind::Disconnected);

    cable.heal();
    for conn in [&here, &there] {
        let mut state = conn.state();
        let back = state.wait_for(|state| *state == ConnState::Connected);
        soon(back).await.unwrap();
    }
    soon(echo(&here, &there)).await.unwrap();
}

#[tokio::test]
async fn a_close_that_nobody_answers_ends_in_time() {
    let cable = Arc::new(Cable::default());
    let proxied = Proxied {
        transport: QuicTransport::new(),
        cable: Some(cable.clone()),
    };
    let listener = proxied.listen(&addr("quic://127.0.0.1:0")).await.unwrap();
    let local = listener.local_addr();
    let (here, _there) = tokio::try_join!(proxied.dial(&local), listener.accept()).unwrap();
    let (quinn, port) = (here.quinn().clone(), here.local_addr().port().unwrap());
    cable.cut();
    here.close(1, "gone");
    assert_eq!(here.closed().await.code(), Some(1));
    soon(quinn.closed()).await;
    let free = async {
        while std::net::UdpSocket::bind(("0.0.0.0", port)).is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon(free).await;
}

#[tokio::test]
async fn profiles_work_with_each_other() {
    let of = |profile| QuicTransport::new().with_profile(profile);
    for (dialing, listening, large) in [
        (Profile::Loopback, Profile::Loopback, true),
        (Profile::Loopback, Profile::Wan, false),
        (Profile::Wan, Profile::Loopback, false),
    ] {
        let listener = listen(&of(listening)).await;
        let (here, there) = connect(&of(dialing), &listener, &listener.local_addr()).await;
        carry(&here, &there, 8 << 20).await;
        let mtu = here.quinn().stats().path.current_mtu;
        assert_eq!(mtu > 6000, large, "datagrams of {mtu} bytes");
    }
}

#[tokio::test]
async fn datagrams_over_loopback_are_not_probed_for() {
    let transport = QuicTransport::new();
    let listener = listen(&transport).await;
    let (here, there) = expect_service(&transport, &listener, &listener.local_addr()).await;
    for conn in [here, there] {
        let path = conn.quinn().stats().path;
        assert_eq!((path.current_mtu, path.sent_plpmtud_probes), (1452, 0));
    }
}

/// Passes datagrams on between one dialer and a listener, except those of more than 1,300 bytes.
async fn narrow_relay(near: UdpSocket, to: SocketAddr) {
    let far = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (mut out, mut back) = (vec![0; 2048], vec![0; 2048]);
    let mut dialer = None;
    loop {
        tokio::select! {
            Ok((count, from)) = near.recv_from(&mut out) => {
                dialer = Some(from);
                if count <= 1300 {
                    let _ = far.send_to(&out[..count], to).await;
                }
            }
            Ok(count) = far.recv(&mut back) => if let Some(dialer) = dialer && count <= 1300 {
                let _ = near.send_to(&back[..count], dialer).await;
            }
        }
    }
}

#[tokio::test]
async fn a_relay_on_loopback_to_a_narrow_network_is_found_out() {
    let transport = QuicTransport::new();
    let listener = listen(&transport).await;
    let at = listener.local_addr();
    let (port, pin) = (at.port().unwrap(), at.param("cert-sha256").unwrap());
    let near = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let by_relay = near.local_addr().unwrap();
    tokio::spawn(narrow_relay(near, ([127, 0, 0, 1], port).into()));
    let by_relay = addr(&format!("quic://{by_relay}?cert-sha256={pin}"));
    let (here, there) = connect(&transport, &listener, &by_relay).await;
    carry(&here, &there, 1 << 20).await;
}

#[tokio::test]
async fn a_plain_peer_gets_streams_codes_and_a_close() {
    let transport = QuicTransport::new();
    let listener = transport
        .listen(&addr("quic://127.0.0.1:0?wire=raw&alpn=x"))
        .await
        .unwrap();
    let local = listener.local_addr();
    let (here, there) = expect_service(&transport, &listener, &local).await;

    // A peer of another make may use codes of 62 bits.
    let plain = here.quinn();
    let (mut send, mut recv) = plain.open_bi().await.unwrap();
    send.write_all(b"x").await.unwrap();
    let mut far = soon(there.accept_stream()).await.unwrap();
    assert_eq!(far.id(), u64::from(send.id()));
    far.write_all(b"abc").await.unwrap();
    let mut buf = [0; 3];
    soon(recv.read_exact(&mut buf)).await.unwrap();
    recv.stop(quinn::VarInt::MAX).unwrap();
    let error = soon(async {
        loop {
            if let Err(error) = far.write(b"more").await {
                break Error::from(error);
            }
            tokio::task::yield_now().await;
        }
    });
    let error = error.await;
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::Stopped, Some(u32::MAX))
    );
    plain.close(quinn::VarInt::from_u32(5), b"bye");
    let CloseReason::Remote { code, reason } = soon(there.closed()).await else {
        panic!("the peer has closed it");
    };
    assert_eq!((code, &*reason), (5, "bye"));
}

#[tokio::test]
async fn a_drain_towards_a_plain_peer_waits_until_its_quic_has_everything() {
    let transport = QuicTransport::new();
    let listener = transport
        .listen(&addr("quic://127.0.0.1:0?wire=raw"))
        .await
        .unwrap();
    let (here, there) = connect(&transport, &listener, &listener.local_addr()).await;
    let mut near = here.open_stream().await.unwrap();
    let send = async {
        near.write_all(&vec![7; 2 << 20]).await.unwrap();
        near.shutdown().await.unwrap();
        drop(near);
        here.drain().await
    };
    let receive = async {
        let mut far = there.accept_stream().await.unwrap();
        let mut all = Vec::new();
        // The end of the connection comes after the bytes.
        far.read_to_end(&mut all).await.unwrap();
        all.len()
    };
    let (drained, received) = soon(async { tokio::join!(send, receive) }).await;
    drained.unwrap();
    assert_eq!(received, 2 << 20);
}
