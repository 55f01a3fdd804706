//! Connections through NATS servers: one, and a cluster of three, which are killed and started again while there are
//! connections.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::{join_all, try_join_all};
use libtest_mimic::Trial;
use pipewerks::nats::NatsTransport;
use pipewerks::webrtc::{WebRtcSettings, WebRtcTransport};
use pipewerks::{Addr, Config, ConnState, Error, ErrorKind, prelude::*};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::interop::daemon::front;
use crate::interop::{tools, trial};

/// How much a stream carries, in bytes.
const LEN: usize = 1_000_003;

/// How long a listener that should get nothing is watched.
const A_WHILE: Duration = Duration::from_millis(300);

/// Every scenario.
pub(crate) fn trials() -> Vec<Trial> {
    macro_rules! trials {
        ($($name:ident),* $(,)?) => {
            vec![$(trial(
                &format!("nats::{}", stringify!($name)),
                || tools::program("nats-server"),
                |path| $name(path),
            )),*]
        };
    }
    trials![
        one_server,
        a_server_that_wants_a_password,
        a_server_that_forbids_a_use,
        listeners_share_a_subject,
        a_full_listener_leaves_dials_to_others,
        a_server_that_starts_again,
        a_cluster_that_loses_a_server,
        webrtc_does_not_notice,
    ]
}

/// A NATS server. A drop kills it.
struct Server {
    at: SocketAddr,
    program: PathBuf,
    args: Vec<String>,
    process: Child,
}

impl Server {
    /// Starts one at an address of its own.
    async fn start(program: &Path, args: &[&str]) -> Self {
        Self::start_at(program, front(), args).await
    }

    async fn start_at(program: &Path, at: SocketAddr, args: &[&str]) -> Self {
        let (ip, port) = (at.ip().to_string(), at.port().to_string());
        let own = ["--addr", &*ip, "--port", &*port];
        let args: Vec<_> = own.iter().chain(args).map(ToString::to_string).collect();
        let mut server = Self {
            at,
            program: program.to_owned(),
            process: spawn(program, &args),
            args,
        };
        server.ready().await;
        server
    }

    /// Waits until it takes connections.
    async fn ready(&mut self) {
        while TcpStream::connect(self.at).await.is_err() {
            let ended = self.process.try_wait().expect("its state");
            assert!(ended.is_none(), "the server ended: {ended:?}");
            sleep(Duration::from_millis(10)).await;
        }
    }

    async fn kill(&mut self) {
        self.process.kill().await.expect("a process to kill");
    }

    async fn again(&mut self) {
        self.process = spawn(&self.program, &self.args);
        self.ready().await;
    }

    /// Returns a fresh address.
    fn addr(&self) -> Addr {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        self.on(&format!("jobs.{}", NEXT.fetch_add(1, Ordering::Relaxed)))
    }

    fn on(&self, subject: &str) -> Addr {
        let addr = format!("nats://{}/{subject}", self.at);
        addr.parse().expect("an address")
    }

    /// Returns the first line that it sends to a client.
    async fn info(&self) -> String {
        let socket = TcpStream::connect(self.at).await.expect("a connection");
        let mut line = String::new();
        let read = BufReader::new(socket).read_line(&mut line).await;
        read.expect("a line");
        line
    }
}

fn spawn(program: &Path, args: &[String]) -> Child {
    Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("a process")
}

/// Starts three servers that are one cluster.
async fn cluster(program: &Path) -> Vec<Server> {
    let routes: Vec<_> = (0..3).map(|_| format!("nats://{}", front())).collect();
    let all = routes.join(",");
    let mut servers = Vec::new();
    for route in &routes {
        let args = ["--cluster_name", "c", "--cluster", route, "--routes", &all];
        servers.push(Server::start(program, &args).await);
    }
    for server in &servers {
        // A server tells of the others once it has routes to them.
        while {
            let info = server.info().await;
            !servers
                .iter()
                .all(|other| info.contains(&other.at.to_string()))
        } {
            sleep(Duration::from_millis(20)).await;
        }
    }
    servers
}

async fn one_server(program: PathBuf) {
    let server = Server::start(&program, &[]).await;
    let transport = NatsTransport::new();
    let addr = server.addr();
    let listener = transport.listen(&addr).await.expect("a listener");
    assert_eq!(listener.local_addr(), addr);
    // Of another transport, over a client of its own.
    let dial = pipewerks::dial(&addr);
    let (dialed, accepted) = tokio::try_join!(dial, listener.accept()).expect("a connection");
    assert_eq!(dialed.remote_addr(), addr);
    assert_eq!(accepted.remote_addr(), dialed.local_addr());
    carries(&dialed, &accepted).await;
    carries(&accepted, &dialed).await;
    dialed.ping().await.expect("an answer");
    accepted.close(7, "enough");
    assert!(dialed.closed().await.to_string().contains("enough"));
    drop(listener);
    let error = pipewerks::dial(&addr).await.expect_err("no listener");
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    assert!(
        error.to_string().contains("there is no listener"),
        "{error}"
    );
    let nowhere = server
        .on("x")
        .as_str()
        .replace(&server.at.to_string(), &front().to_string());
    let error = pipewerks::dial(nowhere).await.expect_err("no server");
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
    // Another one of the list answers.
    let listed = format!("nats://{}/{}?servers={}", front(), "x", server.at);
    let error = pipewerks::dial(listed).await.expect_err("no listener");
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
}

async fn a_server_that_wants_a_password(program: PathBuf) {
    let server = Server::start(&program, &["--user", "me", "--pass", "secret"]).await;
    let addr = server.addr();
    let mine = NatsTransport::new().with_user_and_password("me", "secret");
    let listener = mine.listen(&addr).await.expect("a listener");
    tokio::try_join!(mine.dial(&addr), listener.accept()).expect("a connection");
    for other in [
        NatsTransport::new(),
        NatsTransport::new().with_user_and_password("me", "hunter2"),
        NatsTransport::new().with_token("hunter2"),
    ] {
        let error = other.dial(&addr).await.expect_err("no way in");
        assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
        assert!(!format!("{other:?}").contains("hunter2"));
    }
}

async fn a_server_that_forbids_a_use(program: PathBuf) {
    let folder = TempDir::new().expect("a folder");
    let config = folder.path().join("nats.conf");
    let users = r#"
        authorization { users = [
            { user: hears, password: h, permissions: { publish: ["_INBOX.>"], subscribe: [">"] } }
            { user: asks, password: a, permissions: { publish: [">"], subscribe: ["_INBOX.>"] } }
            { user: deaf, password: d, permissions: { publish: [">"], subscribe: ["other"] } }
        ] }"#;
    fs::write(&config, users).expect("a file");
    let config = config.to_str().expect("a path").to_owned();
    let server = Server::start(&program, &["--config", &config]).await;
    let [hears, asks, deaf] = [("hears", "h"), ("asks", "a"), ("deaf", "d")]
        .map(|(user, password)| NatsTransport::new().with_user_and_password(user, password));
    let addr = server.addr();
    let forbidden = |error: Error| assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
    let listener = hears.listen(&addr).await.expect("a listener");
    forbidden(asks.listen(&addr).await.expect_err("no listener"));
    forbidden(hears.dial(&addr).await.expect_err("no dial"));
    forbidden(deaf.dial(&addr).await.expect_err("no inbox"));
    forbidden(deaf.listen(&addr).await.expect_err("no listener"));
    // What others may not do ends no listener, and no later dial.
    for _ in 0..3 {
        let (conn, taken) = tokio::try_join!(asks.dial(&addr), listener.accept()).expect("a pair");
        carries(&conn, &taken).await;
    }
    drop(listener);
    hears.listen(&addr).await.expect("another listener");
}

async fn listeners_share_a_subject(program: PathBuf) {
    const DIALS: usize = 90;
    let server = Server::start(&program, &[]).await;
    let addr = server.addr();
    let mut listeners = Vec::new();
    for _ in 0..3 {
        let listener = NatsTransport::new().listen(&addr).await;
        listeners.push(Arc::new(listener.expect("a listener")));
    }
    let same = NatsTransport::new();
    let _first = same.listen(&addr).await.expect("a listener");
    let error = same.clone().listen(&addr).await.expect_err("in use");
    assert_eq!(error.kind(), ErrorKind::AddrInUse, "{error}");
    drop(_first);

    let counts: Vec<_> = (0..3).map(|_| Arc::new(AtomicU64::new(0))).collect();
    let mut serving = JoinSet::new();
    for (listener, count) in listeners.iter().zip(&counts) {
        let (listener, count) = (listener.clone(), count.clone());
        serving.spawn(async move {
            while let Ok(conn) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(echo(conn));
            }
        });
    }
    let dialer = NatsTransport::new();
    let dials = try_join_all((0..DIALS).map(|_| dialer.dial(&addr)));
    let conns = dials.await.expect("every dial");
    for conn in &conns {
        answers(conn).await;
    }
    let shares: Vec<_> = counts
        .iter()
        .map(|count| count.load(Ordering::Relaxed))
        .collect();
    assert_eq!(shares.iter().sum::<u64>(), DIALS as u64);
    // By chance, one of 10^8 runs gives one of them fewer.
    assert!(shares.iter().all(|share| *share >= 8), "{shares:?}");

    // Its connections go on, and the others get the new ones.
    listeners[0].close();
    let dials = try_join_all((0..30).map(|_| dialer.dial(&addr)));
    let more = dials.await.expect("every dial");
    for conn in conns.iter().chain(&more) {
        answers(conn).await;
    }
    assert_eq!(counts[0].load(Ordering::Relaxed), shares[0]);
}

async fn a_full_listener_leaves_dials_to_others(program: PathBuf) {
    let server = Server::start(&program, &[]).await;
    let addr = server.addr();
    let small = Config::default().with_accept_backlog(1);
    let full = NatsTransport::new()
        .with_config(small)
        .expect("a configuration");
    let full = full.listen(&addr).await.expect("a listener");
    let open = NatsTransport::new()
        .listen(&addr)
        .await
        .expect("a listener");
    let dialer = NatsTransport::new();
    let dials = try_join_all((0..20).map(|_| dialer.dial(&addr)));
    let accepts = async {
        let mut taken = JoinSet::new();
        loop {
            let conn = open.accept().await.expect("a connection");
            taken.spawn(echo(conn));
        }
    };
    tokio::select! {
        conns = dials => assert_eq!(conns.expect("every dial").len(), 20),
        () = accepts => {}
    }
    drop(full);
}

async fn a_server_that_starts_again(program: PathBuf) {
    let mut server = Server::start(&program, &[]).await;
    let addr = server.addr();
    let (one, other) = (NatsTransport::new(), NatsTransport::new());
    let listener = one.listen(&addr).await.expect("a listener");
    let (dialed, accepted) =
        tokio::try_join!(other.dial(&addr), listener.accept()).expect("a connection");
    for _ in 0..2 {
        let moving = async {
            for _ in 0..20 {
                carries(&dialed, &accepted).await;
            }
        };
        let killing = async {
            sleep(Duration::from_millis(20)).await;
            server.kill().await;
            sleep(Duration::from_millis(200)).await;
            server.again().await;
        };
        tokio::join!(moving, killing);
        carries(&accepted, &dialed).await;
        // The listener is there again, after a moment.
        let dial = async {
            loop {
                match NatsTransport::new().dial(&addr).await {
                    Ok(conn) => return conn,
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Refused, "{error}"),
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        let (conn, accepted) = tokio::join!(dial, listener.accept());
        carries(&conn, &accepted.expect("a connection")).await;
    }
}

async fn a_cluster_that_loses_a_server(program: PathBuf) {
    const DIALS: usize = 60;
    let mut servers = cluster(&program).await;
    // Each listener at a server of its own.
    for server in &servers {
        let listener = NatsTransport::new().listen(&server.on("jobs")).await;
        let listener = listener.expect("a listener");
        tokio::spawn(async move {
            while let Ok(conn) = listener.accept().await {
                tokio::spawn(echo(conn));
            }
        });
    }
    // Each dialer as well.
    let to: Vec<_> = servers.iter().map(|server| server.on("jobs")).collect();
    let dialers: Vec<_> = (0..3).map(|_| NatsTransport::new()).collect();
    let mut before = Vec::new();
    for at in 0..9 {
        let conn = dialers[at % 3].dial(&to[at % 3]).await;
        before.push(conn.expect("a connection"));
    }
    let moving = join_all(before.iter().map(|conn| async move {
        for _ in 0..100 {
            answers(conn).await;
        }
    }));
    let (dialers, to) = (&dialers, &to);
    let dials = join_all((0..DIALS).map(|number| async move {
        sleep(Duration::from_millis(5 * number as u64)).await;
        let conn = dialers[number % 3].dial(&to[number % 3]).await;
        let conn = conn.expect("a connection");
        answers(&conn).await;
        conn
    }));
    let killing = async {
        sleep(Duration::from_millis(100)).await;
        servers[1].kill().await;
    };
    let (_, conns, ()) = tokio::join!(moving, dials, killing);
    for conn in before.iter().chain(&conns) {
        answers(conn).await;
        assert_eq!(*conn.state().borrow(), ConnState::Connected);
    }
}

async fn webrtc_does_not_notice(program: PathBuf) {
    let mut server = Server::start(&program, &[]).await;
    let addr = format!("webrtc+{}", server.addr());
    let addr: Addr = addr.parse().expect("an address");
    let webrtc = || {
        let loopback = "127.0.0.1".parse().expect("an address");
        WebRtcTransport::new(NatsTransport::new())
            .with_settings(WebRtcSettings::default().with_bind_addrs(vec![loopback]))
            .expect("settings")
    };
    // Two more, one of which would get another request.
    let listeners = [webrtc(), webrtc(), webrtc()];
    let listeners = try_join_all(listeners.iter().map(|one| one.listen(&addr)));
    let listeners = listeners.await.expect("listeners");
    let accepts = listeners.iter().map(|one| Box::pin(one.accept()));
    let accept = futures::future::select_all(accepts);
    let dialer = webrtc();
    let (dialed, (accepted, _, others)) = tokio::join!(dialer.dial(&addr), accept);
    let (dialed, accepted) = (
        dialed.expect("a connection"),
        accepted.expect("a connection"),
    );
    let mut states = dialed.state();
    server.kill().await;
    for _ in 0..5 {
        carries(&dialed, &accepted).await;
    }
    server.again().await;
    dialed.restart_ice().await.expect("a restart");
    accepted.restart_ice().await.expect("a restart");
    carries(&dialed, &accepted).await;
    carries(&accepted, &dialed).await;
    assert!(!states.has_changed().expect("a connection"));
    assert_eq!(*states.borrow_and_update(), ConnState::Connected);
    // No other listener has heard of it.
    let other = futures::future::select_all(others);
    assert!(timeout(A_WHILE, other).await.is_err());
}

/// Gives every stream its bytes back.
async fn echo<C: Conn>(conn: C) {
    while let Ok(stream) = conn.accept_stream().await {
        tokio::spawn(async move {
            let (mut reader, mut writer) = tokio::io::split(stream);
            if tokio::io::copy(&mut reader, &mut writer).await.is_ok() {
                let _ = writer.shutdown().await;
            }
        });
    }
}

/// Sends something to an echo, and gets it back.
async fn answers<C: Conn>(conn: &C) {
    let mut stream = conn.open_stream().await.expect("a stream");
    let sent = [7; 3000];
    stream.write_all(&sent).await.expect("a write");
    stream.shutdown().await.expect("a shutdown");
    let mut received = Vec::new();
    stream.read_to_end(&mut received).await.expect("an answer");
    assert_eq!(received, sent);
}

async fn carries<A: Conn, B: Conn>(opener: &A, taker: &B) {
    let sent: Vec<u8> = (0..LEN).map(|i| (i * 7 % 251) as u8).collect();
    let writing = async {
        let mut stream = opener.open_stream().await?;
        stream.write_all(&sent).await?;
        stream.shutdown().await?;
        pipewerks::Result::<_>::Ok(stream)
    };
    let reading = async {
        let mut received = Vec::new();
        let mut stream = taker.accept_stream().await?;
        stream.read_to_end(&mut received).await?;
        pipewerks::Result::<_>::Ok(received)
    };
    let (_, received) = tokio::try_join!(writing, reading).expect("all of it");
    assert!(received == sent, "it has changed on its way");
}
