use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use pipe_core::ErrorKind;
use proptest::prelude::*;
use stun_types::attribute::{ErrorCode, MappedSocketAddr};
use stun_types::message::{MessageClass, TransactionId};
use stun_types::prelude::{AttributeStaticType, AttributeWrite};

use super::request::Auth;
use super::*;
use crate::engine::own::stun::{
    ALLOCATE, ALTERNATE_SERVER, CHANNEL_BIND, CHANNEL_NUMBER, CREATE_PERMISSION, DATA, DATA_METHOD,
    LIFETIME, NONCE, REALM, REFRESH, REQUESTED_ADDRESS_FAMILY, Received, SEND, USERNAME, Writer,
    XOR_MAPPED_ADDRESS, XOR_PEER_ADDRESS, XOR_RELAYED_ADDRESS,
};

const RELAY: &str = "192.0.2.10:50000";
const PEER: &str = "203.0.113.5:4000";

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn config() -> TurnConfig {
    TurnConfig {
        name: "turn:relay.test:3478".to_owned(),
        username: "user".to_owned(),
        password: "open sesame".to_owned(),
        is_stream: false,
        ipv6: false,
        is_alternate: false,
        realm: None,
    }
}

/// A server of TURN with one client.
struct Server {
    nonce: u32,
    password: &'static str,
    lifetime: u32,
    relayed: SocketAddr,
    is_allocated: bool,
    channels: HashMap<u16, SocketAddr>,
    permissions: Vec<IpAddr>,
    /// Methods of the requests that it has granted.
    granted: Vec<u16>,
    /// Packets for peers.
    relayed_packets: Vec<(SocketAddr, Vec<u8>)>,
    /// An error for each request of a method.
    refuse: Option<(u16, u16)>,
    /// Whether it answers nothing.
    silent: bool,
    ipv4: bool,
}

impl Server {
    fn new() -> Self {
        Self {
            nonce: 1,
            password: "open sesame",
            lifetime: 600,
            relayed: addr(RELAY),
            is_allocated: false,
            channels: HashMap::new(),
            permissions: Vec::new(),
            granted: Vec::new(),
            relayed_packets: Vec::new(),
            refuse: None,
            silent: false,
            ipv4: true,
        }
    }

    fn auth(&self) -> Auth {
        let nonce = self.nonce.to_string();
        Auth::new("user", self.password, "realm".to_owned(), nonce)
    }

    fn take(&mut self, packet: &[u8]) -> Option<Vec<u8>> {
        if packet[0] >= 0x40 {
            let number = u16::from_be_bytes([packet[0], packet[1]]);
            let peer = self.channels[&number];
            self.relayed_packets.push((peer, packet[4..].to_vec()));
            return None;
        }
        let message = Received::parse(packet).unwrap();
        if message.method() == SEND {
            let peer = message.xor_addr(XOR_PEER_ADDRESS).unwrap();
            assert!(self.permissions.contains(&peer.ip()));
            let data = packet[message.range(DATA).unwrap()].to_vec();
            self.relayed_packets.push((peer, data));
            return None;
        }
        if self.silent {
            return None;
        }
        let (method, id) = (message.method(), message.transaction());
        let auth = self.auth();
        let refuse = |code: u16| {
            let error = ErrorCode::new(code, "because").unwrap();
            Writer::new(MessageClass::Error, method, id)
                .bytes(ErrorCode::TYPE, &error.to_raw().value)
                .bytes(REALM, b"realm")
                .bytes(NONCE, self.nonce.to_string().as_bytes())
        };
        if message.text(USERNAME).is_none() {
            return Some(refuse(401).finish(None));
        }
        if message.text(NONCE) != Some(self.nonce.to_string()) {
            return Some(refuse(438).finish(None));
        }
        if message.is_signed_with(&auth.key) != Some(true) {
            return Some(refuse(401).finish(None));
        }
        if let Some((of, code)) = self.refuse
            && of == method.value()
        {
            let other = MappedSocketAddr::new(addr("192.0.2.99:3478"));
            let refusal =
                refuse(code).bytes(ALTERNATE_SERVER, &other.to_raw(ALTERNATE_SERVER).value);
            return Some(refusal.finish(Some(&auth.key)));
        }
        let mut success = Writer::new(MessageClass::Success, method, id);
        if method == ALLOCATE {
            if message.range(REQUESTED_ADDRESS_FAMILY).is_none() && !self.ipv4 {
                return Some(refuse(440).finish(Some(&auth.key)));
            }
            self.is_allocated = true;
            if !self.ipv4 {
                // As coturn 4.6 does for a client that it has refused IPv4 before.
                success = success.xor_addr(XOR_RELAYED_ADDRESS, addr("0.0.0.0:0"));
            }
            success = success
                .xor_addr(XOR_RELAYED_ADDRESS, self.relayed)
                .xor_addr(XOR_MAPPED_ADDRESS, addr("198.51.100.7:1234"))
                .bytes(LIFETIME, &self.lifetime.to_be_bytes());
        } else if method == REFRESH {
            let lifetime = message.number(LIFETIME).unwrap().min(self.lifetime);
            self.is_allocated = lifetime > 0;
            success = success.bytes(LIFETIME, &lifetime.to_be_bytes());
        } else {
            let peer = message.xor_addr(XOR_PEER_ADDRESS).unwrap();
            if method == CHANNEL_BIND {
                let number = message.number(CHANNEL_NUMBER).unwrap() >> 16;
                let before = self.channels.insert(number as u16, peer);
                assert!(before.is_none_or(|before| before == peer));
            } else {
                assert_eq!(method, CREATE_PERMISSION);
            }
            self.permissions.push(peer.ip());
        }
        self.granted.push(method.value());
        Some(success.finish(Some(&auth.key)))
    }

    /// Carries what is to be sent, and the answers, until nothing is left.
    fn run(&mut self, now: Instant, client: &mut TurnClient) {
        client.handle_timeout(now);
        while let Some(packet) = client.poll_transmit() {
            if let Some(answer) = self.take(&packet) {
                assert_eq!(client.handle_packet(now, &answer), TurnInput::Handled);
            }
        }
    }

    fn count(&self, method: u16) -> usize {
        self.granted.iter().filter(|one| **one == method).count()
    }
}

fn events(client: &mut TurnClient) -> Vec<TurnEvent> {
    std::iter::from_fn(|| client.poll_event()).collect()
}

fn failure(client: &mut TurnClient) -> pipe_core::Error {
    match events(client).pop() {
        Some(TurnEvent::Failed(error)) => error,
        other => panic!("{other:?}"),
    }
}

/// Returns a relay, its server, and the time.
fn relay(config: TurnConfig) -> (TurnClient, Server, Instant) {
    let (mut server, now) = (Server::new(), Instant::now());
    let mut client = TurnClient::new(now, config);
    server.run(now, &mut client);
    assert_eq!(client.relayed(), Some(server.relayed));
    match &events(&mut client)[..] {
        [TurnEvent::Allocated(relayed)] => assert_eq!(
            *relayed,
            Relayed {
                addr: addr(RELAY),
                mapped: Some(addr("198.51.100.7:1234")),
            }
        ),
        other => panic!("{other:?}"),
    }
    (client, server, now)
}

/// Sends a packet to a peer, by way of the server.
fn send(client: &mut TurnClient, server: &mut Server, now: Instant, peer: SocketAddr, data: &[u8]) {
    let mut out = Vec::new();
    if client.send(now, peer, data, &mut out) {
        assert_eq!(server.take(&out), None);
    }
    server.run(now, client);
}

fn data_indication(peer: SocketAddr, data: &[u8]) -> Vec<u8> {
    Writer::new(
        MessageClass::Indication,
        DATA_METHOD,
        TransactionId::generate(),
    )
    .xor_addr(XOR_PEER_ADDRESS, peer)
    .bytes(DATA, data)
    .finish(None)
}

#[test]
fn packets_wait_for_a_permission_and_then_go_over_a_channel() {
    let (mut client, mut server, now) = relay(config());
    let peer = addr(PEER);
    let check = [0, 1, 2, 3];
    send(&mut client, &mut server, now, peer, &check);
    assert_eq!(server.count(CREATE_PERMISSION.value()), 1);
    assert_eq!(server.relayed_packets, [(peer, check.to_vec())]);
    // Checks need no channel; the first other packet asks for one.
    send(&mut client, &mut server, now, peer, &check);
    assert_eq!(server.count(CHANNEL_BIND.value()), 0);
    for _ in 0..3 {
        send(&mut client, &mut server, now, peer, &[22, 7]);
    }
    assert_eq!(server.count(CHANNEL_BIND.value()), 1);
    assert_eq!(server.count(CREATE_PERMISSION.value()), 1);
    assert_eq!(server.relayed_packets.len(), 5);
    let mut out = Vec::new();
    assert!(client.send(now, peer, &[22, 7], &mut out));
    assert_eq!(out, [0x40, 0, 0, 2, 22, 7]);
    // What comes over it, with padding or without.
    for padding in [0, 2] {
        let mut packet = vec![0x40, 0, 0, 2, 23, 8];
        packet.resize(packet.len() + padding, 0);
        let TurnInput::Data { peer: from, range } = client.handle_packet(now, &packet) else {
            panic!("data");
        };
        assert_eq!((from, &packet[range]), (peer, &[23, 8][..]));
    }
    let cut_off = client.handle_packet(now, &[0x40, 0, 0, 9, 1]);
    assert_eq!(cut_off, TurnInput::Handled);
    for unknown in [&[0x40, 1, 0, 0][..], &[0x40, 0], &[80, 0, 0, 0]] {
        assert_eq!(client.handle_packet(now, unknown), TurnInput::Unknown);
    }
}

#[test]
fn packets_within_indications_come_from_permitted_peers_only() {
    let (mut client, mut server, now) = relay(config());
    let peer = addr(PEER);
    let packet = data_indication(peer, b"hello");
    assert_eq!(client.handle_packet(now, &packet), TurnInput::Handled);
    client.permit(now, peer.ip());
    server.run(now, &mut client);
    let other_port = SocketAddr::new(peer.ip(), 9);
    for from in [peer, other_port] {
        let packet = data_indication(from, b"hello");
        let TurnInput::Data { peer, range } = client.handle_packet(now, &packet) else {
            panic!("data");
        };
        assert_eq!((peer, &packet[range]), (from, &b"hello"[..]));
    }
    // A check of another is not for the relay.
    let stranger = Writer::new(MessageClass::Request, ALLOCATE, TransactionId::generate());
    let input = client.handle_packet(now, &stranger.finish(None));
    assert_eq!(input, TurnInput::Unknown);
}

#[test]
fn a_stale_nonce_is_renewed_but_not_for_ever() {
    let (mut client, mut server, now) = relay(config());
    server.nonce = 2;
    client.permit(now, addr(PEER).ip());
    server.run(now, &mut client);
    assert_eq!(server.count(CREATE_PERMISSION.value()), 1);
    // A server whose nonce is stale each time.
    client.permit(now, addr("203.0.113.6:1").ip());
    let mut asked = 0;
    while let Some(packet) = client.poll_transmit() {
        asked += 1;
        server.nonce += 1;
        let answer = server.take(&packet).unwrap();
        client.handle_packet(now, &answer);
    }
    assert_eq!(asked, 4);
    assert!(matches!(
        &events(&mut client)[..],
        [TurnEvent::PeerRefused(..)]
    ));
    assert!(client.relayed().is_some());
}

#[test]
fn errors_of_an_allocation_name_their_cause() {
    for (code, kind, about) in [
        (403, ErrorKind::Refused, "403 because"),
        (437, ErrorKind::Failed, "437"),
        (441, ErrorKind::Unauthenticated, "credential"),
        (442, ErrorKind::Unsupported, "442"),
        (486, ErrorKind::LimitReached, "486"),
        (500, ErrorKind::Failed, "500 because"),
        (508, ErrorKind::LimitReached, "508"),
    ] {
        let (mut server, now) = (Server::new(), Instant::now());
        server.refuse = Some((ALLOCATE.value(), code));
        let mut client = TurnClient::new(now, config());
        server.run(now, &mut client);
        let error = failure(&mut client);
        assert_eq!(error.kind(), kind, "{error}");
        let text = error.to_string();
        assert!(
            text.contains(about) && text.contains("relay.test"),
            "{text}"
        );
        assert!(client.is_closed() && client.poll_timeout().is_none());
    }
}

#[test]
fn wrong_credentials_are_told_apart_from_missing_ones() {
    let (mut server, now) = (Server::new(), Instant::now());
    server.password = "other";
    let mut client = TurnClient::new(now, config());
    server.run(now, &mut client);
    let error = failure(&mut client);
    assert_eq!(error.kind(), ErrorKind::Unauthenticated);
    assert!(error.to_string().contains("401"), "{error}");
}

#[test]
fn answers_that_prove_nothing_are_dropped() {
    let (mut server, now) = (Server::new(), Instant::now());
    let mut client = TurnClient::new(now, config());
    let first = client.poll_transmit().unwrap();
    let challenge = server.take(&first).unwrap();
    client.handle_packet(now, &challenge);
    let request = client.poll_transmit().unwrap();
    let id = Received::parse(&request).unwrap().transaction();
    let forged = |key: Option<&Auth>| {
        Writer::new(MessageClass::Success, ALLOCATE, id)
            .xor_addr(XOR_RELAYED_ADDRESS, addr(RELAY))
            .bytes(LIFETIME, &600_u32.to_be_bytes())
            .finish(key.map(|auth| &auth.key))
    };
    let other = Auth::new("user", "other", "realm".to_owned(), "1".to_owned());
    for answer in [forged(None), forged(Some(&other))] {
        assert_eq!(client.handle_packet(now, &answer), TurnInput::Handled);
        assert_eq!(client.relayed(), None);
    }
    let answer = server.take(&request).unwrap();
    client.handle_packet(now, &answer);
    assert_eq!(client.relayed(), Some(addr(RELAY)));
}

#[test]
fn a_relay_of_ipv6_is_asked_for_and_found_where_there_is_no_ipv4() {
    for ipv6 in [true, false] {
        let (mut server, now) = (Server::new(), Instant::now());
        server.ipv4 = false;
        server.relayed = addr("[2001:db8::10]:50000");
        let mut client = TurnClient::new(now, TurnConfig { ipv6, ..config() });
        server.run(now, &mut client);
        assert_eq!(client.relayed(), Some(server.relayed), "{ipv6}");
        // Peers of the other family are not reached.
        let mut out = Vec::new();
        assert!(!client.send(now, addr(PEER), &[22], &mut out));
        assert_eq!(client.poll_transmit(), None);
    }
}

#[test]
fn a_silent_server_is_given_up_after_its_time() {
    for (is_stream, transmissions) in [(false, 7), (true, 1)] {
        let (mut server, start) = (Server::new(), Instant::now());
        server.silent = true;
        let mut client = TurnClient::new(
            start,
            TurnConfig {
                is_stream,
                ..config()
            },
        );
        let (mut sent, mut now) = (0, start);
        loop {
            sent += std::iter::from_fn(|| client.poll_transmit()).count();
            let Some(due) = client.poll_timeout() else {
                break;
            };
            now = due;
            client.handle_timeout(now);
        }
        assert_eq!(sent, transmissions);
        assert_eq!((now - start).as_millis(), 39_500);
        assert_eq!(failure(&mut client).kind(), ErrorKind::TimedOut);
    }
}

/// Lets time pass, up to `end`.
fn pass(client: &mut TurnClient, server: &mut Server, end: Instant) {
    while let Some(due) = client.poll_timeout().filter(|due| *due <= end) {
        server.run(due, client);
    }
}

#[test]
fn allocation_permission_and_channel_are_kept_while_they_are_used() {
    let (mut client, mut server, start) = relay(config());
    let peer = addr(PEER);
    let mut now = start;
    for _ in 0..120 {
        send(&mut client, &mut server, now, peer, &[22, 7]);
        now += Duration::from_secs(30);
        pass(&mut client, &mut server, now);
    }
    // An hour: each 540 s, 240 s and 540 s.
    assert_eq!(server.count(REFRESH.value()), 6);
    assert!((14..=16).contains(&server.count(CREATE_PERMISSION.value())));
    assert!((6..=8).contains(&server.count(CHANNEL_BIND.value())));
    assert_eq!(server.channels.len(), 1);
    assert_eq!(server.relayed_packets.len(), 120);
    // Without packets the relay alone is kept.
    let before = server.count(CREATE_PERMISSION.value());
    pass(&mut client, &mut server, now + Duration::from_secs(3600));
    assert!(server.count(CREATE_PERMISSION.value()) - before <= 2);
    assert_eq!(server.count(REFRESH.value()), 13);
    // It is taken up again, with a channel of another number.
    now += Duration::from_secs(3600);
    for _ in 0..2 {
        send(&mut client, &mut server, now, peer, &[22, 7]);
    }
    assert_eq!(server.channels.len(), 2);
}

#[test]
fn a_lost_allocation_is_an_error() {
    let (mut client, mut server, _) = relay(config());
    server.refuse = Some((REFRESH.value(), 437));
    let due = client.poll_timeout().unwrap();
    server.run(due, &mut client);
    let error = failure(&mut client);
    assert!(error.to_string().contains("437"), "{error}");
    assert_eq!(client.relayed(), None);
}

#[test]
fn a_server_that_is_started_anew_is_noticed_by_any_request() {
    for method in [CREATE_PERMISSION, CHANNEL_BIND] {
        let (mut client, mut server, now) = relay(config());
        server.refuse = Some((method.value(), 437));
        for _ in 0..2 {
            let mut out = Vec::new();
            client.send(now, addr(PEER), &[22], &mut out);
            server.run(now, &mut client);
        }
        assert!(failure(&mut client).to_string().contains("437"));
        assert!(client.is_closed());
    }
}

#[test]
fn short_lifetimes_are_refreshed_in_time_and_not_too_often() {
    let (mut server, start) = (Server::new(), Instant::now());
    server.lifetime = 1;
    let mut client = TurnClient::new(start, config());
    server.run(start, &mut client);
    pass(&mut client, &mut server, start + Duration::from_secs(60));
    assert_eq!(server.count(REFRESH.value()), 12);
}

#[test]
fn a_refused_peer_is_reported_and_costs_no_more_requests() {
    let (mut client, mut server, now) = relay(config());
    server.refuse = Some((CREATE_PERMISSION.value(), 403));
    let peer = addr(PEER);
    for _ in 0..10 {
        send(&mut client, &mut server, now, peer, &[1]);
    }
    match &events(&mut client)[..] {
        [TurnEvent::PeerRefused(ip, error)] => {
            assert_eq!((*ip, error.kind()), (peer.ip(), ErrorKind::Refused));
        }
        other => panic!("{other:?}"),
    }
    assert!(server.relayed_packets.is_empty());
    // A refused channel leaves the way without one.
    server.refuse = Some((CHANNEL_BIND.value(), 508));
    let other = addr("203.0.113.6:4000");
    for _ in 0..10 {
        send(&mut client, &mut server, now, other, &[22]);
    }
    assert_eq!(server.relayed_packets.len(), 10);
    assert!(events(&mut client).is_empty());
}

#[test]
fn permissions_channels_and_waiting_packets_are_bounded() {
    let (mut client, mut server, now) = relay(config());
    server.silent = true;
    let mut out = Vec::new();
    for n in 0..10_000_u32 {
        let peer = SocketAddr::new(IpAddr::from(n.to_be_bytes()), 9);
        client.permit(now, peer.ip());
        assert!(!client.send(now, peer, &[22; 1400], &mut out));
    }
    assert!(out.is_empty());
    let asked = std::iter::from_fn(|| client.poll_transmit()).count();
    assert_eq!(asked, 100);
    server.silent = false;
    let (mut client, mut server, now) = relay(config());
    for port in 1..200 {
        let peer = SocketAddr::new(addr(PEER).ip(), port);
        send(&mut client, &mut server, now, peer, &[22]);
    }
    assert_eq!(server.channels.len(), 32);
    assert_eq!(server.relayed_packets.len(), 199);
}

#[test]
fn closing_ends_the_allocation_at_the_server() {
    let (mut client, mut server, now) = relay(config());
    server.nonce = 9;
    client.close(now);
    assert_eq!(client.relayed(), None);
    server.run(now, &mut client);
    assert!(!server.is_allocated && client.is_closed());
    assert!(matches!(&events(&mut client)[..], [TurnEvent::Closed]));
    // One that was never made has nothing to end.
    let mut client = TurnClient::new(now, config());
    client.close(now);
    assert!(client.is_closed() && client.poll_transmit().is_none());
    client.fail("late");
    assert!(matches!(&events(&mut client)[..], [TurnEvent::Closed]));
}

#[test]
fn debug_output_shows_no_password() {
    let (client, ..) = relay(config());
    let text = format!("{:?} {client:?}", config());
    assert!(
        text.contains("relay.test") && !text.contains("sesame"),
        "{text}"
    );
}

proptest! {
    #[test]
    fn any_packet_of_the_server_is_taken(
        packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..120), 0..30),
    ) {
        let (mut client, mut server, now) = relay(config());
        client.permit(now, addr(PEER).ip());
        for packet in packets {
            client.handle_packet(now, &packet);
        }
        server.run(now, &mut client);
        prop_assert_eq!(client.relayed(), Some(addr(RELAY)));
    }

    #[test]
    fn altered_answers_do_no_harm(
        at in any::<prop::sample::Index>(), with in any::<u8>(), which in 0..2_usize,
    ) {
        let (mut server, now) = (Server::new(), Instant::now());
        let mut client = TurnClient::new(now, config());
        for step in 0..2 {
            let request: Bytes = client.poll_transmit().unwrap();
            let mut answer = server.take(&request).unwrap();
            if step == which {
                let mut altered = answer.clone();
                let at = at.index(altered.len());
                altered[at] ^= with;
                client.handle_packet(now, &altered);
                if let Some(TurnEvent::Failed(_)) = client.poll_event() {
                    return Ok(());
                }
                // A realm or nonce that is altered is corrected by the server.
                server.run(now, &mut client);
                if client.relayed().is_some() {
                    return Ok(());
                }
            }
            client.handle_packet(now, &answer);
            answer.clear();
        }
        server.run(now, &mut client);
        let failed = matches!(client.poll_event(), Some(TurnEvent::Failed(_)));
        prop_assert!(client.relayed().is_some() || failed);
    }
}

/// Returns what an allocation comes to at a server that refers to another one each time.
fn referred(config: TurnConfig, change: impl Fn(&mut Vec<u8>)) -> TurnEvent {
    let (mut server, now) = (Server::new(), Instant::now());
    server.refuse = Some((ALLOCATE.value(), 300));
    let mut client = TurnClient::new(now, config);
    while let Some(packet) = client.poll_transmit() {
        let mut answer = server.take(&packet).unwrap();
        change(&mut answer);
        client.handle_packet(now, &answer);
    }
    assert!(client.is_closed() && client.poll_timeout().is_none());
    events(&mut client).pop().expect("an event")
}

#[test]
fn a_referral_names_the_other_server_and_the_realm() {
    let TurnEvent::Referred(referral) = referred(config(), |_| ()) else {
        panic!("no referral");
    };
    let expected = Referral {
        addr: addr("192.0.2.99:3478"),
        domain: None,
        realm: Some("realm".to_owned()),
    };
    assert_eq!(referral, expected);
}

#[test]
fn a_referral_of_a_server_that_was_referred_to_is_not_followed() {
    let config = TurnConfig {
        is_alternate: true,
        ..config()
    };
    let TurnEvent::Failed(error) = referred(config, |_| ()) else {
        panic!("no failure");
    };
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("a further server"), "{error}");
}

#[test]
fn a_referral_without_the_proof_that_it_could_give_is_not_followed() {
    let strip = |answer: &mut Vec<u8>| {
        let message = Received::parse(answer).unwrap();
        if !matches!(message.error(), Some((300, _))) {
            return;
        }
        let other = MappedSocketAddr::new(addr("192.0.2.66:3478"));
        let error = ErrorCode::new(300, "there").unwrap();
        *answer = Writer::new(MessageClass::Error, ALLOCATE, message.transaction())
            .bytes(ErrorCode::TYPE, &error.to_raw().value)
            .bytes(ALTERNATE_SERVER, &other.to_raw(ALTERNATE_SERVER).value)
            .finish(None);
    };
    let TurnEvent::Failed(error) = referred(config(), strip) else {
        panic!("no failure");
    };
    assert!(error.to_string().contains("without a proof"), "{error}");
}

#[test]
fn credentials_are_for_the_realm_of_the_server_that_has_referred() {
    for (realm, is_given) in [("realm", true), ("another", false)] {
        let (mut server, now) = (Server::new(), Instant::now());
        let mut client = TurnClient::new(
            now,
            TurnConfig {
                realm: Some(realm.to_owned()),
                is_alternate: true,
                ..config()
            },
        );
        server.run(now, &mut client);
        assert_eq!(client.relayed().is_some(), is_given);
        if !is_given {
            let error = failure(&mut client);
            assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
            assert!(error.to_string().contains("\"another\""), "{error}");
        }
    }
}

#[test]
fn a_server_without_a_relay_of_a_family_says_of_which() {
    // One that refuses IPv4 is asked for IPv6, and may refuse that too.
    for (ipv6, about) in [
        (false, "no relay of IPv4, and none of IPv6 (440"),
        (true, "no relay of IPv6 (440"),
    ] {
        let (mut server, now) = (Server::new(), Instant::now());
        server.refuse = Some((ALLOCATE.value(), 440));
        let mut client = TurnClient::new(now, TurnConfig { ipv6, ..config() });
        server.run(now, &mut client);
        let error = failure(&mut client);
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains(about), "{error}");
    }
    // One that grants it, without an address.
    let (mut server, now) = (Server::new(), Instant::now());
    server.relayed = addr("0.0.0.0:50000");
    let mut client = TurnClient::new(now, config());
    server.run(now, &mut client);
    let error = failure(&mut client);
    assert!(error.to_string().contains("no relay of IPv4"), "{error}");
    assert!(error.to_string().contains("0.0.0.0:50000"), "{error}");
}
