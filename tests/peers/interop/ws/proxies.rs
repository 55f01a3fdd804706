//! `ws://` through web servers that pass WebSockets on: nginx and haproxy.

use futures::future::join_all;
use libtest_mimic::Trial;
use pipewerks::prelude::*;
use pipewerks::{Addr, BoxListener, CloseReason, ErrorKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use crate::interop::daemon::Daemon;
use crate::interop::{tools, trial};

/// How much a stream carries in each direction, in bytes.
const LEN: usize = 1_000_003;

/// A web server.
#[derive(Clone, Copy, Debug)]
enum Make {
    Nginx,
    Haproxy,
}

/// A web server before a listener.
struct Proxy {
    /// Where to dial through it.
    addr: Addr,
    _daemon: Daemon,
}

/// Every scenario with every web server.
pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for make in [Make::Nginx, Make::Haproxy] {
        let name = format!("ws::{make:?}::").to_lowercase();
        let program = move || tools::program(make.name());
        trials.push(trial(
            &format!("{name}streams_and_ends"),
            program,
            move |path| streams_and_ends(make, Command::new(path)),
        ));
        trials.push(trial(
            &format!("{name}nobody_behind_it"),
            program,
            move |path| nobody_behind_it(make, Command::new(path)),
        ));
    }
    trials
}

impl Make {
    fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
        }
    }
}

impl Proxy {
    /// Starts a web server before a listener, and waits until it takes connections.
    async fn start(make: Make, mut command: Command, behind: &Addr) -> Self {
        let (template, option) = match make {
            Make::Nginx => (include_str!("nginx.conf"), "-c"),
            Make::Haproxy => (include_str!("haproxy.cfg"), "-f"),
        };
        command.arg(option);
        let back = format!("127.0.0.1:{}", behind.port().expect("a port"));
        let daemon = Daemon::start(command, template, &[("back", &back)]).await;
        Self {
            addr: format!("ws://{}/a/path", daemon.at)
                .parse()
                .expect("an address"),
            _daemon: daemon,
        }
    }
}

async fn listen() -> (BoxListener, Addr) {
    let listener = pipewerks::listen("ws://127.0.0.1:0/a");
    let listener = listener.await.expect("a listener");
    let addr = listener.local_addr();
    (listener, addr)
}

async fn streams_and_ends(make: Make, command: Command) {
    let (listener, behind) = listen().await;
    let proxy = Proxy::start(make, command, &behind).await;
    let dial = pipewerks::dial(&proxy.addr);
    let (dialed, accepted) = tokio::try_join!(dial, listener.accept()).expect("a connection");
    for (opener, taker) in [(&dialed, &accepted), (&accepted, &dialed)] {
        join_all((0..4_usize).map(|seed| async move {
            let sent: Vec<u8> = (0..LEN).map(|i| ((i * 7 + seed) % 251) as u8).collect();
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
            assert_eq!(received.len(), LEN);
            // Streams may be taken in any order.
            let first = usize::from(received[0]);
            assert!(first < 4);
            assert!((0..LEN).all(|i| usize::from(received[i]) == (i * 7 + first) % 251));
        }))
        .await;
    }
    dialed.ping().await.expect("an answer");
    accepted.close(7, "enough");
    let closed = dialed.closed().await;
    assert!(
        matches!(&closed, CloseReason::Remote { code: 7, reason } if &**reason == "enough"),
        "{closed:?}"
    );
}

async fn nobody_behind_it(make: Make, command: Command) {
    let (listener, behind) = listen().await;
    let proxy = Proxy::start(make, command, &behind).await;
    listener.close();
    let error = pipewerks::dial(&proxy.addr).await.expect_err("no listener");
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    let text = error.to_string();
    assert!(text.contains("502") || text.contains("503"), "{text}");
}
