//! WebSocket (`ws://…?wire=raw`) with the Python package `websockets`, as client and as server; and through proxies.

mod proxies;

use libtest_mimic::Trial;
use pipewerks::prelude::*;
use pipewerks::{BoxConn, CloseReason};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use crate::interop::peer::Peer;
use crate::interop::tools::{self, Missing};
use crate::interop::{Place, Scenario, in_roles};

/// How much a stream carries in each direction, in bytes.
const LEN: usize = 1_000_003;

/// Which side of the connection the peer is.
#[derive(Clone, Copy, Debug)]
enum Role {
    Client,
    Server,
}

/// A connection between this side and a peer.
struct Stage {
    peer: Peer,
    conn: BoxConn,
}

/// Every scenario with the peer in both roles.
pub(crate) fn trials() -> Vec<Trial> {
    let scenarios: [(&str, Scenario<Stage>); 6] = [
        ("our_streams", |stage| Box::pin(our_streams(stage))),
        ("its_streams", |stage| Box::pin(its_streams(stage))),
        ("its_pings", |stage| Box::pin(its_pings(stage))),
        ("its_text", |stage| Box::pin(its_text(stage))),
        ("our_close", |stage| Box::pin(our_close(stage))),
        ("its_close", |stage| Box::pin(its_close(stage))),
    ];
    let roles = [Role::Client, Role::Server];
    let run = |role, command, scenario: Scenario<Stage>| async move {
        scenario(Stage::set(role, command).await).await;
    };
    let mut trials = in_roles(
        "ws::websockets",
        Place::Machine,
        websockets,
        roles,
        &scenarios,
        run,
    );
    trials.extend(proxies::trials());
    trials
}

fn websockets() -> Result<Command, Missing> {
    let folder = tools::installed("ws")?;
    let mut command = Command::new(folder.join("venv/bin/python"));
    command.arg(tools::sources().join("ws/peer.py"));
    Ok(command)
}

impl Stage {
    async fn set(role: Role, mut command: Command) -> Self {
        match role {
            Role::Server => {
                let peer = Peer::start(command.arg("server")).await;
                let addr = format!("ws://{}/a/path?wire=raw", peer.addr());
                let conn = pipewerks::dial(addr).await.expect("a connection");
                Self { peer, conn }
            }
            Role::Client => {
                let listener = pipewerks::listen("ws://127.0.0.1:0/a?wire=raw");
                let listener = listener.await.expect("a listener");
                let port = listener.local_addr().port().expect("a port");
                let to = format!("ws://127.0.0.1:{port}/a/path?a=query");
                let peer = Peer::start(command.args(["client", &to])).await;
                let conn = listener.accept().await.expect("a connection");
                Self { peer, conn }
            }
        }
    }
}

async fn our_streams(stage: Stage) {
    let exchanges = (0..4_usize).map(|seed| {
        let conn = stage.conn.clone();
        async move {
            let sent: Vec<u8> = (0..LEN).map(|i| ((i * 7 + seed) % 251) as u8).collect();
            let stream = conn.open_stream().await.expect("a stream");
            let (mut send, mut recv) = stream.into_split();
            let writing = async {
                send.write_all(&sent).await?;
                send.shutdown().await
            };
            let mut received = Vec::new();
            let (written, read) = tokio::join!(writing, recv.read_to_end(&mut received));
            written.expect("all was written");
            read.expect("all came back");
            assert!(received == sent, "stream {seed} came back changed");
        }
    });
    futures::future::join_all(exchanges).await;
}

async fn its_streams(stage: Stage) {
    let echo = async {
        for _ in 0..4 {
            let stream = stage.conn.accept_stream().await.expect("a stream");
            let (mut send, mut recv) = stream.into_split();
            tokio::io::copy(&mut recv, &mut send)
                .await
                .expect("an echo");
            send.shutdown().await.expect("an end");
        }
    };
    let ask = async {
        for _ in 0..4 {
            stage.peer.tell(&format!("ask {LEN}")).await;
        }
    };
    tokio::join!(echo, ask);
}

async fn its_pings(stage: Stage) {
    for _ in 0..10 {
        stage.peer.tell("ping").await;
    }
    stage.conn.ping().await.expect("an answer");
}

async fn its_text(stage: Stage) {
    assert_eq!(stage.peer.tell("text").await[0], "1003");
    let closed = stage.conn.closed().await;
    assert!(matches!(&closed, CloseReason::Failed(_)), "{closed:?}");
    assert!(closed.to_string().contains("text message"), "{closed}");
}

async fn our_close(stage: Stage) {
    stage.conn.close(0, "");
    assert_eq!(stage.peer.tell("ended").await, ["1000", "True"]);
}

async fn its_close(stage: Stage) {
    stage.peer.tell("close").await;
    let closed = stage.conn.closed().await;
    assert!(
        matches!(closed, CloseReason::Remote { code: 0, .. }),
        "{closed:?}"
    );
}
