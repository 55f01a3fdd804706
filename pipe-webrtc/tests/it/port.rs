//! Connections that share one UDP port by `WebRtcSettings::udp_port`.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use futures::future::{join_all, try_join_all};
use pipe_core::{Conn, ErrorKind, Listener, Transport};
use pipe_inproc::{InprocTransport, Namespace};
use pipe_webrtc::{
    ConnEvent, Engine, IceServer, WebRtcConn, WebRtcListener, WebRtcSettings, WebRtcTransport,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::common::{self, pair_of, soon, stream, transport};

type Inproc = WebRtcTransport<InprocTransport>;

/// A transport with such settings, whose connections share a free port.
fn sharing(settings: WebRtcSettings) -> Inproc {
    let settings = settings.with_udp_port(0);
    transport().with_settings(settings).expect("settings")
}

async fn listen(transport: &Inproc) -> WebRtcListener {
    let addr = "webrtc+inproc://".parse().expect("an address");
    transport.listen(&addr).await.expect("a listener")
}

/// Dials a listener, and returns both ends, the dialer's first.
async fn connect(dialer: &Inproc, listener: &WebRtcListener) -> (WebRtcConn, WebRtcConn) {
    let addr = listener.local_addr();
    let both = async { tokio::try_join!(dialer.dial(&addr), listener.accept()) };
    soon("a connection", both).await.expect("a connection")
}

/// Sends bytes to and fro.
async fn echo(here: &WebRtcConn, there: &WebRtcConn) {
    let (mut opened, mut accepted) = stream(here, there).await;
    let data = common::random(20_000);
    let to_and_fro = async {
        opened.write_all(&data).await.expect("a write");
        opened.shutdown().await.expect("a shutdown");
        let mut all = Vec::new();
        accepted.read_to_end(&mut all).await.expect("a read");
        accepted.write_all(&all).await.expect("a write");
        accepted.shutdown().await.expect("a shutdown");
        all.clear();
        opened.read_to_end(&mut all).await.expect("a read");
        assert!(all == data, "bytes differ");
    };
    soon("an echo", to_and_fro).await;
}

/// The ports of the path that a connection uses: this side's and the peer's.
async fn ports(conn: &WebRtcConn) -> (u16, u16) {
    let pair = conn.selected_candidate_pair().await.expect("a path");
    let port = |candidate: &str| {
        let port = candidate.split(' ').nth(5).expect("a port");
        port.parse().expect("a number")
    };
    (port(&pair.local), port(&pair.remote))
}

/// The number of UDP sockets that are bound to an address of this machine.
#[cfg(target_os = "linux")]
fn sockets_at(ip: [u8; 4]) -> usize {
    let table = std::fs::read_to_string("/proc/net/udp").expect("a list of sockets");
    let ip = format!("{:08X}:", u32::from_ne_bytes(ip));
    let local = |line: &&str| {
        line.split_whitespace()
            .nth(1)
            .is_some_and(|addr| addr.starts_with(&ip))
    };
    table.lines().filter(local).count()
}

// All of 127.0.0.0/8 is of this machine there.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_connections_at_once_use_one_socket() {
    const IP: [u8; 4] = [127, 0, 71, 1];
    let config = pipe_webrtc::default_config()
        .with_max_handshakes(100)
        .with_handshake_timeout(common::LIMIT);
    let answerer = sharing(WebRtcSettings::default().with_bind_addrs(vec![IP.into()]))
        .with_config(config)
        .expect("a configuration");
    let dialer = answerer.clone().with_settings(common::loopback()).unwrap();
    let listener = listen(&answerer).await;
    let addr = listener.local_addr();
    let dials = try_join_all((0..100).map(|_| dialer.dial(&addr)));
    let accepts = try_join_all((0..100).map(|_| listener.accept()));
    let both = async { tokio::try_join!(dials, accepts) };
    let (here, there) = soon("the connections", both).await.expect("connections");

    let port = listener.udp_addrs()[0].port();
    assert_eq!(listener.udp_addrs(), [SocketAddr::from((IP, port))]);
    assert_eq!(sockets_at(IP), 1);
    assert_eq!(listener.udp_stats().unwrap().connections, 100);
    let mut by_port = std::collections::HashMap::new();
    for conn in there {
        let (own, peers) = ports(&conn).await;
        assert_eq!(own, port);
        by_port.insert(peers, conn);
    }
    let mut pairs = Vec::new();
    for conn in here {
        let (own, peers) = ports(&conn).await;
        assert_eq!(peers, port);
        let peer = by_port.remove(&own).expect("its peer");
        pairs.push((conn, peer));
    }
    join_all(pairs.iter().map(|(here, there)| echo(here, there))).await;
    let stats = listener.udp_stats().unwrap();
    assert_eq!(stats.overflowed, 0, "{stats:?}");
    drop(pairs);
    soon("the end", async {
        while listener.udp_stats().unwrap().connections > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_of_ice_stays_on_the_port() {
    let answerer = sharing(common::loopback());
    let listener = listen(&answerer).await;
    let port = listener.udp_addrs()[0].port();
    let dialer = answerer.clone().with_settings(common::loopback()).unwrap();
    let (here, there) = connect(&dialer, &listener).await;
    let (other, other_there) = connect(&dialer, &listener).await;
    for (conn, peer) in [(&here, &there), (&there, &here)] {
        for _ in 0..3 {
            let mut events = peer.events();
            soon("a restart", conn.restart_ice())
                .await
                .expect("a restart");
            let restarted = async {
                while !matches!(
                    events.next().await.expect("an event"),
                    ConnEvent::IceRestarted
                ) {}
            };
            soon("its other end", restarted).await;
            echo(&here, &there).await;
        }
    }
    for conn in [&there, &other_there] {
        assert_eq!(ports(conn).await.0, port);
    }
    echo(&other, &other_there).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_port_is_one_of_ipv6_too() {
    let v6 = IpAddr::V6(Ipv6Addr::LOCALHOST);
    if UdpSocket::bind((v6, 0)).is_err() {
        // This machine has no IPv6.
        return;
    }
    let v6 = WebRtcSettings::default().with_bind_addrs(vec![v6]);
    let both = v6
        .clone()
        .with_bind_addrs(vec![[127, 0, 0, 1].into(), v6.bind_addrs[0]]);
    let answerer = sharing(both);
    let listener = listen(&answerer).await;
    let addrs = listener.udp_addrs();
    assert_eq!(addrs.len(), 2);
    assert_eq!(addrs[0].port(), addrs[1].port());
    for settings in [v6, common::loopback()] {
        let dialer = answerer.clone().with_settings(settings).unwrap();
        let (here, there) = connect(&dialer, &listener).await;
        echo(&here, &there).await;
        assert_eq!(ports(&there).await.0, addrs[0].port());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_comes_again_from_the_address_that_it_had() {
    let answerer = sharing(common::loopback());
    let listener = listen(&answerer).await;
    let free = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let fixed = common::loopback().with_port_range(port..=port);
    let dialer = answerer.clone().with_settings(fixed).unwrap();
    for round in 0..5 {
        let (here, there) = connect(&dialer, &listener).await;
        assert_eq!(ports(&there).await.1, port);
        echo(&here, &there).await;
        if round % 2 == 0 {
            here.close(0, "");
            soon("the end", there.closed()).await;
        } else {
            there.close(0, "");
            soon("the end", here.closed()).await;
        }
        // Its handles are held on to; they keep no socket.
        soon("the socket", async {
            while UdpSocket::bind(("127.0.0.1", port)).is_err() {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transports_that_both_share_a_port_dial_each_other_again_and_again() {
    let namespace = Namespace::new();
    let side = || {
        let transport =
            WebRtcTransport::new(InprocTransport::new().with_namespace(namespace.clone()));
        let settings = common::loopback().with_udp_port(0);
        transport.with_settings(settings).expect("settings")
    };
    let (left, right) = (side(), side());
    let (at_left, at_right) = (listen(&left).await, listen(&right).await);
    let mut conns = Vec::new();
    for _ in 0..3 {
        conns.push(connect(&left, &at_right).await);
        conns.push(connect(&right, &at_left).await);
        // A transport dials itself as well.
        conns.push(connect(&left, &at_left).await);
    }
    join_all(conns.iter().map(|(here, there)| echo(here, there))).await;
    for (listener, connections) in [(&at_left, 6), (&at_right, 3)] {
        assert_eq!(listener.udp_stats().unwrap().connections, connections);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_the_application_signals_are_answered_on_the_port() {
    let answerer = sharing(common::loopback());
    let listener = listen(&answerer).await;
    let port = listener.udp_addrs()[0].port();
    let (here, there) = pair_of(&transport(), &answerer).await;
    echo(&here, &there).await;
    assert_eq!(ports(&there).await.0, port);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_port_is_held_by_the_listener_and_its_connections() {
    let answerer = sharing(common::loopback());
    let dialer = answerer.clone().with_settings(common::loopback()).unwrap();
    let listener = listen(&answerer).await;
    let addr = listener.udp_addrs()[0];
    let (here, there) = connect(&dialer, &listener).await;
    listener.close();
    assert!(listener.udp_addrs().is_empty() && listener.udp_stats().is_none());
    echo(&here, &there).await;

    // The same transport listens on it again meanwhile; another one is told that it is taken.
    let again = listen(&answerer).await;
    assert_eq!(again.udp_addrs(), [addr]);
    let other = transport()
        .with_settings(common::loopback().with_udp_port(addr.port()))
        .unwrap();
    let error = other
        .listen(&"webrtc+inproc://".parse().unwrap())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse, "{error}");
    assert!(
        error.to_string().contains(&addr.port().to_string()),
        "{error}"
    );
    again.close();
    drop(again);
    assert!(UdpSocket::bind(addr).is_err(), "a connection has it");
    here.close(0, "");
    soon("the end", there.closed()).await;
    soon("a free port", async {
        while UdpSocket::bind(addr).is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    drop((here, there));
}

#[test]
fn settings_that_contradict_a_shared_port_are_refused() {
    let error = WebRtcSettings::default()
        .with_udp_port(3478)
        .with_port_range(4000..=5000)
        .validate()
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
    let text = error.to_string();
    assert!(
        text.contains("udp_port is 3478") && text.contains("port_range"),
        "{text}"
    );
    let error = WebRtcSettings::default()
        .with_udp_port(3478)
        .with_engine(Engine::WebRtcCrate)
        .validate()
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("udp_port"), "{error}");
}

/// Answers a request of STUN with this address of IPv4 (RFC 8489, section 14.2).
fn stun_answer(request: &[u8], addr: SocketAddr) -> Vec<u8> {
    let IpAddr::V4(ip) = addr.ip() else {
        panic!("{addr} is not of IPv4");
    };
    let mut answer = vec![1, 1, 0, 12];
    answer.extend_from_slice(&request[4..20]);
    answer.extend_from_slice(&[0, 0x20, 0, 8, 0, 1]);
    answer.extend_from_slice(&(addr.port() ^ 0x2112).to_be_bytes());
    answer.extend_from_slice(&(u32::from(ip) ^ 0x2112_a442).to_be_bytes());
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stun_server_is_asked_from_the_port_and_a_turn_server_from_others() {
    let mapped: SocketAddr = "203.0.113.9:61000".parse().unwrap();
    let servers = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
    for server in &servers {
        server.set_nonblocking(true).unwrap();
    }
    let [stun, turn] = servers.map(|server| tokio::net::UdpSocket::from_std(server).unwrap());
    let url = format!("turn:{}", turn.local_addr().unwrap());
    let settings = common::loopback()
        .with_ice_servers([
            IceServer::stun(&stun.local_addr().unwrap().to_string()),
            IceServer::turn(&url, "name", "secret"),
        ])
        .with_gather_timeout(Duration::from_millis(500));
    let answerer = sharing(settings);
    let listener = listen(&answerer).await;
    let port = listener.udp_addrs()[0].port();
    let answers = tokio::spawn(async move {
        let mut request = [0; 1500];
        let mut sources = Vec::new();
        loop {
            let (_, from) = stun.recv_from(&mut request).await.unwrap();
            sources.push(from.port());
            assert_eq!(from.port(), port);
            stun.send_to(&stun_answer(&request, mapped), from)
                .await
                .unwrap();
        }
    });
    let dialer = answerer.clone().with_settings(common::loopback()).unwrap();
    let conns = [
        connect(&dialer, &listener).await,
        connect(&dialer, &listener).await,
    ];
    let mut asked = Vec::new();
    for (here, there) in &conns {
        let mut events = there.events();
        let reflexive = async {
            loop {
                let event = events.next().await.expect("an event");
                if matches!(&event, ConnEvent::LocalCandidate(text) if text.contains("203.0.113.9 61000 typ srflx"))
                {
                    return;
                }
            }
        };
        soon("the address that the server sees", reflexive).await;
        echo(here, there).await;
    }
    while asked.len() < 2 {
        let mut request = [0; 1500];
        let (_, from) = soon("an allocation", turn.recv_from(&mut request))
            .await
            .unwrap();
        assert_eq!(request[..2], [0, 3]);
        if !asked.contains(&from.port()) {
            asked.push(from.port());
        }
    }
    assert!(!asked.contains(&port));
    assert!(!answers.is_finished());
    answers.abort();
}
