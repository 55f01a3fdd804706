//! A listener behind a firewall that lets one UDP port through, in a network namespace, which takes root, iproute2 and
//! nftables.

use std::time::Duration;

use libtest_mimic::{Completion, Trial};
use pipewerks::tcp::TcpTransport;
use pipewerks::webrtc::{WebRtcSettings, WebRtcTransport, default_config};
use pipewerks::{Conn, ErrorKind, Listener, Transport};
use tokio::runtime::Runtime;

use crate::interop::tools;
use crate::interop::turn::exchange;
use crate::namespace::Namespace;

/// The addresses of the listener and of the dialers.
const LISTENER: &str = "10.78.0.1";
const DIALER: &str = "10.78.0.2";

/// The port of TCP for the signalling, and of UDP for everything else.
const PORT: u16 = 7000;

const CONNECTIONS: usize = 20;

/// Whatever is of UDP passes from and to that port alone, in both directions and whether something went the other
/// way before or not.
const RULES: &str = "
table ip filter {
    chain input {
        type filter hook input priority 0
        udp dport != 7000 drop
    }
    chain output {
        type filter hook output priority 0
        udp sport != 7000 drop
    }
}
";

pub(crate) fn trials() -> Vec<Trial> {
    let name = "interop::firewall::one_open_port_is_enough";
    let trial = Trial::ignorable_test(name, || {
        match Net::new() {
            Ok(net) => net.run(),
            Err(why) if tools::peers_are_required() => return Err(why.into()),
            Err(why) => return Ok(Completion::ignored_with(why)),
        }
        Ok(Completion::Completed)
    });
    vec![trial]
}

/// A machine behind a firewall, and one outside.
struct Net {
    inside: Namespace,
    outside: Namespace,
}

impl Net {
    fn new() -> Result<Self, String> {
        let inside = Namespace::new("inside")?;
        let outside = Namespace::new("outside")?;
        #[rustfmt::skip]
        inside.ip(&[
            "link", "add", "out0", "type", "veth", "peer", "name", "in0", "netns", outside.name(),
        ])?;
        for (at, device, addr) in [(&inside, "out0", LISTENER), (&outside, "in0", DIALER)] {
            at.ip(&["addr", "add", &format!("{addr}/24"), "dev", device])?;
            at.ip(&["link", "set", device, "up"])?;
        }
        inside.nft(RULES)?;
        Ok(Self { inside, outside })
    }

    fn run(&self) {
        let [inside, outside] =
            [&self.inside, &self.outside].map(|at| at.runtime().expect("a runtime inside"));
        let here = Runtime::new().expect("a runtime");
        here.block_on(async {
            let ran = async {
                connect(&inside, &outside).await;
                fail(&inside, &outside).await;
            };
            let ran = tokio::time::timeout(crate::interop::LIMIT, ran).await;
            ran.expect("an end in time");
        });
    }
}

/// With the setting, any number of connections is made.
async fn connect(inside: &Runtime, outside: &Runtime) {
    let listener = inside.spawn(async {
        let settings = WebRtcSettings::default().with_udp_port(PORT);
        let transport = WebRtcTransport::new(TcpTransport::new()).with_settings(settings)?;
        let addr = format!("webrtc+tcp://{LISTENER}:{PORT}").parse()?;
        transport.listen(&addr).await
    });
    let listener = listener.await.expect("it runs").expect("a listener");
    let addr = listener.local_addr();
    let accepts = inside.spawn(async move {
        let mut conns = Vec::new();
        for _ in 0..CONNECTIONS {
            conns.push(listener.accept().await.expect("a connection"));
        }
        (listener, conns)
    });
    let dials = outside.spawn(async move {
        let transport = WebRtcTransport::new(TcpTransport::new());
        let mut conns = Vec::new();
        for _ in 0..CONNECTIONS {
            conns.push(transport.dial(&addr).await.expect("a connection"));
        }
        conns
    });
    let (_listener, accepted) = accepts.await.expect("it runs");
    let dialed = dials.await.expect("it runs");
    for conn in &dialed {
        conn.ping().await.expect("a pong");
        let pair = conn.selected_candidate_pair().await.expect("a path");
        let place = format!(" {LISTENER} {PORT} ");
        assert!(pair.remote.contains(&place), "{}", pair.remote);
    }
    // They are accepted in the order in which they were dialed, since each dial waits for its connection.
    exchange(&dialed[0], &accepted[0]).await;
    let last = CONNECTIONS - 1;
    exchange(&dialed[last], &accepted[last]).await;
}

/// Without it none is, so that it is the setting that makes them.
async fn fail(inside: &Runtime, outside: &Runtime) {
    let config = default_config().with_handshake_timeout(Duration::from_secs(2));
    let transport = WebRtcTransport::new(TcpTransport::new())
        .with_config(config)
        .expect("a configuration");
    let listening = transport.clone();
    let addr = format!("webrtc+tcp://{LISTENER}:{}", PORT + 1);
    let addr = addr.parse().expect("an address");
    let listener = inside.spawn(async move { listening.listen(&addr).await });
    let listener = listener.await.expect("it runs").expect("a listener");
    let addr = listener.local_addr();
    let dialed = outside.spawn(async move { transport.dial(&addr).await });
    let error = dialed.await.expect("it runs").expect_err("no way through");
    let kinds = [ErrorKind::TimedOut, ErrorKind::Unreachable];
    assert!(kinds.contains(&error.kind()), "{error}");
}
