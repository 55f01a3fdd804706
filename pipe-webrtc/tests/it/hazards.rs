//! What the engine does by itself, and what a connection must not show of it: one test a hazard.

use std::time::{Duration, Instant};

use pipe_core::{Conn, ConnState, Error, ErrorKind, SendStream, Stream};
use pipe_webrtc::{Faults, WebRtcConn};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::common::{crate_transport, loopback, pair, random, soon, stream, times, transport};

/// Moves bytes over a stream of its own and tells how long that took.
async fn transfer(from: &WebRtcConn, to: &WebRtcConn, data: &[u8], chunk: usize) -> Duration {
    let (mut send, mut receive) = stream(from, to).await;
    let start = Instant::now();
    let write = async {
        for part in data.chunks(chunk) {
            send.write_all(part).await.expect("a write");
        }
        send.shutdown().await.expect("a shutdown");
    };
    let read = async {
        let mut all = Vec::with_capacity(data.len());
        receive.read_to_end(&mut all).await.expect("a read");
        assert!(all == data, "bytes differ");
        receive.shutdown().await.expect("a shutdown");
    };
    soon("a transfer", async { tokio::join!(write, read) }).await;
    start.elapsed()
}

/// A channel whose id was freed by a close and is used again at once never opens.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_in_a_row_go_through() {
    let (here, there) = pair(&transport()).await;
    streams_in_a_row(&here, &there).await;
}

async fn streams_in_a_row(here: &WebRtcConn, there: &WebRtcConn) {
    for i in 0..2000 {
        let (mut opened, mut accepted) = stream(here, there).await;
        opened.write_u8(i as u8).await.unwrap();
        opened.shutdown().await.unwrap();
        drop(opened);
        assert_eq!(accepted.read_u8().await.unwrap(), i as u8);
    }
}

/// The same on the crate, which gives the lowest free id.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_in_a_row_share_a_channel_of_the_crate() {
    let (here, there) = pair(&crate_transport()).await;
    streams_in_a_row(&here, &there).await;
    let engine = here.inner().expect("an engine");
    let report = engine
        .get_stats(Instant::now(), webrtc::peer_connection::StatsSelector::None)
        .await;
    let channels = report.iter().filter(|entry| {
        use webrtc::peer_connection::RTCStatsReportEntry::DataChannel;
        matches!(entry, DataChannel(_))
    });
    let channels = channels.count();
    // As many as were open at once, with those that were still on their way out.
    assert!(channels < 300, "{channels} channels");
}

/// A channel that is left unread stalls all others for good.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_streams_left_unread_hold_up_no_ninth() {
    let transport = transport();
    let (here, there) = pair(&transport).await;
    let data = random(4 << 20);
    let free = transfer(&here, &there, &data, 64 << 10).await;

    let mut stalled = Vec::new();
    for _ in 0..8 {
        let (mut opened, accepted) = stream(&here, &there).await;
        let window = pipe_core::Config::default().stream_window as usize;
        opened.write_all(&data[..window]).await.expect("a window");
        let full = tokio::time::timeout(Duration::from_millis(50), opened.write_u8(0)).await;
        assert!(full.is_err(), "a write beyond the window");
        stalled.push((opened, accepted));
    }
    let beside = transfer(&here, &there, &data, 64 << 10).await;
    println!("4 MiB alone {free:?}, beside eight stalled streams {beside:?}");
    // The machine may be busy with something else.
    assert!(
        beside < 4 * free + Duration::from_secs(1),
        "{free:?} became {beside:?}"
    );
    for (mut opened, mut accepted) in stalled {
        let rest = async {
            opened.shutdown().await.expect("a shutdown");
            let mut all = Vec::new();
            accepted.read_to_end(&mut all).await.expect("a read");
            assert!(data.starts_with(&all), "bytes differ");
        };
        soon("the recovery", rest).await;
    }
}

/// Runs of small messages stalled within their last part.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_writes_do_not_stall() {
    let transport = transport();
    let (here, there) = pair(&transport).await;
    let data = random(16 << 20);
    for chunk in [1 << 10, 16 << 10, 64 << 10] {
        let time = transfer(&here, &there, &data, chunk).await;
        let rate = 16.0 / time.as_secs_f64();
        println!("{chunk} bytes a write: {rate:.1} MiB/s");
    }
}

/// A connection that has failed tells none of its channels.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_reaches_every_stream_ping_and_accept() {
    let faults = Faults::new();
    let transport = transport()
        .with_config(times(100, 400, 1500))
        .unwrap()
        .with_faults(faults.clone());
    let (here, there) = pair(&transport).await;
    let (mut opened, _accepted) = stream(&here, &there).await;
    faults.cut();
    let all = async { tokio::join!(opened.read_u8(), here.ping(), here.accept_stream()) };
    let (read, ping, accept) = soon("the failure", all).await;
    let read = read.expect_err("a read");
    let read = Error::from_io(&read).expect("an error of ours");
    assert_eq!(read.kind(), ErrorKind::Failed);
    assert_eq!(ping.expect_err("a ping").kind(), ErrorKind::Failed);
    assert_eq!(accept.expect_err("an accept").kind(), ErrorKind::Failed);
    assert_eq!(*here.state().borrow(), ConnState::Failed);
}

/// The checks of ICE go on by themselves where nothing else comes through any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_association_on_a_live_path_disconnects_and_fails() {
    let faults = Faults::new();
    let transport = transport()
        .with_config(times(100, 500, 2000))
        .unwrap()
        .with_faults(faults.clone());
    let (here, there) = pair(&transport).await;
    let (mut opened, mut accepted) = stream(&here, &there).await;
    opened.write_all(b"before").await.unwrap();
    let mut text = [0; 6];
    soon("the bytes", accepted.read_exact(&mut text))
        .await
        .unwrap();
    let start = Instant::now();
    faults.cut_data();
    for conn in [&here, &there] {
        let mut state = conn.state();
        let down = state.wait_for(|state| *state == ConnState::Disconnected);
        soon("the disconnect", down).await.unwrap();
    }
    let read = soon("the failure", accepted.read_u8()).await;
    let read = read.expect_err("a read");
    let read = Error::from_io(&read).expect("an error of ours");
    assert_eq!(read.kind(), ErrorKind::Failed);
    for conn in [&here, &there] {
        let mut state = conn.state();
        let over = state.wait_for(|state| *state == ConnState::Failed);
        soon("the failure", over).await.unwrap();
        let reason = conn.closed().await.to_string();
        assert!(reason.contains("has not answered"), "{reason}");
    }
    println!("failed after {:?}", start.elapsed());
}

/// What was lost is sent again within a moment of the return.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_association_that_lives_again_is_connected_again() {
    let faults = Faults::new();
    let transport = transport()
        .with_config(times(100, 500, 30_000))
        .unwrap()
        .with_faults(faults.clone());
    let (here, there) = pair(&transport).await;
    let (mut opened, mut accepted) = stream(&here, &there).await;
    faults.cut_data();
    let mut state = here.state();
    let down = state.wait_for(|state| *state == ConnState::Disconnected);
    soon("the disconnect", down).await.unwrap();
    opened.write_u8(7).await.unwrap();
    faults.heal();
    let up = state.wait_for(|state| *state != ConnState::Disconnected);
    assert_eq!(*soon("the return", up).await.unwrap(), ConnState::Connected);
    let read = soon("the byte", accepted.read_u8()).await;
    assert_eq!(read.unwrap(), 7);
}

/// A path that is gone for long is replaced, as long as the signalling lives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_cut_is_healed_by_a_restart_of_ice() {
    let faults = Faults::new();
    let transport = transport()
        .with_config(times(100, 400, 6000))
        .unwrap()
        .with_faults(faults.clone());
    let (here, there) = pair(&transport).await;
    let (mut opened, mut accepted) = stream(&here, &there).await;
    opened.write_all(b"before").await.unwrap();
    faults.cut();
    let mut state = here.state();
    let down = state.wait_for(|state| *state == ConnState::Disconnected);
    soon("the disconnect", down).await.unwrap();
    opened.write_all(b" and after").await.unwrap();
    opened.shutdown().await.unwrap();
    // Long enough for a restart that fails.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    faults.heal();
    let up = state.wait_for(|state| *state != ConnState::Disconnected);
    assert_eq!(*soon("the return", up).await.unwrap(), ConnState::Connected);
    let mut text = String::new();
    soon("the rest", accepted.read_to_string(&mut text))
        .await
        .unwrap();
    assert_eq!(text, "before and after");
}

/// Lost packets cost time, and no bytes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_packets_lose_no_bytes() {
    let faults = Faults::new();
    let transport = transport().with_faults(faults.clone());
    let (here, there) = pair(&transport).await;
    faults.set_loss(0.01).unwrap();
    let data = random(1 << 20);
    transfer(&here, &there, &data, 64 << 10).await;
    transfer(&there, &here, &data, 1 << 10).await;
}

/// A shutdown is confirmed when the peer has read all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopped_tells_that_everything_was_read() {
    let transport = transport();
    let (here, there) = pair(&transport).await;
    for (opener, acceptor) in [(&here, &there), (&there, &here)] {
        let (opened, accepted) = stream(opener, acceptor).await;
        let (mut send, mut recv) = opened.into_split();
        let (mut back, mut end) = accepted.into_split();
        send.write_all(b"there").await.unwrap();
        send.shutdown().await.unwrap();
        back.write_all(b"and back").await.unwrap();
        back.shutdown().await.unwrap();
        let mut text = String::new();
        soon("the bytes", end.read_to_string(&mut text))
            .await
            .unwrap();
        soon("the bytes", recv.read_to_string(&mut text))
            .await
            .unwrap();
        assert_eq!(text, "thereand back");
        assert_eq!(soon("the word", send.stopped()).await.unwrap(), None);
        assert_eq!(soon("the word", back.stopped()).await.unwrap(), None);
    }
}

/// Every setting out of range is named with its limit.
#[test]
fn settings_are_checked() {
    use pipe_webrtc::{IceServer, InterfaceFilter, Network};
    let ok = loopback;
    let turn = |url| IceServer::turn(url, "name", "secret");
    let empty = InterfaceFilter::default().with_deny(vec![String::new()]);
    let cases = [
        (ok().with_relay_only(true), "relay_only"),
        (ok().with_port_range(0..=9), "port_range"),
        #[expect(clippy::reversed_empty_ranges)]
        (ok().with_port_range(9..=8), "port_range"),
        (ok().with_interfaces(empty), "interfaces.deny"),
        (
            ok().with_gather_timeout(Duration::from_secs(301)),
            "gather_timeout",
        ),
        (ok().with_receive_buffer(1), "receive_buffer"),
        (
            ok().with_receive_buffer(128 << 10)
                .with_max_message(200 << 10),
            "receive_buffer is 131072, but has to be at least max_message",
        ),
        (ok().with_max_message(1 << 20), "max_message"),
        (ok().with_socket_buffer(0), "socket_buffer"),
        (ok().with_mtu(100), "mtu"),
        (
            ok().with_ice_servers([IceServer::turn("turn:host:1", "", "")]),
            "ice_servers",
        ),
        (ok().with_ice_servers([IceServer::stun("")]), "ice_servers"),
        (
            ok().with_ice_servers([turn("turn:host:99999")]),
            "ice_servers",
        ),
        (ok().with_ice_servers([turn("turn:host:0")]), "ice_servers"),
        (ok().with_ice_servers([turn("turn://host")]), "ice_servers"),
        (
            ok().with_ice_servers([turn("turn:host?transport=smoke")]),
            "ice_servers",
        ),
        (ok().with_ice_servers([turn("https:host")]), "ice_servers"),
        (ok().with_ice_servers([IceServer::default()]), "ice_servers"),
        (
            ok().with_bind_addrs(vec!["0.0.0.0".parse().unwrap()]),
            "bind_addrs",
        ),
        (
            ok().with_external_addrs(vec!["::".parse().unwrap()]),
            "external_addrs",
        ),
    ];
    ok().validate().unwrap();
    for url in [
        "stun:host",
        "stun:[::1]:3478",
        "stun:host:1?transport=udp",
        "turn:host:1",
        "turn:host?transport=udp",
        "turn:host?transport=tcp",
        "turns:host:5349",
        "turns:[::1]?transport=tcp",
    ] {
        ok().with_ice_servers([turn(url)]).validate().expect(url);
    }
    for url in ["turns:host?transport=udp", "stuns:host"] {
        let error = ok().with_ice_servers([turn(url)]).validate().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains(url), "{error}");
    }
    for (settings, name) in cases {
        let error = settings.validate().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
        assert!(error.to_string().starts_with(name), "{error}");
    }
    for text in ["10.0.0.0", "10.0.0.0/33", "x/8", "::/129"] {
        assert!(text.parse::<Network>().is_err(), "{text}");
    }
    let network: Network = "10.0.0.0/8".parse().unwrap();
    assert!(network.contains("10.255.0.1".parse().unwrap()));
    assert!(!network.contains("11.0.0.1".parse().unwrap()));
    assert!(!network.contains("::1".parse().unwrap()));
}

/// What was lost in a cut comes soon after its end, and nothing is lost or comes twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_heals_within_a_second_of_its_end() {
    let faults = Faults::new();
    let transport = transport().with_faults(faults.clone());
    let (here, there) = pair(&transport).await;
    let (mut opened, mut accepted) = stream(&here, &there).await;
    opened.write_all(b"before").await.unwrap();
    let mut text = [0; 6];
    soon("the bytes", accepted.read_exact(&mut text))
        .await
        .unwrap();
    for length in [1, 5] {
        faults.cut();
        opened.write_all(b"during").await.unwrap();
        tokio::time::sleep(Duration::from_secs(length)).await;
        faults.heal();
        let start = Instant::now();
        soon("the bytes", accepted.read_exact(&mut text))
            .await
            .unwrap();
        let time = start.elapsed();
        println!("after a cut of {length} s: {time:?}");
        assert_eq!(&text, b"during");
        // The machine may be busy with something else.
        assert!(time < Duration::from_secs(3), "{time:?}");
    }
    assert_ne!(*here.state().borrow(), ConnState::Failed);
}
