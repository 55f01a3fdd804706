//! Stream resets (RFC 6525): requests of this end, and those of the peer.

use crate::{
    chunk::{
        self, kind,
        reconfig::{self, Outcome},
    },
    packet, tsn,
};
use std::collections::VecDeque;

/// Most streams in one request, whatever the packet holds.
pub(crate) const MAX_STREAMS: usize = 500;
/// Most requests of the peer that wait for data. It has one at a time, unless it repeats one as new.
const MAX_DEFERRED: usize = 8;
/// Most responses that wait to be sent.
const MAX_RESPONSES: usize = 8;

/// A request of this end that the peer has not answered for good.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    number: u32,
    last_tsn: u32,
    pub(crate) streams: Vec<u16>,
    /// How often it was sent without an answer.
    pub(crate) attempts: u32,
}

/// A request of the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Peers {
    number: u32,
    last_tsn: u64,
    /// Empty: all.
    streams: Vec<u16>,
}

/// The state of both ends' requests.
#[derive(Debug)]
pub(crate) struct Resets {
    next_number: u32,
    pending: Option<Request>,
    transmit: bool,
    /// Number of the peer's next request.
    expected: u32,
    /// What its last request was answered with.
    last: Outcome,
    /// Requests of the peer whose data has not all arrived.
    deferred: VecDeque<Peers>,
    /// The one that was performed last after it had been deferred.
    performed: Option<Peers>,
    responses: VecDeque<(u32, Outcome)>,
}

impl Resets {
    pub(crate) fn new(local_initial_tsn: u32, peer_initial_tsn: u32) -> Self {
        Self {
            next_number: local_initial_tsn,
            pending: None,
            transmit: false,
            expected: peer_initial_tsn,
            // The number before the first is answered like one that is too old.
            last: Outcome::BadSequenceNumber,
            deferred: VecDeque::new(),
            performed: None,
            responses: VecDeque::new(),
        }
    }

    /// Returns whether a request of this end waits for an answer.
    pub(crate) fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// Returns the request of this end that waits for an answer.
    pub(crate) fn pending(&self) -> Option<&Request> {
        self.pending.as_ref()
    }

    /// Makes a request for `streams`; none is pending.
    pub(crate) fn request(&mut self, streams: Vec<u16>, last_tsn: u32) {
        self.pending = Some(Request {
            number: self.next_number,
            last_tsn,
            streams,
            attempts: 0,
        });
        self.next_number = self.next_number.wrapping_add(1);
        self.transmit = true;
    }

    /// Sends the request again.
    pub(crate) fn on_timeout(&mut self) {
        self.transmit = self.pending.is_some();
    }

    /// Handles a response. Returns the request if that ends it, and whether it was performed.
    pub(crate) fn on_response(&mut self, number: u32, outcome: Outcome) -> Option<(Request, bool)> {
        let pending = self
            .pending
            .as_mut()
            .filter(|pending| pending.number == number)?;
        let performed = match outcome {
            Outcome::Performed | Outcome::NothingToDo => true,
            Outcome::Denied | Outcome::WrongStream | Outcome::BadSequenceNumber => false,
            Outcome::InProgress | Outcome::AlreadyInProgress => {
                // The timer asks again.
                pending.attempts = 0;
                return None;
            }
        };
        self.transmit = false;
        self.pending.take().map(|request| (request, performed))
    }

    fn respond(&mut self, number: u32, outcome: Outcome) {
        self.responses.retain(|(other, _)| *other != number);
        if self.responses.len() < MAX_RESPONSES {
            self.responses.push_back((number, outcome));
        }
    }

    /// Returns whether `number` is that of a new request, and answers it if it is not.
    fn accept(&mut self, number: u32) -> bool {
        if number == self.expected {
            self.expected = number.wrapping_add(1);
            return true;
        }
        let again = number == self.expected.wrapping_sub(1);
        self.respond(
            number,
            if again {
                self.last
            } else {
                Outcome::BadSequenceNumber
            },
        );
        false
    }

    fn answer(&mut self, number: u32, outcome: Outcome) {
        if number == self.expected.wrapping_sub(1) {
            self.last = outcome;
        }
        self.respond(number, outcome);
    }

    /// Answers a request that has to do with no stream's data.
    pub(crate) fn on_other(&mut self, number: u32, outcome: Outcome) {
        if self.accept(number) {
            self.answer(number, outcome);
        }
    }

    /// Handles an Outgoing SSN Reset Request of the peer. It is performed by [`Self::take_performed`], later if not
    /// `at_once`.
    pub(crate) fn on_request(
        &mut self,
        number: u32,
        last_tsn: u32,
        streams: impl Iterator<Item = u16>,
        cumulative: u64,
        at_once: bool,
    ) {
        if !self.accept(number) {
            return;
        }
        let last_tsn = tsn::expand32(cumulative, last_tsn);
        let request = Peers {
            number,
            last_tsn,
            streams: streams.collect(),
        };
        let same =
            |other: &Peers| other.last_tsn == request.last_tsn && other.streams == request.streams;
        if self.performed.as_ref().is_some_and(same) {
            // A peer that was told "In progress" repeats the request with a new number.
            self.performed = None;
            self.answer(number, Outcome::Performed);
            return;
        }
        self.deferred.retain(|other| !same(other));
        if self.deferred.len() == MAX_DEFERRED {
            self.answer(number, Outcome::AlreadyInProgress);
            return;
        }
        if request.last_tsn > cumulative || !at_once {
            self.answer(number, Outcome::InProgress);
        }
        self.deferred.push_back(request);
    }

    /// Takes the streams of the next request whose data arrived; the peer is told. Empty: all.
    pub(crate) fn take_performed(&mut self, cumulative: u64) -> Option<Vec<u16>> {
        let index = self
            .deferred
            .iter()
            .position(|request| request.last_tsn <= cumulative)?;
        let request = self.deferred.remove(index)?;
        let number = request.number;
        let was_deferred = self.last == Outcome::InProgress;
        self.answer(number, Outcome::Performed);
        let streams = request.streams.clone();
        self.performed = was_deferred.then_some(request);
        if self.deferred.is_empty() {
            self.deferred = VecDeque::new();
        }
        Some(streams)
    }

    /// Returns whether a chunk is to be sent.
    pub(crate) fn is_due(&self) -> bool {
        self.transmit || !self.responses.is_empty()
    }

    /// Appends a RE-CONFIG chunk of at most `room` bytes with at most two parameters (RFC 6525, section 3.1).
    /// Returns whether a request is in it.
    pub(crate) fn put(&mut self, buf: &mut Vec<u8>, room: usize) -> bool {
        const RESPONSE: usize = 12;
        let start = buf.len();
        let mut left = room.saturating_sub(chunk::HEADER);
        if !self.is_due() || left < RESPONSE {
            return false;
        }
        let chunk = chunk::begin(buf, kind::RE_CONFIG, 0);
        if let Some((number, outcome)) = self.responses.pop_front() {
            reconfig::put_response(buf, number, outcome);
            left -= RESPONSE;
        }
        let mut requested = false;
        if self.transmit
            && let Some(pending) = &mut self.pending
            && request_len(pending.streams.len()) <= left
        {
            let response = self.expected.wrapping_sub(1);
            reconfig::put_outgoing(
                buf,
                pending.number,
                response,
                pending.last_tsn,
                &pending.streams,
            );
            pending.attempts = pending.attempts.saturating_add(1);
            self.transmit = false;
            requested = true;
        } else if let Some((number, outcome)) = self.responses.front().copied()
            && RESPONSE <= left
        {
            reconfig::put_response(buf, number, outcome);
            self.responses.pop_front();
        }
        if buf.len() == chunk + chunk::HEADER {
            buf.truncate(start);
        } else {
            chunk::end(buf, chunk);
        }
        requested
    }
}

fn request_len(streams: usize) -> usize {
    16 + crate::wire::padded(streams * 2)
}

/// Returns how many streams a request in a packet of `mtu` bytes holds, with a SACK and a response
/// beside it.
pub(crate) fn most_streams(mtu: usize) -> usize {
    ((mtu - packet::HEADER - 16 - chunk::HEADER - 12 - 20) / 2).min(MAX_STREAMS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{chunk::reconfig::Reconfig, wire::Tlvs};

    const CUMULATIVE: u64 = (1 << 32) + 100;

    fn resets() -> Resets {
        Resets::new(10, 20)
    }

    fn responses(resets: &mut Resets) -> Vec<(u32, Outcome)> {
        let mut all = Vec::new();
        while resets.is_due() {
            let mut buf = Vec::new();
            resets.put(&mut buf, 1000);
            for parameter in Tlvs::new(&buf[4..]) {
                if let Some(Reconfig::Response { request, outcome }) = Reconfig::read(&parameter) {
                    all.push((request, outcome));
                }
            }
        }
        all
    }

    #[test]
    fn a_request_is_performed_once_all_data_arrived() {
        let mut resets = resets();
        resets.on_request(20, 102, [1, 2].into_iter(), CUMULATIVE, true);
        assert_eq!(resets.take_performed(CUMULATIVE), None);
        assert_eq!(responses(&mut resets), [(20, Outcome::InProgress)]);
        // Sent again with the same number.
        resets.on_request(20, 102, [1, 2].into_iter(), CUMULATIVE, true);
        assert_eq!(responses(&mut resets), [(20, Outcome::InProgress)]);
        assert_eq!(resets.take_performed(CUMULATIVE + 2), Some(vec![1, 2]));
        assert_eq!(responses(&mut resets), [(20, Outcome::Performed)]);
        resets.on_request(20, 102, [1, 2].into_iter(), CUMULATIVE + 2, true);
        assert_eq!(responses(&mut resets), [(20, Outcome::Performed)]);
        // And with a new one.
        resets.on_request(21, 102, [1, 2].into_iter(), CUMULATIVE + 2, true);
        assert_eq!(resets.take_performed(CUMULATIVE + 2), None);
        assert_eq!(responses(&mut resets), [(21, Outcome::Performed)]);
        // A second reset of the same stream is one of its own.
        resets.on_request(22, 102, [1, 2].into_iter(), CUMULATIVE + 2, true);
        assert_eq!(resets.take_performed(CUMULATIVE + 2), Some(vec![1, 2]));
    }

    #[test]
    fn a_wrong_number_is_refused() {
        let mut resets = resets();
        for number in [18, 19, 21, 500] {
            resets.on_request(number, 100, [1].into_iter(), CUMULATIVE, true);
            assert_eq!(resets.take_performed(CUMULATIVE), None);
            assert_eq!(
                responses(&mut resets),
                [(number, Outcome::BadSequenceNumber)]
            );
        }
        resets.on_other(20, Outcome::Denied);
        assert_eq!(responses(&mut resets), [(20, Outcome::Denied)]);
        resets.on_other(21, Outcome::Performed);
        assert_eq!(responses(&mut resets), [(21, Outcome::Performed)]);
    }

    #[test]
    fn requests_that_wait_are_bounded() {
        let mut resets = resets();
        for number in 0..20 {
            resets.on_request(
                20 + number,
                200,
                [number as u16].into_iter(),
                CUMULATIVE,
                true,
            );
        }
        assert_eq!(resets.deferred.len(), MAX_DEFERRED);
        assert!(resets.responses.len() <= MAX_RESPONSES);
    }

    #[test]
    fn an_own_request_ends_with_its_answer() {
        let mut resets = resets();
        resets.request(vec![4], 99);
        let mut buf = Vec::new();
        assert!(resets.put(&mut buf, 1000));
        assert!(!resets.is_due());
        assert!(resets.on_response(9, Outcome::Performed).is_none());
        assert!(resets.on_response(10, Outcome::InProgress).is_none());
        resets.on_timeout();
        buf.clear();
        assert!(resets.put(&mut buf, 1000));
        let (request, performed) = resets.on_response(10, Outcome::Performed).expect("ended");
        assert!(performed);
        assert_eq!(request.streams, [4]);
        resets.request(vec![5], 99);
        let (_, performed) = resets.on_response(11, Outcome::Denied).expect("ended");
        assert!(!performed);
        assert!(!resets.is_pending());
    }
}
