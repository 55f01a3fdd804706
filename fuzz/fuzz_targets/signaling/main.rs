//! Any signals to one side of a WebRTC negotiation, with an engine that has no sockets: it goes on, or ends with an
//! error, within its bounds.
//!
//! The first byte chooses the side and what its engine does; each line behind it is a message of the peer, or, with
//! an exclamation mark in front, something else that happens (see [`Run::happen`]). Time is paused: whatever waits for
//! ever is seen at once, as a task that is left over.

#![no_main]

mod engine;
mod shared;

// The files of the crate; what they name of it is in the modules beside this file.
#[allow(dead_code)]
#[path = "../../../pipe-webrtc/src/candidates.rs"]
mod candidates;
#[allow(dead_code)]
#[path = "../../../pipe-webrtc/src/command.rs"]
mod command;
#[allow(dead_code)]
#[path = "../../../pipe-webrtc/src/error.rs"]
mod error;
#[allow(dead_code)]
#[path = "../../../pipe-webrtc/src/negotiation.rs"]
mod negotiation;
#[allow(dead_code, unused_imports, unreachable_pub)]
#[path = "../../../pipe-webrtc/src/signaling/mod.rs"]
mod signaling;

use std::alloc::System;
use std::sync::Arc;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use pipe_core::{Error, ErrorKind, Result};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tokio::io::{AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::command::Command;
use crate::engine::{Candidate, Peer};
use crate::negotiation::Negotiation;
use crate::shared::Shared;
use crate::signaling::{MAX_SIGNAL_LEN, Signal, Signaling, StreamSignaling, hand};

// What the files name of other modules of their crate.
pub(crate) use shared as events;
#[derive(Debug)]
pub struct WebRtcConn;

#[global_allocator]
static HEAP: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Longer than every time limit of a negotiation together.
const LONG: Duration = Duration::from_secs(300);

/// What all sides may hold: a few of the longest messages on their way, and candidates that wait.
const MAX_HEAP: usize = 2 << 20;

/// What happens at most, so that a run stays short.
const MAX_LINES: usize = 512;

/// The room of the byte stream in each direction.
const ROOM: usize = 128 * 1024;

fuzz_target!(|data: &[u8]| {
    let [choices, lines @ ..] = data else {
        return;
    };
    let chosen = |bit: u8| choices & (1 << bit) != 0;
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let before = held();
        let mut run = Run::start(chosen(0), chosen(1), chosen(2), chosen(3));
        for line in lines.split(|byte| *byte == b'\n').take(MAX_LINES) {
            codec(line);
            run.happen(line).await;
            run.check(before);
        }
        run.finish().await;
        // What the negotiation has spawned ends by itself.
        sleep(LONG).await;
    });
    assert_eq!(
        runtime.metrics().num_alive_tasks(),
        0,
        "a task is left over"
    );
});

/// A message that is read is written and read again without a change; any text is taken by hand, or refused.
fn codec(line: &[u8]) {
    if let Ok(signal) = Signal::from_json(line) {
        // Escapes may make it longer than what was read.
        if let Ok(json) = signal.to_json()
            && signal != Signal::Unknown
        {
            let again = Signal::from_json(json.as_bytes());
            assert_eq!(again.expect("what was written"), signal);
        }
    }
    if let Ok(text) = str::from_utf8(line)
        && let Err(error) = hand(Some(text))
    {
        assert_eq!(error.kind(), ErrorKind::Protocol);
    }
}

/// Bytes of the heap in use.
fn held() -> usize {
    let stats = HEAP.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

/// One negotiation.
struct Run {
    peer: Arc<Peer>,
    started: Instant,
    commands: Option<mpsc::Sender<Command>>,
    negotiation: JoinHandle<Result<()>>,
    /// The direction of the peer.
    said: Option<WriteHalf<DuplexStream>>,
    /// Reads what the side under test says, and counts its offers and answers.
    heard: JoinHandle<Result<(usize, usize)>>,
    offers: usize,
    answers: usize,
}

impl Run {
    /// Starts as the side that offers, or the one that answers. Its engine may refuse to restart, and there may be a
    /// name that was dialed.
    fn start(offerer: bool, named: bool, restarts: bool, fails: bool) -> Self {
        let (near, far) = tokio::io::duplex(ROOM);
        let peer = Arc::new(Peer::new(restarts, fails));
        let (commands, obeyed) = mpsc::channel(256);
        let negotiation = Negotiation::new(
            Arc::new(Shared::new(offerer)),
            peer.clone(),
            StreamSignaling::new(near),
            obeyed,
            named.then(|| "room".to_owned()),
        );
        let (from, to) = tokio::io::split(far);
        Self {
            peer,
            started: Instant::now(),
            commands: Some(commands),
            negotiation: tokio::spawn(negotiation.run()),
            said: Some(to),
            heard: tokio::spawn(hear(from)),
            offers: 0,
            answers: 0,
        }
    }

    /// Lets happen what a line says: a message, or
    ///
    /// - `!wait N`: so many milliseconds pass;
    /// - `!restart`, `!candidate`, `!refuse`: the application restarts ICE, the engine finds a candidate, the
    ///   connection is refused;
    /// - `!length N`: a length without its message;
    /// - `!long N`: a candidate whose text, and one whose name of a section, has so many bytes;
    /// - `!end`: the peer says no more.
    async fn happen(&mut self, line: &[u8]) {
        let Some(what) = line.strip_prefix(b"!") else {
            match Signal::from_json(line) {
                Ok(Signal::Offer(_)) => self.offers += 1,
                Ok(Signal::Answer(_)) => self.answers += 1,
                _ => {}
            }
            return self.say(line.len(), line).await;
        };
        let what = String::from_utf8_lossy(what);
        let (word, number) = what.split_once(' ').unwrap_or((&what, "0"));
        let number = number.parse().unwrap_or(0_usize);
        match word {
            "wait" => sleep(Duration::from_millis(number.min(10_000) as u64)).await,
            "restart" => self.command(Command::Restart(None)).await,
            "told" => {
                let (done, told) = oneshot::channel();
                drop(told);
                self.command(Command::Restart(Some(done))).await;
            }
            "candidate" => self.command(Command::Candidate(own_candidate())).await,
            "gathered" => self.command(Command::EndOfCandidates).await,
            "refuse" => {
                let error = Error::new(ErrorKind::Refused, "x".repeat(number.min(100_000)));
                self.command(Command::Refuse(error)).await;
            }
            "length" => self.say(number, b"").await,
            "long" => {
                let long = "x".repeat(number.min(MAX_SIGNAL_LEN));
                for (text, name) in [(&*long, "0"), ("1 1 udp 1 192.0.2.1 9 typ host", &*long)] {
                    let json = format!(
                        r#"{{"type":"candidate","candidate":"candidate:{text}","sdpMid":"{name}"}}"#
                    );
                    self.say(json.len(), json.as_bytes()).await;
                }
            }
            "end" => self.said = None,
            _ => {}
        }
    }

    /// Sends a frame, as far as the other side takes it.
    async fn say(&mut self, length: usize, bytes: &[u8]) {
        let Some(said) = &mut self.said else { return };
        let length = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
        let sent = async {
            said.write_all(&length).await?;
            said.write_all(bytes).await
        };
        // A side that paces offers takes a message a second.
        if !matches!(timeout(2 * LONG, sent).await, Ok(Ok(()))) {
            self.said = None;
        }
    }

    async fn command(&self, command: Command) {
        if let Some(commands) = &self.commands {
            let _ = timeout(LONG, commands.send(command)).await;
        }
    }

    fn check(&self, before: usize) {
        let held = held().saturating_sub(before);
        assert!(held <= MAX_HEAP, "{held} bytes are held");
        self.peer.check(self.started.elapsed());
    }

    /// Ends what is left, and compares what was said with what was asked.
    async fn finish(mut self) {
        self.said = None;
        self.commands = None;
        let ended = timeout(LONG, &mut self.negotiation).await;
        // Whether with an error is the peer's doing.
        let _ = ended.expect("it ends with its peer").expect("no panic");
        let heard = timeout(LONG, self.heard).await.expect("the stream ends");
        let (offers, answers) = heard.expect("no panic").expect("messages that can be read");
        assert!(answers <= self.offers, "{answers} answers");
        self.peer.check(self.started.elapsed());
        assert!(offers <= 1 + self.peer.restarts(), "{offers} offers");
    }
}

async fn hear(from: ReadHalf<DuplexStream>) -> Result<(usize, usize)> {
    let mut from = StreamSignaling::new(tokio::io::join(from, tokio::io::sink()));
    let (mut offers, mut answers) = (0, 0);
    while let Some(signal) = from.receive().await? {
        match signal {
            Signal::Offer(_) => offers += 1,
            Signal::Answer(_) => answers += 1,
            _ => {}
        }
    }
    Ok((offers, answers))
}

fn own_candidate() -> Candidate {
    Candidate {
        candidate: "candidate:1 1 udp 1 127.0.0.1 9 typ host".to_owned(),
        mid: None,
        line: Some(0),
    }
}
