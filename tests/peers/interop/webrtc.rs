//! Plain data channels (`?wire=raw`) with stacks of other makes, each as offerer and as answerer.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use libtest_mimic::Trial;
use pipewerks::prelude::*;
use pipewerks::webrtc::signaling::Signal;
use pipewerks::webrtc::{
    Signaling, WebRtcConn, WebRtcSettings, WebRtcStream, WebRtcTransport, Wire,
};
use pipewerks::{CloseReason, Error, ErrorKind, Registry, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::sync::mpsc;

use crate::interop::peer::Peer;
use crate::interop::tools::{self, Missing, Program, hash};
use crate::interop::{Scenario, in_roles};

/// How long a message on a channel is, in bytes.
const MESSAGE: usize = 16_000;

/// How many of them go each way.
const MESSAGES: usize = 50;

/// Which side of the negotiation the peer is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Role {
    Offer,
    Answer,
}

/// A connection between this side and a peer.
struct Stage {
    peer: Arc<Peer>,
    conn: WebRtcConn,
}

/// Every scenario with every peer in both roles.
pub(crate) fn trials() -> Vec<Trial> {
    let scenarios: [(&str, Scenario<Stage>); 5] = [
        ("pings", |stage| Box::pin(pings(stage))),
        ("our_channel", |stage| Box::pin(our_channel(stage))),
        ("its_channel", |stage| Box::pin(its_channel(stage))),
        ("our_close", |stage| Box::pin(our_close(stage))),
        ("its_close", |stage| Box::pin(its_close(stage))),
    ];
    let makes: [(&str, Program); 4] = [
        ("webrtc::libwebrtc", libwebrtc),
        ("webrtc::aiortc", aiortc),
        ("webrtc::pion", pion),
        ("webrtc::chromium", chromium),
    ];
    let mut trials = Vec::new();
    for (make, program) in makes {
        trials.extend(with(make, program, &scenarios));
    }
    // This side does not know such names: the page finds it, and not the other way round.
    let hidden_addresses: [(&str, Scenario<Stage>); 1] =
        [("hidden_addresses", |stage| Box::pin(pings(stage)))];
    trials.extend(with("webrtc::chromium", hidden, &hidden_addresses));
    trials
}

fn with(make: &str, program: Program, scenarios: &[(&str, Scenario<Stage>)]) -> Vec<Trial> {
    let roles = [Role::Offer, Role::Answer];
    let run = |role, command, scenario: Scenario<Stage>| async move {
        scenario(Stage::set(role, command).await).await;
    };
    in_roles(make, program, roles, scenarios, run)
}

/// The peer in JavaScript, on the engine of the browsers. Its program is copied once.
fn libwebrtc() -> Result<Command, Missing> {
    static PROGRAM: LazyLock<Result<PathBuf, Missing>> = LazyLock::new(|| {
        tools::beside_modules("webrtc/js", "negotiator.mjs")?;
        tools::beside_modules("webrtc/js", "channels.mjs")?;
        tools::beside_modules("webrtc/js", "peer.mjs")
    });
    let mut command = Command::new(tools::node());
    command.arg(PROGRAM.clone()?);
    Ok(command)
}

/// The same in a page of a browser.
fn chromium() -> Result<Command, Missing> {
    page("channels", "shown")
}

/// A page that says names of multicast DNS instead of its addresses.
fn hidden() -> Result<Command, Missing> {
    page("channels", "hidden")
}

/// A page of a browser, with the verbs of this file, whose addresses are shown or hidden.
pub(crate) fn page(verbs: &str, addresses: &str) -> Result<Command, Missing> {
    let browser = tools::program("chromium")?;
    let mut command = Command::new(tools::node());
    command
        .arg(tools::sources().join("webrtc/js/chromium.mjs"))
        .arg(browser)
        .args([verbs, addresses]);
    Ok(command)
}

/// The peer in Python.
fn aiortc() -> Result<Command, Missing> {
    let folder = tools::installed("webrtc/py")?;
    let mut command = Command::new(folder.join("venv/bin/python"));
    command.arg(tools::sources().join("webrtc/py/peer.py"));
    Ok(command)
}

/// The peer in Go, built once.
fn pion() -> Result<Command, Missing> {
    static PROGRAM: LazyLock<Result<PathBuf, Missing>> = LazyLock::new(|| {
        let packages = ["github.com/pion/webrtc", "github.com/pion/logging"];
        tools::build_go("webrtc/go", &packages)
    });
    PROGRAM.clone().map(Command::new)
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
    role: Role,
    mut command: Command,
    wire: Wire,
) -> (Arc<Peer>, WebRtcConn) {
    let on_loopback = WebRtcSettings::default().with_bind_addrs(vec![Ipv4Addr::LOCALHOST.into()]);
    let transport = WebRtcTransport::new(Registry::new())
        .with_settings(on_loopback)
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
    async fn set(role: Role, command: Command) -> Self {
        let (peer, conn) = connect(role, command, Wire::Raw { ping: true }).await;
        Self { peer, conn }
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

/// Random bytes, and the hash of them.
fn payload() -> (Vec<u8>, String) {
    let mut bytes = vec![0; MESSAGES * MESSAGE];
    fastrand::fill(&mut bytes);
    let hash = hash(&bytes);
    (bytes, hash)
}

/// Both sides ping at once: each gets its own 64 bytes back.
async fn pings(stage: Stage) {
    for _ in 0..3 {
        let (time, words) = tokio::join!(stage.conn.ping(), stage.peer.tell("ping"));
        assert!(time.expect("a ping") > Duration::ZERO);
        let [sent, back] = &words[..] else {
            panic!("a ping of {words:?}");
        };
        assert_eq!(sent.len(), 2 * 64);
        assert_eq!(sent, back);
        assert_eq!(stage.peer.word("echoed").await, "64");
    }
}

/// What this side sends comes back, and the peer sees this side's close.
async fn our_channel(stage: Stage) {
    let (stream, number) = stage.opened("ours").await;
    let (sent, _) = payload();
    let (mut send, mut receive) = stream.into_split();
    let write = async {
        for message in sent.chunks(MESSAGE) {
            send.write_all(message).await.expect("a write");
        }
    };
    let mut back = vec![0; sent.len()];
    let echo = format!("echo {number} {}", sent.len());
    let ((), echoed, read) =
        tokio::join!(write, stage.peer.tell(&echo), receive.read_exact(&mut back));
    assert!(echoed.is_empty());
    read.expect("the echo");
    assert_eq!(hash(&back), hash(&sent));

    send.shutdown().await.expect("a shutdown");
    drop((send, receive));
    stage.peer.tell(&format!("closed {number}")).await;

    // The connection lives on.
    stage.conn.ping().await.expect("a ping");
    stage.opened("more").await;
}

/// What the peer sends comes back to it, and this side sees its close.
async fn its_channel(stage: Stage) {
    let (mut stream, number) = stage.accepted("theirs").await;
    let len = MESSAGES * MESSAGE;
    let send = format!("send {number} {MESSAGES} {MESSAGE}");
    let echo = async {
        let mut bytes = vec![0; len];
        stream.read_exact(&mut bytes).await.expect("its bytes");
        stream.write_all(&bytes).await.expect("an echo");
        bytes
    };
    let receive = format!("receive {number} {len}");
    let (sent, bytes, received) =
        tokio::join!(stage.peer.word(&send), echo, stage.peer.word(&receive));
    assert_eq!(hash(&bytes), sent);
    assert_eq!(received, sent);

    let close = format!("close {number}");
    let mut rest = Vec::new();
    let (_, read) = tokio::join!(stage.peer.tell(&close), stream.read_to_end(&mut rest));
    read.expect("the end");
    assert!(rest.is_empty());
    drop(stream);

    // The connection lives on.
    stage.conn.ping().await.expect("a ping");
    stage.accepted("more").await;
}

async fn our_close(stage: Stage) {
    let (mut stream, number) = stage.opened("ours").await;
    stream.write_all(b"last words").await.expect("a write");
    stage.conn.close(5, "enough");
    let receive = format!("receive {number} 10");
    assert_eq!(stage.peer.word(&receive).await, hash(b"last words"));
    stage.peer.tell("ended").await;
    let CloseReason::Local { code, reason } = stage.conn.closed().await else {
        panic!("this side has closed it");
    };
    assert_eq!((code, &*reason), (5, "enough"));
}

async fn its_close(stage: Stage) {
    let (mut stream, _) = stage.accepted("theirs").await;
    stage.peer.tell("end").await;
    // It has no code and no reason on this wire.
    let CloseReason::Remote { code, reason } = stage.conn.closed().await else {
        panic!("the peer has closed it");
    };
    assert_eq!((code, &*reason), (0, ""));
    let error = stage.conn.open_stream().await.expect_err("the end");
    assert_eq!(error.kind(), ErrorKind::Closed);
    // A channel may end by itself before the connection does.
    if let Err(error) = stream.read_to_end(&mut Vec::new()).await {
        assert_eq!(Error::from(error).kind(), ErrorKind::Closed);
    }
}
