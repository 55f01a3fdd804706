//! A peer of another make, which is the engine used by hand.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::BytesMut;
use pipe_core::{Conn, Stream};
use pipe_inproc::InprocTransport;
use pipe_webrtc::signaling::{IceCandidate, Signal, Signaling};
use pipe_webrtc::{MemorySignaling, WebRtcTransport, Wire};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use webrtc::data_channel::{
    DataChannel, DataChannelEvent, RTCDataChannelInit, RTCDataChannelState,
};
use webrtc::peer_connection::{
    PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCIceCandidateInit,
    RTCPeerConnectionIceEvent, RTCSessionDescription, SettingEngine, SettingEngineBuilder,
};

use crate::altered::{Altered, Change, Next};
use crate::common::{crate_transport, random, soon, transport};

struct Handler {
    candidates: mpsc::UnboundedSender<RTCIceCandidateInit>,
    channels: mpsc::UnboundedSender<Arc<dyn DataChannel>>,
}

#[async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_candidate(&self, event: RTCPeerConnectionIceEvent) {
        if let Ok(candidate) = event.candidate.to_json() {
            let _ = self.candidates.send(candidate);
        }
    }

    async fn on_data_channel(&self, channel: Arc<dyn DataChannel>) {
        let _ = self.channels.send(channel);
    }
}

struct Foreign {
    engine: Arc<dyn PeerConnection>,
    ping: Arc<dyn DataChannel>,
    channels: mpsc::UnboundedReceiver<Arc<dyn DataChannel>>,
}

/// Connects by hand, with the channels ping and echo of its role, and answers on echo.
async fn foreign(signaling: MemorySignaling, offers: bool) -> Foreign {
    foreign_of(signaling, offers, SettingEngineBuilder::new().build()).await
}

async fn foreign_of(
    mut signaling: MemorySignaling,
    offers: bool,
    settings: SettingEngine,
) -> Foreign {
    let (candidates, mut found) = mpsc::unbounded_channel();
    let (to_channels, channels) = mpsc::unbounded_channel();
    let engine = PeerConnectionBuilder::new()
        .with_setting_engine(settings)
        .with_handler(Arc::new(Handler {
            candidates,
            channels: to_channels,
        }))
        .with_udp_addrs(vec!["127.0.0.1:0"])
        .build()
        .await
        .expect("an engine");
    let engine: Arc<dyn PeerConnection> = Arc::new(engine);
    let negotiated = |id| {
        Some(RTCDataChannelInit {
            negotiated: Some(id),
            ..Default::default()
        })
    };
    let (ping_id, echo_id) = if offers { (2, 1) } else { (1, 2) };
    let ping = engine.create_data_channel("ping", negotiated(ping_id));
    let ping = ping.await.expect("the channel ping");
    let echo = engine.create_data_channel("echo", negotiated(echo_id));
    let echo = echo.await.expect("the channel echo");
    tokio::spawn(async move {
        while let Some(event) = echo.poll().await {
            if let DataChannelEvent::OnMessage(message) = event {
                let _ = echo.send(message.data).await;
            }
        }
    });
    if offers {
        let offer = engine.create_offer(None).await.expect("an offer");
        engine
            .set_local_description(offer.clone())
            .await
            .expect("a description");
        let offer = format!(r#"{{"type":"offer","sdp":{:?}}}"#, offer.sdp);
        let offer = Signal::from_json(offer.as_bytes()).expect("a signal");
        signaling.send(offer).await.expect("a send");
    }
    let peer = engine.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                Some(init) = found.recv() => {
                    let candidate = IceCandidate {
                        candidate: init.candidate,
                        mid: init.sdp_mid,
                        line: init.sdp_mline_index,
                    };
                    let _ = signaling.send(Signal::Candidate(candidate)).await;
                }
                Ok(Some(signal)) = signaling.receive() => match signal {
                    Signal::Offer(offer) => {
                        let offer = RTCSessionDescription::offer(offer.sdp).unwrap();
                        peer.set_remote_description(offer).await.unwrap();
                        let answer = peer.create_answer(None).await.unwrap();
                        peer.set_local_description(answer.clone()).await.unwrap();
                        let answer = format!(r#"{{"type":"answer","sdp":{:?}}}"#, answer.sdp);
                        let answer = Signal::from_json(answer.as_bytes()).unwrap();
                        let _ = signaling.send(answer).await;
                    }
                    Signal::Answer(answer) => {
                        let answer = RTCSessionDescription::answer(answer.sdp).unwrap();
                        peer.set_remote_description(answer).await.unwrap();
                    }
                    Signal::Candidate(candidate) => {
                        let init = RTCIceCandidateInit {
                            candidate: candidate.candidate,
                            sdp_mid: candidate.mid,
                            sdp_mline_index: candidate.line,
                            ..Default::default()
                        };
                        let _ = peer.add_ice_candidate(init).await;
                    }
                    _ => {}
                },
                else => return,
            }
        }
    });
    Foreign {
        engine,
        ping,
        channels,
    }
}

async fn opened(channel: &Arc<dyn DataChannel>) {
    while channel.ready_state().await.expect("a state") != RTCDataChannelState::Open {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn next_message(channel: &Arc<dyn DataChannel>) -> BytesMut {
    loop {
        match channel.poll().await {
            Some(DataChannelEvent::OnMessage(message)) => return message.data,
            Some(_) => {}
            None => panic!("the channel has ended"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_peer_is_pinged_and_echoed_in_both_roles() {
    for foreign_offers in [true, false] {
        let transport = transport().with_wire(Wire::Raw { ping: true });
        let (here, there) = MemorySignaling::pair();
        let both = async {
            let ours = async {
                if foreign_offers {
                    transport.answer_over(here).await
                } else {
                    transport.offer_over(here).await
                }
            };
            tokio::join!(ours, foreign(there, foreign_offers))
        };
        let (conn, mut foreign) = soon("a connection", both).await;
        let conn = conn.expect("our end");

        // The foreign end may be ready a little later than ours.
        soon("the foreign channel's opening", opened(&foreign.ping)).await;
        // Pings of both sides, at once.
        let bytes = random(64);
        foreign.ping.send(BytesMut::from(&bytes[..])).await.unwrap();
        let pings = async { tokio::join!(conn.ping(), next_message(&foreign.ping)) };
        let (time, echoed) = soon("the pings", pings).await;
        assert!(time.unwrap() > Duration::ZERO);
        assert_eq!(&echoed[..], &bytes);

        // A channel of ours, and one of the peer's, each with messages there and back.
        let mut ours = soon("an open", conn.open_channel("ours", "", true))
            .await
            .unwrap();
        let message = random(16_000);
        ours.write_all(&message).await.unwrap();
        let theirs = soon("our channel", foreign.channels.recv()).await.unwrap();
        assert_eq!(theirs.label().await.unwrap(), "ours");
        for _ in 0..2 {
            let received = soon("a message", next_message(&theirs)).await;
            theirs.send(received).await.unwrap();
            let mut back = vec![0; message.len()];
            soon("its echo", ours.read_exact(&mut back)).await.unwrap();
            assert_eq!(back, message);
            ours.write_all(&message).await.unwrap();
        }

        let theirs = foreign.engine.create_data_channel("theirs", None);
        let theirs = theirs.await.unwrap();
        let mut ours = soon("their channel", conn.accept_stream()).await.unwrap();
        assert_eq!(ours.channel_info().unwrap().label, "theirs");
        for i in 0..50u8 {
            theirs.send(BytesMut::from(&[i; 16_000][..])).await.unwrap();
            let mut bytes = vec![0; 16_000];
            soon("a message", ours.read_exact(&mut bytes))
                .await
                .unwrap();
            ours.write_all(&bytes).await.unwrap();
            assert_eq!(
                soon("its echo", next_message(&theirs)).await,
                [i; 16_000][..]
            );
        }
        theirs.close().await.unwrap();
        let mut rest = Vec::new();
        soon("the end", ours.read_to_end(&mut rest)).await.unwrap();
        assert!(rest.is_empty());
        ours.reset(0);

        foreign.engine.close().await.unwrap();
        soon("the end", conn.closed()).await;
    }
}

/// One ERROR chunk with one cause, which takes all of these bytes.
fn one_cause(chunks: &mut [u8]) {
    let length = chunks.len() as u16;
    chunks.fill(0);
    chunks[0] = 9;
    chunks[2..4].copy_from_slice(&length.to_be_bytes());
    chunks[5] = 13;
    chunks[6..8].copy_from_slice(&(length - 4).to_be_bytes());
}

/// A FORWARD-TSN that skips 2^31 - 2^16 numbers.
fn far_ahead(chunks: &mut [u8]) {
    let mut number = [0; 4];
    number.copy_from_slice(&chunks[4..8]);
    let far = u32::from_be_bytes(number).wrapping_add(0x7fff_0000);
    one_cause(&mut chunks[8..]);
    chunks[..4].copy_from_slice(&[192, 0, 0, 8]);
    chunks[4..8].copy_from_slice(&far.to_be_bytes());
}

/// A cause that is longer than its ERROR.
fn long_cause_of_error(chunks: &mut [u8]) {
    one_cause(chunks);
    chunks[6..8].fill(0xff);
}

/// A cause that is longer than its ABORT.
fn long_cause_of_abort(chunks: &mut [u8]) {
    long_cause_of_error(chunks);
    chunks[0] = 6;
}

/// A COOKIE-ECHO that is longer than its packet.
fn long_cookie(chunks: &mut [u8]) {
    chunks[..4].copy_from_slice(&[10, 0, 0xff, 0xff]);
}

/// A parameter that is longer than its RE-CONFIG.
fn long_parameter(chunks: &mut [u8]) {
    one_cause(chunks);
    chunks[0] = 130;
    chunks[6..8].fill(0xff);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packets_that_would_harm_the_engine_are_lost_and_the_connection_goes_on() {
    const ALL: [(&str, Change); 5] = [
        ("a number far ahead", far_ahead),
        ("a long cause of an error", long_cause_of_error),
        ("a long cookie", long_cookie),
        ("a long parameter", long_parameter),
        ("a long cause of an abort", long_cause_of_abort),
    ];
    // An abort is one whatever its causes are, and the crate does not come to look at it.
    goes_on_after(&transport(), &ALL[..4]).await;
    goes_on_after(&crate_transport(), &ALL).await;
}

async fn goes_on_after(transport: &WebRtcTransport<InprocTransport>, changes: &[(&str, Change)]) {
    let next = Next::default();
    let settings = SettingEngineBuilder::new()
        .with_crypto_provider(Arc::new(Altered::new(next.clone())))
        .build();
    let transport = transport.clone().with_wire(Wire::Raw { ping: true });
    let (here, there) = MemorySignaling::pair();
    let both = async {
        tokio::join!(
            transport.answer_over(here),
            foreign_of(there, true, settings)
        )
    };
    let (conn, attacker) = soon("a connection", both).await;
    let conn = conn.expect("our end");
    // The peer's channels are open once it has echoed.
    soon("a ping", conn.ping()).await.expect("a ping");
    for (what, change) in changes.iter().copied() {
        next.set(change);
        // The message is lost with its packet. It is sent again, and comes back.
        let bytes = random(200);
        let sent = attacker.ping.send(BytesMut::from(&bytes[..])).await;
        sent.unwrap_or_else(|error| panic!("{what}: {error}"));
        let start = Instant::now();
        assert_eq!(soon(what, next_message(&attacker.ping)).await, &bytes[..]);
        assert!(next.is_done(), "{what}");
        // The peer's timer takes one to two seconds.
        let time = start.elapsed();
        assert!(time < Duration::from_secs(8), "{what}: {time:?}");
        let ping = soon(what, conn.ping()).await;
        assert!(ping.is_ok(), "{what}: {ping:?}");
    }
    attacker.engine.close().await.unwrap();
}
