//! Plain yamux (`?wire=raw`) over `tcp://` and `ws://` with stacks of other makes, each as client and as server.

mod scenarios;

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::LazyLock;

use libtest_mimic::Trial;
use pipewerks::prelude::*;
use pipewerks::{BoxConn, BoxStream};
use tokio::process::Command;

use crate::interop::peer::Peer;
use crate::interop::tools::{self, Missing};

/// A stack of another make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Make {
    /// hashicorp/yamux, where yamux comes from.
    Go,
    /// @chainsafe/libp2p-yamux.
    Js,
    /// The same over WebSocket, with the module `ws`.
    Ws,
}

/// Which side of the connection the peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Client,
    Server,
}

/// A connection between this side and a peer.
struct Stage {
    make: Make,
    peer: Peer,
    conn: BoxConn,
}

/// A scenario: what happens on a stage.
struct Scenario {
    name: &'static str,
    makes: &'static [Make],
    /// What the peer is started with, beside its role.
    argument: Option<&'static str>,
    run: fn(Stage) -> Pin<Box<dyn Future<Output = ()>>>,
}

/// Every scenario with every peer in every role.
pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for make in [Make::Go, Make::Js, Make::Ws] {
        for role in [Role::Client, Role::Server] {
            for scenario in scenarios::all() {
                if !scenario.makes.contains(&make) {
                    continue;
                }
                let name = format!("yamux::{make:?}::{role:?}::{}", scenario.name).to_lowercase();
                trials.push(crate::interop::trial(
                    &name,
                    move || make.command(),
                    move |command| async move {
                        let stage = Stage::set(make, role, command, scenario.argument).await;
                        (scenario.run)(stage).await;
                    },
                ));
            }
        }
    }
    trials
}

impl Make {
    /// The program of the peer, built once.
    fn command(self) -> Result<Command, Missing> {
        static GO: LazyLock<Result<PathBuf, Missing>> =
            LazyLock::new(|| tools::build_go("yamux/go", &["github.com/hashicorp/yamux"]));
        static JS: LazyLock<Result<PathBuf, Missing>> =
            LazyLock::new(|| tools::beside_modules("yamux/js", "peer.mjs"));
        match self {
            Self::Go => GO.clone().map(Command::new),
            Self::Js | Self::Ws => JS.clone().map(|script| {
                let mut command = Command::new(tools::node());
                command.arg(script);
                command
            }),
        }
    }

    /// Returns the scheme of the connection, and what the names of its peer's roles begin with.
    fn carrier(self) -> (&'static str, &'static str) {
        match self {
            Self::Go | Self::Js => ("tcp", ""),
            Self::Ws => ("ws", "ws-"),
        }
    }
}

impl Stage {
    async fn set(
        make: Make,
        role: Role,
        mut command: Command,
        argument: Option<&'static str>,
    ) -> Self {
        let (scheme, prefix) = make.carrier();
        let (peer, conn) = match role {
            Role::Server => {
                let serve = format!("{prefix}server");
                let peer = Peer::start(command.arg(serve).args(argument)).await;
                let addr = format!("{scheme}://{}?wire=raw", peer.addr());
                let conn = pipewerks::dial(addr).await.expect("a connection");
                (peer, conn)
            }
            Role::Client => {
                let listener = pipewerks::listen(format!("{scheme}://127.0.0.1:0?wire=raw"))
                    .await
                    .expect("a listener");
                let port = listener.local_addr().port().expect("a port");
                let dial = format!("{prefix}client=127.0.0.1:{port}");
                let peer = Peer::start(command.arg(dial).args(argument));
                let (peer, conn) = tokio::join!(peer, listener.accept());
                (peer, conn.expect("a connection"))
            }
        };
        Self { make, peer, conn }
    }

    /// A stream that this side opens and the peer takes.
    async fn open(&self) -> BoxStream {
        let stream = self.conn.open_stream().await.expect("a stream");
        assert_eq!(self.peer.word("accept").await, stream.id().to_string());
        stream
    }

    /// A stream that the peer opens and this side takes.
    async fn accept(&self) -> BoxStream {
        let id = self.peer.word("open").await;
        let stream = self.conn.accept_stream().await.expect("a stream");
        assert_eq!(id, stream.id().to_string());
        stream
    }
}
