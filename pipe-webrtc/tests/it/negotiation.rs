//! What can happen before a connection is made, and after.

use std::time::Duration;

use pipe_core::{CloseReason, Conn, ErrorKind, Listener, PeerIdentity, Stream, Transport};
use pipe_webrtc::signaling::{Signal, Signaling};
use pipe_webrtc::{Certificate, MemorySignaling, Wire};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};

use crate::common::{self, Changed, LIMIT, pair, random, soon, stream, transport};

/// Holds descriptions back until the last candidate has gone before them.
fn candidates_first() -> impl FnMut(Signal) -> Vec<Signal> + Send + 'static {
    let mut held = Vec::new();
    move |signal| match signal {
        Signal::Offer(_) | Signal::Answer(_) => {
            held.push(signal);
            Vec::new()
        }
        Signal::EndOfCandidates => {
            let mut all = std::mem::take(&mut held);
            all.push(signal);
            all
        }
        other => vec![other],
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn candidates_may_come_before_the_description() {
    let transport = transport();
    let (here, there) = MemorySignaling::pair();
    let here = Changed::new(here, candidates_first());
    let there = Changed::new(there, candidates_first());
    let both = async { tokio::try_join!(transport.offer_over(here), transport.answer_over(there)) };
    let (here, there) = soon("a connection", both).await.expect("a connection");
    let (mut opened, mut accepted) = stream(&here, &there).await;
    opened.write_u8(7).await.unwrap();
    assert_eq!(soon("a byte", accepted.read_u8()).await.unwrap(), 7);
}

/// Replaces the fingerprints of descriptions by another certificate's.
fn forged() -> impl FnMut(Signal) -> Vec<Signal> + Send + 'static {
    let other = Certificate::generate().unwrap().fingerprint().unwrap();
    move |mut signal| {
        if let Signal::Offer(description) | Signal::Answer(description) = &mut signal {
            let lines = description.sdp.split("\r\n").map(|line| {
                match line.strip_prefix("a=fingerprint:sha-256 ") {
                    Some(_) => format!("a=fingerprint:sha-256 {other}"),
                    None => line.to_owned(),
                }
            });
            description.sdp = lines.collect::<Vec<_>>().join("\r\n");
        }
        vec![signal]
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_fingerprint_is_unauthenticated_on_both_sides() {
    let transport = transport();
    for forge_offer in [true, false] {
        let (here, there) = MemorySignaling::pair();
        let pass = |signal| vec![signal];
        let both = async {
            if forge_offer {
                let there = Changed::new(there, forged());
                let here = Changed::new(here, pass);
                tokio::join!(transport.offer_over(here), transport.answer_over(there))
            } else {
                let there = Changed::new(there, pass);
                let here = Changed::new(here, forged());
                tokio::join!(transport.offer_over(here), transport.answer_over(there))
            }
        };
        let (offerer, answerer) = soon("the refusal", both).await;
        for side in [offerer, answerer] {
            let error = side.expect_err("no connection to somebody else");
            assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn giving_up_at_any_time_leaves_nothing_behind() {
    let transport = transport();
    drop(pair(&transport).await);
    let settled = || async {
        let mut before = 0;
        loop {
            let now = Handle::current().metrics().num_alive_tasks();
            if now == before {
                return now;
            }
            before = now;
            sleep(Duration::from_millis(300)).await;
        }
    };
    let before = settled().await;
    for i in 0..60 {
        let listener = transport
            .listen(&"webrtc+inproc://".parse().unwrap())
            .await
            .unwrap();
        let addr = listener.local_addr();
        let patience = Duration::from_micros(200 * i);
        let both = async {
            let _ = tokio::join!(
                timeout(patience, transport.dial(&addr)),
                timeout(patience, listener.accept()),
            );
        };
        soon("giving up", both).await;
        if i % 2 == 0 {
            let waiting = tokio::spawn(async move { listener.accept().await });
            // Whether or not it waits yet, it ends with the task's abort.
            waiting.abort();
        }
    }
    let gone = async {
        while Handle::current().metrics().num_alive_tasks() > before {
            sleep(Duration::from_millis(10)).await;
        }
    };
    soon("the end of all tasks", gone).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_the_listener_ends_its_negotiations_and_wakes_its_waiters() {
    // From the beginning of a negotiation to its end.
    for delay in 0..8 {
        let transport = transport();
        let listener = transport
            .listen(&"webrtc+inproc://".parse().unwrap())
            .await
            .unwrap();
        let addr = listener.local_addr();
        let (dialed, accepted, ()) = soon("the end", async {
            tokio::join!(transport.dial(&addr), listener.accept(), async {
                sleep(Duration::from_millis(delay)).await;
                listener.close();
            })
        })
        .await;
        match (dialed, accepted) {
            // Made before the close, and nobody's but theirs.
            (Ok(here), Ok(_there)) => assert!(here.ping().await.is_ok()),
            (dialed, Err(error)) => {
                assert_eq!(error.kind(), ErrorKind::Closed);
                if let Ok(conn) = dialed {
                    let reason = soon("the end", conn.closed()).await;
                    assert!(!matches!(reason, CloseReason::Local { .. }));
                }
            }
            (Err(error), Ok(_)) => panic!("accepted, but not dialed: {error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarts_of_ice_lose_no_byte() {
    let transport = transport();
    let (here, there) = pair(&transport).await;
    let data = random(24 << 20);
    let (mut opened, mut accepted) = stream(&here, &there).await;
    let send = async {
        opened.write_all(&data).await.unwrap();
        opened.shutdown().await.unwrap();
    };
    let receive = async {
        let mut all = Vec::new();
        accepted.read_to_end(&mut all).await.unwrap();
        assert!(all == data, "bytes differ");
    };
    let restart = async {
        for conn in [&here, &there, &here] {
            conn.restart_ice().await.unwrap();
            conn.ping().await.unwrap();
        }
    };
    soon("the transfer", async {
        tokio::join!(send, receive, restart)
    })
    .await;
    assert!(here.selected_candidate_pair().await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_is_made_by_hand() {
    let transport = transport();
    let carry = async {
        let offered = transport.offer_by_hand().await.unwrap();
        let answered = transport.answer_by_hand(offered.text()).await.unwrap();
        let answer = answered.text().to_owned();
        tokio::try_join!(offered.accept(&answer), answered.connected())
    };
    let (here, there) = soon("a connection", carry).await.unwrap();
    let (mut opened, mut accepted) = stream(&here, &there).await;
    opened.write_u8(7).await.unwrap();
    assert_eq!(soon("a byte", accepted.read_u8()).await.unwrap(), 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_text_that_is_no_offer_is_refused() {
    let error = transport().answer_by_hand("hello").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_peers_certificate_is_known() {
    let certificate = Certificate::generate().unwrap();
    let settings = common::loopback().with_certificate(certificate);
    let transport = transport().with_settings(settings).unwrap();
    let (here, there) = pair(&transport).await;
    let identities = [here.peer_identity(), there.peer_identity()];
    assert_eq!(identities[0], identities[1]);
    let Some(PeerIdentity::SelfSigned(chain)) = &identities[0] else {
        panic!("no certificates: {identities:?}")
    };
    assert_eq!(chain.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_in_the_signalling_ends_one_negotiation_only() {
    let signaling = pipe_inproc::InprocTransport::new();
    let transport = pipe_webrtc::WebRtcTransport::new(signaling.clone())
        .with_settings(common::loopback())
        .unwrap();
    let listener = transport
        .listen(&"webrtc+inproc://".parse().unwrap())
        .await
        .unwrap();
    let addr = listener.local_addr();
    let inner = addr.as_str().strip_prefix("webrtc+").unwrap();
    let frames: [&[u8]; 5] = [
        b"\xff\xff\xff\xff",
        b"\0\0\0\x02{}",
        b"\0\0\0\x09",
        b"\0\0\0\x1a{\"type\":\"answer\",\"sdp\":\"\"}",
        b"\0\0\0\x19{\"type\":\"offer\",\"sdp\":\"\"}",
    ];
    for frame in frames {
        let conn = signaling.dial(&inner.parse().unwrap()).await.unwrap();
        let mut stream = conn.open_stream().await.unwrap();
        stream.write_all(frame).await.unwrap();
        if frame.len() > 5 {
            // It is given up: what comes back ends.
            let mut rest = Vec::new();
            let _ = soon("the end", stream.read_to_end(&mut rest)).await;
        } else {
            drop(stream);
        }
    }
    let both = async { tokio::try_join!(transport.dial(&addr), listener.accept()) };
    soon("a connection", both).await.expect("a connection");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_has_to_be_the_listeners() {
    let transport = pipe_webrtc::WebRtcTransport::new(pipe_tcp::TcpTransport::new())
        .with_settings(common::loopback())
        .unwrap();
    let addr = "webrtc+tcp://127.0.0.1:0/room".parse().unwrap();
    let listener = transport.listen(&addr).await.unwrap();
    let addr = listener.local_addr();
    assert!(addr.as_str().ends_with("/room"), "{addr}");
    let accept = tokio::spawn(async move {
        let conn = listener.accept().await;
        (listener, conn)
    });
    let other = addr.as_str().replace("/room", "/other");
    let error = soon("a refusal", transport.dial(&other.parse().unwrap()))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    let dialed = soon("a connection", transport.dial(&addr)).await.unwrap();
    assert_eq!(dialed.remote_addr(), addr);
    let (_listener, accepted) = accept.await.unwrap();
    accepted.unwrap();
}

#[tokio::test]
async fn an_option_that_makes_no_sense_is_named() {
    for (option, why) in [
        ("wire=morse", "the wire \"morse\" is unknown"),
        ("wire=raw&wire=pipe", "the option \"wire\" is given twice"),
        (
            "wire=raw&ping=off&ping=off",
            "the option \"ping\" is given twice",
        ),
        ("ping=off", "ping=off needs wire=raw"),
        ("wire=pipe&ping=off", "ping=off needs wire=raw"),
    ] {
        let addr = format!("webrtc+inproc://x?{option}").parse().unwrap();
        let dialed = transport().dial(&addr).await.unwrap_err();
        let listened = transport().listen(&addr).await.unwrap_err();
        for error in [dialed, listened] {
            assert_eq!(error.kind(), ErrorKind::AddrInvalid, "{error}");
            assert!(error.to_string().contains(why), "{error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_channels_carry_messages_and_bytes() {
    let transport = transport().with_wire(Wire::Raw { ping: true });
    let (here, there) = pair(&transport).await;
    assert!(here.ping().await.unwrap() > Duration::ZERO);
    let both = async {
        tokio::try_join!(
            here.open_channel("chat", "words", true),
            there.accept_stream()
        )
    };
    let (mut opened, mut accepted) = soon("a channel", both).await.unwrap();
    let info = accepted.channel_info().unwrap();
    assert_eq!((&*info.label, &*info.protocol), ("chat", "words"));
    let messages = [
        pipe_webrtc::Message::Text("one".into()),
        pipe_webrtc::Message::Binary(vec![1, 2, 3].into()),
        pipe_webrtc::Message::Text(String::new()),
    ];
    for message in &messages {
        opened.send_message(message.clone()).await.unwrap();
    }
    for message in &messages {
        let received = soon("a message", accepted.receive_message()).await.unwrap();
        assert_eq!(received.as_ref(), Some(message));
    }
    // As bytes, a close is the end, and nothing before it is lost.
    let data = random(3 << 20);
    let send = async {
        opened.write_all(&data).await.unwrap();
        opened.shutdown().await.unwrap();
        opened.stop(0);
    };
    let receive = async {
        let mut all = Vec::new();
        accepted.read_to_end(&mut all).await.unwrap();
        assert!(all == data, "{} of {} bytes", all.len(), data.len());
    };
    soon("the transfer", async { tokio::join!(send, receive) }).await;
    here.close(3, "gone");
    let reason = soon("the end", there.closed()).await;
    assert!(
        matches!(reason, CloseReason::Remote { code: 0, .. }),
        "{reason:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_says_nothing_is_given_up_in_time() {
    let transport = transport()
        .with_config(
            pipe_core::Config::default().with_handshake_timeout(Duration::from_millis(300)),
        )
        .unwrap();
    let (here, mut there) = MemorySignaling::pair();
    let error = soon("a timeout", transport.offer_over(here))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    assert!(matches!(
        soon("the offer", there.receive()).await,
        Ok(Some(Signal::Offer(_)))
    ));
    assert!(LIMIT > Duration::from_secs(1));
}
