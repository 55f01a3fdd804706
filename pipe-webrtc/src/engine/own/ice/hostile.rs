//! A peer that knows its credentials and sends what it likes.

use std::collections::HashSet;

use stun_types::attribute::{AttributeType, ErrorCode};
use stun_types::message::{IntegrityKey, MessageClass, ShortTermCredentials, TransactionId};
use stun_types::prelude::{AttributeStaticType, AttributeWrite};

use super::*;
use crate::engine::own::stun::{BINDING, USERNAME, Writer, XOR_MAPPED_ADDRESS, transaction};

const PRIORITY: AttributeType = AttributeType::new(0x0024);
const USE_CANDIDATE: AttributeType = AttributeType::new(0x0025);
const CONTROLLED: AttributeType = AttributeType::new(0x8029);
const CONTROLLING: AttributeType = AttributeType::new(0x802a);

struct Hostile {
    random: fastrand::Rng,
    /// The credentials of the side under test, and those of the peer.
    own: Credentials,
    peer: Credentials,
    /// Transactions of the side under test, with where they came from and went to.
    asked: Vec<(TransactionId, SocketAddr, SocketAddr)>,
}

impl Hostile {
    fn key(pwd: &str) -> IntegrityKey {
        ShortTermCredentials::new(pwd.to_owned()).make_key()
    }

    fn addr(&mut self) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, self.random.u8(1..20)], self.random.u16(1..4)))
    }

    /// Returns a check with attributes of any kind, and of any number.
    fn check(&mut self) -> Vec<u8> {
        let username = match self.random.u8(..8) {
            0 => format!(
                "{}:{}",
                self.own.ufrag(),
                "x".repeat(self.random.usize(..500))
            ),
            1 => self.own.ufrag().to_owned(),
            2 => format!("{}:", self.own.ufrag()),
            _ => format!("{}:{}", self.own.ufrag(), self.peer.ufrag()),
        };
        let class = match self.random.u8(..10) {
            0 => MessageClass::Indication,
            _ => MessageClass::Request,
        };
        let mut check = Writer::new(class, BINDING, TransactionId::generate())
            .bytes(USERNAME, username.as_bytes());
        if self.random.u8(..10) > 0 {
            let priority = self.random.u32(..);
            check = check.bytes(PRIORITY, &priority.to_be_bytes());
        }
        if self.random.bool() {
            check = check.bytes(USE_CANDIDATE, &[]);
        }
        for role in [CONTROLLED, CONTROLLING] {
            if self.random.bool() {
                let tie_breaker = self.random.u64(..);
                check = check.bytes(role, &tie_breaker.to_be_bytes());
            }
        }
        let kind = self.random.u16(..);
        // Those that end a message are not among the others.
        if self.random.u8(..4) == 0 && ![0x0008, 0x001c, 0x8028].contains(&kind) {
            let length = self.random.usize(..40);
            let value: Vec<u8> = (0..length).map(|_| self.random.u8(..)).collect();
            check = check.bytes(AttributeType::new(kind), &value);
        }
        check.finish(Some(&Self::key(self.own.pwd())))
    }

    /// Returns an answer to a check, or to none, and the addresses that it goes from and to.
    fn answer(&mut self) -> Option<(SocketAddr, SocketAddr, Vec<u8>)> {
        let at = self.random.usize(..self.asked.len().max(1));
        let (id, local, remote) = self.asked.get(at).copied()?;
        let key = Self::key(self.peer.pwd());
        let answer = if self.random.u8(..3) == 0 {
            let code = self.random.u16(300..700);
            let error = ErrorCode::new(code, "because").unwrap();
            Writer::new(MessageClass::Error, BINDING, id)
                .bytes(ErrorCode::TYPE, &error.to_raw().value)
        } else {
            let mapped = if self.random.bool() {
                local
            } else {
                self.addr()
            };
            Writer::new(MessageClass::Success, BINDING, id).xor_addr(XOR_MAPPED_ADDRESS, mapped)
        };
        let from = if self.random.u8(..5) == 0 {
            self.addr()
        } else {
            remote
        };
        Some((local, from, answer.finish(Some(&key))))
    }
}

/// Runs one seed.
fn run(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let start = Instant::now();
    let mut now = start;
    let times = Times {
        keep_alive: Duration::from_secs(2),
        failed_after: Duration::from_secs(30),
    };
    let mut ice = Ice::new(random.bool(), times, now).unwrap();
    let locals = [1, 2].map(|port| SocketAddr::from(([10, 0, 0, 1], port)));
    for local in locals {
        let _ = ice.add_local(Candidate::host(local, "udp").unwrap(), now);
    }
    let mut hostile = Hostile {
        own: ice.credentials().clone(),
        peer: Credentials::generate().unwrap(),
        asked: Vec::new(),
        random,
    };
    let mut sent = 0_u32;
    for step in 0..400 {
        let local = locals[hostile.random.usize(..2)];
        match hostile.random.u8(..12) {
            0..=4 => {
                let (check, from) = (hostile.check(), hostile.addr());
                ice.handle_datagram(now, local, from, &check);
            }
            5..=7 => {
                if let Some((local, from, answer)) = hostile.answer() {
                    ice.handle_datagram(now, local, from, &answer);
                }
            }
            8 => {
                // One that is altered.
                let mut check = hostile.check();
                let at = hostile.random.usize(..check.len());
                check[at] ^= hostile.random.u8(1..);
                let from = hostile.addr();
                ice.handle_datagram(now, local, from, &check);
            }
            9 => {
                let addr = hostile.addr();
                let kind = ["host", "srflx", "prflx", "relay"][hostile.random.usize(..4)];
                let (priority, ufrag) = (hostile.random.u32(..), hostile.peer.ufrag());
                let text = format!(
                    "candidate:{step} 1 udp {priority} {} {} typ {kind} raddr 0.0.0.0 rport 0 ufrag {ufrag}",
                    addr.ip(),
                    addr.port()
                );
                // There may be too many.
                let _ = ice.add_remote(&text, now);
            }
            10 => {
                let silent = hostile.random.bool();
                ice.set_silent(silent, now);
                if step == 20 || hostile.random.u8(..20) == 0 {
                    ice.set_remote(&hostile.peer.clone(), now);
                }
            }
            _ => match hostile.random.u8(..8) {
                0 => {
                    ice.restart(now).unwrap();
                    hostile.own = ice.credentials().clone();
                    let peer = hostile.peer.clone();
                    ice.set_remote(&peer, now);
                }
                1 => {
                    ice.cancel_restart();
                    hostile.own = ice.credentials().clone();
                }
                _ => now += Duration::from_millis(hostile.random.u64(1..2000)),
            },
        }
        ice.drive(now);
        while let Some(check) = ice.poll_transmit() {
            sent += 1;
            if let Some(id) = transaction(&check.bytes) {
                hostile.asked.push((id, check.from, check.to));
                if hostile.asked.len() > 64 {
                    hostile.asked.remove(0);
                }
            }
        }
        // No deadline is in the past, or the loop would never rest.
        for _ in 0..100 {
            match ice.deadline() {
                Some(due) if due <= now => {
                    ice.drive(now);
                    while ice.poll_transmit().is_some() {
                        sent += 1;
                    }
                }
                _ => break,
            }
        }
        assert!(
            ice.deadline().is_none_or(|due| due > now),
            "a deadline stays"
        );
    }
    // What the peer names gets checks at a pace: 200 a second and a burst, and each check an answer.
    let most = 200 * ((now - start).as_secs() as u32 + 1) + 2000;
    assert!(sent <= most, "{sent} datagrams");
}

#[test]
fn what_a_peer_sends_with_its_credentials_does_no_harm() {
    for seed in 0..500 {
        run(seed);
    }
}

/// A peer that does as it should, at one address.
struct Peer {
    addr: SocketAddr,
    credentials: Credentials,
}

const LOCAL: ([u8; 4], u16) = ([10, 0, 0, 1], 1);

impl Peer {
    /// Returns the side under test, which is controlled, and its peer.
    fn new(now: Instant) -> (Ice, Self) {
        let times = Times {
            keep_alive: Duration::from_secs(2),
            failed_after: Duration::from_secs(30),
        };
        let mut ice = Ice::new(false, times, now).unwrap();
        let host = Candidate::host(LOCAL.into(), "udp").unwrap();
        assert!(ice.add_local(host, now).is_some());
        let peer = Self {
            addr: ([192, 0, 2, 1], 1).into(),
            credentials: Credentials::generate().unwrap(),
        };
        (ice, peer)
    }

    /// Sends a check that chooses its pair, to a side with these credentials. Returns whether it is authentic.
    fn check(&self, ice: &mut Ice, now: Instant, of: &Credentials) -> bool {
        let username = format!("{}:{}", of.ufrag(), self.credentials.ufrag());
        let check = Writer::new(MessageClass::Request, BINDING, TransactionId::generate())
            .bytes(USERNAME, username.as_bytes())
            .bytes(PRIORITY, &1_000_000_u32.to_be_bytes())
            .bytes(USE_CANDIDATE, &[])
            .bytes(CONTROLLING, &7_u64.to_be_bytes())
            .finish(Some(&Hostile::key(of.pwd())));
        ice.handle_datagram(now, LOCAL.into(), self.addr, &check)
    }

    /// Answers the checks of a side. Returns the addresses of all.
    fn answer(&self, ice: &mut Ice, now: Instant) -> HashSet<SocketAddr> {
        let mut checked = HashSet::new();
        loop {
            ice.drive(now);
            let Some(check) = ice.poll_transmit() else {
                return checked;
            };
            let is_request = check.bytes[..2] == [0, 1];
            if !is_request {
                continue;
            }
            checked.insert(check.to);
            if check.to == self.addr
                && let Some(id) = transaction(&check.bytes)
            {
                let answer = Writer::new(MessageClass::Success, BINDING, id)
                    .xor_addr(XOR_MAPPED_ADDRESS, check.from)
                    .finish(Some(&Hostile::key(self.credentials.pwd())));
                ice.handle_datagram(now, check.from, self.addr, &answer);
            }
        }
    }

    /// Finds a path with a side's newest credentials.
    fn connect(&self, ice: &mut Ice, now: Instant) {
        ice.set_remote(&self.credentials, now);
        let of = ice.credentials().clone();
        assert!(self.check(ice, now, &of));
        self.answer(ice, now);
        assert_eq!(ice.path().map(|path| path.remote), Some(self.addr));
    }
}

#[test]
fn credentials_of_before_a_restart_are_of_no_use_after_it() {
    let now = Instant::now();
    let (mut ice, mut peer) = Peer::new(now);
    peer.connect(&mut ice, now);
    let before = ice.credentials().clone();
    ice.restart(now).unwrap();
    assert_ne!(*ice.credentials(), before);
    // The path in use is kept up until there is another one.
    assert!(peer.check(&mut ice, now, &before));
    peer.credentials = Credentials::generate().unwrap();
    peer.addr = ([192, 0, 2, 2], 2).into();
    peer.connect(&mut ice, now);
    assert!(!peer.check(&mut ice, now, &before));
    let own = ice.credentials().clone();
    assert!(peer.check(&mut ice, now, &own));
}

#[test]
fn candidates_of_an_earlier_description_get_no_checks() {
    let now = Instant::now();
    let (mut ice, mut peer) = Peer::new(now);
    peer.connect(&mut ice, now);
    let before = peer.credentials.ufrag().to_owned();
    ice.restart(now).unwrap();
    peer.credentials = Credentials::generate().unwrap();
    ice.set_remote(&peer.credentials, now);
    let candidate = |port: u16, ufrag: &str| {
        format!("candidate:1 1 udp 5 192.0.2.77 {port} typ host ufrag {ufrag}")
    };
    ice.add_remote(&candidate(1, &before), now).unwrap();
    let own = peer.credentials.ufrag().to_owned();
    ice.add_remote(&candidate(2, &own), now).unwrap();
    let (mut checked, mut now) = (HashSet::new(), now);
    for _ in 0..100 {
        now += Duration::from_millis(50);
        checked.extend(peer.answer(&mut ice, now));
    }
    assert!(
        checked.contains(&([192, 0, 2, 77], 2).into()),
        "{checked:?}"
    );
    assert!(
        !checked.contains(&([192, 0, 2, 77], 1).into()),
        "{checked:?}"
    );
}
