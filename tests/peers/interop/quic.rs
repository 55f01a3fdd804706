//! Plain streams of QUIC (`quic://…?wire=raw`) and of WebTransport (`wt://…?wire=raw`) with stacks of other makes, each as
//! client and as server, and with a page in a browser as client.

use std::path::PathBuf;
use std::sync::LazyLock;

use libtest_mimic::Trial;
use pipewerks::prelude::*;
use pipewerks::quic::{QuicListener, WtTransport};
use pipewerks::{BoxConn, BoxStream, CloseReason, Error, ErrorKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use crate::interop::peer::Peer;
use crate::interop::tools::{self, Missing, Program, hash};
use crate::interop::{Place, Scenario, in_roles, trial};

/// The protocol that both sides name (ALPN).
const ALPN: &str = "pipe-interop";

/// The word for WebTransport, in the place of the protocol.
const WEB: &str = "webtransport";

/// How much a stream carries in each direction, in bytes.
const LEN: usize = 300_000;

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
    /// Whether the peer knows streams by QUIC's numbers.
    has_numbers: bool,
}

/// Every scenario with every peer in both roles.
pub(crate) fn trials() -> Vec<Trial> {
    let scenarios: [(&str, Scenario<Stage>); 5] = [
        ("our_streams", |stage| Box::pin(our_streams(stage))),
        ("its_streams", |stage| Box::pin(its_streams(stage))),
        ("codes", |stage| Box::pin(codes(stage))),
        ("our_close", |stage| Box::pin(our_close(stage))),
        ("its_close", |stage| Box::pin(its_close(stage))),
    ];
    let makes: [(&str, Program); 2] = [("quic::aioquic", aioquic), ("quic::quic-go", quic_go)];
    let roles = [Role::Client, Role::Server];
    let run = |role, command, scenario: Scenario<Stage>| async move {
        scenario(Stage::set(role, command).await).await;
    };
    let trials = makes
        .map(|(make, program)| in_roles(make, Place::Machine, program, roles, &scenarios, run));
    let run_web = |role, command, scenario: Scenario<Stage>| async move {
        scenario(Stage::set_web(role, command).await).await;
    };
    let web = in_roles(
        "wt::aioquic",
        Place::Machine,
        aioquic,
        roles,
        &scenarios,
        run_web,
    );
    let pages = scenarios.map(|(name, scenario)| {
        let name = format!("wt::chromium::client::{name}");
        let run = move |command| async move {
            scenario(Stage::with_page(command).await).await;
        };
        trial(&name, chromium, run)
    });
    let trials = trials.into_iter().flatten();
    trials.chain(web).chain(pages).collect()
}

/// A browser, whose page has no address yet.
fn chromium() -> Result<Command, Missing> {
    let browser = tools::program("chromium")?;
    let mut command = Command::new(tools::node());
    command
        .arg(tools::sources().join("webrtc/js/chromium.mjs"))
        .arg(browser)
        .arg("webtransport");
    Ok(command)
}

/// The peer in Python.
fn aioquic() -> Result<Command, Missing> {
    let folder = tools::installed("quic")?;
    let mut command = Command::new(folder.join("venv/bin/python"));
    command.arg(tools::sources().join("quic/peer.py"));
    Ok(command)
}

/// The peer in Go, built once.
fn quic_go() -> Result<Command, Missing> {
    static PROGRAM: LazyLock<Result<PathBuf, Missing>> =
        LazyLock::new(|| tools::build_go("quic/go", &["github.com/lucas-clemente/quic-go"]));
    PROGRAM.clone().map(Command::new)
}

impl Stage {
    async fn set(role: Role, mut command: Command) -> Self {
        match role {
            Role::Server => {
                let peer = Peer::start(command.args(["server", ALPN])).await;
                let addr = format!("quic://{}&wire=raw&alpn={ALPN}", peer.addr());
                let conn = pipewerks::dial(addr).await.expect("a connection");
                Self::new(peer, conn)
            }
            Role::Client => {
                let on = format!("quic://127.0.0.1:0?wire=raw&alpn={ALPN}");
                let listener = pipewerks::listen(on).await.expect("a listener");
                let port = listener.local_addr().port().expect("a port");
                let to = format!("127.0.0.1:{port}");
                let peer = Peer::start(command.args(["client", &to, ALPN])).await;
                let conn = listener.accept().await.expect("a connection");
                Self::new(peer, conn)
            }
        }
    }

    fn new(peer: Peer, conn: BoxConn) -> Self {
        Self {
            peer,
            conn,
            has_numbers: true,
        }
    }

    /// The same over WebTransport.
    async fn set_web(role: Role, mut command: Command) -> Self {
        match role {
            Role::Server => {
                let peer = Peer::start(command.args(["server", WEB])).await;
                let addr = format!("wt://{}&wire=raw", peer.addr().replace('?', "/path?"));
                let conn = pipewerks::dial(addr).await.expect("a connection");
                Self::new(peer, conn)
            }
            Role::Client => {
                let listener = listen_web(WtTransport::new()).await;
                let port = listener.local_addr().port().expect("a port");
                let to = format!("127.0.0.1:{port}");
                let peer = Peer::start(command.args(["client", &to, WEB])).await;
                let conn = listener.accept().await.expect("a connection");
                Self::new(peer, BoxConn::new(conn))
            }
        }
    }

    /// The same with a page, which comes from another port than the listener's.
    async fn with_page(mut command: Command) -> Self {
        let listener = listen_web(WtTransport::new().with_any_origin()).await;
        let addr = listener.local_addr();
        let url = format!("https://127.0.0.1:{}/path", addr.port().expect("a port"));
        let hashes = addr.param("cert-sha256").expect("its certificates");
        command.arg(url).args(hashes.split('.'));
        let (peer, conn) = tokio::join!(Peer::start(&mut command), listener.accept());
        Self {
            peer,
            conn: BoxConn::new(conn.expect("a connection")),
            has_numbers: false,
        }
    }

    /// Lets the peer send on a stream, and end it. Returns the hash of what it sends.
    async fn send_all(&self, number: u64) -> String {
        let sent = self.peer.word(&format!("send {number} {LEN}")).await;
        self.peer.tell(&format!("finish {number}")).await;
        sent
    }

    /// A stream that this side opens and shows, with its number.
    async fn opened(&self) -> (BoxStream, u64) {
        let mut stream = self.conn.open_stream().await.expect("a stream");
        stream.write_all(b"!").await.expect("a first byte");
        let number = stream.id();
        let accepted = self.peer.word("accept").await;
        let accepted = accepted.parse().expect("the number of a stream");
        if self.has_numbers {
            assert_eq!(accepted, number);
        }
        (stream, accepted)
    }
}

/// Listens on plain WebTransport, at a path.
async fn listen_web(transport: WtTransport) -> QuicListener {
    let on = "wt://127.0.0.1:0/path?wire=raw"
        .parse()
        .expect("an address");
    transport.listen(&on).await.expect("a listener")
}

/// What a side sends as its own, and the hash of it.
fn payload(seed: u64) -> (Vec<u8>, String) {
    let bytes: Vec<u8> = (0..LEN as u64)
        .map(|i| ((i * 7 + seed) % 251) as u8)
        .collect();
    let hash = hash(&bytes);
    (bytes, hash)
}

async fn our_streams(stage: Stage) {
    let mut streams = Vec::new();
    for _ in 0..4 {
        streams.push(stage.opened().await);
    }
    for (mut stream, number) in streams {
        let (mut bytes, _) = payload(number);
        stream.write_all(&bytes).await.expect("a write");
        stream.shutdown().await.expect("a shutdown");
        let got = stage.peer.tell(&format!("read {number}")).await;
        bytes.insert(0, b'!');
        let expected = [(LEN + 1).to_string(), hash(&bytes), "end".into()];
        assert_eq!(got, expected);

        let mut back = Vec::new();
        // A peer may wait with its writes until they are read.
        let (sent, read) = tokio::join!(stage.send_all(number), stream.read_to_end(&mut back));
        read.expect("its bytes");
        assert_eq!((back.len(), hash(&back)), (LEN, sent));
    }
    stage.conn.drain().await.expect("a drain");
}

async fn its_streams(stage: Stage) {
    for _ in 0..4 {
        let number = stage.peer.word("open").await;
        let number = number.parse().expect("the number of a stream");
        let receive = async {
            let mut stream = stage.conn.accept_stream().await.expect("its stream");
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).await.expect("its bytes");
            (stream, bytes)
        };
        let (sent, (mut stream, bytes)) = tokio::join!(stage.send_all(number), receive);
        if stage.has_numbers {
            assert_eq!(stream.id(), number);
        }
        assert_eq!((bytes.len(), hash(&bytes)), (LEN, sent));

        let (bytes, hash) = payload(3);
        stream.write_all(&bytes).await.expect("an answer");
        stream.shutdown().await.expect("a shutdown");
        let got = stage.peer.tell(&format!("read {number}")).await;
        assert_eq!(got, [LEN.to_string(), hash, "end".into()]);
    }
}

async fn codes(stage: Stage) {
    let (mut stream, number) = stage.opened().await;
    stream.reset(7);
    let got = stage.peer.tell(&format!("read {number}")).await;
    assert_eq!(got[2..], ["reset", "7"]);
    stream.stop(9);
    let stopped = stage.peer.word(&format!("stopped {number}")).await;
    assert_eq!(stopped, "9");

    let (mut stream, number) = stage.opened().await;
    stage.peer.tell(&format!("reset {number} 11")).await;
    let read = stream.read(&mut [0; 8]).await;
    let error = Error::from(read.expect_err("a reset"));
    assert_eq!((error.kind(), error.code()), (ErrorKind::Reset, Some(11)));
    stage.peer.tell(&format!("stop {number} 12")).await;
    let (mut send, _recv) = stream.into_split();
    let stopped = send.stopped().await.expect("a stop");
    assert_eq!(stopped, Some(12));
    let error = Error::from(send.write_all(b"more").await.expect_err("a stop"));
    assert_eq!((error.kind(), error.code()), (ErrorKind::Stopped, Some(12)));

    // The connection lives on, and cannot be asked more than QUIC says.
    let error = stage.conn.ping().await.expect_err("no ping");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    stage.opened().await;
}

async fn our_close(stage: Stage) {
    let (_stream, _) = stage.opened().await;
    stage.conn.close(5, "enough");
    assert_eq!(stage.peer.tell("closed").await, ["5", "enough"]);
}

async fn its_close(stage: Stage) {
    let (mut stream, _) = stage.opened().await;
    stage.peer.tell("close 6 goodbye").await;
    let CloseReason::Remote { code, reason } = stage.conn.closed().await else {
        panic!("the peer has closed it");
    };
    assert_eq!((code, &*reason), (6, "goodbye"));
    let error = Error::from(stream.read(&mut [0; 8]).await.expect_err("the end"));
    assert_eq!((error.kind(), error.code()), (ErrorKind::Closed, Some(6)));
}
