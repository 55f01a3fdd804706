//! Peers behind NATs, with coturn as the server outside: network namespaces, which takes root, iproute2 and nftables.

use std::future::Future;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use libtest_mimic::{Completion, Trial};
use pipewerks::webrtc::signaling::Signal;
use pipewerks::webrtc::{IceServer, MemorySignaling, WebRtcConn, WebRtcSettings, WebRtcTransport};
use pipewerks::{Config, ErrorKind, Registry, Result};
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::interop::tools;
use crate::interop::turn::{
    Noted, Over, SECRET, Server, exchange, kind, path, place, until_it_answers,
};
use crate::namespace::Namespace;

/// The addresses outside: of the server, of the peer that is there, and of the two NATs.
const SERVER: &str = "198.51.100.1";
const PEER: &str = "198.51.100.2";
const NATS: [&str; 2] = ["198.51.100.11", "198.51.100.12"];

/// The network behind each NAT. Its NAT is the first host of it, and the peer is the second.
const BEHIND: [&str; 2] = ["10.77.1", "10.77.2"];

/// The rules of a NAT: one source and port for all destinations, and nothing from outside before something went
/// there. What comes too early is dropped before the connection tracking notes it, which else would take the port.
const RULES: &str = "
table ip nat {
    chain source {
        type nat hook postrouting priority 100
        oifname out0 masquerade
    }
}
table ip filter {
    chain input {
        type filter hook input priority 0
        iifname out0 drop
    }
}
";

/// Where a peer is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum At {
    Outside,
    /// Behind a NAT, by its number.
    Behind(usize),
}

/// An internet with a server, and two networks behind NATs.
struct Net {
    outside: Namespace,
    behind: [Namespace; 2],
    _nats: [Namespace; 2],
}

impl Net {
    fn new() -> std::result::Result<Self, String> {
        let outside = Namespace::new("outside")?;
        // By which it reaches its own addresses.
        outside.ip(&["link", "set", "lo", "up"])?;
        outside.ip(&["link", "add", "bridge0", "type", "bridge"])?;
        outside.ip(&["link", "set", "bridge0", "up"])?;
        for addr in [SERVER, PEER] {
            outside.ip(&["addr", "add", &format!("{addr}/24"), "dev", "bridge0"])?;
        }
        let [a, b] = [0, 1].map(|number| Self::network(&outside, number));
        let ((peer_a, nat_a), (peer_b, nat_b)) = (a?, b?);
        Ok(Self {
            outside,
            behind: [peer_a, peer_b],
            _nats: [nat_a, nat_b],
        })
    }

    /// A network of a peer and its NAT.
    fn network(
        outside: &Namespace,
        number: usize,
    ) -> std::result::Result<(Namespace, Namespace), String> {
        let nat = Namespace::new("nat")?;
        let peer = Namespace::new("peer")?;
        let port = format!("port{number}");
        #[rustfmt::skip]
        nat.ip(&[
            "link", "add", "out0", "type", "veth", "peer", "name", &port, "netns", outside.name(),
        ])?;
        outside.ip(&["link", "set", &port, "master", "bridge0"])?;
        outside.ip(&["link", "set", &port, "up"])?;
        #[rustfmt::skip]
        nat.ip(&[
            "link", "add", "in0", "type", "veth", "peer", "name", "device0", "netns", peer.name(),
        ])?;
        let net = BEHIND[number];
        for (at, device, addr) in [
            (&nat, "out0", NATS[number].to_owned()),
            (&nat, "in0", format!("{net}.1")),
            (&peer, "device0", format!("{net}.2")),
        ] {
            at.ip(&["addr", "add", &format!("{addr}/24"), "dev", device])?;
            at.ip(&["link", "set", device, "up"])?;
        }
        peer.ip(&["route", "add", "default", "via", &format!("{net}.1")])?;
        nat.forward()?;
        nat.nft(RULES)?;
        Ok((peer, nat))
    }

    fn runtime(&self, at: At) -> Runtime {
        let namespace = match at {
            At::Outside => &self.outside,
            At::Behind(number) => &self.behind[number],
        };
        namespace.runtime().expect("a runtime in the namespace")
    }
}

/// What happens on a network with a server.
struct Stage {
    /// The runtimes outside, and behind each NAT.
    outside: Runtime,
    behind: [Runtime; 2],
    server: Server,
    /// After the runtimes, which it holds the network of.
    _net: Net,
}

type Scenario = for<'a> fn(&'a Stage) -> std::pin::Pin<Box<dyn Future<Output = ()> + 'a>>;

pub(crate) fn trials() -> Vec<Trial> {
    let scenarios: [(&str, Over, Scenario); 6] = [
        ("server_reflexive", Over::Udp, |stage| {
            Box::pin(server_reflexive(stage))
        }),
        ("two_nats", Over::Udp, |stage| Box::pin(two_nats(stage))),
        ("two_nats_without_a_server", Over::Udp, |stage| {
            Box::pin(two_nats_without_a_server(stage))
        }),
        (
            "a_turn_server_gives_the_reflexive_address_too",
            Over::Udp,
            |stage| Box::pin(reflexive_of_a_turn_server(stage)),
        ),
        ("relay_only", Over::Udp, |stage| Box::pin(relay_only(stage))),
        ("relay_only_over_tcp", Over::Tcp, |stage| {
            Box::pin(relay_only(stage))
        }),
    ];
    let trials = scenarios.map(|(name, over, scenario)| {
        Trial::ignorable_test(format!("interop::nat::{name}"), move || {
            let prepared = tools::program("turnserver")
                .map_err(|missing| missing.why)
                .and_then(|program| Ok((Net::new()?, program)));
            match prepared {
                Ok((net, program)) => run(net, program, over, scenario),
                Err(why) if tools::peers_are_required() => return Err(why.into()),
                Err(why) => return Ok(Completion::ignored_with(why)),
            }
            Ok(Completion::Completed)
        })
    });
    trials.into()
}

fn run(net: Net, program: PathBuf, over: Over, scenario: Scenario) {
    let outside = net.runtime(At::Outside);
    let server = outside.block_on(async {
        let start = async move {
            let ip = SERVER.parse().expect("an address");
            Server::start(program, ip, &[SERVER], "keep").await
        };
        let started = tokio::time::timeout(crate::interop::LIMIT, tokio::spawn(start)).await;
        started.expect("a server in time").expect("a server")
    });
    let stage = Stage {
        outside,
        behind: [0, 1].map(|number| net.runtime(At::Behind(number))),
        server: server.over(over),
        _net: net,
    };
    let here = Runtime::new().expect("a runtime");
    here.block_on(async {
        let ran = async {
            stage.until_it_is_up().await;
            scenario(&stage).await;
        };
        let ran = tokio::time::timeout(crate::interop::LIMIT, ran).await;
        ran.expect("an end in time");
    });
}

/// The ends of an attempt, and what each side has been told.
struct Ends {
    offerer: Result<WebRtcConn>,
    answerer: Result<WebRtcConn>,
    /// By the offerer, and by the answerer.
    told: [watch::Receiver<Vec<Signal>>; 2],
}

impl Ends {
    fn both(self) -> (WebRtcConn, WebRtcConn) {
        (
            self.offerer.expect("the offerer's end"),
            self.answerer.expect("the answerer's end"),
        )
    }

    /// Returns the candidates that one side was told of by the end of the other's search.
    async fn candidates(&mut self, by: usize) -> Vec<String> {
        let all = self.told[by].wait_for(|signals| signals.contains(&Signal::EndOfCandidates));
        let all = tokio::time::timeout(Duration::from_secs(20), all).await;
        let all = all.expect("the end in time").expect("the end");
        let candidates = all.iter().filter_map(|signal| match signal {
            Signal::Candidate(candidate) => Some(candidate.candidate.clone()),
            _ => None,
        });
        candidates.collect()
    }
}

impl Stage {
    /// Waits until the devices pass packets, which takes a moment after they were brought up.
    async fn until_it_is_up(&self) {
        let server = self.server.addr;
        for runtime in &self.behind {
            let answered = until_it_answers(Ipv4Addr::UNSPECIFIED.into(), server);
            runtime.spawn(answered).await.expect("an answer");
        }
    }

    /// Connects two peers with these servers.
    async fn connect(&self, offerer: (At, Settings), answerer: (At, Settings)) -> Ends {
        let (here, there) = MemorySignaling::pair();
        let noted = |inner| {
            let (received, told) = watch::channel(Vec::new());
            (Noted { inner, received }, told)
        };
        let ((here, by_answerer), (there, by_offerer)) = (noted(here), noted(there));
        // It is soon given up where there is no path.
        let config = Config::default()
            .with_disconnected_after(Duration::from_secs(6))
            .with_failed_after(Duration::from_secs(8));
        let [offerer, answerer] = [offerer, answerer].map(|(at, settings)| {
            let transport = WebRtcTransport::new(Registry::new())
                .with_settings(settings.of(at))
                .expect("settings")
                .with_config(config.clone());
            (self.runtime(at), transport.expect("a configuration"))
        });
        let (runtime, transport) = offerer;
        let here = runtime.spawn(async move { transport.offer_over(here).await });
        let (runtime, transport) = answerer;
        let there = runtime.spawn(async move { transport.answer_over(there).await });
        let (offerer, answerer) = tokio::join!(here, there);
        Ends {
            offerer: offerer.expect("an outcome"),
            answerer: answerer.expect("an outcome"),
            told: [by_offerer, by_answerer],
        }
    }

    fn runtime(&self, at: At) -> &Runtime {
        match at {
            At::Outside => &self.outside,
            At::Behind(number) => &self.behind[number],
        }
    }

    fn stun(&self) -> Settings {
        Settings::Servers(self.server.stun())
    }

    fn relay_only(&self) -> Settings {
        Settings::RelayOnly(self.server.turn(SECRET))
    }
}

/// What a peer uses.
enum Settings {
    Nothing,
    Servers(IceServer),
    RelayOnly(IceServer),
}

impl Settings {
    fn of(self, at: At) -> WebRtcSettings {
        let settings = match at {
            At::Outside => {
                WebRtcSettings::default().with_bind_addrs(vec![PEER.parse().expect("an address")])
            }
            At::Behind(_) => WebRtcSettings::default().with_loopback(false),
        };
        match self {
            Self::Nothing => settings,
            Self::Servers(server) => settings.with_ice_servers([server]),
            Self::RelayOnly(server) => settings.with_ice_servers([server]).with_relay_only(true),
        }
    }
}

/// Checks the candidates of the peer behind a NAT: its own address, and that of the NAT, which is returned.
fn reflexive(candidates: &[String], number: usize) -> &str {
    let is = |kind_of: &str, addr: String| {
        let mut found = candidates
            .iter()
            .filter(|one| kind(one) == kind_of && place(one)[0] == addr);
        let one = found.next().unwrap_or_else(|| {
            panic!("no candidate {kind_of} {addr} among {candidates:?}");
        });
        assert_eq!(found.next(), None, "two of them");
        one
    };
    is("host", format!("{}.2", BEHIND[number]));
    is("srflx", NATS[number].to_owned())
}

/// Behind a NAT, the server shows the address of the NAT, which the peer outside is told and uses.
async fn server_reflexive(stage: &Stage) {
    let (offerer, answerer) = (At::Behind(0), At::Outside);
    let mut ends = stage
        .connect((offerer, stage.stun()), (answerer, Settings::Nothing))
        .await;
    let candidates = ends.candidates(0).await;
    assert_eq!(candidates.len(), 2, "{candidates:?}");
    let reflexive = reflexive(&candidates, 0).to_owned();
    let (here, there) = ends.both();
    exchange(&here, &there).await;
    let pair = there.selected_candidate_pair().await.expect("a path");
    assert_eq!(place(&pair.remote), place(&reflexive));
    let pair = here.selected_candidate_pair().await.expect("a path");
    assert_eq!(place(&pair.remote)[0], PEER);
}

/// Two peers behind NATs reach each other by the addresses that the server has shown them.
async fn two_nats(stage: &Stage) {
    let sides = [0, 1].map(|number| (At::Behind(number), stage.stun()));
    let [offerer, answerer] = sides;
    let mut ends = stage.connect(offerer, answerer).await;
    let shown = [ends.candidates(0).await, ends.candidates(1).await];
    let shown = [0, 1].map(|number| reflexive(&shown[number], number).to_owned());
    let (here, there) = ends.both();
    exchange(&here, &there).await;
    for (conn, peer) in [(&here, 1), (&there, 0)] {
        let pair = conn.selected_candidate_pair().await.expect("a path");
        assert_eq!(place(&pair.remote), place(&shown[peer]), "{pair:?}");
    }
}

/// The same without a server: it is the reflexive candidates by which they reach each other.
async fn two_nats_without_a_server(stage: &Stage) {
    let sides = [0, 1].map(|number| (At::Behind(number), Settings::Nothing));
    let [offerer, answerer] = sides;
    let ends = stage.connect(offerer, answerer).await;
    let error = ends.offerer.expect_err("no path");
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
    ends.answerer.expect_err("no path");
}

/// A TURN server shows the address of the NAT as a STUN server does, and what it shows is preferred to its relay.
async fn reflexive_of_a_turn_server(stage: &Stage) {
    let sides = [0, 1].map(|number| {
        let turn = stage.server.turn(SECRET);
        (At::Behind(number), Settings::Servers(turn))
    });
    let [offerer, answerer] = sides;
    let mut ends = stage.connect(offerer, answerer).await;
    let candidates = ends.candidates(0).await;
    reflexive(&candidates, 0);
    let relays = candidates.iter().filter(|one| kind(one) == "relay");
    assert_eq!(relays.count(), 1, "{candidates:?}");
    let (here, there) = ends.both();
    exchange(&here, &there).await;
}

/// Peers behind NATs that are to use relays only do so, and tell no other address.
async fn relay_only(stage: &Stage) {
    for answerer in [At::Outside, At::Behind(1)] {
        let settings = match answerer {
            At::Outside => Settings::Nothing,
            At::Behind(_) => stage.relay_only(),
        };
        let offerer = (At::Behind(0), stage.relay_only());
        let mut ends = stage.connect(offerer, (answerer, settings)).await;
        let candidates = ends.candidates(0).await;
        let [relay] = &candidates[..] else {
            panic!("{candidates:?}");
        };
        assert_eq!((kind(relay), place(relay)[0]), ("relay", SERVER));
        let (here, there) = ends.both();
        exchange(&here, &there).await;
        let near = path(&here).await;
        match answerer {
            At::Outside => assert_eq!(near[0], "relay"),
            At::Behind(_) => assert_eq!(near, ["relay", "relay"]),
        }
        let pair = there.selected_candidate_pair().await.expect("a path");
        assert_eq!(place(&pair.remote), place(relay));
    }
}
