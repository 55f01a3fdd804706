//! Case 114 of the suite's list: a peer that nobody here wrote, which is the engine used by hand.

mod common;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::BytesMut;
use common::{random, soon, transport};
use pipe_core::{Conn, Stream};
use pipe_webrtc::signaling::{IceCandidate, Signal, Signaling};
use pipe_webrtc::{MemorySignaling, Wire};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use webrtc::data_channel::{DataChannel, DataChannelEvent, RTCDataChannelInit};
use webrtc::peer_connection::{
    PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCIceCandidateInit,
    RTCPeerConnectionIceEvent, RTCSessionDescription,
};

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
async fn foreign(mut signaling: MemorySignaling, offers: bool) -> Foreign {
    let (candidates, mut found) = mpsc::unbounded_channel();
    let (to_channels, channels) = mpsc::unbounded_channel();
    let engine = PeerConnectionBuilder::new()
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
