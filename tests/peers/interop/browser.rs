//! Our own streams with a page in a browser, Chromium or Firefox, which speaks them with `examples/browser/pipe.js`.

use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::Trial;
use pipewerks::prelude::*;
use pipewerks::webrtc::{WebRtcConn, WebRtcStream, Wire};
use pipewerks::{CloseReason, Error, ErrorKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::interop::peer::Peer;
use crate::interop::tools::{Program, hash};
#[cfg(target_os = "linux")]
use crate::interop::webrtc::firefox_page;
use crate::interop::webrtc::{Role, connect, page};
use crate::interop::{Place, Scenario, in_roles};

/// How much a stream carries in each direction, in bytes: more than its window.
const LEN: usize = 1_000_000;

/// A connection between this side and a page.
struct Stage {
    page: Arc<Peer>,
    conn: WebRtcConn,
}

/// Every scenario with the page in both roles.
pub(crate) fn trials() -> Vec<Trial> {
    let scenarios: [(&str, Scenario<Stage>); 5] = [
        ("our_streams", |stage| Box::pin(our_streams(stage))),
        ("its_streams", |stage| Box::pin(its_streams(stage))),
        ("codes", |stage| Box::pin(codes(stage))),
        ("our_close", |stage| Box::pin(our_close(stage))),
        ("its_close", |stage| Box::pin(its_close(stage))),
    ];
    let chromium = || page("streams", "shown");
    let trials = with("browser::chromium", Place::Machine, chromium, &scenarios);
    #[cfg(target_os = "linux")]
    let trials = {
        let firefox = || firefox_page("streams");
        let more = with("browser::firefox", Place::Namespace, firefox, &scenarios);
        trials.into_iter().chain(more).collect()
    };
    trials
}

fn with(
    what: &str,
    place: Place,
    browser: Program,
    scenarios: &[(&str, Scenario<Stage>)],
) -> Vec<Trial> {
    let roles = [Role::Offer, Role::Answer];
    let run = move |role, command, scenario: Scenario<Stage>| async move {
        let (page, conn) = connect(place, role, command, Wire::Pipe).await;
        scenario(Stage { page, conn }).await;
    };
    in_roles(what, place, browser, roles, scenarios, run)
}

impl Stage {
    /// A stream that this side opens, with the page's number of it.
    async fn opened(&self) -> (WebRtcStream, String) {
        let (stream, number) = tokio::join!(self.conn.open_stream(), self.page.word("accept"));
        (stream.expect("a stream"), number)
    }

    /// A stream that the page opens, with its number of it.
    async fn accepted(&self) -> (WebRtcStream, String) {
        let (stream, number) = tokio::join!(self.conn.accept_stream(), self.page.word("open"));
        (stream.expect("its stream"), number)
    }
}

/// What this side sends on streams that it opens comes back, with the end. Then the next stream does.
async fn our_streams(stage: Stage) {
    assert!(stage.conn.ping().await.expect("a ping") > Duration::ZERO);
    for _ in 0..3 {
        let (stream, number) = stage.opened().await;
        let mut bytes = vec![0; LEN];
        fastrand::fill(&mut bytes);
        let (mut receive, mut send) = tokio::io::split(stream);
        let write = async {
            send.write_all(&bytes).await.expect("a write");
            send.shutdown().await.expect("a shutdown");
        };
        let mut back = Vec::new();
        let echo = format!("echo {number}");
        let ((), echoed, read) = tokio::join!(
            write,
            stage.page.tell(&echo),
            receive.read_to_end(&mut back)
        );
        assert!(echoed.is_empty());
        read.expect("the end");
        assert_eq!(hash(&back), hash(&bytes));
    }
    stage.conn.drain().await.expect("a drain");
}

/// What the page sends on streams that it opens comes back to it, with the end. It needs one channel.
async fn its_streams(stage: Stage) {
    let time = stage.page.word("ping").await;
    assert!(time.parse::<f64>().expect("a time") >= 0.0);
    for _ in 0..3 {
        let (stream, number) = stage.accepted().await;
        let (mut receive, mut send) = tokio::io::split(stream);
        let echo = async {
            let mut bytes = vec![0; 32 * 1024];
            let mut all = Vec::new();
            loop {
                match receive.read(&mut bytes).await.expect("its bytes") {
                    0 => break,
                    count => {
                        all.extend(&bytes[..count]);
                        send.write_all(&bytes[..count]).await.expect("a write");
                    }
                }
            }
            send.shutdown().await.expect("a shutdown");
            all
        };
        let (write, read) = (format!("send {number} {LEN}"), format!("receive {number}"));
        let (sent, all, back) = tokio::join!(stage.page.word(&write), echo, stage.page.word(&read));
        assert_eq!(all.len(), LEN);
        assert_eq!(hash(&all), sent);
        assert_eq!(back, sent);
    }
    // The next stream would take the channel of the last.
    let (_stream, _) = stage.accepted().await;
    assert_eq!(stage.page.word("channels").await, "0");
}

/// Codes of resets and stops arrive in both directions, and harm no other stream.
async fn codes(stage: Stage) {
    let (mut ours, number) = stage.opened().await;
    ours.reset(7);
    let error = stage.page.ask(&format!("receive {number}")).await;
    assert_eq!(error, Err("the stream was reset with code 7".into()));
    ours.stop(8);
    let why = stage.page.tell(&format!("stopped {number}")).await;
    assert_eq!(why.join(" "), "the stream was stopped with code 8");

    let (mut theirs, number) = stage.accepted().await;
    stage.page.tell(&format!("reset {number} 9")).await;
    let error = Error::from(theirs.read_u8().await.expect_err("a reset"));
    assert_eq!((error.kind(), error.code()), (ErrorKind::Reset, Some(9)));
    let stop = format!("stop {number} 10");
    let stopped = async {
        loop {
            if let Err(error) = theirs.write_all(&[0; 1024]).await {
                return Error::from(error);
            }
        }
    };
    let (_, error) = tokio::join!(stage.page.tell(&stop), stopped);
    assert_eq!((error.kind(), error.code()), (ErrorKind::Stopped, Some(10)));

    let (mut other, number) = stage.opened().await;
    other.write_all(b"as ever").await.expect("a write");
    other.shutdown().await.expect("a shutdown");
    let received = stage.page.word(&format!("receive {number}")).await;
    assert_eq!(received, hash(b"as ever"));
}

async fn our_close(stage: Stage) {
    let (mut stream, number) = stage.opened().await;
    stream.write_all(b"last words").await.expect("a write");
    stream.shutdown().await.expect("a shutdown");
    stage.conn.close(5, "enough of it");
    assert_eq!(stage.page.tell("closed").await, ["5", "enough", "of", "it"]);
    let received = stage.page.word(&format!("receive {number}")).await;
    assert_eq!(received, hash(b"last words"));
}

async fn its_close(stage: Stage) {
    let (mut stream, _) = stage.accepted().await;
    stage.page.tell("close 6 good bye").await;
    let CloseReason::Remote { code, reason } = stage.conn.closed().await else {
        panic!("the page has closed it");
    };
    assert_eq!((code, &*reason), (6, "good bye"));
    let error = Error::from(stream.read_u8().await.expect_err("no more"));
    assert_eq!((error.kind(), error.code()), (ErrorKind::Closed, Some(6)));
}
