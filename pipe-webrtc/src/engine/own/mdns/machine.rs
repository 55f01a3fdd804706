use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use pipe_core::{Error, ErrorKind, Result};
use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, ResourceRecord, TYPE};

use crate::engine::own::candidate::local_name;

/// The port of multicast DNS (RFC 6762, section 3).
pub(super) const PORT: u16 = 5353;

/// Maximum number of names that are looked up at a time, and of names of this side.
const MAX_LOOKUPS: usize = 64;
const MAX_OWN: usize = 16;

/// Maximum number of messages that wait to be sent. Further answers are lost.
const MAX_OUT: usize = 128;

/// Maximum number of questions and records of a message. Larger ones are skipped.
const MAX_RECORDS: usize = 128;

/// Times of the questions for a name, from the first on (RFC 6762, section 5.2), and of its end.
const QUESTIONS: [Duration; 3] = [
    Duration::ZERO,
    Duration::from_secs(1),
    Duration::from_secs(3),
];
const GIVE_UP: Duration = Duration::from_secs(6);

/// Lifetime of an address of this side, in seconds (RFC 6762, section 10), and in answers to plain
/// resolvers (section 6.7).
const TTL: u32 = 120;
const LEGACY_TTL: u32 = 10;

/// Least time between two answers to all (RFC 6762, section 6).
const ANSWER_EVERY: Duration = Duration::from_secs(1);

/// Looks names up, and answers for those of this side.
///
/// It does no I/O. Messages go out by [`poll_transmit`](Self::poll_transmit) and come in by
/// [`handle_packet`](Self::handle_packet), and time is passed in.
#[derive(Debug, Default)]
pub(crate) struct Machine {
    lookups: HashMap<String, Running>,
    own: HashMap<String, Own>,
    out: VecDeque<Message>,
    events: VecDeque<Lookup>,
}

/// The outcome of looking up a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Lookup {
    Found { name: String, ip: IpAddr },
    NotFound { name: String },
}

/// A message that is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// One receiver; without it the message is for all.
    pub(super) to: Option<SocketAddr>,
    pub(super) payload: Vec<u8>,
}

#[derive(Debug)]
struct Running {
    start: Instant,
    /// Number of questions so far.
    asked: usize,
}

impl Running {
    fn due(&self) -> Instant {
        let after = QUESTIONS.get(self.asked).copied().unwrap_or(GIVE_UP);
        self.start + after
    }
}

#[derive(Debug)]
struct Own {
    ips: Vec<IpAddr>,
    /// Time of the last answer to all.
    answered: Option<Instant>,
}

impl Machine {
    /// Begins to look up a name. Returns whether it does: the name has to be one of multicast DNS, and there
    /// is a limit of 64 at a time.
    pub(crate) fn look_up(&mut self, now: Instant, name: &str) -> bool {
        let Some(name) = local_name(name) else {
            return false;
        };
        if let Some(own) = self.own.get(&name).and_then(|own| own.ips.first()) {
            let ip = *own;
            self.events.push_back(Lookup::Found { name, ip });
            return true;
        }
        if self.lookups.len() == MAX_LOOKUPS && !self.lookups.contains_key(&name) {
            return false;
        }
        let start = now;
        self.lookups
            .entry(name)
            .or_insert(Running { start, asked: 0 });
        self.handle_timeout(now);
        true
    }

    /// Answers for a name of this side from now on, and announces it. Returns whether it does.
    pub(crate) fn publish(&mut self, now: Instant, name: &str, ips: Vec<IpAddr>) -> bool {
        let Some(name) = local_name(name) else {
            return false;
        };
        if ips.is_empty() || (self.own.len() == MAX_OWN && !self.own.contains_key(&name)) {
            return false;
        }
        // Nothing else has a random name, so that it is not probed for.
        let answered = Some(now);
        self.send(None, answer(&[(&name, &ips)], None));
        self.own.insert(name, Own { ips, answered });
        true
    }

    /// Takes a message that came from this address.
    pub(crate) fn handle_packet(&mut self, now: Instant, from: SocketAddr, packet: &[u8]) {
        // The parser reserves room for as many records as the header names.
        let count = |at: usize| {
            let count = packet.get(at..at + 2)?.first_chunk()?;
            Some(usize::from(u16::from_be_bytes(*count)))
        };
        let counts = [4, 6, 8, 10].into_iter().map(count).sum::<Option<usize>>();
        if counts.is_none_or(|records| records > MAX_RECORDS) {
            return;
        }
        let Ok(message) = Packet::parse(packet) else {
            return;
        };
        if message.has_flags(PacketFlag::RESPONSE) {
            // RFC 6762, section 6.
            if from.port() == PORT {
                self.take_answer(&message);
            }
        } else {
            self.take_questions(now, from, &message);
        }
    }

    /// Sends and gives up what is due.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        let mut ask = Vec::new();
        let events = &mut self.events;
        self.lookups.retain(|name, running| {
            if running.due() > now {
                return true;
            }
            if running.asked == QUESTIONS.len() {
                let name = name.clone();
                events.push_back(Lookup::NotFound { name });
                return false;
            }
            running.asked += 1;
            ask.push(name.clone());
            true
        });
        for name in ask {
            self.send(None, question(&name));
        }
    }

    /// Returns the time of the next [`handle_timeout`](Self::handle_timeout).
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.lookups.values().map(Running::due).min()
    }

    /// Returns the next message to send.
    pub(crate) fn poll_transmit(&mut self) -> Option<Message> {
        self.out.pop_front()
    }

    /// Returns the next outcome.
    pub(crate) fn poll_event(&mut self) -> Option<Lookup> {
        self.events.pop_front()
    }

    fn take_answer(&mut self, message: &Packet<'_>) {
        let records = message.answers.iter().chain(&message.additional_records);
        for record in records {
            let ip = match &record.rdata {
                RData::A(a) => IpAddr::V4(a.address.into()),
                RData::AAAA(aaaa) => IpAddr::V6(aaaa.address.into()),
                _ => continue,
            };
            // An address of a link is not enough to reach it.
            if matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local()) {
                continue;
            }
            let Some(name) = local_name(&record.name.to_string()) else {
                continue;
            };
            // A lifetime of 0 takes an address back (RFC 6762, section 10.1).
            if record.ttl > 0 && self.lookups.remove(&name).is_some() {
                self.events.push_back(Lookup::Found { name, ip });
            }
        }
    }

    fn take_questions(&mut self, now: Instant, from: SocketAddr, message: &Packet<'_>) {
        let is_legacy = from.port() != PORT;
        // What is asked about each name of this side, and whether each time for an answer to one.
        let mut asked: BTreeMap<String, (Vec<IpAddr>, bool)> = BTreeMap::new();
        for question in &message.questions {
            if !matches!(question.qclass, QCLASS::CLASS(CLASS::IN) | QCLASS::ANY) {
                continue;
            }
            let Some(name) = local_name(&question.qname.to_string()) else {
                continue;
            };
            let Some(own) = self.own.get(&name) else {
                continue;
            };
            let is_asked = |ip: &IpAddr| match question.qtype {
                QTYPE::ANY => true,
                QTYPE::TYPE(TYPE::A) => ip.is_ipv4(),
                QTYPE::TYPE(TYPE::AAAA) => ip.is_ipv6(),
                _ => false,
            };
            let (ips, is_for_one) = asked.entry(name).or_insert((Vec::new(), true));
            let more = own.ips.iter().copied().filter(is_asked);
            let more: Vec<_> = more.filter(|ip| !ips.contains(ip)).collect();
            ips.extend(more);
            *is_for_one &= is_legacy || question.unicast_response;
        }
        let (mut to_one, mut to_all) = (Vec::new(), Vec::new());
        for (name, (ips, is_for_one)) in asked {
            let Some(own) = self.own.get_mut(&name).filter(|_| !ips.is_empty()) else {
                continue;
            };
            let is_recent = |last| now.saturating_duration_since(last) < ANSWER_EVERY;
            if is_for_one || own.answered.is_some_and(is_recent) {
                // All have the answer before, and one that has just begun gets its own.
                to_one.push((name, ips));
            } else {
                own.answered = Some(now);
                to_all.push((name, ips));
            }
        }
        let legacy = is_legacy.then_some(message);
        for (to, answers, legacy) in [(Some(from), to_one, legacy), (None, to_all, None)] {
            if !answers.is_empty() {
                let answers: Vec<_> = answers
                    .iter()
                    .map(|(name, ips)| (name.as_str(), &ips[..]))
                    .collect();
                self.send(to, answer(&answers, legacy));
            }
        }
    }

    fn send(&mut self, to: Option<SocketAddr>, message: Option<Vec<u8>>) {
        if let Some(payload) = message
            && self.out.len() < MAX_OUT
        {
            self.out.push_back(Message { to, payload });
        }
    }
}

/// Makes a name that tells nothing about this side.
///
/// # Errors
///
/// [`Io`](ErrorKind::Io) when the system gives no random bytes.
pub(crate) fn hidden_name() -> Result<String> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| {
        let why = format!("the system gives no random bytes: {error}");
        Error::with_source(ErrorKind::Io, why, error)
    })?;
    // RFC 9562, section 5.4.
    random[6] = random[6] & 0x0f | 0x40;
    random[8] = random[8] & 0x3f | 0x80;
    let hex = data_encoding::HEXLOWER.encode(&random);
    let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|range| &hex[range]);
    Ok(format!("{}.local", parts.join("-")))
}

/// Returns a question for the addresses of a name.
fn question(name: &str) -> Option<Vec<u8>> {
    let mut message = Packet::new_query(0);
    for kind in [TYPE::A, TYPE::AAAA] {
        let name = Name::new(name).ok()?;
        let (kind, class) = (QTYPE::TYPE(kind), QCLASS::CLASS(CLASS::IN));
        message
            .questions
            .push(Question::new(name, kind, class, false));
    }
    message.build_bytes_vec_compressed().ok()
}

/// Returns an answer with the addresses of names; to a plain resolver, it repeats the question (RFC
/// 6762, section 6.7).
fn answer(names: &[(&str, &[IpAddr])], legacy: Option<&Packet<'_>>) -> Option<Vec<u8>> {
    let mut message = Packet::new_reply(legacy.map_or(0, Packet::id));
    message.set_flags(PacketFlag::AUTHORITATIVE_ANSWER);
    if let Some(legacy) = legacy {
        message.questions.clone_from(&legacy.questions);
    }
    let ttl = if legacy.is_some() { LEGACY_TTL } else { TTL };
    for (name, ips) in names {
        for ip in *ips {
            let data = match ip {
                IpAddr::V4(ip) => RData::A((*ip).into()),
                IpAddr::V6(ip) => RData::AAAA((*ip).into()),
            };
            let record = ResourceRecord::new(Name::new(name).ok()?, CLASS::IN, ttl, data);
            message
                .answers
                .push(record.with_cache_flush(legacy.is_none()));
        }
    }
    message.build_bytes_vec_compressed().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NAME: &str = "9b36eaac-bb2e-49bb-bb78-21c41c499900.local";

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 168, 1, 20], port))
    }

    fn sent(machine: &mut Machine) -> Vec<Message> {
        std::iter::from_fn(|| machine.poll_transmit()).collect()
    }

    fn events(machine: &mut Machine) -> Vec<Lookup> {
        std::iter::from_fn(|| machine.poll_event()).collect()
    }

    fn found(ip: &str) -> Lookup {
        Lookup::Found {
            name: NAME.to_owned(),
            ip: ip.parse().unwrap(),
        }
    }

    #[test]
    fn a_name_is_found_at_the_side_that_has_published_it() {
        let now = Instant::now();
        let (mut near, mut far) = (Machine::default(), Machine::default());
        assert!(far.publish(now, NAME, ips(&["192.168.1.20", "2001:db8::20"])));
        assert_eq!(sent(&mut far).len(), 1);
        assert!(near.look_up(now, &NAME.to_uppercase()));
        let questions = sent(&mut near);
        assert_eq!(questions.len(), 1);
        assert_eq!(questions[0].to, None);
        let later = now + ANSWER_EVERY;
        far.handle_packet(later, at(PORT), &questions[0].payload);
        // All hear the first answer, and one who asks at once again alone.
        far.handle_packet(later, at(PORT), &questions[0].payload);
        let answers = sent(&mut far);
        let receivers: Vec<_> = answers.iter().map(|one| one.to).collect();
        assert_eq!(receivers, [None, Some(at(PORT))]);
        near.handle_packet(later, at(PORT), &answers[0].payload);
        assert_eq!(events(&mut near), [found("192.168.1.20")]);
        assert_eq!(near.poll_timeout(), None);
        // A name of this side needs no question.
        assert!(far.look_up(now, NAME));
        assert_eq!(events(&mut far), [found("192.168.1.20")]);
        assert!(sent(&mut far).is_empty());
    }

    #[test]
    fn plain_resolvers_get_an_answer_of_their_own() {
        let now = Instant::now();
        let mut machine = Machine::default();
        assert!(machine.publish(now, NAME, ips(&["192.168.1.20"])));
        sent(&mut machine);
        let mut query = Packet::new_query(77);
        let name = Name::new(NAME).unwrap();
        let kind = QTYPE::TYPE(TYPE::A);
        let class = QCLASS::CLASS(CLASS::IN);
        query
            .questions
            .push(Question::new(name, kind, class, false));
        let query = query.build_bytes_vec().unwrap();
        machine.handle_packet(now, at(40_000), &query);
        let answers = sent(&mut machine);
        assert_eq!(answers.len(), 1);
        assert_eq!(answers[0].to, Some(at(40_000)));
        let answer = Packet::parse(&answers[0].payload).unwrap();
        assert_eq!((answer.id(), answer.questions.len()), (77, 1));
        assert_eq!(
            (answer.answers[0].ttl, answer.answers[0].cache_flush),
            (10, false)
        );
    }

    #[test]
    fn a_name_that_is_not_there_is_asked_for_three_times() {
        let start = Instant::now();
        let mut machine = Machine::default();
        assert!(machine.look_up(start, NAME));
        let mut asked = vec![0; sent(&mut machine).len()];
        let mut now = start;
        while let Some(due) = machine.poll_timeout() {
            now = due;
            machine.handle_timeout(now);
            asked.extend(sent(&mut machine).iter().map(|_| (now - start).as_secs()));
        }
        assert_eq!(asked, [0, 1, 3]);
        assert_eq!(now, start + GIVE_UP);
        let name = NAME.to_owned();
        assert_eq!(events(&mut machine), [Lookup::NotFound { name }]);
    }

    #[test]
    fn answers_count_from_the_right_port_and_for_what_was_asked() {
        let now = Instant::now();
        let mut machine = Machine::default();
        assert!(machine.look_up(now, NAME));
        let answer_of = |name: &str, addrs: &[&str]| answer(&[(name, &ips(addrs))], None).unwrap();
        machine.handle_packet(now, at(40_000), &answer_of(NAME, &["192.0.2.1"]));
        machine.handle_packet(now, at(PORT), &answer_of("other.local", &["192.0.2.1"]));
        machine.handle_packet(now, at(PORT), &answer_of(NAME, &["fe80::1"]));
        assert_eq!(events(&mut machine), []);
        machine.handle_packet(now, at(PORT), &answer_of(NAME, &["fe80::1", "2001:db8::1"]));
        assert_eq!(events(&mut machine), [found("2001:db8::1")]);
        machine.handle_packet(now, at(PORT), &answer_of(NAME, &["192.0.2.1"]));
        assert_eq!(events(&mut machine), []);
    }

    #[test]
    fn names_and_messages_are_bounded() {
        let now = Instant::now();
        let mut machine = Machine::default();
        for other in ["example.org", "a.b.local", ".local", "local", ""] {
            assert!(!machine.look_up(now, other), "{other}");
            assert!(!machine.publish(now, other, ips(&["192.0.2.1"])));
        }
        let names = (0..1000).map(|n| format!("x{n}.local"));
        let begun = names.filter(|name| machine.look_up(now, name)).count();
        assert_eq!(begun, MAX_LOOKUPS);
        let names = (0..1000).map(|n| format!("y{n}.local"));
        let own = names.filter(|name| machine.publish(now, name, ips(&["192.0.2.1"])));
        assert_eq!(own.count(), MAX_OWN);
        // Questions that are not carried away.
        let query = question("y1.local").unwrap();
        for _ in 0..1000 {
            machine.handle_packet(now, at(PORT), &query);
        }
        assert!(sent(&mut machine).len() <= MAX_OUT);
        // A header that names more records than a message holds.
        let mut flood = question(NAME).unwrap();
        flood[6..12].fill(0xff);
        machine.handle_packet(now, at(PORT), &flood);
        assert!(sent(&mut machine).is_empty());
    }

    #[test]
    fn hidden_names_are_of_version_4_and_differ() {
        let [a, b] = [(); 2].map(|()| hidden_name().unwrap());
        assert_ne!(a, b);
        assert_eq!(local_name(&a), Some(a.clone()));
        assert_eq!((a.len(), &a[14..15]), (42, "4"));
        assert!("89ab".contains(&a[19..20]), "{a}");
    }

    proptest! {
        #[test]
        fn any_packet_is_taken(
            packet in prop::collection::vec(any::<u8>(), 0..200),
            altered in any::<prop::sample::Index>(),
            with in any::<u8>(),
        ) {
            let now = Instant::now();
            let mut machine = Machine::default();
            prop_assert!(machine.look_up(now, NAME));
            prop_assert!(machine.publish(now, "own.local", ips(&["192.0.2.1"])));
            machine.handle_packet(now, at(PORT), &packet);
            for message in sent(&mut machine) {
                let mut payload = message.payload;
                let at_byte = altered.index(payload.len());
                payload[at_byte] ^= with;
                machine.handle_packet(now, at(PORT), &payload);
            }
        }
    }
}
