//! Plain data channels (`?wire=raw`) with stacks of other makes, each as offerer and as answerer.

mod makes;
mod scenarios;

use std::net::Ipv4Addr;
use std::sync::Arc;

use libtest_mimic::Trial;
use makes::{CHROMIUM, MAKES, Make, hidden};
use pipewerks::prelude::*;
use pipewerks::webrtc::signaling::Signal;
use pipewerks::webrtc::{
    Signaling, WebRtcConn, WebRtcSettings, WebRtcStream, WebRtcTransport, Wire,
};
use pipewerks::{Error, ErrorKind, Registry, Result};
use scenarios::{
    exchange, ids_again, its_channel, its_close, many_channels, messages, our_channel, our_close,
    pings,
};
use tokio::process::Command;
use tokio::sync::mpsc;

use crate::interop::peer::Peer;
use crate::interop::{Place, Scenario, in_roles};
#[cfg(target_os = "linux")]
use crate::namespace::ADDR;

#[cfg(target_os = "linux")]
pub(crate) use makes::firefox_page;
pub(crate) use makes::page;

/// Which side of the negotiation the peer is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Role {
    Offer,
    Answer,
}

/// A connection between this side and a peer.
struct Stage {
    make: Make,
    peer: Arc<Peer>,
    conn: WebRtcConn,
}

/// Every scenario with every peer in both roles.
pub(crate) fn trials() -> Vec<Trial> {
    let scenarios: [(&str, Scenario<Stage>); 8] = [
        ("pings", |stage| Box::pin(pings(stage))),
        ("our_channel", |stage| Box::pin(our_channel(stage))),
        ("its_channel", |stage| Box::pin(its_channel(stage))),
        ("messages", |stage| Box::pin(messages(stage))),
        ("many_channels", |stage| Box::pin(many_channels(stage))),
        ("ids_again", |stage| Box::pin(ids_again(stage))),
        ("our_close", |stage| Box::pin(our_close(stage))),
        ("its_close", |stage| Box::pin(its_close(stage))),
    ];
    let mut trials = Vec::new();
    for &make in MAKES {
        // Those two channels are negotiated.
        let pings = usize::from(!make.negotiated);
        trials.extend(with(make, &scenarios[pings..]));
    }
    // This side does not know such names: the page finds it, and not the other way round.
    let hidden_addresses: [(&str, Scenario<Stage>); 1] =
        [("hidden_addresses", |stage| Box::pin(pings(stage)))];
    let hidden = Make {
        program: hidden,
        ..CHROMIUM
    };
    trials.extend(with(hidden, &hidden_addresses));
    trials
}

fn with(make: Make, scenarios: &[(&str, Scenario<Stage>)]) -> Vec<Trial> {
    let roles = [Role::Offer, Role::Answer];
    let run = move |role, command, scenario: Scenario<Stage>| async move {
        scenario(Stage::set(make, role, command).await).await;
    };
    in_roles(make.name, make.place, make.program, roles, scenarios, run)
}

/// The signals of a negotiation, over the peer's standard input and output.
struct OverPipes {
    peer: Arc<Peer>,
    signals: mpsc::Receiver<Result<Signal>>,
}

impl OverPipes {
    fn new(peer: Arc<Peer>) -> Self {
        let (sender, signals) = mpsc::channel(1);
        let asked = peer.clone();
        tokio::spawn(async move {
            // An answer must not get lost, so it is awaited here and not by the one who wants it.
            let next = async {
                loop {
                    let signal = match asked.ask("signals").await {
                        Ok(words) => Signal::from_json(words.join(" ").as_bytes()),
                        Err(error) => Err(failed(error)),
                    };
                    let last = signal.is_err();
                    if sender.send(signal).await.is_err() || last {
                        return;
                    }
                }
            };
            tokio::select! {
                () = next => {}
                () = sender.closed() => {}
            }
        });
        Self { peer, signals }
    }
}

impl Signaling for OverPipes {
    async fn send(&mut self, signal: Signal) -> Result<()> {
        let what = format!("signal {}", signal.to_json()?);
        self.peer.ask(&what).await.map_err(failed)?;
        Ok(())
    }

    async fn receive(&mut self) -> Result<Option<Signal>> {
        self.signals.recv().await.transpose()
    }
}

/// What the peer could not do with the signals.
fn failed(error: String) -> Error {
    Error::new(ErrorKind::Handshake, error)
}

/// Starts a peer, and connects to it.
pub(crate) async fn connect(
    place: Place,
    role: Role,
    mut command: Command,
    wire: Wire,
) -> (Arc<Peer>, WebRtcConn) {
    let addr = match place {
        Place::Machine => Ipv4Addr::LOCALHOST,
        #[cfg(target_os = "linux")]
        Place::Namespace => ADDR.parse().expect("an address"),
    };
    let at_addr = WebRtcSettings::default().with_bind_addrs(vec![addr.into()]);
    let transport = WebRtcTransport::new(Registry::new())
        .with_settings(at_addr)
        .expect("settings")
        .with_wire(wire);
    let word = format!("{role:?}").to_lowercase();
    let peer = Arc::new(Peer::start(command.arg(&word)).await);
    assert_eq!(peer.addr(), word);
    let signaling = OverPipes::new(peer.clone());
    let conn = match role {
        Role::Offer => transport.answer_over(signaling).await,
        Role::Answer => transport.offer_over(signaling).await,
    };
    (peer, conn.expect("a connection"))
}

impl Stage {
    async fn set(make: Make, role: Role, command: Command) -> Self {
        let ping = make.negotiated;
        let (peer, conn) = connect(make.place, role, command, Wire::Raw { ping }).await;
        if let (false, Role::Offer) = (make.negotiated, role) {
            // Without a channel of its own it had nothing to offer.
            conn.accept_stream().await.expect("its first channel");
        }
        Self { make, peer, conn }
    }

    /// The connection still carries messages.
    async fn lives(&self) {
        if self.make.negotiated {
            self.conn.ping().await.expect("a ping");
        } else {
            let (mut stream, number) = self.opened("last").await;
            exchange(self, &mut stream, &number).await;
        }
    }

    /// A channel that this side opens, with its number.
    async fn opened(&self, label: &str) -> (WebRtcStream, String) {
        let open = self.conn.open_channel(label, "", true);
        let (stream, words) = tokio::join!(open, self.peer.tell("accept"));
        let [number, accepted] = &words[..] else {
            panic!("a channel of {words:?}");
        };
        assert_eq!(accepted, label);
        (stream.expect("a channel"), number.clone())
    }

    /// A channel that the peer opens, with its number.
    async fn accepted(&self, label: &str) -> (WebRtcStream, String) {
        let open = format!("open {label}");
        let (stream, number) = tokio::join!(self.conn.accept_stream(), self.peer.word(&open));
        let stream = stream.expect("its channel");
        let info = stream.channel_info().expect("what it was opened with");
        assert_eq!((&*info.label, info.ordered), (label, true));
        (stream, number)
    }
}
