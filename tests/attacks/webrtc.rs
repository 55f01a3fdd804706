//! An attacker of plain data channels, which speaks `pipe/1` on them by hand.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::byte_streams::socket_addr;
use futures::FutureExt;
use futures::future::BoxFuture;
use pipe_conformance::hostile::{Attacker, Held, Move, MoveKind, Peer, Reading};
use pipewerks::tcp::{MuxConn, MuxStream, TcpTransport};
use pipewerks::webrtc::signaling::{IceCandidate, Signal};
use pipewerks::webrtc::{
    Engine, Message, Signaling, StreamSignaling, WebRtcConn, WebRtcSettings, WebRtcStream,
    WebRtcTransport, Wire,
};
use pipewerks::{Addr, Config, Conn, Stream, Transport};
use tokio::time::{sleep, timeout};
use webrtc::data_channel::{DataChannel, RTCDataChannelInit};

/// How long a move may wait for the engine before it is left out.
const PATIENCE: Duration = Duration::from_millis(50);

pub(crate) struct WebRtc {
    pub(crate) raw: bool,
}

/// How many long candidates come before the offer.
const LONG: usize = 40;

fn transport() -> pipewerks::Result<WebRtcTransport<TcpTransport>> {
    let loopback = vec![IpAddr::V4(Ipv4Addr::LOCALHOST)];
    // What the attacker does by hand takes the peer connection of the crate.
    let on_crate = WebRtcSettings::default().with_engine(Engine::WebRtcCrate);
    let transport = WebRtcTransport::new(TcpTransport::new())
        .with_settings(on_crate.with_bind_addrs(loopback))?
        .with_config(Config::default().with_max_streams(4096))?;
    Ok(transport.with_wire(Wire::Raw { ping: true }))
}

/// Connects to what carries the signalling of a listener.
async fn signaling(addr: &Addr) -> io::Result<MuxConn> {
    let signaling = format!("tcp://{}", socket_addr(addr)?);
    Ok(TcpTransport::new().dial(&signaling.parse()?).await?)
}

/// A host candidate (RFC 8839, section 5.1), whose type may be anything.
fn named_candidate(addr: SocketAddr, kind: &str) -> Signal {
    let text = format!(
        "candidate:{} 1 udp 2130706431 {} {} typ {kind}",
        fastrand::u32(..),
        addr.ip(),
        addr.port()
    );
    Signal::Candidate(IceCandidate {
        candidate: text,
        mid: Some("0".to_owned()),
        line: Some(0),
    })
}

/// A signalling that names other candidates than the side's own, before its offer and after it.
struct Flood {
    stream: StreamSignaling<MuxStream>,
    before: Vec<Signal>,
    named: Vec<Signal>,
}

impl Signaling for Flood {
    async fn send(&mut self, signal: Signal) -> pipewerks::Result<()> {
        let Signal::Offer(mut offer) = signal else {
            // Its own ways to be reached stay unnamed.
            return Ok(());
        };
        for long in self.before.drain(..) {
            self.stream.send(long).await?;
        }
        offer.sdp = offer
            .sdp
            .lines()
            .filter(|line| !line.starts_with("a=candidate:"))
            .map(|line| format!("{line}\r\n"))
            .collect();
        self.stream.send(Signal::Offer(offer)).await?;
        for candidate in self.named.drain(..) {
            self.stream.send(candidate).await?;
        }
        Ok(())
    }

    async fn receive(&mut self) -> pipewerks::Result<Option<Signal>> {
        self.stream.receive().await
    }
}

impl Attacker for WebRtc {
    fn connect<'a>(
        &'a self,
        addr: &'a Addr,
        reading: Reading,
    ) -> BoxFuture<'a, io::Result<Box<dyn Peer>>> {
        async move {
            let conn = transport()?.dial(addr).await?;
            Ok(Box::new(WebRtcPeer {
                conn,
                raw: self.raw,
                reading,
                control: None,
                channels: HashMap::new(),
                made: Vec::new(),
                pending: 0,
            }) as Box<dyn Peer>)
        }
        .boxed()
    }

    fn knock<'a>(&'a self, addr: &'a Addr) -> BoxFuture<'a, io::Result<Held>> {
        async move {
            let conn = signaling(addr).await?;
            let stream = conn.open_stream().await?;
            let held = async move {
                conn.closed().await;
                drop(stream);
            };
            Ok(held.boxed())
        }
        .boxed()
    }

    fn name_candidates<'a>(
        &'a self,
        addr: &'a Addr,
        candidates: &'a [SocketAddr],
    ) -> BoxFuture<'a, io::Result<Held>> {
        async move {
            let conn = signaling(addr).await?;
            // Those that come before the description are long.
            let long = candidates.iter().cycle().take(LONG).map(|&candidate| {
                let padding = "x".repeat(60_000);
                named_candidate(candidate, &padding)
            });
            let named = candidates
                .iter()
                .map(|&candidate| named_candidate(candidate, "host"));
            let flood = Flood {
                stream: StreamSignaling::new(conn.open_stream().await?),
                before: long.collect(),
                named: named.collect(),
            };
            let transport = transport()?;
            let held = async move {
                let _ = transport.offer_over(flood).await;
                drop(conn);
            };
            Ok(held.boxed())
        }
        .boxed()
    }

    fn number(&self, n: u64) -> u64 {
        2 * n
    }

    fn lacks(&self, kind: MoveKind) -> Option<&'static str> {
        let of_pipe = [
            MoveKind::Number,
            MoveKind::Stop,
            MoveKind::Unknown,
            MoveKind::Credit,
            MoveKind::Control,
        ];
        match kind {
            _ if self.raw && of_pipe.contains(&kind) => Some("plain channels have no such message"),
            MoveKind::Stall => Some("its handshakes are offers: see candidates_without_end"),
            MoveKind::Early => Some("channels stand when the engine has connected"),
            MoveKind::Mux | MoveKind::Ping => Some("the engine speaks SCTP by itself"),
            _ => None,
        }
    }
}

/// A move that waits to be sent.
enum Made {
    Open(u64),
    Text(u64, String),
    Data(u64, Vec<u8>),
    Close(u64),
    Control(Vec<u8>),
}

struct WebRtcPeer {
    conn: WebRtcConn,
    raw: bool,
    reading: Reading,
    control: Option<Arc<dyn DataChannel>>,
    channels: HashMap<u64, WebRtcStream>,
    made: Vec<Made>,
    pending: usize,
}

impl WebRtcPeer {
    fn push(&mut self, bytes: usize, made: Made) {
        self.pending += bytes + 64;
        self.made.push(made);
    }

    fn text(&mut self, n: u64, text: String) -> io::Result<()> {
        if self.raw {
            return Err(io::ErrorKind::Unsupported.into());
        }
        self.push(text.len(), Made::Text(n, text));
        Ok(())
    }

    async fn carry_out(&mut self, made: Made) -> io::Result<()> {
        let message = match made {
            Made::Open(n) => {
                let open = self.conn.open_channel("evil", "pipe/1", true);
                if let Ok(opened) = timeout(PATIENCE, open).await {
                    self.channels.insert(n, opened?);
                }
                return Ok(());
            }
            Made::Close(n) => {
                if let Some(mut channel) = self.channels.remove(&n) {
                    channel.reset(0);
                }
                return Ok(());
            }
            Made::Control(bytes) => {
                if let Some(control) = &self.control {
                    let text = String::from_utf8_lossy(&bytes).into_owned();
                    let _ = timeout(PATIENCE, control.send_text(&text)).await;
                }
                return Ok(());
            }
            Made::Text(n, text) => (n, Message::Text(text)),
            Made::Data(n, bytes) => (n, Message::Binary(bytes.into())),
        };
        // A message about a stream that was not opened goes over any channel that there is.
        let (n, message) = message;
        let any = self.channels.keys().next().copied();
        let n = if self.channels.contains_key(&n) {
            Some(n)
        } else {
            any
        };
        if let Some(channel) = n.and_then(|n| self.channels.get_mut(&n)) {
            let _ = timeout(PATIENCE, channel.send_message(message)).await;
        }
        Ok(())
    }
}

impl Peer for WebRtcPeer {
    fn greet(&mut self) -> BoxFuture<'_, io::Result<()>> {
        async move {
            if self.raw {
                return Ok(());
            }
            let engine = self.conn.inner().ok_or(io::ErrorKind::NotConnected)?;
            let init = RTCDataChannelInit {
                negotiated: Some(0),
                ..Default::default()
            };
            let control = engine.create_data_channel("pipe-control", Some(init)).await;
            let control = control.map_err(io::Error::other)?;
            // As long as the other side's association is not made, a hello may be lost.
            for _ in 0..3 {
                let hello = control.send_text("hello pipe/1").await;
                hello.map_err(io::Error::other)?;
                sleep(Duration::from_millis(20)).await;
            }
            if self.reading == Reading::Discards {
                let control = control.clone();
                tokio::spawn(async move { while control.poll().await.is_some() {} });
            }
            self.control = Some(control);
            Ok(())
        }
        .boxed()
    }

    fn make(&mut self, action: Move<'_>) -> io::Result<()> {
        match action {
            Move::Open(n) => {
                self.push(64, Made::Open(n));
                if !self.raw {
                    self.text(n, format!("open {}", 2 * n))?;
                }
            }
            Move::Data(n, bytes) => self.push(bytes.len(), Made::Data(n, bytes.to_vec())),
            Move::End(n, _) | Move::Reset(n) if self.raw => self.push(0, Made::Close(n)),
            Move::End(n, bytes) => self.text(n, format!("end {bytes}"))?,
            Move::Reset(n) => self.text(n, "reset 7".to_owned())?,
            Move::Stop(n) => self.text(n, "stop 7".to_owned())?,
            Move::Credit(n, bytes) => self.text(n, format!("credit {bytes}"))?,
            Move::Done(n) => self.text(n, "done".to_owned())?,
            Move::Taken(n) => self.text(n, "taken".to_owned())?,
            Move::Control(bytes) => self.push(bytes.len(), Made::Control(bytes.to_vec())),
            // Pings, and what this wire has no words for.
            _ => return Err(io::ErrorKind::Unsupported.into()),
        }
        Ok(())
    }

    fn flush(&mut self) -> BoxFuture<'_, io::Result<()>> {
        async move {
            self.pending = 0;
            for made in std::mem::take(&mut self.made) {
                if self.conn.state().borrow().is_final() {
                    return Err(io::ErrorKind::ConnectionReset.into());
                }
                self.carry_out(made).await?;
            }
            Ok(())
        }
        .boxed()
    }

    fn pending(&self) -> usize {
        self.pending
    }
}
