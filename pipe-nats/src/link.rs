//! A reliable stream of bytes in each direction over messages that may be lost, without I/O.
//!
//! A broker passes messages on in their order, and loses some: all that it holds when it dies, and what a subscriber does
//! not take. So the bytes of a direction are numbered and kept until the peer has received them. A receiver takes them in
//! their order only. One that finds a gap reports it, and the sender begins again there, as it does when an answer is due
//! for too long, and when its client has connected to a broker again.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pipe_core::Result;
use pipe_core::backend::protocol;

use crate::segment::{END, GAP, PROBE, RESET, Segment};

/// Maximum number of bytes held in each direction: of those written until the peer has received them, and of those received
/// until they are read.
pub(crate) const WINDOW: u32 = 1024 * 1024;

/// Maximum number of segments that the peer has not confirmed. What is written meanwhile leaves in fewer, larger ones.
pub(crate) const MAX_SEGMENTS: usize = 64;

/// Maximum number of bytes in a segment, where the broker takes as many.
pub(crate) const MAX_CHUNK: usize = 32 * 1024;

/// Time limit for an answer: before the first round trip was measured, and the bounds afterwards.
const FIRST_PATIENCE: Duration = Duration::from_millis(500);
const LEAST_PATIENCE: Duration = Duration::from_millis(100);
const MOST_PATIENCE: Duration = Duration::from_secs(4);

/// Time for which an answer waits for bytes to go with, and the number of segments that are answered at once.
const ANSWER_WITHIN: Duration = Duration::from_millis(5);
const MOST_UNANSWERED: usize = MAX_SEGMENTS / 4;

/// How many times the time limit is doubled at most.
const MOST_DOUBLED: u32 = 6;

/// Capacity beyond which the buffer of a direction is given back when it is empty, in bytes.
const KEPT: usize = 4 * 1024;

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct Link {
    /// What was written, from `confirmed` on.
    written: VecDeque<u8>,
    /// How many bytes the peer has received, and whether their end as well.
    confirmed: u64,
    is_end_confirmed: bool,
    /// The place of the bytes that are sent next, and whether their end was sent.
    next: u64,
    is_end_sent: bool,
    /// The most that the peer can have received, with the end.
    furthest: u64,
    /// The place up to which the peer has room.
    room: u64,
    /// What the peer will have received with each segment that is not confirmed.
    under_way: VecDeque<u64>,
    is_finished: bool,
    /// What was sent may be lost: one segment at a time, until an answer comes.
    is_careful: bool,
    /// The place from which a gap was filled last.
    filled: Option<u64>,

    /// What was received and not read.
    unread: VecDeque<u8>,
    received: u64,
    /// The place of the end of the peer's bytes, once all were received.
    end: Option<u64>,
    /// The place up to which the peer was told that there is room.
    told: u64,
    /// How many segments were not answered, and when that is due.
    unanswered: usize,
    answer_at: Option<Instant>,
    /// The flags of the next segment.
    flags: u8,
    is_reset: bool,

    /// The segment by which a round trip is measured, and when it was sent.
    measured: Option<(u64, Instant)>,
    /// The smoothed round trip and its variation (RFC 6298, section 2).
    round_trip: Option<(Duration, Duration)>,
    /// How many times the time limit for an answer was doubled.
    doubled: u32,
    deadline: Option<Instant>,
}

impl Link {
    pub(crate) fn new() -> Self {
        Self {
            written: VecDeque::new(),
            confirmed: 0,
            is_end_confirmed: false,
            next: 0,
            is_end_sent: false,
            furthest: 0,
            room: WINDOW.into(),
            under_way: VecDeque::new(),
            is_finished: false,
            is_careful: false,
            filled: None,
            unread: VecDeque::new(),
            received: 0,
            end: None,
            told: WINDOW.into(),
            unanswered: 0,
            answer_at: None,
            flags: 0,
            is_reset: false,
            measured: None,
            round_trip: None,
            doubled: 0,
            deadline: None,
        }
    }

    /// Takes bytes to send, as many as there is room for. Returns how many. There is no room behind the
    /// [end](Self::finish).
    pub(crate) fn write(&mut self, bytes: &[u8]) -> usize {
        if self.is_finished {
            return 0;
        }
        let count = bytes.len().min(WINDOW as usize - self.written.len());
        self.written.extend(&bytes[..count]);
        count
    }

    /// Ends the bytes of this side.
    pub(crate) fn finish(&mut self) {
        self.is_finished = true;
    }

    /// Returns whether this side has ended its bytes.
    pub(crate) fn is_finished(&self) -> bool {
        self.is_finished
    }

    /// Returns the first piece of the received bytes.
    pub(crate) fn unread(&self) -> &[u8] {
        self.unread.as_slices().0
    }

    /// Removes bytes that were read.
    pub(crate) fn consume(&mut self, count: usize) {
        self.unread.drain(..count);
        give_back(&mut self.unread);
    }

    /// Removes all received bytes.
    pub(crate) fn discard(&mut self) {
        self.consume(self.unread.len());
    }

    /// Returns whether all bytes of the peer were received.
    pub(crate) fn is_at_end(&self) -> bool {
        self.end.is_some()
    }

    /// Returns whether the peer has given the connection up.
    pub(crate) fn is_reset(&self) -> bool {
        self.is_reset
    }

    /// Returns whether the peer has received all bytes of this side and their end.
    pub(crate) fn is_all_confirmed(&self) -> bool {
        self.is_end_confirmed
    }

    /// Processes a segment of the peer.
    ///
    /// # Errors
    ///
    /// [`Protocol`](pipe_core::ErrorKind::Protocol) when the peer has broken the rules.
    pub(crate) fn handle(&mut self, segment: &Segment, now: Instant) -> Result<()> {
        if segment.has(RESET) {
            self.is_reset = true;
            return Ok(());
        }
        self.on_received(segment.received, segment.window, now)?;
        if segment.has(GAP) {
            self.fill_gap(segment.received);
        }
        if segment.has(PROBE) {
            self.answer_at = Some(now);
        }
        self.take(segment.offset, &segment.bytes, segment.has(END), now)
    }

    /// Notes what the peer has received, and has room for.
    fn on_received(&mut self, received: u64, window: u32, now: Instant) -> Result<()> {
        if received > self.furthest {
            let most = self.furthest;
            return Err(protocol(format_args!(
                "it has received {received} bytes of {most}"
            )));
        }
        let all = self.confirmed + self.written.len() as u64;
        let is_end = received > all;
        // The end is none of the bytes.
        let Some(count) = received.min(all).checked_sub(self.confirmed) else {
            // A later one has come before.
            return Ok(());
        };
        self.room = self.room.max(received.saturating_add(window.into()));
        if count == 0 && is_end == self.is_end_confirmed {
            return Ok(());
        }
        self.written.drain(..count as usize);
        give_back(&mut self.written);
        self.confirmed += count;
        self.is_end_confirmed |= is_end;
        self.next = self.next.max(self.confirmed);
        self.is_end_sent |= is_end;
        while self.under_way.front().is_some_and(|to| *to <= received) {
            self.under_way.pop_front();
        }
        if let Some((to, sent)) = self.measured
            && to <= received
        {
            self.measured = None;
            self.on_round_trip(now.saturating_duration_since(sent));
        }
        self.is_careful = false;
        self.filled = None;
        self.doubled = 0;
        self.deadline = None;
        Ok(())
    }

    fn fill_gap(&mut self, from: u64) {
        let is_new = from == self.confirmed && self.filled != Some(from);
        if is_new && !self.under_way.is_empty() {
            self.filled = Some(from);
            self.send_again();
        }
    }

    /// Begins again with what the peer has not received.
    fn send_again(&mut self) {
        self.next = self.confirmed;
        self.is_end_sent = self.is_end_confirmed;
        self.under_way.clear();
        // An answer may be to the first attempt (RFC 6298, section 3).
        self.measured = None;
    }

    /// Takes bytes of the peer, and the end behind them.
    fn take(&mut self, offset: u64, bytes: &Bytes, is_last: bool, now: Instant) -> Result<()> {
        let len = bytes.len();
        if len == 0 && !is_last {
            return Ok(());
        }
        let behind = offset.checked_add(len as u64);
        let Some(behind) = behind.filter(|behind| *behind <= self.told) else {
            let told = self.told;
            return Err(protocol(format_args!(
                "{len} bytes at {offset}, where there is room up to {told}"
            )));
        };
        let is_past_end = match self.end {
            Some(end) => behind > end || is_last && behind < end,
            None => is_last && behind < self.received,
        };
        if is_past_end {
            return Err(protocol("bytes behind the end of its stream"));
        }
        self.unanswered += 1;
        let is_known = behind <= self.received;
        if is_known || is_last || self.unanswered >= MOST_UNANSWERED {
            self.answer_at = Some(now);
        } else {
            self.answer_at.get_or_insert(now + ANSWER_WITHIN);
        }
        let Some(known) = self.received.checked_sub(offset) else {
            self.flags |= GAP;
            return Ok(());
        };
        if let Some(fresh) = bytes.get(known as usize..) {
            self.unread.extend(fresh);
            self.received += fresh.len() as u64;
        }
        if is_last {
            self.end = Some(behind);
        }
        Ok(())
    }

    /// Returns the next segment to send, with up to `max` bytes.
    pub(crate) fn poll_transmit(&mut self, max: usize, now: Instant) -> Option<Segment> {
        let from = (self.next - self.confirmed) as usize;
        let unsent = self.written.len() - from;
        let most = if self.is_careful { 1 } else { MAX_SEGMENTS };
        let may_send = self.under_way.len() < most;
        let room = self.room.saturating_sub(self.next);
        let count = if may_send {
            unsent.min(max).min(usize::try_from(room).unwrap_or(max))
        } else {
            0
        };
        let is_last = may_send && self.is_finished && !self.is_end_sent && count == unsent;
        let room_here = self.received + u64::from(WINDOW) - self.unread.len() as u64;
        let is_answer_due = self.answer_at.is_some_and(|at| at <= now);
        let is_news = room_here >= self.told + u64::from(WINDOW / 2);
        if count == 0 && !is_last && !is_answer_due && !is_news && self.flags == 0 {
            self.set_deadline(now);
            return None;
        }
        let bytes = copy(&self.written, from, count);
        let offset = self.next;
        self.next += count as u64;
        if is_last {
            self.is_end_sent = true;
            self.flags |= END;
        }
        if count > 0 || is_last {
            let to = self.next + u64::from(is_last);
            self.under_way.push_back(to);
            if to > self.furthest {
                self.furthest = to;
                self.measured.get_or_insert((to, now));
            }
        }
        self.told = self.told.max(room_here);
        self.unanswered = 0;
        self.answer_at = None;
        let received = self.received + u64::from(self.end.is_some());
        Some(Segment {
            flags: std::mem::take(&mut self.flags),
            offset,
            received,
            window: self.told.saturating_sub(received) as u32,
            bytes,
        })
    }

    fn on_round_trip(&mut self, sample: Duration) {
        let (smoothed, variation) = match self.round_trip {
            None => (sample, sample / 2),
            Some((smoothed, variation)) => (
                (smoothed * 7 + sample) / 8,
                (variation * 3 + smoothed.abs_diff(sample)) / 4,
            ),
        };
        self.round_trip = Some((smoothed, variation));
    }

    /// Sets the time limit for an answer, where one is due.
    fn set_deadline(&mut self, now: Instant) {
        let is_waiting = !self.written.is_empty() || self.is_finished && !self.is_end_confirmed;
        if !is_waiting {
            self.deadline = None;
        } else if self.deadline.is_none() {
            let patience = match self.round_trip {
                None => FIRST_PATIENCE,
                Some((smoothed, variation)) => (smoothed + variation * 4).max(LEAST_PATIENCE),
            };
            let patience = patience * 2_u32.pow(self.doubled);
            self.deadline = Some(now + patience.min(MOST_PATIENCE));
        }
    }

    /// Returns when [`handle_timeout`](Self::handle_timeout) and then [`poll_transmit`](Self::poll_transmit) are due, once
    /// that has nothing to send.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.deadline.into_iter().chain(self.answer_at).min()
    }

    /// Sends again what was not answered in time, and asks for an answer.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if self.deadline.is_none_or(|deadline| now < deadline) {
            return;
        }
        self.doubled = (self.doubled + 1).min(MOST_DOUBLED);
        self.ask_again();
    }

    /// Notes that the client of this side has connected to a broker again. Messages of both sides may be lost.
    pub(crate) fn on_reconnect(&mut self) {
        self.doubled = 0;
        self.flags |= GAP;
        self.ask_again();
    }

    fn ask_again(&mut self) {
        self.deadline = None;
        self.is_careful = true;
        self.filled = None;
        self.send_again();
        self.flags |= PROBE;
    }
}

fn copy(buf: &VecDeque<u8>, from: usize, count: usize) -> Bytes {
    let mut bytes = Vec::with_capacity(count);
    let (first, second) = buf.as_slices();
    let begin = first.get(from..).unwrap_or_default();
    bytes.extend_from_slice(&begin[..begin.len().min(count)]);
    let from = from.saturating_sub(first.len());
    bytes.extend_from_slice(&second[from..][..count - bytes.len()]);
    bytes.into()
}

/// Frees the memory of a buffer that was large and is empty.
fn give_back(buf: &mut VecDeque<u8>) {
    if buf.is_empty() && buf.capacity() > KEPT {
        *buf = VecDeque::new();
    }
}

#[cfg(test)]
mod tests {
    use pipe_core::ErrorKind;
    use proptest::prelude::*;

    use super::*;

    /// Two ends with messages between them, on a clock of their own.
    struct Pair {
        now: Instant,
        ends: [Link; 2],
        /// The messages to each end.
        wires: [VecDeque<Segment>; 2],
    }

    impl Pair {
        fn new() -> Self {
            Self {
                now: Instant::now(),
                ends: [Link::new(), Link::new()],
                wires: [VecDeque::new(), VecDeque::new()],
            }
        }

        /// Sends what an end has to send.
        fn send(&mut self, from: usize) {
            while let Some(segment) = self.ends[from].poll_transmit(MAX_CHUNK, self.now) {
                let coded = Segment::decode(segment.encode()).unwrap();
                self.wires[1 - from].push_back(coded);
            }
        }

        /// Delivers all messages to an end.
        fn deliver(&mut self, to: usize) {
            while let Some(segment) = self.wires[to].pop_front() {
                self.ends[to].handle(&segment, self.now).unwrap();
            }
        }

        /// Exchanges messages until there are none.
        fn settle(&mut self) {
            loop {
                self.send(0);
                self.send(1);
                if self.wires.iter().all(VecDeque::is_empty) {
                    let answers = self.ends.iter().filter_map(|end| end.answer_at);
                    let Some(answer) = answers.min() else {
                        return;
                    };
                    self.now = self.now.max(answer);
                }
                self.deliver(0);
                self.deliver(1);
            }
        }

        /// Lets the time of the next deadline come.
        fn wait(&mut self) {
            let deadlines = self.ends.iter().filter_map(Link::poll_timeout);
            self.now = deadlines.min().expect("a deadline").max(self.now);
            for end in &mut self.ends {
                end.handle_timeout(self.now);
            }
        }

        fn read(&mut self, at: usize) -> Vec<u8> {
            let mut read = Vec::new();
            while !self.ends[at].unread().is_empty() {
                read.extend_from_slice(self.ends[at].unread());
                let count = self.ends[at].unread().len();
                self.ends[at].consume(count);
            }
            read
        }
    }

    #[test]
    fn bytes_and_their_end_arrive_and_are_confirmed() {
        let mut pair = Pair::new();
        assert_eq!(pair.ends[0].write(b"hello"), 5);
        pair.ends[0].finish();
        assert_eq!(pair.ends[0].write(b"more"), 0);
        pair.settle();
        assert_eq!(pair.read(1), b"hello");
        assert!(pair.ends[1].is_at_end() && pair.ends[0].is_all_confirmed());
        assert!(!pair.ends[0].is_at_end() && !pair.ends[1].is_all_confirmed());
        pair.ends[1].finish();
        pair.settle();
        assert!(pair.ends[0].is_at_end() && pair.ends[1].is_all_confirmed());
        assert_eq!(pair.ends.each_ref().map(Link::poll_timeout), [None, None]);
    }

    #[test]
    fn a_lost_segment_is_sent_again_when_the_next_one_shows_the_gap() {
        let mut pair = Pair::new();
        pair.ends[0].write(b"one");
        pair.send(0);
        pair.wires[1].clear();
        pair.ends[0].write(b"two");
        pair.settle();
        assert_eq!(pair.read(1), b"onetwo");
    }

    #[test]
    fn a_lost_last_segment_is_sent_again_after_a_while_and_a_lost_answer_costs_nothing() {
        let mut pair = Pair::new();
        pair.ends[0].write(b"one");
        pair.ends[0].finish();
        for _ in 0..3 {
            pair.send(0);
            pair.wires[1].clear();
            pair.wait();
        }
        pair.send(0);
        pair.deliver(1);
        pair.send(1);
        pair.wires[0].clear();
        pair.wait();
        pair.settle();
        assert_eq!(pair.read(1), b"one");
        assert!(pair.ends[1].is_at_end() && pair.ends[0].is_all_confirmed());
    }

    #[test]
    fn after_a_reconnect_both_sides_send_again_at_once() {
        let mut pair = Pair::new();
        pair.ends[0].write(b"request");
        pair.ends[1].write(b"answer");
        pair.send(0);
        pair.send(1);
        for wire in &mut pair.wires {
            wire.clear();
        }
        pair.ends[0].on_reconnect();
        pair.settle();
        assert_eq!(pair.read(1), b"request");
        assert_eq!(pair.read(0), b"answer");
    }

    #[test]
    fn a_reader_that_stalls_stops_the_writer_and_a_lost_word_of_room_is_asked_for() {
        let mut pair = Pair::new();
        let bytes = vec![7; 2 * WINDOW as usize];
        let mut written = 0;
        for _ in 0..4 {
            written += pair.ends[0].write(&bytes[written..]);
            pair.settle();
        }
        assert_eq!(written, bytes.len());
        assert_eq!(pair.ends[1].unread.len(), WINDOW as usize);
        assert_eq!(pair.ends[0].written.len(), WINDOW as usize);
        assert_eq!(pair.read(1).len(), WINDOW as usize);
        pair.send(1);
        pair.wires[0].clear();
        pair.wait();
        pair.settle();
        assert_eq!(pair.read(1).len(), WINDOW as usize);
        assert_eq!(pair.ends[1].unread.capacity(), 0);
    }

    #[test]
    fn small_writes_are_gathered_while_many_segments_are_under_way() {
        let mut pair = Pair::new();
        for _ in 0..1000 {
            pair.ends[0].write(b"x");
            pair.send(0);
        }
        assert_eq!(pair.wires[1].len(), MAX_SEGMENTS);
        pair.deliver(1);
        pair.send(1);
        pair.deliver(0);
        pair.send(0);
        assert_eq!(pair.wires[1].len(), 1);
        pair.settle();
        assert_eq!(pair.read(1).len(), 1000);
    }

    #[test]
    fn a_peer_that_breaks_the_rules_is_an_error() {
        let plain = || Segment {
            flags: 0,
            ..Segment::reset()
        };
        let bytes = |len| Bytes::from(vec![0; len]);
        let broken = [
            Segment {
                received: 1,
                ..plain()
            },
            Segment {
                offset: 1,
                bytes: bytes(WINDOW as usize),
                ..plain()
            },
            Segment {
                offset: u64::MAX,
                bytes: bytes(2),
                ..plain()
            },
        ];
        let now = Instant::now();
        for segment in broken {
            let error = Link::new().handle(&segment, now).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Protocol);
        }
        let mut link = Link::new();
        let last = Segment {
            flags: END,
            bytes: bytes(2),
            ..plain()
        };
        link.handle(&last, now).unwrap();
        link.handle(&last, now).unwrap();
        for (flags, offset, len) in [(END, 0, 1), (0, 2, 1), (END, 0, 3)] {
            let segment = Segment {
                flags,
                offset,
                bytes: bytes(len),
                ..plain()
            };
            let error = link.handle(&segment, now).unwrap_err();
            assert!(error.to_string().contains("behind the end"), "{error}");
        }
    }

    /// What happens on a bad link, at one of its ends.
    #[derive(Clone, Copy, Debug)]
    enum Event {
        Write(usize),
        Read(usize),
        Send,
        Deliver,
        Lose,
        Repeat,
        Reconnect,
        Wait,
    }

    fn event() -> impl Strategy<Value = (usize, Event)> {
        let event = prop_oneof![
            3 => (1..100_000_usize).prop_map(Event::Write),
            2 => (1..100_000_usize).prop_map(Event::Read),
            4 => Just(Event::Send),
            4 => Just(Event::Deliver),
            1 => Just(Event::Lose),
            1 => Just(Event::Repeat),
            1 => Just(Event::Reconnect),
            1 => Just(Event::Wait),
        ];
        (0..2_usize, event)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        #[test]
        fn over_a_bad_link_all_bytes_arrive_in_order(events in prop::collection::vec(event(), 1..200)) {
            let mut pair = Pair::new();
            let mut written = [0_usize; 2];
            let mut read = [0_usize; 2];
            // Each byte is known by its place.
            let byte = |at: usize| (at * 31 % 251) as u8;
            let take = |pair: &mut Pair, read: &mut [usize; 2], end: usize, most: usize| {
                let mut left = most;
                while left > 0 && !pair.ends[end].unread().is_empty() {
                    let piece = pair.ends[end].unread();
                    let count = piece.len().min(left);
                    for (at, got) in piece[..count].iter().enumerate() {
                        assert_eq!(*got, byte(read[end] + at));
                    }
                    pair.ends[end].consume(count);
                    read[end] += count;
                    left -= count;
                }
            };
            for (end, event) in events {
                match event {
                    Event::Write(count) => {
                        let bytes: Vec<_> = (written[end]..written[end] + count).map(byte).collect();
                        written[end] += pair.ends[end].write(&bytes);
                    }
                    Event::Read(count) => take(&mut pair, &mut read, end, count),
                    Event::Send => pair.send(end),
                    Event::Deliver => pair.deliver(end),
                    Event::Lose => drop(pair.wires[end].pop_front()),
                    Event::Repeat => {
                        if let Some(first) = pair.wires[end].front().cloned() {
                            pair.wires[end].push_back(first);
                        }
                    }
                    Event::Reconnect => {
                        pair.wires[end].clear();
                        pair.ends[end].on_reconnect();
                    }
                    Event::Wait => {
                        pair.now += Duration::from_millis(300);
                        let now = pair.now;
                        pair.ends[end].handle_timeout(now);
                    }
                }
                for link in &pair.ends {
                    prop_assert!(link.unread.len() <= WINDOW as usize);
                    prop_assert!(link.written.len() <= WINDOW as usize);
                    prop_assert!(link.under_way.len() <= MAX_SEGMENTS);
                }
            }
            // The link is good from here on.
            for link in &mut pair.ends {
                link.finish();
            }
            for _ in 0..1000 {
                pair.settle();
                for end in 0..2 {
                    take(&mut pair, &mut read, end, usize::MAX);
                }
                pair.settle();
                if pair.ends.iter().all(Link::is_all_confirmed) {
                    break;
                }
                if pair.ends.iter().any(|link| link.poll_timeout().is_some()) {
                    pair.wait();
                }
            }
            for end in 0..2 {
                take(&mut pair, &mut read, end, usize::MAX);
                prop_assert!(pair.ends[end].is_at_end() && pair.ends[end].is_all_confirmed());
                prop_assert_eq!(read[end], written[1 - end]);
            }
        }

        #[test]
        fn no_message_makes_a_link_panic_or_hold_more_than_its_window(
            messages in prop::collection::vec(
                (0..16_u8, 0..2_500_000_u64, 0..2_500_000_u64, any::<u32>(), 0..70_000_usize), 1..50,
            ),
        ) {
            let mut link = Link::new();
            let mut now = Instant::now();
            link.write(&[1; 1000]);
            for (flags, offset, received, window, len) in messages {
                while link.poll_transmit(MAX_CHUNK, now).is_some() {}
                now += Duration::from_millis(200);
                link.handle_timeout(now);
                let bytes = Bytes::from(vec![0; len]);
                let segment = Segment { flags, offset, received, window, bytes };
                let _ = link.handle(&segment, now);
                prop_assert!(link.unread.len() <= WINDOW as usize);
            }
        }
    }
}
