//! Peers that break the rules of the channels. Those that break the rules of the signalling are in
//! `negotiation.rs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use pipe_core::{CloseReason, Config, Conn, Error, ErrorKind, Stream};
use pipe_webrtc::{MemorySignaling, Message, WebRtcConn, WebRtcStream, Wire};
use tokio::io::AsyncReadExt;
use webrtc::data_channel::{DataChannel, DataChannelEvent, RTCDataChannelInit};

use crate::common::{LIMIT, crate_transport, soon, transport};

/// A peer that speaks plain channels, and the control channel by hand.
struct Attacker {
    conn: WebRtcConn,
    control: Arc<dyn DataChannel>,
    victim: WebRtcConn,
}

async fn attacker() -> Attacker {
    attacker_on(Wire::Raw { ping: true }).await
}

async fn attacker_on(wire: Wire) -> Attacker {
    attacker_of(wire, Config::default()).await
}

async fn attacker_of(wire: Wire, config: Config) -> Attacker {
    let (here, there) = MemorySignaling::pair();
    let plain = crate_transport()
        .with_wire(wire)
        .with_config(Config::default().with_max_streams(4096))
        .expect("a configuration");
    let careful = transport().with_config(config).expect("a configuration");
    let greeted = AtomicBool::new(false);
    let attack = async {
        let conn = plain.offer_over(here).await.expect("the attacker's end");
        let engine = conn.inner().expect("an engine").clone();
        let init = RTCDataChannelInit {
            negotiated: Some(0),
            ..Default::default()
        };
        let control = engine
            .create_data_channel("pipe-control", Some(init))
            .await
            .expect("a channel");
        // As long as the victim's association is not made, a hello may be lost.
        while control.send_text("hello pipe/1").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
            if greeted.load(Ordering::SeqCst) {
                break;
            }
        }
        (conn, control)
    };
    let answer = async {
        let victim = careful.answer_over(there).await;
        greeted.store(true, Ordering::SeqCst);
        victim
    };
    let both = async { tokio::join!(attack, answer) };
    let ((conn, control), victim) = soon("a connection", both).await;
    Attacker {
        conn,
        control,
        victim: victim.expect("the victim's end"),
    }
}

impl Attacker {
    async fn channel(&self) -> WebRtcStream {
        let open = self.conn.open_channel("evil", "pipe/1", true);
        soon("a channel", open).await.expect("a channel")
    }

    async fn expect_protocol_error(&self, of: &str) {
        let reason = soon(of, self.victim.closed()).await;
        let CloseReason::Failed(error) = reason else {
            panic!("{of} ended the connection as {reason:?}")
        };
        assert_eq!(error.kind(), ErrorKind::Protocol, "{of}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_words_on_the_control_channel_end_the_connection() {
    let long = "x-".repeat(4096);
    for text in [
        "shout",
        "open 2",
        "closed",
        "drained 0",
        "got 1000000",
        "got -1",
        "close",
        "hello pipe/1 max_streams=1",
        &long,
    ] {
        let attacker = attacker().await;
        attacker.control.send_text(text).await.unwrap();
        attacker.expect_protocol_error(text).await;
    }
    let attacker = attacker().await;
    attacker
        .control
        .send(BytesMut::from("bytes"))
        .await
        .unwrap();
    attacker.expect_protocol_error("bytes").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_words_on_the_channel_of_a_stream_end_the_connection() {
    for texts in [
        &["open 1"][..],
        &["end 0"],
        &["open 0\nopen 2"],
        &["open 0", "done"],
        &["open 0\nend 5"],
        &["open 0\nend 0\nend 0"],
        &["open 0", "hello pipe/1"],
        &["open"],
        &["open 0\n"],
    ] {
        let attacker = attacker().await;
        let mut channel = attacker.channel().await;
        for text in texts {
            let message = Message::Text((*text).to_owned());
            // The victim may be gone already.
            let _ = channel.send_message(message).await;
        }
        attacker.expect_protocol_error(&format!("{texts:?}")).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_echo_that_is_wrong_ends_the_connection_and_the_ping() {
    let change: [fn(&mut BytesMut); 3] = [
        |echo| echo[63] ^= 1,
        |echo| echo.truncate(63),
        |echo| echo.extend_from_slice(b"more"),
    ];
    for change in change {
        let attacker = attacker_on(Wire::Raw { ping: false }).await;
        let init = RTCDataChannelInit {
            // The attacker offers, so it echoes on 1.
            negotiated: Some(1),
            ..Default::default()
        };
        let engine = attacker.conn.inner().expect("an engine");
        let echo = engine.create_data_channel("echo", Some(init)).await;
        let echo = echo.expect("a channel");
        let answer = async {
            while let Some(event) = echo.poll().await {
                if let DataChannelEvent::OnMessage(mut message) = event {
                    change(&mut message.data);
                    echo.send(message.data).await.expect("a false echo");
                    return;
                }
            }
        };
        let ping = async { tokio::join!(attacker.victim.ping(), answer) };
        let (ping, ()) = soon("the end of the ping", ping).await;
        let error = ping.expect_err("a ping with a false echo");
        assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
        attacker.expect_protocol_error("a false echo").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_out_of_place_end_the_connection() {
    for texts in [&[][..], &["open 0\nend 0"]] {
        let attacker = attacker().await;
        let mut channel = attacker.channel().await;
        for text in texts {
            let message = Message::Text((*text).to_owned());
            channel.send_message(message).await.unwrap();
        }
        let bytes = Message::Binary(vec![7; 100].into());
        channel.send_message(bytes).await.unwrap();
        attacker.expect_protocol_error("bytes out of place").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_bytes_than_the_window_end_the_connection() {
    let attacker = attacker().await;
    let mut channel = attacker.channel().await;
    let open = Message::Text("open 0".to_owned());
    channel.send_message(open).await.unwrap();
    for _ in 0..9 {
        let bytes = Message::Binary(vec![7; 32 * 1024].into());
        if channel.send_message(bytes).await.is_err() {
            break;
        }
    }
    attacker.expect_protocol_error("too many bytes").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transport_that_ends_without_a_close_is_no_clean_end() {
    let attacker = attacker().await;
    let mut channel = attacker.channel().await;
    for message in [
        Message::Text("open 0".to_owned()),
        Message::Binary(vec![7; 10].into()),
    ] {
        channel.send_message(message).await.unwrap();
    }
    let mut stream = soon("a stream", attacker.victim.accept_stream())
        .await
        .unwrap();
    let mut bytes = [0; 10];
    soon("the bytes", stream.read_exact(&mut bytes))
        .await
        .unwrap();
    attacker.conn.inner().unwrap().close().await.unwrap();
    let error = soon("the end", stream.read_u8()).await.unwrap_err();
    let kind = Error::from_io(&error).expect("an error of ours").kind();
    assert!(
        matches!(kind, ErrorKind::Failed | ErrorKind::Reset),
        "{error}"
    );
    let reason = soon("the end", attacker.victim.closed()).await;
    assert!(matches!(reason, CloseReason::Failed(_)), "{reason:?}");
    // It says how the peer has done it: that engine sends both, of which either may be taken first.
    let how = ["close_notify", "an ABORT of SCTP"];
    let reason = reason.to_string();
    assert!(how.iter().any(|how| reason.contains(how)), "{reason}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_closes_a_channel_resets_its_stream_only() {
    let attacker = attacker().await;
    let mut channel = attacker.channel().await;
    let open = Message::Text("open 0".to_owned());
    channel.send_message(open).await.unwrap();
    let mut stream = soon("a stream", attacker.victim.accept_stream())
        .await
        .unwrap();
    channel.reset(0);
    let error = soon("the reset", stream.read_u8()).await.unwrap_err();
    let kind = Error::from_io(&error).expect("an error of ours").kind();
    assert_eq!(kind, ErrorKind::Reset);
    assert!(attacker.victim.ping().await.unwrap() > Duration::ZERO);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_does_not_answer_a_close_is_left_in_time() {
    let attacker = attacker().await;
    let start = tokio::time::Instant::now();
    let mut engine_gone = attacker.conn.state();
    attacker.victim.close(1, "enough");
    let gone = engine_gone.wait_for(|state| state.is_final());
    soon("the end of the transport", gone).await.unwrap();
    assert!(start.elapsed() < LIMIT);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn channels_of_another_protocol_are_closed_and_harm_nothing() {
    let attacker = attacker().await;
    for _ in 0..20 {
        let open = attacker.conn.open_channel("chat", "words", true);
        let mut channel = soon("a channel", open).await.unwrap();
        let closed = soon("the close", channel.receive_message()).await.unwrap();
        assert_eq!(closed, None);
    }
    assert!(attacker.victim.ping().await.unwrap() > Duration::ZERO);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_streams_ends_the_connection() {
    let attacker = attacker().await;
    let flood = async {
        for i in 0..2000 {
            let Ok(mut channel) = attacker.conn.open_channel("evil", "pipe/1", true).await else {
                return;
            };
            let open = Message::Text(format!("open {}", 2 * i));
            if channel.send_message(open).await.is_err() {
                return;
            }
            // It stays open.
            std::mem::forget(channel);
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(5), flood).await;
    attacker.expect_protocol_error("a flood of streams").await;
}

/// Opens a stream by its number on a channel of its own, with what else is said at once.
async fn open_by_hand(attacker: &Attacker, number: u64, more: &str) -> Option<WebRtcStream> {
    let open = attacker.conn.open_channel("evil", "pipe/1", true);
    let mut channel = soon("a channel", open).await.ok()?;
    let text = Message::Text(format!("open {}{more}", 2 * number));
    channel.send_message(text).await.ok()?;
    Some(channel)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_bytes_than_the_window_of_the_connection_end_it() {
    let config = Config::default()
        .with_stream_window(64 * 1024)
        .with_connection_window(256 * 1024);
    let attacker = attacker_of(Wire::Raw { ping: true }, config).await;
    let mut channels = Vec::new();
    for number in 0..10 {
        let Some(mut channel) = open_by_hand(&attacker, number, "").await else {
            break;
        };
        for _ in 0..2 {
            let bytes = Message::Binary(vec![7; 32 * 1024].into());
            let _ = channel.send_message(bytes).await;
        }
        channels.push(channel);
    }
    let reason = soon("too many bytes", attacker.victim.closed()).await;
    let CloseReason::Failed(error) = reason else {
        panic!("{reason:?}")
    };
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert!(error.to_string().contains("flow control"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_the_peer_has_cut_count_until_the_application_lets_them_go() {
    const LIMIT: usize = 16;
    let config = Config::default().with_max_streams(LIMIT as u32);
    let attacker = attacker_of(Wire::Raw { ping: true }, config).await;
    let accepting = tokio::spawn({
        let victim = attacker.victim.clone();
        async move {
            let mut held = Vec::new();
            while let Ok(stream) = victim.accept_stream().await {
                held.push(stream);
            }
            held.len()
        }
    });
    let mut channels = Vec::new();
    for number in 0..3 * LIMIT as u64 {
        match open_by_hand(&attacker, number, "\nreset 1\nstop 1").await {
            Some(channel) => channels.push(channel),
            None => break,
        }
    }
    attacker.expect_protocol_error("a rapid reset").await;
    let held = soon("the acceptor", accepting).await.unwrap();
    assert!(held <= LIMIT, "{held} handles");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_number_that_was_used_ends_the_connection() {
    for numbers in [&[0_u64, 0][..], &[1, 0, 1], &[5, 3, 3], &[100_000]] {
        let attacker = attacker().await;
        let mut channels = Vec::new();
        for number in numbers {
            channels.push(open_by_hand(&attacker, *number, "").await);
        }
        attacker
            .expect_protocol_error(&format!("{numbers:?}"))
            .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_may_come_in_another_order_than_they_were_opened() {
    let attacker = attacker().await;
    let mut channels = Vec::new();
    for number in [3, 1, 0, 2] {
        channels.push(open_by_hand(&attacker, number, "").await);
    }
    for _ in 0..4 {
        soon("a stream", attacker.victim.accept_stream())
            .await
            .unwrap();
    }
    assert!(attacker.victim.ping().await.unwrap() > Duration::ZERO);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_channels_beyond_the_limit_are_closed_and_the_others_go_on() {
    const LIMIT: usize = 4;
    let wire = Wire::Raw { ping: true };
    let (here, there) = MemorySignaling::pair();
    let plain = transport().with_wire(wire);
    let careful = transport()
        .with_wire(wire)
        .with_config(Config::default().with_max_streams(LIMIT as u32))
        .unwrap();
    let both = async { tokio::join!(plain.offer_over(here), careful.answer_over(there)) };
    let (peer, victim) = soon("a connection", both).await;
    let (peer, victim) = (peer.unwrap(), victim.unwrap());
    let mut pairs = Vec::new();
    for _ in 0..LIMIT {
        let ours = soon("a channel", peer.open_channel("a", "", true))
            .await
            .unwrap();
        let theirs = soon("a stream", victim.accept_stream()).await.unwrap();
        pairs.push((ours, theirs));
    }
    let mut refused = soon("a channel", peer.open_channel("a", "", true))
        .await
        .unwrap();
    let closed = soon("the close", refused.receive_message()).await.unwrap();
    assert_eq!(closed, None);
    for (ours, theirs) in &mut pairs {
        let message = Message::Text("hello".to_owned());
        ours.send_message(message.clone()).await.unwrap();
        let received = soon("a message", theirs.receive_message()).await.unwrap();
        assert_eq!(received, Some(message));
    }
}

/// Echoes would pile up in the engine, where nothing bounds them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_pings_and_takes_no_echo_loses_the_connection() {
    let attacker = attacker_on(Wire::Raw { ping: false }).await;
    let init = RTCDataChannelInit {
        // The attacker offers, so it pings on 2.
        negotiated: Some(2),
        ..Default::default()
    };
    let engine = attacker.conn.inner().expect("an engine");
    let ping = engine.create_data_channel("ping", Some(init)).await;
    let ping = ping.expect("a channel");
    let flood = async {
        // Its engine takes no more once this many echoes wait unread.
        while ping.send(BytesMut::from(&[7; 1024][..])).await.is_ok() {
            while ping.outstanding_bytes().await.is_ok_and(|n| n > 256 * 1024) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    };
    tokio::select! {
        () = flood => panic!("the flood has ended"),
        () = attacker.expect_protocol_error("a flood of pings") => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_before_the_hello_is_bounded_and_no_stream() {
    let (here, there) = MemorySignaling::pair();
    let plain = crate_transport().with_wire(Wire::Raw { ping: true });
    let victim = transport();
    let flood = async {
        let conn = plain.offer_over(here).await.expect("the attacker's end");
        let mut channel = conn.open_channel("evil", "pipe/1", true).await.unwrap();
        let open = Message::Text("open 0".to_owned());
        channel.send_message(open).await.unwrap();
        let bytes = Message::Binary(vec![7; 16 * 1024].into());
        while channel.send_message(bytes.clone()).await.is_ok() {}
        conn
    };
    let both = async { tokio::join!(flood, victim.answer_over(there)) };
    let (_conn, victim) = soon("the refusal", both).await;
    let error = victim.expect_err("a refusal");
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
    assert!(error.to_string().contains("before its hello"), "{error}");
}

/// The side that offers is greeted before the other one may open anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_before_the_hello_of_the_answerer_is_refused() {
    let (here, there) = MemorySignaling::pair();
    let plain = crate_transport().with_wire(Wire::Raw { ping: true });
    let victim = transport();
    let attack = async {
        let conn = plain.answer_over(there).await.expect("the attacker's end");
        let engine = conn.inner().expect("an engine");
        let init = RTCDataChannelInit {
            negotiated: Some(0),
            ..Default::default()
        };
        let control = engine.create_data_channel("pipe-control", Some(init));
        let control = control.await.expect("a channel");
        let evil = conn.open_channel("evil", "pipe/1", true).await;
        (conn, control, evil)
    };
    let both = async { tokio::join!(victim.offer_over(here), attack) };
    let (victim, _attack) = soon("the refusal", both).await;
    let error = victim.expect_err("a refusal");
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
    assert!(error.to_string().contains("before its hello"), "{error}");
}
