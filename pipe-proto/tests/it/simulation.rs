//! Two sessions joined by a simulated wire, which delays, reorders the control channel against the bytes, cuts and
//! heals. Whatever two honest applications do, no rule is broken, nothing is cut short unnoticed, and nothing is left
//! when both are done.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use pipe_proto::codec::binary;
use pipe_proto::{
    Carrier, DrainMode, Event, Hello, RecvError, RecvHalf, SendError, Session, SessionConfig,
    Stream, StreamHandle,
};
use proptest::collection::vec;
use proptest::prelude::*;

const MAX_STREAMS: u32 = 4;
const STREAM_WINDOW: u32 = 64;
const CONNECTION_WINDOW: u64 = 100;

/// One end of a stream: its state, and what a transport and an application have beside it.
#[derive(Clone, Debug)]
struct End(Rc<RefCell<EndState>>);

#[derive(Debug)]
struct EndState {
    stream: Stream,
    /// Bytes that came and were not read.
    buffer: u64,
    is_visible: bool,
    fin_sent: bool,
    fin_came: bool,
    is_held: bool,
    read_waits: bool,
    write_waits: bool,
}

impl StreamHandle for End {
    fn with<R>(&self, act: impl FnOnce(&mut Stream) -> R) -> R {
        act(&mut self.0.borrow_mut().stream)
    }
}

/// Something on the channel of the bytes.
#[derive(Clone, Copy, Debug)]
enum Data {
    Syn(u64),
    Bytes(u64, u64),
    Fin(u64),
}

struct Side {
    session: Session<End, u32>,
    next_id: u64,
    slots: u32,
    /// What all streams may still send.
    room: u64,
    /// Streams that were opened and that the peer cannot see.
    invisible: VecDeque<End>,
    backlog: VecDeque<End>,
    /// Streams that the application has.
    held: Vec<End>,
    /// Every stream that this side knew.
    all: Vec<End>,
    control: BytesMut,
    data: VecDeque<Data>,
    now: Instant,
    keep_alives: u32,
    pings: u32,
    answers: u32,
    is_draining: bool,
    closed: Option<(u32, String)>,
    failed: bool,
}

#[derive(Clone, Debug)]
enum Op {
    Open,
    Accept,
    Write(u8, u64),
    Read(u8, u64),
    Shutdown(u8),
    Reset(u8, u32),
    Stop(u8, u32),
    Drop(u8),
    Ping,
    Drain,
    Close(u32),
    Control(usize),
    Data(usize),
    Send,
    Wait(u64),
    Cut,
    Heal,
}

struct Wire {
    sides: [Side; 2],
    now: Instant,
    is_cut: bool,
}

impl Side {
    fn new(local_bit: u64, fails_streams: bool, every_byte: bool, now: Instant) -> Self {
        let carrier = Carrier {
            local_bit,
            opens_by_frame: false,
            has_orphans: true,
            ends_natively: false,
            drain: DrainMode::AtOnce,
            is_plain: false,
        };
        let config = SessionConfig {
            hello: Hello {
                max_streams: MAX_STREAMS,
                stream_window: STREAM_WINDOW,
                connection_window: if every_byte { CONNECTION_WINDOW } else { 0 },
                flight: 0,
            },
            keep_alive: Duration::from_secs(1),
            disconnected_after: Duration::from_secs(3),
            failed_after: Duration::from_secs(10_000),
            fails_streams,
        };
        Self {
            session: Session::new(carrier, config, now),
            next_id: local_bit + 2,
            slots: 0,
            room: 0,
            invisible: VecDeque::new(),
            backlog: VecDeque::new(),
            held: Vec::new(),
            all: Vec::new(),
            control: BytesMut::new(),
            data: VecDeque::new(),
            now,
            keep_alives: 0,
            pings: 0,
            answers: 0,
            is_draining: false,
            closed: None,
            failed: false,
        }
    }

    fn threshold(every_byte: bool) -> Option<u32> {
        Some(if every_byte { 1 } else { STREAM_WINDOW / 4 })
    }

    fn add(&mut self, stream: Stream, is_visible: bool) -> End {
        let end = End(Rc::new(RefCell::new(EndState {
            stream: stream.with_carrier(),
            buffer: 0,
            is_visible,
            fin_sent: false,
            fin_came: false,
            is_held: false,
            read_waits: false,
            write_waits: false,
        })));
        self.all.push(end.clone());
        end
    }

    fn hold(&mut self, end: End) {
        end.0.borrow_mut().is_held = true;
        self.held.push(end);
    }

    fn pick(&self, index: u8) -> Option<End> {
        let count = self.held.len();
        (count > 0).then(|| self.held[usize::from(index) % count].clone())
    }

    /// Makes streams visible in their order, up to this one.
    fn show(&mut self, last: Option<&End>) {
        while let Some(first) = self.invisible.pop_front() {
            let mut state = first.0.borrow_mut();
            state.is_visible = true;
            self.data.push_back(Data::Syn(state.stream.id()));
            drop(state);
            if last.is_some_and(|last| Rc::ptr_eq(&first.0, &last.0)) {
                return;
            }
        }
    }

    /// Ends the multiplexer's stream as far as this side's direction has ended.
    fn finish(&mut self, end: &End) {
        let is_over = {
            let state = end.0.borrow();
            state.stream.send().check_write().is_err() && !state.fin_sent
        };
        if is_over && !self.session.is_ended() {
            if !end.0.borrow().is_visible {
                self.show(Some(end));
            }
            let mut state = end.0.borrow_mut();
            state.fin_sent = true;
            self.data.push_back(Data::Fin(state.stream.id()));
        }
        let mut state = end.0.borrow_mut();
        if state.fin_sent && state.fin_came {
            state.stream.on_carrier_end();
        }
        if !state.stream.recv().takes_bytes() {
            state.buffer = 0;
        }
    }

    fn update(&mut self, end: &End) {
        self.finish(end);
        if end.with(|stream| stream.needs_session()) {
            self.session.update(end);
        }
        self.take_events();
    }

    fn take_events(&mut self) {
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::Hello(hello) => {
                    self.slots = hello.max_streams;
                    self.room = match hello.connection_window {
                        0 => u64::MAX / 2,
                        window => window,
                    };
                }
                Event::Wake {
                    stream,
                    reader,
                    writer,
                } => {
                    let mut state = stream.0.borrow_mut();
                    state.read_waits &= !reader;
                    state.write_waits &= !writer;
                    drop(state);
                    self.finish(&stream);
                    if stream.with(|stream| stream.needs_session()) {
                        self.session.update(&stream);
                    }
                }
                Event::Room(bytes) => {
                    self.room += bytes;
                    for end in &self.all {
                        end.0.borrow_mut().write_waits = false;
                    }
                }
                Event::SlotFreed(_) => self.slots += 1,
                Event::Pong { waiter, round_trip } => {
                    assert!(waiter < self.pings && round_trip > Duration::ZERO);
                    self.answers += 1;
                }
                Event::PingsEnded(waiters) => self.answers += waiters.len() as u32,
                Event::KeepAlive => {
                    self.keep_alives += 1;
                    let mut bytes = [0xee; 64];
                    bytes[..4].copy_from_slice(&self.keep_alives.to_be_bytes());
                    assert!(!self.session.keep_alive(bytes, self.now));
                }
                Event::Announce => self.show(None),
                Event::Closed { code, reason, .. } => self.closed = Some((code, reason)),
                Event::Failed => self.failed = true,
                _ => {}
            }
        }
    }

    fn write(&mut self, end: &End, want: u64) {
        let mut state = end.0.borrow_mut();
        if state.stream.send().check_write().is_err() {
            return;
        }
        let window = u64::from(STREAM_WINDOW - state.stream.unacknowledged());
        let count = want.min(window).min(self.room);
        if count == 0 {
            state.write_waits = want > 0;
            return;
        }
        self.room -= count;
        state.stream.wrote(count as usize, count as u32);
        let id = state.stream.id();
        let is_visible = state.is_visible;
        drop(state);
        if !is_visible {
            self.show(Some(end));
        }
        self.data.push_back(Data::Bytes(id, count));
        self.update(end);
    }

    fn read(&mut self, end: &End, want: u64) {
        let mut state = end.0.borrow_mut();
        if state.stream.recv().check_read().is_err() || state.stream.recv() == RecvHalf::Ended {
            return;
        }
        let count = want.min(state.buffer);
        if count == 0 {
            state.read_waits = want > 0;
            return;
        }
        state.buffer -= count;
        state.stream.read(count as usize);
        drop(state);
        self.update(end);
    }

    fn drop_stream(&mut self, end: &End) {
        end.with(|stream| {
            stream.reset(0);
            stream.stop(0);
        });
        end.0.borrow_mut().is_held = false;
        self.held.retain(|held| !Rc::ptr_eq(&held.0, &end.0));
        self.update(end);
    }

    /// Moves the frames that are due to the wire.
    fn send(&mut self) {
        while let Some(frame) = self.session.poll_frame() {
            binary::encode(&frame, &mut self.control);
        }
        self.take_events();
    }

    fn receive_data(&mut self, data: Data, every_byte: bool) {
        let (Data::Syn(id) | Data::Bytes(id, _) | Data::Fin(id)) = data;
        if self.session.is_ended() {
            return;
        }
        if let Data::Syn(id) = data {
            let stream = Stream::remote(id).with_credit_threshold(Self::threshold(every_byte));
            let end = self.add(stream, true);
            self.session.accept(&end).expect("an honest peer");
            self.backlog.push_back(end.clone());
            return self.update(&end);
        }
        let Some(end) = self.all.iter().find(|end| end.with(|s| s.id()) == id) else {
            panic!("{data:?} of an unknown stream");
        };
        let end = end.clone();
        match data {
            Data::Syn(_) => {}
            Data::Bytes(_, count) => {
                let mut state = end.0.borrow_mut();
                assert!(!state.fin_came);
                if state
                    .stream
                    .on_bytes(count as usize)
                    .expect("an honest peer")
                {
                    state.buffer += count;
                    assert!(state.buffer <= u64::from(STREAM_WINDOW));
                    state.read_waits = false;
                }
            }
            Data::Fin(_) => {
                let mut state = end.0.borrow_mut();
                state.fin_came = true;
                let _ = state.stream.on_fin(false).expect("an honest peer");
            }
        }
        self.update(&end);
    }
}

impl Wire {
    fn new(fails_streams: bool, every_byte: bool) -> Self {
        let now = Instant::now();
        let side = |bit| Side::new(bit, fails_streams, every_byte, now);
        Self {
            sides: [side(1), side(0)],
            now,
            is_cut: false,
        }
    }

    fn control(&mut self, from: usize, count: usize) {
        let [a, b] = &mut self.sides;
        let (from, to) = if from == 0 { (a, b) } else { (b, a) };
        for _ in 0..count {
            let Some(frame) = binary::decode(&mut from.control).expect("whole frames") else {
                return;
            };
            to.session.on_heard(self.now);
            to.session
                .handle_frame(frame, self.now)
                .expect("an honest peer");
            to.take_events();
        }
    }

    fn data(&mut self, from: usize, count: usize, every_byte: bool) {
        let [a, b] = &mut self.sides;
        let (from, to) = if from == 0 { (a, b) } else { (b, a) };
        // No stream is taken in before the hello.
        if to.session.peer().is_none() {
            return;
        }
        for _ in 0..count {
            let Some(data) = from.data.pop_front() else {
                return;
            };
            to.session.on_heard(self.now);
            to.receive_data(data, every_byte);
        }
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        for side in &mut self.sides {
            side.now = self.now;
            while side.session.poll_timeout().is_some_and(|at| at <= self.now) {
                side.session.handle_timeout(self.now);
                side.take_events();
            }
        }
    }

    fn act(&mut self, at: usize, op: &Op, every_byte: bool) {
        let now = self.now;
        let side = &mut self.sides[at];
        match *op {
            Op::Open => {
                if side.slots > 0 && side.session.check_open().is_ok() {
                    side.slots -= 1;
                    let stream = Stream::local(side.next_id, false)
                        .with_credit_threshold(Side::threshold(every_byte));
                    side.next_id += 2;
                    let end = side.add(stream, false);
                    side.session.open(&end, now);
                    side.invisible.push_back(end.clone());
                    side.hold(end.clone());
                    side.update(&end);
                }
            }
            Op::Accept => {
                if let Some(end) = side.backlog.pop_front() {
                    side.session.on_accepted(&end);
                    side.hold(end.clone());
                    side.update(&end);
                }
            }
            Op::Write(index, count) => {
                if let Some(end) = side.pick(index) {
                    side.write(&end, count);
                }
            }
            Op::Read(index, count) => {
                if let Some(end) = side.pick(index) {
                    side.read(&end, count);
                }
            }
            Op::Shutdown(index) => {
                if let Some(end) = side.pick(index) {
                    let _ = end.with(Stream::shutdown);
                    end.0.borrow_mut().write_waits = false;
                    side.update(&end);
                }
            }
            Op::Reset(index, code) => {
                if let Some(end) = side.pick(index) {
                    end.with(|stream| stream.reset(code));
                    // It takes the half by exclusive reference, so that no write waits.
                    end.0.borrow_mut().write_waits = false;
                    side.update(&end);
                }
            }
            Op::Stop(index, code) => {
                if let Some(end) = side.pick(index) {
                    end.with(|stream| stream.stop(code));
                    end.0.borrow_mut().read_waits = false;
                    side.update(&end);
                }
            }
            Op::Drop(index) => {
                if let Some(end) = side.pick(index) {
                    side.drop_stream(&end);
                }
            }
            Op::Ping => {
                let mut bytes = [at as u8; 64];
                bytes[..4].copy_from_slice(&side.pings.to_be_bytes());
                match side.session.ping(bytes, side.pings, now) {
                    Ok(()) => side.pings += 1,
                    Err(waiter) => assert_eq!(waiter, side.pings),
                }
                side.take_events();
            }
            Op::Drain => {
                side.is_draining |= side.session.drain();
                side.take_events();
            }
            Op::Close(code) => {
                side.session.close(code, 0, "bye", now);
                side.take_events();
            }
            Op::Send => side.send(),
            Op::Control(count) if !self.is_cut => self.control(at, count),
            Op::Data(count) if !self.is_cut => self.data(at, count, every_byte),
            Op::Control(_) | Op::Data(_) => {}
            Op::Wait(millis) => self.wait(Duration::from_millis(millis)),
            Op::Cut => self.is_cut = true,
            Op::Heal => self.is_cut = false,
        }
    }

    /// Delivers everything, until nothing is under way.
    fn settle(&mut self, every_byte: bool) {
        self.is_cut = false;
        for _ in 0..1000 {
            for at in 0..2 {
                self.sides[at].send();
                self.control(at, usize::MAX);
                self.data(at, usize::MAX, every_byte);
            }
            self.wait(Duration::from_millis(2));
            let quiet = self.sides.iter().all(|side| {
                side.control.is_empty() && side.data.is_empty() && !side.session.has_frames()
            });
            if quiet {
                return;
            }
        }
        panic!("it never settles");
    }

    fn check_ends(&self) {
        for (at, side) in self.sides.iter().enumerate() {
            let peer = &self.sides[1 - at];
            for end in &side.all {
                let state = end.0.borrow();
                let id = state.stream.id();
                let other = peer.all.iter().find(|other| other.with(|s| s.id()) == id);
                if state.stream.recv() == RecvHalf::Ended {
                    // A clean end: all that the peer wrote, and it has shut down.
                    let other = other.expect("the other end").0.borrow();
                    assert_eq!(state.stream.bytes_read(), other.stream.bytes_sent());
                    assert_eq!(other.stream.send().check_write(), Err(SendError::Shut));
                }
                if state.stream.recv().check_read() == Err(RecvError::Reset(7)) {
                    let other = other.expect("the other end").0.borrow();
                    assert_eq!(other.stream.send().check_write(), Err(SendError::Reset(7)));
                }
            }
        }
    }
}

fn op() -> impl Strategy<Value = Op> {
    let stream = 0..8_u8;
    prop_oneof![
        6 => Just(Op::Open),
        6 => Just(Op::Accept),
        10 => (stream.clone(), 1..80_u64).prop_map(|(s, n)| Op::Write(s, n)),
        10 => (stream.clone(), 1..80_u64).prop_map(|(s, n)| Op::Read(s, n)),
        5 => stream.clone().prop_map(Op::Shutdown),
        2 => (stream.clone(), 5..9_u32).prop_map(|(s, code)| Op::Reset(s, code)),
        2 => (stream.clone(), 5..9_u32).prop_map(|(s, code)| Op::Stop(s, code)),
        3 => stream.prop_map(Op::Drop),
        2 => Just(Op::Ping),
        12 => Just(Op::Send),
        12 => (1..6_usize).prop_map(Op::Control),
        12 => (1..6_usize).prop_map(Op::Data),
        2 => (1..2000_u64).prop_map(Op::Wait),
        1 => Just(Op::Cut),
        2 => Just(Op::Heal),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn two_honest_sides_leave_nothing_behind(
        ops in vec((0..2_usize, op()), 0..150),
        fails_streams: bool,
        every_byte: bool,
        drains in proptest::option::weighted(0.3, 0..2_usize),
        closes in proptest::option::weighted(0.3, 0..2_usize),
    ) {
        let mut wire = Wire::new(fails_streams, every_byte);
        let half = ops.len() / 2;
        for (step, (at, op)) in ops.iter().enumerate() {
            wire.act(*at, op, every_byte);
            if let (true, Some(at)) = (step == half, drains) {
                wire.act(at, &Op::Drain, every_byte);
            }
        }
        wire.settle(every_byte);
        wire.check_ends();
        for side in &wire.sides {
            for end in &side.held {
                let state = end.0.borrow();
                // What waits was woken if there is something to see.
                let recv = state.stream.recv();
                let readable = state.buffer > 0 || recv == RecvHalf::Ended || recv.check_read().is_err();
                prop_assert!(!(state.read_waits && readable), "a reader was not woken");
                let writable = side.room > 0 && state.stream.unacknowledged() < STREAM_WINDOW;
                let over = state.stream.send().check_write().is_err();
                prop_assert!(!(state.write_waits && (writable || over)), "a writer was not woken");
            }
            prop_assert_eq!(side.pings, side.answers);
            prop_assert!(!side.failed);
        }
        if let Some(at) = closes {
            wire.act(at, &Op::Close(9), every_byte);
            wire.settle(every_byte);
            prop_assert_eq!(&wire.sides[1 - at].closed, &Some((9, "bye".to_owned())));
            for side in &wire.sides {
                prop_assert!(side.session.is_ended());
                prop_assert_eq!(side.session.totals().open, 0);
                for end in &side.held {
                    prop_assert!(end.with(|s| s.send().check_write().is_err()));
                    prop_assert!(!end.with(|s| s.recv().takes_bytes()));
                }
            }
            return Ok(());
        }
        // Both applications take what there is and let go of it.
        for at in 0..2 {
            while let Some(end) = wire.sides[at].backlog.pop_front() {
                wire.sides[at].session.on_accepted(&end);
                wire.sides[at].hold(end.clone());
                wire.sides[at].update(&end);
            }
            while let Some(end) = wire.sides[at].held.first().cloned() {
                wire.sides[at].drop_stream(&end);
            }
        }
        wire.settle(every_byte);
        wire.check_ends();
        for side in &wire.sides {
            prop_assert_eq!(side.session.totals().open, 0);
            prop_assert_eq!(side.slots, MAX_STREAMS);
            prop_assert!(side.all.iter().all(|end| end.with(|s| s.is_retired() && s.unacknowledged() == 0)));
            if every_byte {
                prop_assert_eq!(side.room, CONNECTION_WINDOW);
            }
            if side.is_draining {
                prop_assert!(side.session.is_drained());
            }
            let totals = side.session.totals();
            prop_assert_eq!(totals.opened + totals.accepted, side.all.len() as u64);
        }
        let sent: Vec<u64> = wire.sides.iter().map(|side| side.session.totals().bytes_sent).collect();
        let read: Vec<u64> = wire.sides.iter().map(|side| side.session.totals().bytes_read).collect();
        prop_assert!(read[0] <= sent[1] && read[1] <= sent[0]);
    }
}

/// The same without chance, for Miri, in which a random case takes a minute.
#[test]
fn every_operation_of_both_sides_settles_and_ends() {
    let mut wire = Wire::new(false, true);
    let at_both = |wire: &mut Wire, ops: &[Op]| {
        for at in 0..2 {
            ops.iter().for_each(|op| wire.act(at, op, true));
        }
        wire.settle(true);
        wire.check_ends();
    };
    at_both(&mut wire, &[Op::Open, Op::Open, Op::Write(0, 40), Op::Ping]);
    at_both(&mut wire, &[Op::Accept, Op::Accept, Op::Write(1, 40)]);
    at_both(
        &mut wire,
        &[Op::Read(0, 20), Op::Read(1, 20), Op::Shutdown(0)],
    );
    at_both(
        &mut wire,
        &[Op::Reset(1, 7), Op::Stop(2, 8), Op::Read(3, 40)],
    );
    at_both(&mut wire, &[Op::Cut, Op::Wait(100), Op::Heal, Op::Drop(3)]);
    wire.act(0, &Op::Drain, true);
    wire.settle(true);
    wire.act(0, &Op::Close(9), true);
    wire.settle(true);
    assert_eq!(wire.sides[1].closed, Some((9, "bye".to_owned())));
    for side in &wire.sides {
        assert!(side.session.is_ended() && !side.failed);
        assert_eq!(side.session.totals().open, 0);
    }
}
