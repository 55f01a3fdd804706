//! How connections and channels end where something goes wrong, and that nothing reads as whole that is not.

use std::collections::HashMap;
use std::thread;
use std::time::Duration;

use pipe_core::{CloseReason, Config, Conn, ConnState, ErrorKind, Stream};
use pipe_webrtc::signaling::Signal;
use pipe_webrtc::{MemorySignaling, Message, WebRtcConn, Wire};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::common::{Changed, crate_transport, pair, pair_of, soon, stream, times, transport};

/// Has the offer say that its side takes messages of so many bytes.
fn announcing(size: &'static str) -> impl FnMut(Signal) -> Vec<Signal> + Send + 'static {
    move |signal| {
        let Signal::Offer(mut offer) = signal else {
            return vec![signal];
        };
        let mut sdp = String::new();
        for line in offer
            .sdp
            .lines()
            .filter(|line| !line.starts_with("a=max-message-size"))
        {
            sdp.push_str(line);
            sdp.push_str("\r\n");
        }
        offer.sdp = format!("{sdp}a=max-message-size:{size}\r\n");
        vec![Signal::Offer(offer)]
    }
}

/// The two ends of a connection of plain channels.
async fn plain_pair(config: Config) -> (WebRtcConn, WebRtcConn) {
    let transport = transport()
        .with_wire(Wire::Raw { ping: true })
        .with_config(config)
        .expect("a configuration");
    pair(&transport).await
}

/// The same, where the first end is one of the crate `webrtc`.
async fn crate_pair() -> (WebRtcConn, WebRtcConn) {
    let wire = Wire::Raw { ping: true };
    let [offerer, answerer] = [crate_transport(), transport()].map(|end| end.with_wire(wire));
    pair_of(&offerer, &answerer).await
}

/// The engine tells of a close before the messages that came with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_before_a_close_arrive_or_the_read_is_an_error() {
    const COUNT: usize = 40;
    let (here, there) = crate_pair().await;
    let engine = here.inner().expect("an engine").clone();
    let mut errors = 0;
    // All at once, since an id that was just freed is not to be used again.
    let mut channels = HashMap::new();
    for round in 0..200 {
        let label = round.to_string();
        let channel = engine.create_data_channel(&label, None).await.unwrap();
        channels.insert(label, channel);
    }
    let mut streams = Vec::new();
    for _ in 0..200 {
        streams.push(soon("a stream", there.accept_stream()).await.unwrap());
    }
    for (round, mut stream) in streams.into_iter().enumerate() {
        let label = stream.channel_info().expect("a channel").label;
        let channel = &channels[&label];
        let len = if round % 2 == 0 { 10 } else { 1000 };
        for number in 0..COUNT {
            let message = vec![number as u8; len];
            channel.send(message.as_slice().into()).await.unwrap();
        }
        // The engine at that side drops what it has not sent.
        while channel.outstanding_bytes().await.unwrap() > 0 {
            tokio::task::yield_now().await;
        }
        channel.close().await.unwrap();
        let mut count = 0;
        loop {
            match soon("a message", stream.receive_message()).await {
                Ok(Some(_)) => count += 1,
                Ok(None) => {
                    assert_eq!(count, COUNT, "round {round} reads as whole");
                    break;
                }
                Err(_) => {
                    errors += 1;
                    break;
                }
            }
        }
    }
    assert_eq!(errors, 0, "no channel failed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_channels_that_the_end_of_the_transport_cuts_have_no_clean_end() {
    for _ in 0..10 {
        let (here, there) = crate_pair().await;
        let engine = here.inner().expect("an engine").clone();
        let channel = engine.create_data_channel("burst", None).await.unwrap();
        let mut stream = soon("a stream", there.accept_stream()).await.unwrap();
        let sent = 200;
        for _ in 0..sent {
            channel.send([7; 1000].as_slice().into()).await.unwrap();
        }
        engine.close().await.unwrap();
        let mut count = 0;
        loop {
            match soon("a message", stream.receive_message()).await {
                Ok(Some(_)) => count += 1,
                Ok(None) => {
                    assert_eq!(count, sent, "it reads as whole");
                    break;
                }
                Err(_) => break,
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_negotiation_that_panics_ends_its_connection_at_once() {
    let transport = transport();
    let (here, there) = MemorySignaling::pair();
    let here = Changed::new(here, move |signal| {
        assert_ne!(signal, Signal::Restart, "as the test wants it");
        vec![signal]
    });
    let both = async { tokio::join!(transport.offer_over(here), transport.answer_over(there)) };
    let (here, there) = soon("a connection", both).await;
    let (here, there) = (here.unwrap(), there.unwrap());
    // The answerer asks for a restart, which the offerer's signalling does not survive.
    let both = async { tokio::join!(here.closed(), there.restart_ice()) };
    let (reason, _) = soon("the end", both).await;
    assert!(
        matches!(&reason, CloseReason::Failed(error) if error.kind() == ErrorKind::Failed),
        "{reason:?}"
    );
}

/// The dialer's runtime stands still for longer than it waits for the peer, which is there all the time.
#[test]
fn the_absence_of_this_process_is_no_silence_of_the_peer() {
    let (here, there) = MemorySignaling::pair();
    let peer = thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let conn = transport().answer_over(there).await.unwrap();
            let mut stream = conn.accept_stream().await.unwrap();
            let mut text = String::new();
            soon("the text", stream.read_to_string(&mut text))
                .await
                .unwrap();
            stream.write_all(text.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            soon("the close", conn.closed()).await;
        });
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let transport = transport().with_config(times(300, 1000, 2000)).unwrap();
        let conn = transport.offer_over(here).await.unwrap();
        let mut stream = conn.open_stream().await.unwrap();
        stream.write_all(b"before, ").await.unwrap();
        conn.ping().await.unwrap();
        thread::sleep(Duration::from_secs(5));
        stream.write_all(b"and after").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut text = String::new();
        soon("the echo", stream.read_to_string(&mut text))
            .await
            .unwrap();
        assert_eq!(text, "before, and after");
        let mut state = conn.state();
        let up = state.wait_for(|state| *state == ConnState::Connected || state.is_final());
        assert_eq!(*soon("the return", up).await.unwrap(), ConnState::Connected);
        conn.close(0, "");
        conn.closed().await;
        // The close gets out.
        tokio::time::sleep(Duration::from_millis(100)).await;
    });
    peer.join().unwrap();
}

/// A restart that cannot be negotiated would take the path away that works.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_without_signalling_is_unsupported_and_harms_nothing() {
    let transport = transport();
    let offered = soon("an offer", transport.offer_by_hand()).await.unwrap();
    let answer = transport.answer_by_hand(offered.text());
    let answered = soon("an answer", answer).await.unwrap();
    let text = answered.text().to_owned();
    let both = async { tokio::join!(offered.accept(&text), answered.connected()) };
    let (here, there) = soon("a connection", both).await;
    let (here, there) = (here.unwrap(), there.unwrap());
    for conn in [&here, &there] {
        let error = soon("an answer", conn.restart_ice()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    }
    let (mut opened, mut accepted) = stream(&here, &there).await;
    opened.write_u8(7).await.unwrap();
    assert_eq!(soon("a byte", accepted.read_u8()).await.unwrap(), 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_takes_too_small_messages_is_refused_in_the_handshake() {
    let transport = transport();
    let (here, there) = MemorySignaling::pair();
    let there = Changed::new(there, announcing("1199"));
    let both = async { tokio::join!(transport.offer_over(here), transport.answer_over(there)) };
    let (_, answered) = soon("an outcome", both).await;
    let error = answered.expect_err("a refusal");
    assert_eq!(error.kind(), ErrorKind::Handshake, "{error}");
    assert!(error.to_string().contains("1199"), "{error}");
}

/// The opener waits where the peer's application keeps what it has, though the streams are over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_opener_waits_for_the_handles_that_the_peer_keeps() {
    const LIMIT: usize = 16;
    let transport = transport()
        .with_config(Config::default().with_max_streams(LIMIT as u32))
        .unwrap();
    let (here, there) = pair(&transport).await;
    let mut kept = Vec::new();
    for _ in 0..LIMIT {
        let (mut opened, accepted) = stream(&here, &there).await;
        opened.reset(1);
        opened.stop(1);
        kept.push(accepted);
    }
    let opening = here.open_stream();
    tokio::pin!(opening);
    let waits = tokio::time::timeout(Duration::from_millis(300), &mut opening).await;
    assert!(waits.is_err(), "a stream beyond the limit");
    assert!(here.ping().await.unwrap() > Duration::ZERO);
    drop(kept);
    let both = async { tokio::join!(opening, there.accept_stream()) };
    let (opened, accepted) = soon("a stream", both).await;
    opened.unwrap();
    accepted.unwrap();
}

/// A peer may send larger messages than it takes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_above_what_the_peer_takes_arrive_as_far_as_this_side_takes_them() {
    let (here, there) = MemorySignaling::pair();
    let raw = transport().with_wire(Wire::Raw { ping: true });
    let there = Changed::new(there, announcing("16384"));
    let both = async { tokio::join!(raw.offer_over(here), raw.answer_over(there)) };
    let (sender, receiver) = soon("a connection", both).await;
    let (sender, receiver) = (sender.unwrap(), receiver.unwrap());
    let mut channel = sender.open_channel("large", "", true).await.unwrap();
    let mut stream = soon("a stream", receiver.accept_stream()).await.unwrap();
    for len in [16 * 1024 + 1, 100_000, 200_000] {
        let message = Message::Binary(vec![7; len].into());
        channel.send_message(message.clone()).await.unwrap();
        let received = soon("a message", stream.receive_message()).await.unwrap();
        assert_eq!(received, Some(message));
    }
}

/// The engine takes an id for free as soon as this side has closed its channel, while the peer has not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_channel_opened_right_after_another_was_closed_is_not_lost() {
    const ROUNDS: u8 = 60;
    let (here, there) = plain_pair(Config::default()).await;
    let mut kept = Vec::new();
    for round in 0..ROUNDS {
        let (opener, acceptor) = match round % 2 {
            0 => (&here, &there),
            _ => (&there, &here),
        };
        let mut channel = soon("a channel", opener.open_channel("next", "", true))
            .await
            .unwrap();
        let message = Message::Binary(vec![round; 3].into());
        channel.send_message(message.clone()).await.unwrap();
        let mut stream = soon("a stream", acceptor.accept_stream()).await.unwrap();
        let received = soon("a message", stream.receive_message()).await.unwrap();
        assert_eq!(received, Some(message), "round {round}");
        match round / 2 % 4 {
            0 => channel.reset(0),
            1 => soon("a close", channel.shutdown()).await.unwrap(),
            // The peer closes it.
            2 => stream.reset(0),
            // It stays, so that ids in between are free.
            _ => kept.push((channel, stream)),
        }
    }
    for (mut channel, mut stream) in kept {
        let message = Message::Text("still there".to_owned());
        channel.send_message(message.clone()).await.unwrap();
        let received = soon("a message", stream.receive_message()).await.unwrap();
        assert_eq!(received, Some(message));
    }
}

/// Has every offer after the first say that ICE does not restart, as a peer reads it that cannot.
fn without_restarts() -> impl FnMut(Signal) -> Vec<Signal> + Send + 'static {
    const NAMES: [&str; 2] = ["a=ice-ufrag:", "a=ice-pwd:"];
    let mut first: Option<Vec<String>> = None;
    move |signal| {
        let Signal::Offer(mut offer) = signal else {
            return vec![signal];
        };
        let of_ice = |line: &&str| NAMES.iter().any(|name| line.starts_with(name));
        let new: Vec<String> = offer
            .sdp
            .lines()
            .filter(of_ice)
            .map(str::to_owned)
            .collect();
        let first = first.get_or_insert_with(|| new.clone());
        for (new, first) in new.iter().zip(first) {
            offer.sdp = offer.sdp.replace(new, first);
        }
        vec![Signal::Offer(offer)]
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_that_the_peer_cannot_make_leaves_the_connection_as_it_is() {
    let transport = transport()
        .with_config(times(200, 1000, 3000))
        .expect("a config");
    let (here, there) = MemorySignaling::pair();
    let there = Changed::new(there, without_restarts());
    let both = async { tokio::join!(transport.offer_over(here), transport.answer_over(there)) };
    let (here, there) = soon("a connection", both).await;
    let (here, there) = (here.unwrap(), there.unwrap());
    let (mut opened, mut accepted) = stream(&here, &there).await;
    let path = here.selected_candidate_pair().await;
    assert!(path.is_some());
    for _ in 0..2 {
        let error = soon("an answer", here.restart_ice()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains("does not restart"), "{error}");
        assert_eq!(*here.state().borrow(), ConnState::Connected);
        assert_eq!(here.selected_candidate_pair().await, path);
        opened.write_all(b"on").await.unwrap();
        let mut bytes = [0; 2];
        soon("bytes", accepted.read_exact(&mut bytes))
            .await
            .unwrap();
    }
    // It lives for longer than one lives that is lost.
    let closed = tokio::time::timeout(Duration::from_secs(4), here.closed()).await;
    assert!(closed.is_err(), "{closed:?}");
    assert!(here.ping().await.unwrap() > Duration::ZERO);
    assert_eq!(*there.state().borrow(), ConnState::Connected);
}
