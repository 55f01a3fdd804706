//! A link that is slowed, cut and healed while connections live. Time is virtual.

use std::time::Duration;

use pipe_core::Transport;
use pipe_core::{CloseReason, Config, Conn, ConnState, Error, ErrorKind, Listener, OnDisconnect};
use pipe_inproc::{InprocTransport, Link, LinkProfile, Namespace};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep, timeout};

use crate::common::{connect, stream};

const MS: Duration = Duration::from_millis(1);

fn config() -> Config {
    Config::default()
        .with_keep_alive(500 * MS)
        .with_disconnected_after(2000 * MS)
        .with_failed_after(5000 * MS)
}

fn bytes(count: usize) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(count as u64);
    std::iter::repeat_with(|| rng.u8(..)).take(count).collect()
}

async fn reaches(conn: &impl Conn, wanted: ConnState) -> Instant {
    conn.state()
        .wait_for(|state| *state == wanted)
        .await
        .unwrap();
    Instant::now()
}

#[tokio::test(start_paused = true)]
async fn a_ping_takes_the_round_trip_of_the_link() {
    for (name, profile) in LinkProfile::PRESETS {
        let (a, b) = connect(config(), &Link::new(profile)).await;
        for conn in [&a, &b] {
            let trip = conn.ping().await.unwrap();
            // One loss each way at most, by the seed.
            let most = 3 * profile.round_trip() + 6 * profile.jitter + MS;
            assert!(
                trip > Duration::ZERO && trip >= profile.round_trip(),
                "{name}: {trip:?}"
            );
            assert!(trip <= most, "{name}: {trip:?}");
            assert_eq!(conn.stats().last_round_trip, Some(trip));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_transfer_takes_the_time_that_the_bandwidth_gives() {
    let profile = LinkProfile::ideal()
        .with_bandwidth(1_000_000)
        .with_latency(5 * MS);
    let (a, b) = connect(config(), &Link::new(profile)).await;
    let (mut tx, mut rx) = stream(&a, &b).await;
    let sent = bytes(2_000_000);
    let start = Instant::now();
    let (written, received) = tokio::join!(
        async {
            tx.write_all(&sent).await?;
            tx.shutdown().await
        },
        async {
            let mut received = Vec::new();
            rx.read_to_end(&mut received).await.map(|_| received)
        }
    );
    written.unwrap();
    assert!(received.unwrap() == sent);
    let took = start.elapsed();
    assert!((2000 * MS..2400 * MS).contains(&took), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_cut_goes_through_disconnected_to_failed_at_the_configured_times() {
    let link = Link::default();
    let (a, b) = connect(config(), &link).await;
    let (mut here, mut there) = stream(&a, &b).await;
    here.write_all(b"x").await.unwrap();
    there.read_exact(&mut [0]).await.unwrap();

    let cut = Instant::now();
    link.cut();
    assert!(link.is_cut());
    for conn in [&a, &b] {
        assert_eq!(
            reaches(conn, ConnState::Disconnected).await - cut,
            2000 * MS
        );
    }
    let ping = tokio::spawn({
        let a = a.clone();
        async move { a.ping().await }
    });
    let mut buf = [0];
    let (read, failed) = tokio::join!(here.read(&mut buf), reaches(&a, ConnState::Failed));
    assert_eq!(failed - cut, 5000 * MS);
    let error = read.unwrap_err();
    assert_eq!(Error::from_io(&error).unwrap().kind(), ErrorKind::Failed);
    assert_eq!(ping.await.unwrap().unwrap_err().kind(), ErrorKind::Failed);
    assert_eq!(reaches(&b, ConnState::Failed).await - cut, 5000 * MS);
    assert!(matches!(b.closed().await, CloseReason::Failed(_)));
    assert_eq!(b.open_stream().await.unwrap_err().kind(), ErrorKind::Failed);
}

#[tokio::test(start_paused = true)]
async fn a_cut_that_is_healed_in_time_loses_nothing() {
    for profile in [LinkProfile::ideal(), LinkProfile::wifi()] {
        let link = Link::new(profile);
        let (a, b) = connect(config(), &link).await;
        let (mut tx, mut rx) = stream(&a, &b).await;
        let sent = bytes(3_000_000);
        let writer = tokio::spawn({
            let sent = sent.clone();
            async move {
                tx.write_all(&sent).await.unwrap();
                tx.shutdown().await.unwrap();
                tx
            }
        });
        let mut received = vec![0; 100_000];
        rx.read_exact(&mut received).await.unwrap();
        for _ in 0..3 {
            link.cut();
            reaches(&a, ConnState::Disconnected).await;
            reaches(&b, ConnState::Disconnected).await;
            let ping = tokio::spawn({
                let b = b.clone();
                async move { b.ping().await }
            });
            sleep(1000 * MS).await;
            assert!(!ping.is_finished(), "a ping waits for the link");
            link.heal();
            reaches(&a, ConnState::Connected).await;
            reaches(&b, ConnState::Connected).await;
            assert!(ping.await.unwrap().unwrap() >= 1000 * MS);
            let mut more = vec![0; 100_000];
            rx.read_exact(&mut more).await.unwrap();
            received.extend(more);
        }
        rx.read_to_end(&mut received).await.unwrap();
        assert!(received == sent);
        writer.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn streams_end_on_a_disconnect_where_the_configuration_says_so() {
    let link = Link::default();
    let (a, b) = connect(
        config().with_on_disconnect(OnDisconnect::FailStreams),
        &link,
    )
    .await;
    let (mut here, mut there) = stream(&a, &b).await;
    link.cut();
    for end in [&mut here, &mut there] {
        let error = end.read(&mut [0]).await.unwrap_err();
        assert_eq!(
            Error::from_io(&error).unwrap().kind(),
            ErrorKind::Disconnected
        );
        let error = end.write(&[0]).await.unwrap_err();
        assert_eq!(
            Error::from_io(&error).unwrap().kind(),
            ErrorKind::Disconnected
        );
    }
    // They have their places in the limit, and hold up a drain, until the application lets them go.
    drop((here, there));
    link.heal();
    reaches(&a, ConnState::Connected).await;
    let (mut here, mut there) = stream(&a, &b).await;
    here.write_all(b"again").await.unwrap();
    let mut buf = [0; 5];
    there.read_exact(&mut buf).await.unwrap();
    assert_eq!(&buf, b"again");
    drop((here, there));
    timeout(1000 * MS, a.drain())
        .await
        .expect("no stream is left")
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_crashed_peer_is_silence_and_then_failed() {
    for crash_dialer in [false, true] {
        let link = Link::new(LinkProfile::lan());
        let (a, b) = connect(config(), &link).await;
        let (mut here, mut there) = stream(&a, &b).await;
        here.write_all(b"x").await.unwrap();
        there.read_exact(&mut [0]).await.unwrap();
        let start = Instant::now();
        let (dead, alive, mut stream) = if crash_dialer {
            link.crash_dialers();
            (a, b, there)
        } else {
            link.crash_listeners();
            (b, a, here)
        };
        assert_eq!(*dead.state().borrow(), ConnState::Failed);
        assert_eq!(dead.ping().await.unwrap_err().kind(), ErrorKind::Failed);
        drop(dead);
        let error = stream.read(&mut [0]).await.unwrap_err();
        assert_eq!(Error::from_io(&error).unwrap().kind(), ErrorKind::Failed);
        let took = start.elapsed();
        assert!((4900 * MS..5100 * MS).contains(&took), "{took:?}");
        assert!(matches!(alive.closed().await, CloseReason::Failed(_)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_side_that_gave_up_tells_the_other_when_the_link_is_back() {
    let link = Link::default();
    let namespace = Namespace::new();
    let patient = InprocTransport::new()
        .with_namespace(namespace.clone())
        .with_config(config().with_failed_after(60_000 * MS))
        .unwrap();
    let hasty = InprocTransport::new()
        .with_namespace(namespace)
        .with_link(link.clone())
        .with_config(config())
        .unwrap();
    let listener = patient.listen(&"inproc://".parse().unwrap()).await.unwrap();
    let a = hasty.dial(&listener.local_addr()).await.unwrap();
    let b = listener.accept().await.unwrap();
    link.cut();
    reaches(&a, ConnState::Failed).await;
    assert_eq!(*b.state().borrow(), ConnState::Disconnected);
    link.heal();
    let back = Instant::now();
    assert!(reaches(&b, ConnState::Failed).await - back <= 1000 * MS);
    let CloseReason::Failed(error) = b.closed().await else {
        panic!("not failed")
    };
    assert_eq!(error.to_string(), "the peer aborted the connection");
}

#[tokio::test(start_paused = true)]
async fn a_close_is_heard_of_after_the_latency() {
    let link = Link::new(LinkProfile::ideal().with_latency(100 * MS));
    let (a, b) = connect(config(), &link).await;
    let start = Instant::now();
    a.close(7, "enough");
    assert_eq!(*a.state().borrow(), ConnState::Closed);
    assert_eq!(*b.state().borrow(), ConnState::Connected);
    let CloseReason::Remote { code, reason } = b.closed().await else {
        panic!("not remote")
    };
    assert_eq!((code, &*reason), (7, "enough"));
    assert_eq!(start.elapsed(), 100 * MS);
}

#[tokio::test(start_paused = true)]
async fn the_profile_can_change_under_a_transfer() {
    for seed in 0..20 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let link = Link::default();
        let config = config().with_stream_window(1 << rng.u32(4..18));
        let (a, b) = connect(config, &link).await;
        let (mut tx, mut rx) = stream(&a, &b).await;
        let sent = bytes(400_000);
        let writer = tokio::spawn({
            let sent = sent.clone();
            let mut rng = fastrand::Rng::with_seed(seed);
            async move {
                let mut rest = &sent[..];
                while !rest.is_empty() {
                    let part = rest.len().min(rng.usize(1..5000));
                    tx.write_all(&rest[..part]).await.unwrap();
                    rest = &rest[part..];
                }
                tx.shutdown().await.unwrap();
            }
        });
        let changer = tokio::spawn({
            let link = link.clone();
            async move {
                loop {
                    match rng.u8(..5) {
                        0 => link.cut(),
                        1 | 2 => link.heal(),
                        _ => {
                            let (_, profile) = LinkProfile::PRESETS[rng.usize(..4)];
                            link.set_profile(profile.with_seed(seed));
                        }
                    }
                    sleep(rng.u32(..30) * MS).await;
                }
            }
        });
        let mut received = Vec::new();
        timeout(600_000 * MS, rx.read_to_end(&mut received))
            .await
            .expect("no stall")
            .unwrap();
        assert!(received == sent, "seed {seed}");
        changer.abort();
        writer.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_gives_the_same_run() {
    async fn run(seed: u64) -> Duration {
        let (a, b) = connect(config(), &Link::new(LinkProfile::mobile().with_seed(seed))).await;
        let (mut tx, mut rx) = stream(&a, &b).await;
        let start = Instant::now();
        for i in 0..50_u8 {
            tx.write_all(&[i; 5000]).await.unwrap();
            rx.read_exact(&mut [0; 5000]).await.unwrap();
        }
        start.elapsed()
    }
    let first = run(1).await;
    assert_eq!(run(1).await, first);
    assert_ne!(run(2).await, first);
}

#[tokio::test(start_paused = true)]
async fn a_dial_over_a_cut_link_waits_for_its_heal_or_times_out() {
    let link = Link::new(LinkProfile::wifi());
    let namespace = Namespace::new();
    let transport = InprocTransport::new()
        .with_namespace(namespace)
        .with_link(link.clone());
    let listener = transport
        .listen(&"inproc://here".parse().unwrap())
        .await
        .unwrap();
    link.cut();
    let start = Instant::now();
    let error = transport.dial(&listener.local_addr()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert_eq!(
        error.to_string(),
        "inproc://here made no connection within 10s"
    );
    assert!(error.may_recover());
    assert_eq!(start.elapsed(), 10_000 * MS);

    let dial = tokio::spawn({
        let (transport, addr) = (transport.clone(), listener.local_addr());
        async move { transport.dial(&addr).await }
    });
    sleep(3000 * MS).await;
    link.heal();
    let conn = dial.await.unwrap().unwrap();
    assert!(conn.ping().await.unwrap() >= LinkProfile::wifi().round_trip());
}

#[tokio::test(start_paused = true)]
async fn an_address_can_choose_the_link() {
    let transport = InprocTransport::new().with_namespace(Namespace::new());
    let listener = transport
        .listen(&"inproc://sat".parse().unwrap())
        .await
        .unwrap();
    let conn = transport
        .dial(&"inproc://sat?link=satellite".parse().unwrap())
        .await
        .unwrap();
    let peer = listener.accept().await.unwrap();
    assert_eq!(conn.link().profile(), LinkProfile::satellite());
    assert!(peer.ping().await.unwrap() >= 600 * MS);
    conn.link().set_profile(LinkProfile::ideal());
    peer.ping().await.unwrap();
    let trip = peer.ping().await.unwrap();
    assert!(trip < MS, "{trip:?}");
}

#[tokio::test(start_paused = true)]
async fn pings_under_way_are_bounded_on_a_cut_link() {
    let link = Link::default();
    let (a, _b) = connect(config(), &link).await;
    link.cut();
    for _ in 0..1000 {
        assert!(timeout(Duration::ZERO, a.ping()).await.is_err());
    }
    link.heal();
    let start = Instant::now();
    a.ping().await.unwrap();
    assert!(start.elapsed() < 1000 * MS);
}
