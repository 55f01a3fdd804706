use super::agent::MAX_SOURCES;
use super::*;

const TIMES: Times = Times {
    keep_alive: Duration::from_secs(2),
    failed_after: Duration::from_secs(30),
};

/// Two ends, and what is on its way between them.
struct Pair {
    ends: [Ice; 2],
    /// The address that a NAT gives to the first end.
    nat: Option<SocketAddr>,
    addrs: [SocketAddr; 2],
    now: Instant,
}

impl Pair {
    fn new() -> Self {
        let now = Instant::now();
        let addrs = [1, 2].map(|port| SocketAddr::from(([192, 0, 2, port], 1000)));
        let ends = [true, false].map(|controlling| Ice::new(controlling, TIMES, now).unwrap());
        let mut pair = Self {
            ends,
            nat: None,
            addrs,
            now,
        };
        for (end, addr) in pair.ends.iter_mut().zip(addrs) {
            let host = Candidate::host(addr, "udp").unwrap();
            assert!(end.add_local(host, now).is_some());
        }
        pair
    }

    /// Gives each end the credentials of the other one, and its candidate.
    fn introduce(&mut self) {
        let told = self.ends.each_ref().map(|end| {
            let candidates = end.locals();
            (end.credentials().clone(), candidates[0].to_sdp_string())
        });
        for (end, (credentials, candidate)) in self.ends.iter_mut().zip(told.iter().rev()) {
            end.set_remote(credentials, self.now);
            end.add_remote(candidate, self.now).unwrap();
        }
    }

    /// Delivers what the ends send, without any time passing. Returns how many datagrams there were.
    fn settle(&mut self) -> usize {
        let mut count = 0;
        loop {
            let mut is_quiet = true;
            for at in [0, 1] {
                self.ends[at].drive(self.now);
                while let Some(check) = self.ends[at].poll_transmit() {
                    is_quiet = false;
                    count += 1;
                    let (mut to, mut from) = (check.to, check.from);
                    if let Some(nat) = self.nat {
                        (to, from) = match at {
                            0 => (to, nat),
                            _ if to == nat => (self.addrs[0], from),
                            // The address behind the NAT is not reached.
                            _ => continue,
                        };
                    }
                    if to == self.addrs[1 - at] {
                        self.ends[1 - at].handle_datagram(self.now, to, from, &check.bytes);
                    }
                }
            }
            if is_quiet {
                return count;
            }
        }
    }

    fn paths(&self) -> [Option<SocketAddr>; 2] {
        self.ends
            .each_ref()
            .map(|end| end.path().map(|path| path.remote))
    }
}

#[test]
fn a_path_is_found_without_any_timer() {
    let mut pair = Pair::new();
    pair.introduce();
    let count = pair.settle();
    assert_eq!(pair.paths(), [Some(pair.addrs[1]), Some(pair.addrs[0])]);
    assert!(count <= 8, "{count} datagrams");
    let (local, remote, time) = pair.ends[0].pair().unwrap();
    assert!(local.contains("192.0.2.1 1000 typ host"), "{local}");
    assert!(remote.contains("192.0.2.2 1000 typ host"), "{remote}");
    assert_eq!(time, Some(Duration::ZERO));
}

#[test]
fn a_restart_leaves_the_path_and_the_credentials_in_use_until_another_path_is_chosen() {
    let mut pair = Pair::new();
    pair.introduce();
    pair.settle();
    let before = pair.ends[0].credentials().clone();
    let paths = pair.paths();
    pair.ends[0].restart(pair.now).unwrap();
    assert_ne!(*pair.ends[0].credentials(), before);
    // The other end does not know of it, and its checks are answered.
    pair.now += Duration::from_secs(3);
    assert!(pair.settle() >= 2);
    assert_eq!(pair.paths(), paths);
    pair.ends[1].restart(pair.now).unwrap();
    pair.introduce();
    pair.settle();
    assert_eq!(pair.paths(), paths);
    assert!(
        pair.ends.iter().all(|end| end.next.is_none()),
        "the restart is over"
    );

    // One that is given up changes nothing.
    let now = pair.ends[0].credentials().clone();
    pair.ends[0].restart(pair.now).unwrap();
    pair.ends[0].cancel_restart();
    assert_eq!(*pair.ends[0].credentials(), now);
}

#[test]
fn checks_of_strangers_are_no_pairs_and_those_of_the_peer_are_few() {
    let mut pair = Pair::new();
    pair.introduce();
    pair.ends[1].drive(pair.now);
    let check = pair.ends[1].poll_transmit().expect("a check");
    let local = pair.addrs[0];
    let mut forged = check.bytes.clone();
    let at = forged.len() - 20;
    forged[at] ^= 1;
    let from = |port: u16| SocketAddr::from(([198, 51, 100, 1], port));
    assert!(!pair.ends[0].handle_datagram(pair.now, local, from(1), &forged));
    assert!(!pair.ends[0].knows(from(1)));
    let taken = (1..=200)
        .filter(|port| pair.ends[0].handle_datagram(pair.now, local, from(*port), &check.bytes))
        .count();
    assert_eq!(taken, MAX_SOURCES);
    assert!(pair.ends[0].knows(from(1)));
    for len in 0..check.bytes.len() {
        pair.ends[0].handle_datagram(pair.now, local, from(1), &check.bytes[..len]);
    }
}

#[test]
fn candidates_are_bounded_and_others_than_those_of_udp_are_no_use() {
    let mut pair = Pair::new();
    let candidate = |port: usize| format!("candidate:1 1 udp 1 198.51.100.1 {port} typ host");
    for port in 1..=MAX_REMOTES {
        let added = pair.ends[0].add_remote(&candidate(port), pair.now);
        assert!(matches!(added, Ok(Added::Ip(_))), "{added:?}");
    }
    assert!(pair.ends[0].add_remote(&candidate(9999), pair.now).is_err());
    for other in [
        "candidate:1 1 tcp 1 198.51.100.1 9 typ host tcptype active",
        "",
    ] {
        let added = pair.ends[1].add_remote(other, pair.now);
        assert!(matches!(added, Ok(Added::Nothing)), "{other}: {added:?}");
    }
    let hidden = "candidate:1 1 udp 1 0b1b0a2c.local 9 typ host";
    let added = pair.ends[1].add_remote(hidden, pair.now);
    assert!(matches!(added, Ok(Added::Name(_))), "{added:?}");
    assert!(
        pair.ends[1]
            .add_remote("candidate:1 1 udp", pair.now)
            .is_err()
    );
}

#[test]
fn addresses_that_never_answer_get_few_checks_at_a_pace() {
    let mut pair = Pair::new();
    for port in 1..=MAX_REMOTES {
        let candidate = format!("candidate:1 1 udp 1 198.51.100.1 {port} typ host");
        pair.ends[0].add_remote(&candidate, pair.now).unwrap();
    }
    let credentials = pair.ends[1].credentials().clone();
    pair.ends[0].set_remote(&credentials, pair.now);
    let end = pair.now + Duration::from_secs(5);
    let mut counts = std::collections::HashMap::new();
    while pair.now < end {
        pair.ends[0].drive(pair.now);
        while let Some(check) = pair.ends[0].poll_transmit() {
            *counts.entry(check.to).or_insert(0) += 1;
        }
        pair.now = pair.ends[0].deadline().expect("a deadline").max(pair.now);
    }
    assert_eq!(counts.len(), MAX_REMOTES);
    assert!(
        counts.values().all(|count| (1..=8).contains(count)),
        "{counts:?}"
    );
}

#[test]
fn the_peer_is_told_an_address_that_checks_have_shown_before_the_server() {
    let mut pair = Pair::new();
    let nat = SocketAddr::from(([203, 0, 113, 9], 61_000));
    pair.nat = Some(nat);
    pair.introduce();
    for _ in 0..50 {
        pair.settle();
        pair.now += Duration::from_millis(50);
    }
    assert_eq!(pair.paths(), [Some(pair.addrs[1]), Some(nat)]);
    let reflexive = || Candidate::server_reflexive(nat, pair.addrs[0], "udp").unwrap();
    let [end, _] = &mut pair.ends;
    let told = end.add_local(reflexive(), pair.now).expect("a candidate");
    let text = told.to_sdp_string();
    assert!(text.contains("203.0.113.9 61000 typ srflx"), "{text}");
    // It is told once, and again in a restart.
    assert!(end.add_local(reflexive(), pair.now).is_none());
    end.restart(pair.now).unwrap();
    assert!(end.locals().iter().any(|one| one.addr() == nat));
}
