use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use stun_types::message::{MessageClass, TransactionId};

use super::stun::{
    BINDING, Fired, MAPPED_ADDRESS, Received, Timer, Writer, XOR_MAPPED_ADDRESS, transaction,
};
use super::transmit::Transmit;

/// Maximum number of questions of a connection: pairs of a socket and a server.
const MAX_QUESTIONS: usize = 64;

/// Time between the first transmissions of two questions (RFC 8445, section 14.2).
const PACE: Duration = Duration::from_millis(5);

/// Finds the addresses that NATs give to the sockets of a connection, by asking STUN servers (RFC 8445,
/// section 5.1.1.2).
///
/// It does no I/O. Datagrams go out by [`poll_transmit`](Self::poll_transmit) and come in by
/// [`handle_packet`](Self::handle_packet), and time is passed in.
#[derive(Debug, Default)]
pub(crate) struct Gatherer {
    questions: Vec<Question>,
    /// Time at which the next question may begin.
    paced: Option<Instant>,
    /// Pairs of a socket and an address of it that were reported.
    found: HashSet<(SocketAddr, SocketAddr)>,
    out: VecDeque<Transmit>,
    events: VecDeque<Gathered>,
}

/// The outcome of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Gathered {
    /// A NAT shows the socket at `base` as `addr`: a server-reflexive candidate. Each such pair comes once.
    Reflexive { base: SocketAddr, addr: SocketAddr },
    /// A server has given no address.
    Failed {
        base: SocketAddr,
        server: SocketAddr,
        why: String,
    },
    /// No question is left.
    Done,
}

#[derive(Debug)]
struct Question {
    base: SocketAddr,
    server: SocketAddr,
    transaction: TransactionId,
    payload: Bytes,
    timer: Timer,
}

impl Gatherer {
    /// Asks a server for the address of the socket at `base`. Returns whether it is asked: the server has to
    /// be of the same family, and one question of a pair and 64 in all are asked at a time.
    pub(crate) fn ask(&mut self, now: Instant, base: SocketAddr, server: SocketAddr) -> bool {
        let asks = |one: &Question| one.base == base && one.server == server;
        if base.is_ipv4() != server.is_ipv4()
            || self.questions.len() == MAX_QUESTIONS
            || self.questions.iter().any(asks)
        {
            return false;
        }
        let start = self.paced.map_or(now, |paced| paced.max(now));
        self.paced = Some(start + PACE);
        let transaction = TransactionId::generate();
        let payload = Writer::new(MessageClass::Request, BINDING, transaction).finish(None);
        self.questions.push(Question {
            base,
            server,
            transaction,
            payload: payload.into(),
            timer: Timer::new(start, false),
        });
        true
    }

    /// Returns whether no question is left.
    pub(crate) fn is_done(&self) -> bool {
        self.questions.is_empty()
    }

    /// Gives up what is not answered, as when the search has taken its time or the sockets are closed.
    pub(crate) fn stop(&mut self, why: impl fmt::Display) {
        let left = std::mem::take(&mut self.questions);
        self.out.clear();
        if !left.is_empty() {
            let failed = left.iter().map(|question| question.failed(&why));
            self.events.extend(failed);
            self.note_end();
        }
    }

    /// Takes a datagram that has come to the socket at `base`. Returns whether it is an answer to one of the
    /// questions; if not, it is for another part.
    pub(crate) fn handle_packet(
        &mut self,
        base: SocketAddr,
        from: SocketAddr,
        packet: &[u8],
    ) -> bool {
        let Some(id) = transaction(packet) else {
            return false;
        };
        let answers = |one: &Question| (one.transaction, one.base, one.server) == (id, base, from);
        let Some(at) = self.questions.iter().position(answers) else {
            return false;
        };
        // It is of the server, since nothing else knows the transaction, and is dropped if it is broken.
        let Some(answer) = Received::parse(packet) else {
            return true;
        };
        let outcome = match answer.class() {
            MessageClass::Success => answer
                .xor_addr(XOR_MAPPED_ADDRESS)
                .or_else(|| answer.addr(MAPPED_ADDRESS))
                .filter(|addr| addr.port() > 0 && !addr.ip().is_unspecified())
                .filter(|addr| addr.is_ipv4() == base.is_ipv4())
                .ok_or_else(|| "its answer has no address".to_owned()),
            MessageClass::Error => Err(match answer.error() {
                Some((code, reason)) => format!("it answers {code} {reason}"),
                None => "it answers with an error".to_owned(),
            }),
            MessageClass::Request | MessageClass::Indication => return true,
        };
        let question = self.questions.swap_remove(at);
        match outcome {
            // Without a NAT it is the host candidate.
            Ok(addr) if addr == base => {}
            Ok(addr) => {
                if self.found.insert((base, addr)) {
                    self.events.push_back(Gathered::Reflexive { base, addr });
                }
            }
            Err(why) => self.events.push_back(question.failed(why)),
        }
        self.note_end();
        true
    }

    /// Sends and gives up what is due.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        let mut at = 0;
        while let Some(question) = self.questions.get_mut(at) {
            match question.timer.fire(now) {
                Some(Fired::Send) => self.out.push_back(Transmit {
                    source: question.base,
                    destination: question.server,
                    payload: question.payload.clone(),
                }),
                Some(Fired::GiveUp) => {
                    let question = self.questions.swap_remove(at);
                    self.events.push_back(question.failed("it does not answer"));
                    self.note_end();
                    continue;
                }
                None => {}
            }
            at += 1;
        }
    }

    /// Returns the time of the next [`handle_timeout`](Self::handle_timeout).
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.questions.iter().map(|one| one.timer.due()).min()
    }

    /// Returns the next datagram to send.
    pub(crate) fn poll_transmit(&mut self) -> Option<Transmit> {
        self.out.pop_front()
    }

    /// Returns the next outcome.
    pub(crate) fn poll_event(&mut self) -> Option<Gathered> {
        self.events.pop_front()
    }

    fn note_end(&mut self) {
        if self.questions.is_empty() {
            self.events.push_back(Gathered::Done);
        }
    }
}

impl Question {
    fn failed(&self, why: impl fmt::Display) -> Gathered {
        Gathered::Failed {
            base: self.base,
            server: self.server,
            why: why.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use stun_types::attribute::ErrorCode;
    use stun_types::prelude::{AttributeStaticType, AttributeWrite};

    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// Returns what goes out at `now`.
    fn sent(gatherer: &mut Gatherer, now: Instant) -> Vec<Transmit> {
        gatherer.handle_timeout(now);
        std::iter::from_fn(|| gatherer.poll_transmit()).collect()
    }

    fn events(gatherer: &mut Gatherer) -> Vec<Gathered> {
        std::iter::from_fn(|| gatherer.poll_event()).collect()
    }

    fn answer(to: &Transmit, mapped: SocketAddr) -> Vec<u8> {
        let id = transaction(&to.payload).unwrap();
        Writer::new(MessageClass::Success, BINDING, id)
            .xor_addr(XOR_MAPPED_ADDRESS, mapped)
            .finish(None)
    }

    #[test]
    fn the_address_that_a_nat_gives_is_found_once() {
        let start = Instant::now();
        let base = addr("10.0.0.1:4000");
        let servers = ["192.0.2.1:3478", "192.0.2.2:3478"].map(addr);
        let mut gatherer = Gatherer::default();
        for server in servers {
            assert!(gatherer.ask(start, base, server));
            assert!(!gatherer.ask(start, base, server));
        }
        assert!(!gatherer.ask(start, base, addr("[2001:db8::1]:3478")));
        let first = sent(&mut gatherer, start);
        let second = sent(&mut gatherer, start + PACE);
        assert_eq!([first.len(), second.len()], [1, 1]);
        let mapped = addr("203.0.113.9:61000");
        for (question, server) in [(&first[0], servers[0]), (&second[0], servers[1])] {
            assert_eq!((question.source, question.destination), (base, server));
            let answer = answer(question, mapped);
            // It has to come from where it was asked, to where it was asked from.
            assert!(!gatherer.handle_packet(base, addr("192.0.2.9:3478"), &answer));
            assert!(!gatherer.handle_packet(addr("10.0.0.1:4001"), server, &answer));
            assert!(gatherer.handle_packet(base, server, &answer));
            assert!(!gatherer.handle_packet(base, server, &answer));
        }
        let found = Gathered::Reflexive { base, addr: mapped };
        assert_eq!(events(&mut gatherer), [found, Gathered::Done]);
        assert!(gatherer.is_done() && gatherer.poll_timeout().is_none());
    }

    #[test]
    fn without_a_nat_nothing_is_found() {
        let start = Instant::now();
        let [base, server] = ["[2001:db8::5]:4000", "[2001:db8::1]:3478"].map(addr);
        let mut gatherer = Gatherer::default();
        assert!(gatherer.ask(start, base, server));
        let question = sent(&mut gatherer, start).remove(0);
        assert!(gatherer.handle_packet(base, server, &answer(&question, base)));
        assert_eq!(events(&mut gatherer), [Gathered::Done]);
    }

    #[test]
    fn a_silent_server_is_asked_seven_times_and_errors_are_reported() {
        let start = Instant::now();
        let [base, silent, refusing] = ["10.0.0.1:1", "192.0.2.1:1", "192.0.2.2:1"].map(addr);
        let mut gatherer = Gatherer::default();
        assert!(gatherer.ask(start, base, silent) && gatherer.ask(start, base, refusing));
        let (mut to_silent, mut now) = (0, start);
        while let Some(due) = gatherer.poll_timeout() {
            now = due;
            for question in sent(&mut gatherer, now) {
                if question.destination == silent {
                    to_silent += 1;
                    continue;
                }
                let id = transaction(&question.payload).unwrap();
                let error = ErrorCode::new(500, "not\u{7} now").unwrap();
                let refusal = Writer::new(MessageClass::Error, BINDING, id)
                    .bytes(ErrorCode::TYPE, &error.to_raw().value)
                    .finish(None);
                assert!(gatherer.handle_packet(base, refusing, &refusal));
            }
        }
        assert_eq!(to_silent, 7);
        assert_eq!((now - start).as_millis(), 39_500);
        let failed = |server, why: &str| Gathered::Failed {
            base,
            server,
            why: why.to_owned(),
        };
        assert_eq!(
            events(&mut gatherer),
            [
                failed(refusing, "it answers 500 not now"),
                failed(silent, "it does not answer"),
                Gathered::Done
            ]
        );
    }

    #[test]
    fn questions_are_bounded_and_stopped() {
        let start = Instant::now();
        let mut gatherer = Gatherer::default();
        let base = |port| SocketAddr::from(([10, 0, 0, 1], port));
        let asked = (1..1000).filter(|port| gatherer.ask(start, base(*port), addr("192.0.2.1:1")));
        assert_eq!(asked.count(), MAX_QUESTIONS);
        gatherer.stop("the search is over");
        let events = events(&mut gatherer);
        assert_eq!(events.len(), MAX_QUESTIONS + 1);
        assert_eq!(events.last(), Some(&Gathered::Done));
        assert!(sent(&mut gatherer, start + PACE * 1000).is_empty());
    }

    #[test]
    fn broken_answers_change_nothing() {
        let start = Instant::now();
        let [base, server] = ["10.0.0.1:4000", "192.0.2.1:3478"].map(addr);
        let mut gatherer = Gatherer::default();
        assert!(gatherer.ask(start, base, server));
        let question = sent(&mut gatherer, start).remove(0);
        assert!(!gatherer.handle_packet(base, server, b"hello"));
        let mut broken = answer(&question, addr("203.0.113.9:1"));
        // The fingerprint does not match any more.
        broken[24] ^= 1;
        assert!(gatherer.handle_packet(base, server, &broken));
        assert!(gatherer.handle_packet(base, server, &question.payload));
        assert_eq!(events(&mut gatherer), []);
        assert!(!gatherer.is_done());
    }
}
