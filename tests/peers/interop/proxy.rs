//! Dials through proxies of other makes, tinyproxy (HTTP) and Dante (SOCKS5); and listeners behind haproxy, by the PROXY
//! protocol.

use std::path::PathBuf;

use libtest_mimic::Trial;
use pipewerks::tcp::{Proxy, ProxyProtocol, TcpDialer, TcpTransport};
use pipewerks::tls::TlsTransport;
use pipewerks::ws::WsTransport;
use pipewerks::{Addr, BoxConn, ErrorKind, Registry, prelude::*};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use crate::interop::daemon::Daemon;
use crate::interop::{tools, trial};

/// How much a stream carries, in bytes.
const LEN: usize = 1_000_003;

/// A proxy that dials go through.
#[derive(Clone, Copy, Debug)]
enum Make {
    Tinyproxy,
    Dante,
}

/// Every scenario with every make.
pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for make in [Make::Tinyproxy, Make::Dante] {
        let name = format!("proxy::{make:?}::").to_lowercase();
        let program = move || tools::program(make.program());
        trials.push(trial(
            &format!("{name}every_transport"),
            program,
            move |path| every_transport(make, Command::new(path)),
        ));
        trials.push(trial(
            &format!("{name}nobody_behind_it"),
            program,
            move |path| nobody_behind_it(make, Command::new(path)),
        ));
    }
    trials.push(trial(
        "proxy::tinyproxy::a_wrong_password",
        || tools::program(Make::Tinyproxy.program()),
        |path| a_wrong_password(Command::new(path)),
    ));
    trials.push(trial(
        "proxy::dante::what_its_rules_forbid",
        || tools::program(Make::Dante.program()),
        |path| what_its_rules_forbid(Command::new(path)),
    ));
    for send in ["send-proxy", "send-proxy-v2"] {
        trials.push(trial(
            &format!("proxy::haproxy::{}", send.replace('-', "_")),
            || tools::program("haproxy"),
            move |path| behind_haproxy(send, path),
        ));
    }
    trials
}

impl Make {
    fn program(self) -> &'static str {
        match self {
            Self::Tinyproxy => "tinyproxy",
            Self::Dante => "danted",
        }
    }

    async fn start(self, mut command: Command) -> Daemon {
        let template = match self {
            Self::Tinyproxy => {
                command.args(["-d", "-c"]);
                include_str!("proxy/tinyproxy.conf")
            }
            Self::Dante => {
                command.args(["-p", "pid", "-f"]);
                include_str!("proxy/danted.conf")
            }
        };
        Daemon::start(command, template, &[]).await
    }

    fn url(self, daemon: &Daemon) -> String {
        match self {
            Self::Tinyproxy => format!("http://me:secret@{}", daemon.at),
            Self::Dante => format!("socks5h://{}", daemon.at),
        }
    }
}

fn through(url: &str) -> Registry {
    let proxy = Proxy::parse(url).expect("a proxy");
    let dialer = TcpDialer::new().with_proxy(proxy);
    Registry::new()
        .with(TcpTransport::new().with_dialer(dialer.clone()))
        .with(TlsTransport::new().with_dialer(dialer.clone()))
        .with(WsTransport::new().with_dialer(dialer))
}

async fn every_transport(make: Make, command: Command) {
    let daemon = make.start(command).await;
    let registry = through(&make.url(&daemon));
    for on in [
        "tcp://127.0.0.1:0",
        "tls://127.0.0.1:0",
        "ws://127.0.0.1:0/a",
        "wss://127.0.0.1:0/a",
    ] {
        let listener = pipewerks::listen(on).await.expect("a listener");
        let behind = listener.local_addr();
        // A name for the proxy to resolve.
        let named = behind.as_str().replace("127.0.0.1", "localhost");
        for to in [behind, named.parse().expect("an address")] {
            let dial = registry.dial(&to);
            let (dialed, accepted) =
                tokio::try_join!(dial, listener.accept()).expect("a connection");
            assert_eq!(dialed.remote_addr(), to);
            carries(&dialed, &accepted).await;
            carries(&accepted, &dialed).await;
            dialed.ping().await.expect("an answer");
            accepted.close(7, "enough");
            assert!(dialed.closed().await.to_string().contains("enough"));
        }
    }
}

async fn carries(opener: &BoxConn, taker: &BoxConn) {
    let sent: Vec<u8> = (0..LEN).map(|i| (i * 7 % 251) as u8).collect();
    let mut stream = opener.open_stream().await.expect("a stream");
    let writing = async {
        stream.write_all(&sent).await?;
        stream.shutdown().await
    };
    let reading = async {
        let mut received = Vec::new();
        let mut stream = taker.accept_stream().await?;
        stream.read_to_end(&mut received).await?;
        std::io::Result::Ok(received)
    };
    let ((), received) = tokio::try_join!(writing, reading).expect("all of it");
    assert!(received == sent, "it has changed on its way");
}

async fn nobody_behind_it(make: Make, command: Command) {
    let daemon = make.start(command).await;
    let listener = pipewerks::listen("tcp://127.0.0.1:0").await;
    let listener = listener.expect("a listener");
    let to = listener.local_addr();
    listener.close();
    let error = through(&make.url(&daemon)).dial(&to).await;
    let error = error.expect_err("no listener");
    let expected = match make {
        // It does not say why.
        Make::Tinyproxy => ErrorKind::Unreachable,
        Make::Dante => ErrorKind::Refused,
    };
    assert_eq!(error.kind(), expected, "{error}");
    names_both(&error, &daemon, &to);
}

async fn a_wrong_password(command: Command) {
    let daemon = Make::Tinyproxy.start(command).await;
    let to: Addr = "tls://localhost:7".parse().expect("an address");
    for (login, words) in [("", "wants a user"), ("me:hunter2@", "does not accept")] {
        let url = format!("http://{login}{}", daemon.at);
        let error = through(&url).dial(&to).await.expect_err("no way in");
        assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
        let text = error.to_string();
        assert!(text.contains(words) && !text.contains("hunter2"), "{text}");
        names_both(&error, &daemon, &to);
    }
}

async fn what_its_rules_forbid(command: Command) {
    let daemon = Make::Dante.start(command).await;
    let to: Addr = "tcp://127.0.0.1:9".parse().expect("an address");
    let error = through(&Make::Dante.url(&daemon)).dial(&to).await;
    let error = error.expect_err("no way through");
    assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
    names_both(&error, &daemon, &to);
}

/// A listener learns from the proxy before it where its dialer is.
async fn behind_haproxy(send: &str, program: PathBuf) {
    let from = ProxyProtocol::required_from(["127.0.0.0/8"]).expect("a network");
    let behind = Registry::new()
        .with(TcpTransport::new().with_proxy_protocol(from.clone()))
        .with(TlsTransport::new().with_proxy_protocol(from.clone()))
        .with(WsTransport::new().with_proxy_protocol(from));
    // An address that is not the proxy's.
    let local = "127.0.0.9:0".parse().expect("an address");
    let dialer = TcpDialer::new().with_local_addr(local);
    let registry = Registry::new()
        .with(TcpTransport::new().with_dialer(dialer.clone()))
        .with(TlsTransport::new().with_dialer(dialer.clone()))
        .with(WsTransport::new().with_dialer(dialer));
    for on in [
        "tcp://127.0.0.1:0",
        "tls://127.0.0.1:0",
        "ws://127.0.0.1:0/a",
        "wss://127.0.0.1:0/a",
    ] {
        let on: Addr = on.parse().expect("an address");
        let listener = behind.listen(&on).await.expect("a listener");
        let back = listener.local_addr();
        let at = format!("127.0.0.1:{}", back.port().expect("a port"));
        let mut command = Command::new(&program);
        command.arg("-f");
        let template = include_str!("proxy/haproxy.cfg");
        let with = [("back", &*at), ("send", send)];
        let daemon = Daemon::start(command, template, &with).await;
        let to = back.as_str().replace(&at, &daemon.at.to_string());
        let to: Addr = to.parse().expect("an address");
        let (dialed, accepted) =
            tokio::try_join!(registry.dial(&to), listener.accept()).expect("a connection");
        assert_eq!(dialed.local_addr().host(), Some("127.0.0.9"));
        assert_eq!(accepted.remote_addr().host(), Some("127.0.0.9"));
        assert_eq!(accepted.remote_addr().port(), dialed.local_addr().port());
        carries(&dialed, &accepted).await;
        carries(&accepted, &dialed).await;
    }
}

fn names_both(error: &pipewerks::Error, daemon: &Daemon, to: &Addr) {
    let text = error.to_string();
    let names = text.contains(to.as_str()) && text.contains(&daemon.at.to_string());
    assert!(names, "{text}");
}
