//! How the settings decide where a connection can be reached, on loopback: what is sent to the peer.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use pipe_core::{Error, ErrorKind};
use pipe_webrtc::signaling::Signal;
use pipe_webrtc::{
    AddrFilter, IceServer, InterfaceFilter, MemorySignaling, WebRtcConn, WebRtcSettings,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;

use crate::common::{self, Changed, soon, stream, transport};

/// What one side has sent to the other.
#[derive(Clone, Default)]
struct Sent(watch::Sender<Vec<Signal>>);

impl Sent {
    /// Notes all signals, and passes them on.
    fn watch(&self) -> impl FnMut(Signal) -> Vec<Signal> + Send + 'static {
        let sent = self.0.clone();
        move |signal| {
            sent.send_modify(|sent| sent.push(signal.clone()));
            vec![signal]
        }
    }

    /// The addresses of the candidates, and their types (RFC 8839, section 5.1).
    fn candidates(&self) -> Vec<(SocketAddr, String)> {
        let sent = self.0.borrow();
        let candidates = sent.iter().filter_map(|signal| match signal {
            Signal::Candidate(candidate) => Some(&candidate.candidate),
            _ => None,
        });
        let mut all: Vec<_> = candidates
            .map(|text| {
                let words: Vec<_> = text.split(' ').collect();
                let addr = words[4].parse().expect("an address");
                let port = words[5].parse().expect("a port");
                (SocketAddr::new(addr, port), words[7].to_owned())
            })
            .collect();
        all.sort();
        all
    }

    fn addrs(&self) -> Vec<IpAddr> {
        let candidates = self.candidates();
        candidates.iter().map(|(addr, _)| addr.ip()).collect()
    }

    /// The text of all descriptions.
    fn descriptions(&self) -> String {
        let sent = self.0.borrow();
        let texts = sent.iter().filter_map(|signal| match signal {
            Signal::Offer(description) | Signal::Answer(description) => Some(&*description.sdp),
            _ => None,
        });
        texts.collect::<Vec<_>>().join("\n")
    }

    async fn until(&self, holds: impl Fn(&[Signal]) -> bool) {
        let mut sent = self.0.subscribe();
        let seen = sent.wait_for(|signals| holds(signals));
        soon("a signal", seen).await.expect("a sender");
    }

    /// Waits until all candidates are known.
    async fn to_end(&self) {
        let ended = |signals: &[Signal]| signals.contains(&Signal::EndOfCandidates);
        self.until(ended).await;
    }
}

/// Connects an offerer with these settings to an answerer on loopback. What the offerer sends is noted.
async fn connect(
    settings: WebRtcSettings,
) -> (Result<WebRtcConn, Error>, Result<WebRtcConn, Error>, Sent) {
    let offerer = transport().with_settings(settings).expect("settings");
    let (here, there) = MemorySignaling::pair();
    let sent = Sent::default();
    let there = Changed::new(there, sent.watch());
    let answerer = transport();
    let both = async { tokio::join!(offerer.offer_over(here), answerer.answer_over(there)) };
    let (here, there) = soon("an outcome", both).await;
    (here, there, sent)
}

/// The same, where a connection is made, and a byte gets through.
async fn connected(settings: WebRtcSettings) -> ([WebRtcConn; 2], Sent) {
    let (here, there, sent) = connect(settings).await;
    let (here, there) = (
        here.expect("the offerer's end"),
        there.expect("the answerer's"),
    );
    let (mut opened, mut accepted) = stream(&here, &there).await;
    opened.write_u8(7).await.unwrap();
    assert_eq!(soon("a byte", accepted.read_u8()).await.unwrap(), 7);
    sent.to_end().await;
    ([here, there], sent)
}

/// The error of an offerer with these settings.
async fn refused(settings: WebRtcSettings) -> Error {
    connect(settings).await.0.expect_err("an error")
}

fn addrs<const N: usize>(texts: [&str; N]) -> Vec<IpAddr> {
    texts.map(|text| text.parse().unwrap()).to_vec()
}

fn on(texts: &[&str]) -> WebRtcSettings {
    let addrs = texts.iter().map(|text| text.parse().unwrap());
    WebRtcSettings::default().with_bind_addrs(addrs.collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ports_come_from_the_range_also_at_the_same_time() {
    // Somebody else may use some of them.
    let first = fastrand::u16(20_000..32_000);
    let ports = first..=first + 47;
    let pairs = (0..8).map(|_| connected(common::loopback().with_port_range(ports.clone())));
    let pairs = futures::future::join_all(pairs).await;
    let mut used: Vec<_> = pairs
        .iter()
        .flat_map(|(_, sent)| sent.candidates())
        .map(|(addr, _)| addr.port())
        .collect();
    assert_eq!(used.len(), 8, "one candidate each");
    assert!(used.iter().all(|port| ports.contains(port)), "{used:?}");
    used.sort_unstable();
    used.dedup();
    assert_eq!(used.len(), 8, "each port once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_range_without_a_free_port_is_named() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let error = refused(common::loopback().with_port_range(port..=port)).await;
    assert_eq!(error.kind(), ErrorKind::AddrInUse, "{error}");
    let text = error.to_string();
    assert!(text.contains(&format!("{port}..={port}")), "{text}");
    assert!(text.contains("port_range"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_of_another_machine_is_named() {
    let error = refused(on(&["127.0.0.1", "203.0.113.77"])).await;
    assert_eq!(error.kind(), ErrorKind::ConfigInvalid, "{error}");
    let text = error.to_string();
    assert!(
        text.contains("bind_addrs") && text.contains("203.0.113.77"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_are_those_that_are_allowed_and_not_denied() {
    let settings = on(&["127.0.0.1"]).with_addrs(AddrFilter::default().with_allow(vec![
        "127.0.0.0/24".parse().unwrap(),
        "::1/128".parse().unwrap(),
    ]));
    let (_conns, sent) = connected(settings).await;
    assert_eq!(sent.addrs(), addrs(["127.0.0.1"]));

    let denied = on(&["127.0.0.1"]).with_addrs(
        AddrFilter::default()
            .with_allow(vec!["127.0.0.0/24".parse().unwrap()])
            .with_deny(vec!["127.0.0.0/8".parse().unwrap()]),
    );
    let error = refused(denied).await;
    assert_eq!(error.kind(), ErrorKind::ConfigInvalid, "{error}");
    assert!(error.to_string().contains("no address is left"), "{error}");
}

/// All of 127.0.0.0/8 is this machine.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_bound_address_that_the_filter_lets_through_is_sent() {
    let settings = on(&["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.1.1"]).with_addrs(
        AddrFilter::default()
            .with_allow(vec!["127.0.0.0/24".parse().unwrap()])
            .with_deny(vec!["127.0.0.2/32".parse().unwrap()]),
    );
    let (_conns, sent) = connected(settings).await;
    assert_eq!(sent.addrs(), addrs(["127.0.0.1", "127.0.0.3"]));
    assert!(sent.candidates().iter().all(|(_, kind)| kind == "host"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn interfaces_that_are_denied_are_not_used_though_they_are_allowed() {
    let interfaces = if_addrs::get_if_addrs().unwrap();
    let loopback = interfaces.iter().find(|interface| interface.is_loopback());
    let name = loopback.expect("a loopback interface").name.clone();
    let allowed = InterfaceFilter::default().with_allow(vec![name.clone()]);
    let settings = WebRtcSettings::default()
        .with_loopback(true)
        .with_interfaces(allowed.clone());
    let (_conns, sent) = connected(settings.clone()).await;
    let mut expected: Vec<_> = interfaces
        .iter()
        .filter(|interface| interface.name == name && !interface.is_link_local())
        .map(if_addrs::Interface::ip)
        .collect();
    expected.sort();
    assert_eq!(sent.addrs(), expected);

    let denied = allowed.with_deny(vec![name[..1].to_owned()]);
    let error = refused(settings.with_interfaces(denied)).await;
    assert_eq!(error.kind(), ErrorKind::ConfigInvalid, "{error}");
    assert!(error.to_string().contains("interfaces"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn external_addresses_take_the_place_of_ones_own() {
    let external = addrs(["198.51.100.1", "198.51.100.2", "2001:db8::1"]);
    let settings = common::loopback().with_external_addrs(external);
    // The answerer cannot reach such an address, and hears from the offerer where it is.
    let ([here, _there], sent) = connected(settings).await;
    assert_eq!(sent.addrs(), addrs(["198.51.100.1", "198.51.100.2"]));
    let candidates = sent.candidates();
    let pair = here.selected_candidate_pair().await.expect("a path");
    let port = pair.local.split(' ').nth(5).expect("a port");
    for (addr, kind) in &candidates {
        assert_eq!(
            (addr.port().to_string().as_str(), kind.as_str()),
            (port, "host")
        );
    }

    here.restart_ice().await.expect("a restart");
    let twice = |signals: &[Signal]| {
        let offers = signals
            .iter()
            .filter(|signal| matches!(signal, Signal::Offer(_)));
        offers.count() == 2
    };
    sent.until(twice).await;
    let descriptions = sent.descriptions();
    assert!(descriptions.contains(" 198.51.100.1 "), "{descriptions}");
    assert!(!descriptions.contains("127.0.0.1"), "{descriptions}");
    assert!(sent.addrs().iter().all(|addr| !addr.is_loopback()));
}

/// A server that never says anything.
fn silent_server() -> (UdpSocket, String) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = socket.local_addr().unwrap().to_string();
    (socket, addr)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_stun_server_is_waited_for_as_long_as_the_settings_say() {
    let (server, addr) = silent_server();
    let limit = Duration::from_millis(400);
    let settings = common::loopback()
        .with_ice_servers([IceServer::stun(&addr)])
        .with_gather_timeout(limit);
    let transport = transport().with_settings(settings).unwrap();
    let start = Instant::now();
    let offered = soon("an offer", transport.offer_by_hand()).await.unwrap();
    let took = start.elapsed();
    assert!(took >= limit, "{took:?}");
    // It was asked.
    let mut request = [0; 1500];
    let count = server.recv(&mut request).unwrap();
    assert_eq!(request[..2], [0, 1], "a binding request of {count} bytes");

    // The connection is made without it.
    let other = common::transport();
    let answered = soon("an answer", other.answer_by_hand(offered.text())).await;
    let answered = answered.unwrap();
    let text = answered.text().to_owned();
    let both = async { tokio::try_join!(offered.accept(&text), answered.connected()) };
    soon("a connection", both).await.expect("a connection");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_turn_server_is_an_error_where_there_is_no_other_way() {
    let (_server, addr) = silent_server();
    let settings = common::loopback()
        .with_ice_servers([IceServer::turn(&format!("turn:{addr}"), "name", "secret")])
        .with_relay_only(true)
        .with_gather_timeout(Duration::from_millis(400));
    let (here, there, sent) = connect(settings).await;
    let error = here.expect_err("no relay");
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
    let text = error.to_string();
    assert!(
        text.contains("no TURN server") && text.contains("no answer"),
        "{text}"
    );
    let told = there.expect_err("no peer");
    assert_eq!(told.kind(), ErrorKind::Unreachable, "{told}");
    assert!(sent.candidates().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_that_a_peer_names_and_that_never_answer_get_few_packets() {
    const ADDRS: usize = 64;
    let named: Vec<UdpSocket> = (0..ADDRS)
        .map(|_| UdpSocket::bind("127.0.0.1:0").expect("a socket"))
        .collect();
    let ports: Vec<u16> = named
        .iter()
        .map(|socket| socket.local_addr().expect("an address").port())
        .collect();
    let transport = transport();
    let (here, there) = MemorySignaling::pair();
    // Instead of its own candidates the peer gives those.
    let mut ports = Some(ports);
    let here = Changed::new(here, move |signal| {
        let Signal::Candidate(candidate) = signal else {
            return vec![signal];
        };
        let ports = ports.take().into_iter().flatten();
        let named = ports.map(|port| {
            let mut named = candidate.clone();
            let mut words: Vec<_> = candidate.candidate.split(' ').map(String::from).collect();
            words[0] = format!("candidate:{port}");
            words[5] = port.to_string();
            named.candidate = words.join(" ");
            Signal::Candidate(named)
        });
        named.collect()
    });
    // It does not look for this side itself.
    let there = Changed::new(there, |signal| match signal {
        Signal::Candidate(_) => Vec::new(),
        signal => vec![signal],
    });
    let time = Duration::from_secs(5);
    let both = async { tokio::join!(transport.offer_over(here), transport.answer_over(there)) };
    let ended = tokio::time::timeout(time, both).await;
    assert!(ended.is_err(), "there is no connection to be had");
    let mut counts = Vec::new();
    for socket in &named {
        socket.set_nonblocking(true).expect("a socket");
        let mut count = 0;
        while socket.recv(&mut [0; 1500]).is_ok() {
            count += 1;
        }
        counts.push(count);
    }
    println!("{} packets: {counts:?}", counts.iter().sum::<i32>());
    assert!(
        counts.iter().all(|count| (1..=8).contains(count)),
        "{counts:?}"
    );
}

// All of 127.0.0.0/8 is of this machine there.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_sides_with_as_many_addresses_as_are_used_connect() {
    let side = |net: u8| {
        let addrs = (1..=8).map(|i| IpAddr::from([127, 0, net, i])).collect();
        let settings = WebRtcSettings::default().with_bind_addrs(addrs);
        transport().with_settings(settings).expect("settings")
    };
    let (offerer, answerer) = (side(1), side(2));
    let (here, there) = MemorySignaling::pair();
    let both = async { tokio::join!(offerer.offer_over(here), answerer.answer_over(there)) };
    let start = Instant::now();
    let (here, there) = soon("a connection", both).await;
    let (here, there) = (here.expect("one end"), there.expect("the other end"));
    println!("connected after {:?}", start.elapsed());
    let (mut opened, mut accepted) = stream(&here, &there).await;
    opened.write_all(b"x").await.expect("a write");
    assert_eq!(soon("a byte", accepted.read_u8()).await.unwrap(), b'x');
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_of_multicast_dns_replace_addresses_and_are_found() {
    // Neither side sends an address, so that each has to find that of the other.
    let hidden = || {
        let transport = transport().with_settings(common::loopback().with_mdns(true));
        transport.expect("settings")
    };
    let (offerer, answerer) = (hidden(), hidden());
    let (here, there) = MemorySignaling::pair();
    let sent = [(); 2].map(|()| Sent::default());
    let here = Changed::new(here, sent[0].watch());
    let there = Changed::new(there, sent[1].watch());
    let both = async { tokio::join!(offerer.offer_over(here), answerer.answer_over(there)) };
    let (here, there) = soon("an outcome", both).await;
    let (here, there) = (here.expect("a connection"), there.expect("a connection"));
    let (mut opened, mut accepted) = stream(&here, &there).await;
    opened.write_u8(7).await.unwrap();
    assert_eq!(soon("a byte", accepted.read_u8()).await.unwrap(), 7);
    for sent in sent {
        sent.to_end().await;
        let signals = sent.0.borrow();
        let texts: Vec<_> = signals
            .iter()
            .filter_map(|signal| match signal {
                Signal::Candidate(candidate) => Some(candidate.candidate.as_str()),
                _ => None,
            })
            .collect();
        assert!(!texts.is_empty());
        for text in texts {
            let addr = text.split(' ').nth(4).expect("an address");
            assert!(addr.ends_with(".local"), "{text}");
            assert!(!text.contains("127.0.0.1"), "{text}");
        }
    }
}
