use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Maximum number of checked pairs of a socket and an address of the peer (RFC 8445, section
/// 6.1.2.5).
pub(super) const MAX_PAIRS: usize = 100;
/// From how many addresses checks of the peer are answered.
const MAX_SOURCES: usize = 100;

/// Maximum number of simultaneous checks of addresses that have not answered, and the time for each
/// beyond that (RFC 8445, section 14.2). The engine makes a round of checks each 50 ms.
const BURST: u32 = 50;
const PACE: Duration = Duration::from_millis(5);

/// Maximum number of immediate checks of such an address: the first are lost where the peer has not
/// received this side's candidates yet.
const AT_ONCE: u32 = 4;

/// The time from one check of such an address to the next, from there on; it doubles.
const FIRST_INTERVAL: Duration = Duration::from_millis(200);
const LAST_INTERVAL: Duration = Duration::from_secs(2);

/// Maximum number of transactions of a pair that may be answered.
const TRANSACTIONS: usize = 4;

const REQUEST: [u8; 2] = [0, 1];
const SUCCESS: [u8; 2] = [1, 1];
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const USERNAME: [u8; 2] = [0, 6];

/// Paces the connectivity checks of one connection.
///
/// The engine checks every pair twenty times a second, whether the address answers or not. A peer names
/// those addresses, so they may be of others (RFC 8445, section 19.5.1).
#[derive(Debug, Default)]
pub(super) struct Checks(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The user name in the checks: another one begins anew.
    username: Vec<u8>,
    /// Pairs by the socket's address and the peer's.
    pairs: HashMap<(SocketAddr, SocketAddr), Pair>,
    /// Addresses whose checks this side has answered, which takes the password.
    sources: HashSet<SocketAddr>,
    /// Time at which the last allowed check is paid for.
    paid: Option<Instant>,
}

#[derive(Debug)]
struct Pair {
    answered: bool,
    sent: u32,
    due: Instant,
    interval: Duration,
    /// The latest transactions, the newest first.
    transactions: [[u8; 12]; TRANSACTIONS],
}

impl Checks {
    /// Notes an outgoing datagram, and returns whether it may go.
    pub(super) fn allows(&self, from: SocketAddr, to: SocketAddr, datagram: &[u8]) -> bool {
        match Stun::of(datagram) {
            Some(stun) if stun.kind == REQUEST => match stun.username() {
                Some(username) => self.0.lock().allows(from, to, username, stun.transaction),
                // It is for a STUN server.
                None => true,
            },
            Some(stun) if stun.kind == SUCCESS => {
                let mut state = self.0.lock();
                if state.sources.len() < MAX_SOURCES {
                    state.sources.insert(to);
                }
                true
            }
            _ => true,
        }
    }

    /// Returns whether a check from this address was answered, so that the engine knows it.
    pub(super) fn has_answered(&self, from: SocketAddr) -> bool {
        self.0.lock().sources.contains(&from)
    }

    /// Forgets the addresses whose checks were answered: the engine has new credentials, and has
    /// seen none.
    pub(super) fn forget_sources(&self) {
        self.0.lock().sources.clear();
    }

    /// Notes a datagram that has come to the socket at `to`, and returns whether the engine may see it.
    pub(super) fn accepts(&self, to: SocketAddr, from: SocketAddr, datagram: &[u8]) -> bool {
        let Some(stun) = Stun::of(datagram) else {
            return true;
        };
        if stun.kind == REQUEST {
            let mut state = self.0.lock();
            if let Some(pair) = state.pairs.get_mut(&(to, from)) {
                // A triggered check (RFC 8445, section 7.3.1.4).
                pair.due = Instant::now();
                return true;
            }
            return state.sources.len() < MAX_SOURCES || state.sources.contains(&from);
        }
        if stun.kind == SUCCESS
            && let Some(pair) = self.0.lock().pairs.get_mut(&(to, from))
            && pair.transactions.contains(&stun.transaction)
        {
            pair.answered = true;
        }
        true
    }
}

impl State {
    fn allows(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        username: &[u8],
        transaction: [u8; 12],
    ) -> bool {
        if self.username != username {
            username.clone_into(&mut self.username);
            self.pairs.clear();
            self.sources.clear();
        }
        let now = Instant::now();
        let known = self.pairs.get(&(from, to));
        match known {
            Some(pair) if pair.answered => return true,
            Some(pair) if pair.due > now => return false,
            None if self.pairs.len() >= MAX_PAIRS => return false,
            _ => {}
        }
        let paid = self.paid.unwrap_or(now).max(now) + PACE;
        if paid > now + PACE * BURST {
            return false;
        }
        self.paid = Some(paid);
        let pair = self.pairs.entry((from, to)).or_insert(Pair {
            answered: false,
            sent: 0,
            due: now,
            interval: FIRST_INTERVAL,
            transactions: [[0; 12]; TRANSACTIONS],
        });
        pair.sent += 1;
        if pair.sent >= AT_ONCE {
            pair.due = now + pair.interval;
            pair.interval = (pair.interval * 2).min(LAST_INTERVAL);
        }
        pair.transactions.rotate_right(1);
        pair.transactions[0] = transaction;
        true
    }
}

/// A STUN message (RFC 8489, section 5).
struct Stun<'a> {
    kind: [u8; 2],
    transaction: [u8; 12],
    attributes: &'a [u8],
}

impl<'a> Stun<'a> {
    fn of(datagram: &'a [u8]) -> Option<Self> {
        // Most are of DTLS.
        if *datagram.first()? > 3 {
            return None;
        }
        let (header, attributes) = datagram.split_first_chunk::<20>()?;
        if header[4..8] != MAGIC_COOKIE {
            return None;
        }
        let mut transaction = [0; 12];
        transaction.copy_from_slice(&header[8..]);
        Some(Self {
            kind: [header[0], header[1]],
            transaction,
            attributes,
        })
    }

    fn username(&self) -> Option<&'a [u8]> {
        let mut rest = self.attributes;
        while let [t0, t1, l0, l1, body @ ..] = rest {
            let length = usize::from(u16::from_be_bytes([*l0, *l1]));
            if [*t0, *t1] == USERNAME {
                return body.get(..length);
            }
            rest = body.get(length.next_multiple_of(4)..)?;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: [u8; 2], transaction: u8, username: Option<&[u8]>) -> Vec<u8> {
        let mut message = kind.to_vec();
        message.extend([0, 0]);
        message.extend(MAGIC_COOKIE);
        message.extend([transaction; 12]);
        if let Some(username) = username {
            message.extend([0x80, 0x22, 0, 1, 7, 0, 0, 0]);
            message.extend(USERNAME);
            message.extend((username.len() as u16).to_be_bytes());
            message.extend(username);
        }
        message
    }

    fn addr(port: usize) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port as u16))
    }

    /// Checks this many addresses each 50 ms for 10 s, and returns how many checks went to each.
    async fn rounds(checks: &Checks, addrs: usize) -> Vec<usize> {
        let mut sent = vec![0; addrs];
        for _ in 0..200 {
            for (i, sent) in sent.iter_mut().enumerate() {
                let check = message(REQUEST, 1, Some(b"a:b"));
                *sent += usize::from(checks.allows(addr(1), addr(1000 + i), &check));
            }
            tokio::time::advance(Duration::from_millis(50)).await;
        }
        sent
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_that_never_answer_get_few_checks() {
        let sent = rounds(&Checks::default(), 64).await;
        assert!(sent.iter().all(|sent| (5..=14).contains(sent)), "{sent:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn pairs_beyond_the_limit_get_none() {
        let sent = rounds(&Checks::default(), 1000).await;
        let checked = sent.iter().filter(|sent| **sent > 0).count();
        assert_eq!(checked, MAX_PAIRS);
        assert!(sent.iter().all(|sent| *sent <= 14), "{sent:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_has_answered_is_checked_as_often_as_the_engine_wants() {
        let checks = Checks::default();
        let check = message(REQUEST, 1, Some(b"a:b"));
        let allowed = || checks.allows(addr(1), addr(2), &check);
        assert!((0..AT_ONCE).all(|_| allowed()) && !allowed());
        // Neither another transaction nor another address is an answer.
        assert!(checks.accepts(addr(1), addr(2), &message(SUCCESS, 9, None)));
        assert!(checks.accepts(addr(1), addr(3), &message(SUCCESS, 1, None)));
        assert!(!allowed());
        assert!(checks.accepts(addr(1), addr(2), &message(SUCCESS, 1, None)));
        assert!((0..200).all(|_| allowed()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_check_of_the_peer_makes_one_due_and_a_restart_begins_anew() {
        let checks = Checks::default();
        let check = message(REQUEST, 1, Some(b"a:b"));
        let allowed = || checks.allows(addr(1), addr(2), &check);
        assert!((0..AT_ONCE).all(|_| allowed()) && !allowed());
        let request = message(REQUEST, 7, Some(b"b:a"));
        assert!(checks.accepts(addr(1), addr(2), &request));
        assert!(allowed() && !allowed());
        assert!(checks.allows(addr(1), addr(2), &message(REQUEST, 1, Some(b"c:d"))));
    }

    #[test]
    fn checks_from_ever_more_addresses_are_not_seen() {
        let checks = Checks::default();
        let request = message(REQUEST, 7, Some(b"b:a"));
        // Without the password there is no answer, and nothing counts.
        assert!((0..1000).all(|i| checks.accepts(addr(1), addr(2000 + i), &request)));
        for i in 0..MAX_SOURCES {
            assert!(checks.allows(addr(1), addr(2000 + i), &message(SUCCESS, 7, None)));
        }
        assert!(checks.accepts(addr(1), addr(2000), &request));
        assert!(!checks.accepts(addr(1), addr(5000), &request));
    }

    #[test]
    fn an_address_whose_check_was_answered_is_known_until_ice_restarts() {
        let checks = Checks::default();
        let (request, success) = (message(REQUEST, 7, Some(b"b:a")), message(SUCCESS, 7, None));
        assert!(checks.accepts(addr(1), addr(2), &request));
        assert!(!checks.has_answered(addr(2)));
        assert!(checks.allows(addr(1), addr(2), &success));
        assert!(checks.has_answered(addr(2)) && !checks.has_answered(addr(3)));
        checks.forget_sources();
        assert!(!checks.has_answered(addr(2)));
    }

    #[test]
    fn what_is_no_check_passes() {
        let checks = Checks::default();
        let stun = message(REQUEST, 1, None);
        let cut = message(REQUEST, 1, Some(b"a:b"))[..22].to_vec();
        for datagram in [stun, cut, vec![], vec![0, 1], vec![23; 60]] {
            assert!((0..1000).all(|_| checks.allows(addr(1), addr(2), &datagram)));
            assert!(checks.accepts(addr(1), addr(2), &datagram));
        }
    }
}
