//! Dials of a list of addresses through a firewall that drops the packets of some of them without a word.

use std::time::Duration;

use libtest_mimic::{Completion, Trial};
use pipewerks::quic::QuicTransport;
use pipewerks::tls::TlsTransport;
use pipewerks::ws::WsTransport;
use pipewerks::{Addr, BoxConn, Conn, Listener, Registry, Transport};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::faults::cut::skip;
use crate::faults::network::{LEFT, Network};

/// How long a dial runs by itself.
const DELAY: Duration = Duration::from_millis(250);

/// Far below the ten seconds that a dial into silence takes, and far above two delays and a handshake.
const SOON: Duration = Duration::from_secs(5);

/// The most that anything may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

pub(crate) fn trials() -> Vec<Trial> {
    let name = "faults::list/a_dial_goes_around_what_a_firewall_drops";
    let trial = Trial::ignorable_test(name, || match Firewall::new() {
        Ok(firewall) => {
            let runtime = Runtime::new().expect("a runtime");
            let test = async { timeout(LIMIT, go_around(&firewall)).await };
            runtime.block_on(test).expect("an end in time");
            Ok(Completion::Completed)
        }
        Err(why) => skip(&why),
    });
    vec![trial]
}

/// A host with a firewall on the left, and one that dials it on the right.
struct Firewall {
    left: Runtime,
    right: Runtime,
    network: Network,
}

impl Firewall {
    fn new() -> Result<Self, String> {
        let network = Network::new()?;
        // That its rules can be set is known before the test begins.
        network.left.nft("flush ruleset")?;
        let (left, right) = (network.left.runtime()?, network.right.runtime()?);
        Ok(Self {
            left,
            right,
            network,
        })
    }

    /// Drops what comes in by these rules, and by no earlier ones.
    fn drop_what_is(&self, rules: &[String]) {
        let mut table = "flush ruleset\ntable ip filter {\nchain input {\n".to_owned();
        table += "type filter hook input priority 0\n";
        for rule in rules {
            table += &format!("{rule} drop\n");
        }
        self.network.left.nft(&(table + "}\n}\n")).expect("rules");
    }

    /// Dials from the right host, and returns what connected after how long.
    async fn dial(&self, registry: &Registry, list: &Addr) -> (BoxConn, Duration) {
        let (registry, list) = (registry.clone(), list.clone());
        let dialed: JoinHandle<_> = self.right.spawn(async move {
            let began = Instant::now();
            let conn = registry.dial(&list).await.expect("a connection");
            (conn, began.elapsed())
        });
        dialed.await.expect("it runs")
    }
}

fn registry() -> Registry {
    Registry::new()
        .with(QuicTransport::new())
        .with(TlsTransport::new())
        .with(WsTransport::new())
}

/// QUIC goes first, TLS where it is silent, and WebSocket where that is as well. What connected is tried first the next
/// time.
async fn go_around(firewall: &Firewall) {
    let list = format!("quic://{LEFT}:0,tls://{LEFT}:0,wss://{LEFT}:0/pipe");
    let list: Addr = list.parse().expect("an address");
    let listener = firewall.left.spawn(async move {
        let listener = registry().listen(&list).await.expect("a listener");
        let local = listener.local_addr();
        tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok(conn) = listener.accept().await {
                held.push(conn);
            }
        });
        local
    });
    let list = listener.await.expect("it runs");
    let tls = list.alternatives()[1].port().expect("a port");

    let udp = || "ip protocol udp".to_owned();
    for (rules, scheme, delays) in [
        (vec![], "quic", 0),
        (vec![udp()], "tls", 1),
        (vec![udp(), format!("tcp dport {tls}")], "wss", 2),
    ] {
        firewall.drop_what_is(&rules);
        let registry = registry();
        for time in ["first", "second"] {
            let (conn, took) = firewall.dial(&registry, &list).await;
            println!("{scheme} by the {time} dial after {took:.1?}, dropping {rules:?}");
            assert_eq!(conn.remote_addr().scheme(), scheme);
            assert!(took < SOON, "{took:?}");
            if time == "first" {
                assert!(took >= DELAY * delays, "{took:?}");
            }
            timeout(SOON, conn.ping())
                .await
                .expect("a pong")
                .expect("a pong");
        }
    }
}
