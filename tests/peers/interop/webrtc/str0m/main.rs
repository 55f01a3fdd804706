//! A peer on str0m, which does what it is told: the tests `interop::webrtc` say what.
//!
//! ```text
//! str0m-peer offer|answer
//! ```
//!
//! It reads lines `ID VERB ARGUMENTS…` from its standard input, and answers each, in any order, with
//! `ID ok WORDS…` or `ID error TEXT` on its standard output, where 0 is answered by itself once it runs. It ends with
//! its input. The verbs are those of `channels.mjs`.

mod channels;
mod command;

use std::collections::VecDeque;
use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use str0m::change::{SdpAnswer, SdpOffer, SdpPendingOffer};
use str0m::channel::ChannelConfig;
use str0m::net::{Protocol, Receive};
use str0m::{Candidate, Event, Input, Output, Rtc};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::UdpSocket;

use channels::Channels;
use command::Command;

/// How much may wait to be sent, in bytes: more than one message.
const BUFFER: usize = 1 << 20;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let role = std::env::args().nth(1).unwrap_or_default();
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let addr = socket.local_addr()?;
    let mut peer = Peer::new(addr, role == "offer")?;
    println!("0 ok {role}");
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut packet = vec![0; 65_536];
    loop {
        let deadline = peer.turn(&socket).await?;
        tokio::select! {
            line = lines.next_line() => match line? {
                Some(line) => peer.commands.push(Command::new(&line)),
                None => return Ok(()),
            },
            received = socket.recv_from(&mut packet) => {
                let (length, source) = received?;
                let Ok(packet) = Receive::new(Protocol::Udp, source, addr, &packet[..length]) else {
                    continue;
                };
                peer.rtc.handle_input(Input::Receive(Instant::now(), packet))?;
            }
            () = tokio::time::sleep_until(deadline.into()) => {}
        }
    }
}

/// A connection, and what it was told to do and has not done.
struct Peer {
    rtc: Rtc,
    channels: Channels,
    commands: Vec<Command>,
    /// The offer that was not answered.
    offer: Option<SdpPendingOffer>,
    /// Signals to the other side, as in `docs/wire-webrtc.md`.
    signals: Vec<serde_json::Value>,
    /// How long each message was that was sent back on the channel echo.
    echoed: VecDeque<usize>,
    is_over: bool,
}

impl Peer {
    fn new(addr: SocketAddr, offers: bool) -> Result<Self, Box<dyn Error>> {
        let mut rtc = Rtc::builder()
            .set_sctp_max_buffered_amount(BUFFER)
            .build(Instant::now());
        rtc.add_local_candidate(Candidate::host(addr, "udp")?);
        let mut peer = Self {
            rtc,
            channels: Channels::default(),
            commands: Vec::new(),
            offer: None,
            signals: Vec::new(),
            echoed: VecDeque::new(),
            is_over: false,
        };
        let (ping, echo) = if offers { (2, 1) } else { (1, 2) };
        let [ping, echo] = [("ping", ping), ("echo", echo)].map(|(label, id)| ChannelConfig {
            label: label.to_owned(),
            negotiated: Some(id),
            ..ChannelConfig::default()
        });
        if offers {
            let mut changes = peer.rtc.sdp_api();
            let ids = [ping, echo].map(|config| changes.add_channel_with_config(config));
            let (offer, pending) = changes.apply().ok_or("nothing to offer")?;
            peer.channels.fix(ids);
            peer.offer = Some(pending);
            peer.describe("offer", &offer.to_sdp_string());
        } else {
            let mut api = peer.rtc.direct_api();
            peer.channels
                .fix([ping, echo].map(|config| api.create_data_channel(config)));
        }
        Ok(peer)
    }

    /// Queues a description, which has all candidates in it.
    fn describe(&mut self, kind: &str, sdp: &str) {
        self.signals = vec![
            serde_json::json!({ "type": kind, "sdp": sdp }),
            serde_json::json!({ "type": "end-of-candidates" }),
        ];
    }

    /// Takes a signal of the other side.
    fn signal(&mut self, text: &str) -> Result<(), Box<dyn Error>> {
        let signal: serde_json::Value = serde_json::from_str(text)?;
        let field = |name: &str| signal[name].as_str().unwrap_or_default();
        match field("type") {
            "offer" => {
                let offer = SdpOffer::from_sdp_string(field("sdp"))?;
                let answer = self.rtc.sdp_api().accept_offer(offer)?;
                self.describe("answer", &answer.to_sdp_string());
            }
            "answer" => {
                let answer = SdpAnswer::from_sdp_string(field("sdp"))?;
                let offer = self.offer.take().ok_or("an answer without an offer")?;
                self.rtc.sdp_api().accept_answer(offer, answer)?;
            }
            "candidate" => {
                let candidate = Candidate::from_sdp_string(field("candidate"))?;
                self.rtc.add_remote_candidate(candidate);
            }
            "end-of-candidates" => {}
            other => return Err(format!("a signal of type {other}").into()),
        }
        Ok(())
    }

    /// Does what can be done now. Returns when there is more.
    async fn turn(&mut self, socket: &UdpSocket) -> Result<Instant, Box<dyn Error>> {
        loop {
            let mut has_progress = self.run_commands();
            let now = Instant::now();
            self.rtc.handle_input(Input::Timeout(now))?;
            let deadline = loop {
                match self.rtc.poll_output()? {
                    Output::Timeout(deadline) => break deadline,
                    Output::Transmit(packet) => {
                        // The network may lose any packet.
                        let _ = socket.send_to(&packet.contents, packet.destination).await;
                    }
                    Output::Event(event) => {
                        has_progress = true;
                        self.hear(event);
                    }
                }
            };
            if !self.rtc.is_alive() && !self.is_over {
                self.is_over = true;
                has_progress = true;
            }
            if !has_progress {
                // After its end it has no time at which something is to be done.
                return Ok(deadline.max(now + Duration::from_millis(1)));
            }
        }
    }

    fn hear(&mut self, event: Event) {
        match event {
            Event::ChannelOpen(id, label) => {
                let stream = self.rtc.direct_api().sctp_stream_id_by_channel_id(id);
                self.channels.open(id, stream.unwrap_or(u16::MAX), label);
            }
            Event::ChannelData(message) => self.channels.arrive(message),
            Event::ChannelClose(id) => self.channels.close(id),
            Event::Closed => self.is_over = true,
            _ => {}
        }
    }
}
