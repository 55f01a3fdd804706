use stun_types::attribute::{ErrorCode, MappedSocketAddr};
use stun_types::message::MessageClass;
use stun_types::prelude::{AttributeStaticType, AttributeWrite};

use super::*;
use crate::engine::own::stun::{ALLOCATE, ALTERNATE_SERVER, Received, Writer};

const FIRST: &str = "192.0.2.1:3478";
const SECOND: &str = "192.0.2.2:3478";
const BASE: &str = "10.0.0.1:4000";

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Returns relays of a connection that has begun to ask a server over UDP.
fn relays(now: Instant) -> Relays {
    let (mut relays, _messages) = Relays::new(TlsOptions::new(), TcpDialer::new());
    let server = TurnServer {
        addr: "turn:turn.test".parse().unwrap(),
        username: "user".to_owned(),
        password: "secret".to_owned(),
    };
    relays.add_udp(now, &server, (3, addr(BASE)), addr(FIRST));
    relays
}

/// Returns what goes out: the sockets, the destinations and the messages.
fn sent(relays: &mut Relays) -> Vec<(usize, SocketAddr, Vec<u8>)> {
    let mut out = Outgoing::new(1);
    relays.transmit(&mut out, None);
    let mut sent = Vec::new();
    while let Some(batch) = out.front() {
        sent.push((batch.socket, batch.to, batch.bytes.clone()));
        out.pop();
    }
    sent
}

/// Answers a request with a referral.
fn refer(request: &[u8], to: &str) -> Vec<u8> {
    let id = Received::parse(request).unwrap().transaction();
    let error = ErrorCode::new(300, "there").unwrap();
    let other = MappedSocketAddr::new(addr(to));
    Writer::new(MessageClass::Error, ALLOCATE, id)
        .bytes(ErrorCode::TYPE, &error.to_raw().value)
        .bytes(ALTERNATE_SERVER, &other.to_raw(ALTERNATE_SERVER).value)
        .finish(None)
}

/// Has the server that was asked refer to an address. Returns the event that follows.
fn answer(relays: &mut Relays, now: Instant, from: &str, to: &str) -> Option<RelayEvent> {
    let (socket, asked, request) = sent(relays).pop().expect("a request");
    assert_eq!((socket, asked), (3, addr(from)));
    let relay = relays.of(socket, asked).expect("a relay");
    relays.handle(now, relay, &refer(&request, to));
    relays.poll_event(now)
}

#[test]
fn a_referral_is_followed_once() {
    let now = Instant::now();
    let mut relays = relays(now);
    assert!(answer(&mut relays, now, FIRST, SECOND).is_none());
    assert!(!relays.are_settled());
    // The first server has no say any more.
    assert_eq!(relays.of(3, addr(FIRST)), None);
    for back_to in [FIRST, "192.0.2.3:3478"] {
        let mut relays = self::relays(now);
        assert!(answer(&mut relays, now, FIRST, SECOND).is_none());
        let Some(RelayEvent::Failed { why, .. }) = answer(&mut relays, now, SECOND, back_to) else {
            panic!("no failure");
        };
        assert!(
            why.contains(SECOND) && why.contains("a further server"),
            "{why}"
        );
        assert!(relays.are_settled() && sent(&mut relays).is_empty());
    }
}

#[test]
fn a_referral_to_where_no_server_can_be_is_a_failure() {
    let now = Instant::now();
    for (to, about) in [
        (FIRST, "which is itself"),
        ("[2001:db8::1]:3478", "of the other family"),
        ("127.0.0.1:3478", "on this machine"),
        ("0.0.0.0:3478", "no address"),
    ] {
        let mut relays = relays(now);
        let Some(RelayEvent::Failed { why, .. }) = answer(&mut relays, now, FIRST, to) else {
            panic!("no failure");
        };
        assert!(why.contains("turn.test") && why.contains(about), "{why}");
        assert!(relays.are_settled() && sent(&mut relays).is_empty());
    }
}

#[test]
fn a_server_that_two_refer_to_is_asked_once() {
    let now = Instant::now();
    let mut relays = relays(now);
    let server = TurnServer {
        addr: "turn:other.test".parse().unwrap(),
        username: "user".to_owned(),
        password: "secret".to_owned(),
    };
    relays.add_udp(now, &server, (3, addr(BASE)), addr("192.0.2.7:3478"));
    let mut outcomes = Vec::new();
    for (socket, to, request) in sent(&mut relays) {
        let relay = relays.of(socket, to).unwrap();
        relays.handle(now, relay, &refer(&request, SECOND));
        outcomes.extend(relays.poll_event(now));
    }
    let [RelayEvent::Failed { why, .. }] = &outcomes[..] else {
        panic!("{outcomes:?}");
    };
    assert!(
        why.contains("other.test") && why.contains("asked already"),
        "{why}"
    );
    assert_eq!(sent(&mut relays).len(), 1);
}

#[test]
fn referrals_count_as_relays() {
    let now = Instant::now();
    let (mut relays, _messages) = Relays::new(TlsOptions::new(), TcpDialer::new());
    for number in 0..100_u16 {
        let server = TurnServer {
            addr: format!("turn:turn{number}.test").parse().unwrap(),
            username: String::new(),
            password: String::new(),
        };
        relays.add_udp(
            now,
            &server,
            (3, addr(BASE)),
            SocketAddr::from(([192, 0, 2, 7], number + 1)),
        );
    }
    assert_eq!(relays.all.len(), MAX_RELAYS);
    let mut refused = 0;
    for (_, to, request) in sent(&mut relays) {
        let relay = relays.of(3, to).unwrap();
        relays.handle(now, relay, &refer(&request, SECOND));
    }
    while let Some(RelayEvent::Failed { .. }) = relays.poll_event(now) {
        refused += 1;
    }
    assert_eq!((refused, relays.all.len()), (MAX_RELAYS, MAX_RELAYS));
    assert!(relays.are_settled());
}
