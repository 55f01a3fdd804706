//! Data before the handshake is over (0-RTT), and what becomes of it when somebody repeats it.

use std::time::Duration;

use futures::FutureExt;
use pipe_core::{
    Addr, CloseReason, Config, Conn, ConnState, Error, ErrorKind, Listener, Transport,
};
use pipe_quic::{EarlyData, Identity, QuicConn, QuicListener, QuicTransport, Roots, TlsOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::common::{self, Issuer, addr, connect, echo, expect_service, refused, soon, tls};
use crate::relay::Relay;

fn early() -> QuicTransport {
    // The relay tells dialers by their ports.
    QuicTransport::new()
        .with_zero_rtt(true)
        .with_socket_per_dial(true)
}

async fn listen(transport: &QuicTransport) -> QuicListener {
    common::listen(transport).await
}

/// Makes a connection, which leaves a session behind, and ends it.
async fn meet(transport: &QuicTransport, listener: &QuicListener, addr: &Addr) {
    let (here, there) = expect_service(transport, listener, addr).await;
    assert_eq!(here.early_data(), EarlyData::None);
    assert_eq!(there.early_data(), EarlyData::None);
    soon(here.confirmed()).await.unwrap();
    soon(here.drain()).await.unwrap();
    soon(there.closed()).await;
}

/// Listens at an address as soon as it is free.
async fn listen_again(transport: &QuicTransport, addr: &Addr) -> QuicListener {
    let listening = async {
        loop {
            match transport.listen(addr).await {
                Ok(listener) => return listener,
                Err(error) => assert_eq!(error.kind(), ErrorKind::AddrInUse),
            }
            tokio::task::yield_now().await;
        }
    };
    soon(listening).await
}

/// Sends a request over a new stream.
async fn request(conn: &QuicConn, text: &str) -> pipe_quic::QuicStream {
    let mut stream = soon(conn.open_stream()).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    stream
}

/// The whole of the next stream.
async fn received(conn: &QuicConn) -> String {
    let mut text = String::new();
    let mut stream = soon(conn.accept_stream()).await.unwrap();
    soon(stream.read_to_string(&mut text)).await.unwrap();
    text
}

#[tokio::test]
async fn what_is_sent_early_arrives_before_the_listener_is_heard() {
    let transport = early();
    let listener = listen(&transport).await;
    let (relay, by_relay) = Relay::to(&listener.local_addr()).await;
    meet(&transport, &listener, &by_relay).await;

    relay.hold_back(true);
    let here = soon(transport.dial(&by_relay)).await.unwrap();
    assert_eq!(here.early_data(), EarlyData::Pending);
    assert_eq!(here.remote_addr(), by_relay);
    let identity = here.peer_identity();
    assert!(identity.is_some());
    let mut stream = request(&here, "early").await;
    let there = soon(listener.accept()).await.unwrap();
    assert_eq!(received(&there).await, "early");
    assert_eq!(there.early_data(), EarlyData::Pending);
    assert_eq!(relay.passed_back(), 0);
    for conn in [&here, &there] {
        assert!(conn.confirmed().now_or_never().is_none());
    }
    // The listener's own may come as early.
    request(&there, "and back").await;

    relay.hold_back(false);
    for conn in [&here, &there] {
        soon(conn.confirmed()).await.unwrap();
        assert_eq!(conn.early_data(), EarlyData::Accepted);
    }
    assert_eq!(received(&here).await, "and back");
    assert_eq!(here.peer_identity(), identity);
    assert_eq!(soon(stream.read(&mut [0; 9])).await.unwrap_err().kind(), {
        // The listener dropped its direction.
        std::io::ErrorKind::ConnectionReset
    });
    drop(stream);
    soon(echo(&here, &there)).await.unwrap();
    soon(there.ping()).await.unwrap();
    soon(here.drain()).await.unwrap();

    // The next connection resumes a session of this one, or of the first.
    let (here, _) = connect(&transport, &listener, &by_relay).await;
    soon(here.confirmed()).await.unwrap();
    assert_eq!(here.early_data(), EarlyData::Accepted);
}

#[tokio::test]
async fn nothing_is_early_unless_both_ends_want_it() {
    let (with, without) = (early(), QuicTransport::new());
    for (dialing, listening) in [(&with, &without), (&without, &with), (&without, &without)] {
        let listener = listen(listening).await;
        let local = listener.local_addr();
        meet(dialing, &listener, &local).await;
        meet(dialing, &listener, &local).await;
    }
    // The address goes before the transport.
    let on = addr("quic://127.0.0.1:0?zero-rtt=true");
    let listener = without.listen(&on).await.unwrap();
    let local = listener.local_addr();
    assert_eq!(local.param("zero-rtt"), None);
    let (on, off) = (
        local.clone().with_param("zero-rtt", "true"),
        local.with_param("zero-rtt", "false"),
    );
    meet(&with, &listener, &off).await;
    meet(&with, &listener, &off).await;
    meet(&without, &listener, &on).await;
    let (here, _) = connect(&without, &listener, &on).await;
    soon(here.confirmed()).await.unwrap();
    assert_eq!(here.early_data(), EarlyData::Accepted);
}

#[tokio::test]
async fn a_connection_whose_early_data_is_refused_fails_as_a_whole() {
    let transport = early();
    let mut listener = listen(&transport).await;
    let local = listener.local_addr();
    meet(&transport, &listener, &local).await;
    for again in [transport.clone(), transport.clone().with_zero_rtt(false)] {
        // The same certificate, and none of the sessions.
        drop(listener);
        listener = listen_again(&again, &local).await;

        let here = soon(transport.dial(&local)).await.unwrap();
        assert_eq!(here.early_data(), EarlyData::Pending);
        let mut stream = request(&here, "lost").await;
        let read = Error::from(soon(stream.read(&mut [0; 9])).await.unwrap_err());
        for error in [
            read,
            soon(here.confirmed()).await.unwrap_err(),
            soon(here.open_stream()).await.unwrap_err(),
            soon(here.drain()).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
            assert!(error.to_string().contains("dial again"), "{error}");
        }
        let end = soon(here.closed()).await;
        assert!(matches!(end, CloseReason::Failed(_)), "{end:?}");
        assert_eq!(*here.state().borrow(), ConnState::Failed);

        meet(&transport, &listener, &local).await;
    }
}

#[tokio::test]
async fn a_dial_that_resumes_a_session_with_nobody_is_refused_soon() {
    let transport = early();
    let listener = listen(&transport).await;
    let local = listener.local_addr();
    meet(&transport, &listener, &local).await;
    drop(listener);
    let error = match soon(transport.dial(&local)).await {
        Ok(here) => soon(here.confirmed()).await.unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    refused(&transport, &local).await;
}

#[tokio::test]
async fn the_last_words_of_an_early_connection_arrive() {
    let transport = early();
    let listener = listen(&transport).await;
    let local = listener.local_addr();
    meet(&transport, &listener, &local).await;

    let here = soon(transport.dial(&local)).await.unwrap();
    assert_eq!(here.early_data(), EarlyData::Pending);
    drop(request(&here, "all of it").await);
    let drained = async { soon(here.drain()).await };
    let heard = async {
        let there = soon(listener.accept()).await.unwrap();
        assert_eq!(received(&there).await, "all of it");
        soon(there.closed()).await
    };
    let (drained, end) = tokio::join!(drained, heard);
    drained.unwrap();
    assert_eq!(end.code(), Some(0));

    let here = soon(transport.dial(&local)).await.unwrap();
    assert_eq!(here.early_data(), EarlyData::Pending);
    here.close(5, "bye");
    let there = soon(listener.accept()).await.unwrap();
    let CloseReason::Remote { code, reason } = soon(there.closed()).await else {
        panic!("the dialer has closed it");
    };
    assert_eq!((code, &*reason), (5, "bye"));
}

#[tokio::test]
async fn what_was_read_early_is_not_read_again_by_repeating_it() {
    let transport = early();
    let listener = listen(&transport).await;
    let (relay, by_relay) = Relay::to(&listener.local_addr()).await;
    meet(&transport, &listener, &by_relay).await;
    let attempts = || listener.endpoint().stats().accepted_handshakes;

    relay.hold_back(true);
    let here = soon(transport.dial(&by_relay)).await.unwrap();
    drop(request(&here, "pay 5").await);
    let there = soon(listener.accept()).await.unwrap();
    assert_eq!(received(&there).await, "pay 5");
    let first_flight = relay.recorded(&here);
    relay.hold_back(false);
    soon(here.confirmed()).await.unwrap();

    // While the connection lives, the copies are its own packets again.
    let before = attempts();
    relay.send(&first_flight).await;
    soon(echo(&here, &there)).await.unwrap();
    assert_eq!(attempts(), before);
    assert_eq!(there.stats().streams_accepted, 2);

    // Later, they begin another connection, of a stranger, who cannot finish the handshake.
    soon(here.drain()).await.unwrap();
    soon(there.closed()).await;
    relay.send(&first_flight).await;
    soon(async {
        while attempts() == before {
            relay.send(&first_flight).await;
            tokio::task::yield_now().await;
        }
    })
    .await;
    let plain = QuicTransport::new();
    let (_, next) = expect_service(&plain, &listener, &listener.local_addr()).await;
    assert_eq!(next.early_data(), EarlyData::None);
}

#[tokio::test]
async fn what_was_kept_from_the_listener_is_read_later_but_never_confirmed() {
    let config = Config::default()
        .with_keep_alive(Duration::from_millis(200))
        .with_disconnected_after(Duration::from_millis(1000))
        .with_failed_after(Duration::from_millis(2000));
    let transport = early().with_config(config).unwrap();
    let listener = listen(&transport).await;
    let (relay, by_relay) = Relay::to(&listener.local_addr()).await;
    meet(&transport, &listener, &by_relay).await;

    relay.swallow(true);
    let here = soon(transport.dial(&by_relay)).await.unwrap();
    let stream = request(&here, "pay 5").await;
    soon(async {
        // The hello and the request are on their way, and have come as far as the relay.
        loop {
            let stats = here.quinn().stats();
            let sent = stats.udp_tx.datagrams;
            if stats.frame_tx.stream >= 2 && relay.recorded(&here).len() as u64 >= sent {
                break;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    let kept = relay.recorded(&here);
    drop((stream, here));
    relay.swallow(false);

    // The dialer tries again.
    let (here, there) = connect(&transport, &listener, &by_relay).await;
    let _stream = request(&here, "pay 5").await;
    assert_eq!(received(&there).await, "pay 5");
    soon(there.confirmed()).await.unwrap();

    // And somebody delivers what was kept.
    relay.send(&kept).await;
    let copy = soon(listener.accept()).await.unwrap();
    assert_eq!(received(&copy).await, "pay 5");
    assert_eq!(copy.early_data(), EarlyData::Pending);
    let error = soon(copy.confirmed()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Failed, "{error}");
    assert_eq!(copy.early_data(), EarlyData::Pending);
}

#[tokio::test]
async fn a_resumed_session_is_of_the_same_listener() {
    let root = Issuer::new();
    let dialing = tls(TlsOptions::new().with_roots(root.roots())).with_zero_rtt(true);
    let listening = |identity: &Identity| {
        let options = TlsOptions::new().with_identity(identity.clone());
        tls(options).with_zero_rtt(true)
    };
    let good = root.issue("localhost", (2000, 2900));
    let any = addr("quic://localhost:0");
    let listener = listening(&good).listen(&any).await.unwrap();
    let port = listener.local_addr().port().unwrap();
    let by_name = addr(&format!("quic://localhost:{port}"));
    meet(&dialing, &listener, &by_name).await;
    let (here, _) = connect(&dialing, &listener, &by_name).await;
    assert_eq!(here.early_data(), EarlyData::Pending);
    let shown = here.peer_identity();
    soon(here.confirmed()).await.unwrap();
    let full = tls(TlsOptions::new().with_roots(root.roots()));
    let (there, _) = connect(&full, &listener, &by_name).await;
    assert_eq!(shown, there.peer_identity());
    drop((here, there));

    // Who wants another certificate, another name or other roots resumes nothing.
    let other = Identity::self_signed(["localhost"]).unwrap();
    let pinned = by_name
        .clone()
        .with_param("cert-sha256", &other.sha256().to_string());
    let named = by_name.clone().with_param("server-name", "example.org");
    let distrusting = dialing
        .clone()
        .with_tls(TlsOptions::new().with_roots(Roots::of(&other).unwrap()));
    for (transport, addr) in [
        (&dialing, &pinned),
        (&dialing, &named),
        (&distrusting, &by_name),
    ] {
        let error = refused(transport, addr).await;
        assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
    }

    // Somebody else listens there: what was sent early is lost on them, and they are found out.
    drop(listener);
    let on = addr(&format!("quic://localhost:{port}"));
    let _listener = listen_again(&listening(&other), &on).await;
    let here = soon(dialing.dial(&by_name)).await.unwrap();
    let error = soon(here.confirmed()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
    assert!(error.to_string().contains("issuer"), "{error}");
    let error = refused(&dialing, &by_name).await;
    assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
}

#[tokio::test]
async fn a_listener_that_asks_for_certificates_takes_no_early_data() {
    let client = Identity::self_signed(["device 7"]).unwrap();
    let strict = TlsOptions::new().with_client_roots(Roots::of(&client).unwrap());
    for (zero_rtt, on) in [
        (true, "quic://127.0.0.1:0"),
        (false, "quic://127.0.0.1:0?zero-rtt=true"),
    ] {
        let listening = tls(strict.clone()).with_zero_rtt(zero_rtt);
        let error = listening.listen(&addr(on)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConfigInvalid, "{error}");
        assert!(error.to_string().contains("0-RTT"), "{error}");
    }
    // A dialer that would send it makes ordinary connections there, and is known each time.
    let listener = listen(&tls(strict)).await;
    let dialing = tls(TlsOptions::new().with_identity(client)).with_zero_rtt(true);
    for _ in 0..2 {
        let (here, there) = connect(&dialing, &listener, &listener.local_addr()).await;
        assert_eq!(here.early_data(), EarlyData::None);
        assert!(there.peer_identity().is_some());
    }
}
