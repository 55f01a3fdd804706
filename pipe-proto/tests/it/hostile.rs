//! A session whose peer sends any frames: each costs a violation at most, and all that it can make the session keep
//! is bounded.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use pipe_proto::{
    Carrier, DrainMode, Event, Frame, Hello, PING_LEN, Session, SessionConfig, Stream, StreamFrame,
    StreamHandle, ViolationKind,
};
use proptest::collection::vec;
use proptest::prelude::*;

const MAX_STREAMS: u32 = 3;

/// What a session keeps for a peer that sends no DONE and no TAKEN; four times that where it ends streams natively and
/// sends no CREDIT.
const MAX_REMOTE: usize = 4 * MAX_STREAMS as usize;

/// The answers to pings that wait at most.
const MAX_PONGS: usize = 1024;

/// Of each stream at most: OPEN, END or RESET, STOP, CREDIT, TAKEN, DONE.
const FRAMES_OF_A_STREAM: usize = 6;

const HELLO: Hello = Hello {
    max_streams: MAX_STREAMS,
    stream_window: 1000,
    connection_window: 0,
    flight: 0,
    takes_growth: false,
};

const YAMUX: Carrier = Carrier {
    local_bit: 0,
    opens_by_frame: false,
    has_orphans: true,
    ends_natively: false,
    drain: DrainMode::AtOnce,
    is_plain: false,
};

#[derive(Clone, Debug)]
struct Handle(Rc<RefCell<Stream>>);

impl StreamHandle for Handle {
    fn with<R>(&self, act: impl FnOnce(&mut Stream) -> R) -> R {
        act(&mut self.0.borrow_mut())
    }
}

/// What the peer, the application and the multiplexer do.
#[derive(Clone, Debug)]
enum Op {
    Frame(Frame),
    /// The peer opens its next stream.
    Syn,
    /// The peer opens a stream of any number.
    SynOf(u64),
    Bytes(u8, usize),
    Fin(u8, bool),
    CarrierEnd(u8),
    Cut(u8),
    Open,
    Accept(u8),
    Write(u8, usize),
    Read(u8, usize),
    Shutdown(u8),
    Reset(u8, u32),
    Stop(u8, u32),
    Ping,
    Drain,
    Close,
    Wait(u64),
    Send,
}

fn id() -> impl Strategy<Value = u64> {
    prop_oneof![9 => 0..16_u64, 1 => any::<u64>()]
}

fn frame() -> impl Strategy<Value = Frame> {
    let count = || prop_oneof![3 => 0..20_u32, 1 => any::<u32>()];
    let about = prop_oneof![
        1 => Just(StreamFrame::Open),
        8 => (0..20_u64).prop_map(StreamFrame::End),
        1 => any::<u64>().prop_map(StreamFrame::End),
        5 => any::<u32>().prop_map(StreamFrame::Reset),
        5 => any::<u32>().prop_map(StreamFrame::Stop),
        5 => count().prop_map(StreamFrame::Credit),
        5 => Just(StreamFrame::Taken),
        2 => Just(StreamFrame::Done),
    ];
    prop_oneof![
        120 => (id(), about).prop_map(|(id, frame)| Frame::Stream { id, frame }),
        6 => Just(Frame::Ping([7; PING_LEN])),
        2 => (0..4_u8).prop_map(|n| Frame::Pong([n; PING_LEN])),
        3 => any::<u64>().prop_map(Frame::Received),
        1 => Just(Frame::Drain),
        1 => any::<u64>().prop_map(|streams| Frame::Drained { streams }),
        1 => Just(Frame::Hello(HELLO)),
        1 => Just(Frame::Closed),
        1 => any::<(u32, u64)>().prop_map(|(code, messages)| Frame::Close {
            code,
            messages,
            reason: "enough".to_owned(),
        }),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let pick = any::<u8>;
    prop_oneof![
        30 => frame().prop_map(Op::Frame),
        6 => Just(Op::Syn),
        1 => id().prop_map(Op::SynOf),
        6 => (pick(), 0..20_usize).prop_map(|(stream, count)| Op::Bytes(stream, count)),
        2 => (pick(), any::<bool>()).prop_map(|(stream, clean)| Op::Fin(stream, clean)),
        4 => pick().prop_map(Op::CarrierEnd),
        1 => pick().prop_map(Op::Cut),
        6 => Just(Op::Open),
        6 => pick().prop_map(Op::Accept),
        6 => (pick(), 0..20_usize).prop_map(|(stream, count)| Op::Write(stream, count)),
        6 => (pick(), 0..20_usize).prop_map(|(stream, count)| Op::Read(stream, count)),
        4 => pick().prop_map(Op::Shutdown),
        4 => (pick(), any::<u32>()).prop_map(|(stream, code)| Op::Reset(stream, code)),
        4 => (pick(), any::<u32>()).prop_map(|(stream, code)| Op::Stop(stream, code)),
        2 => Just(Op::Ping),
        1 => Just(Op::Drain),
        1 => Just(Op::Close),
        3 => (0..5000_u64).prop_map(Op::Wait),
        4 => Just(Op::Send),
    ]
}

fn carrier() -> impl Strategy<Value = Carrier> {
    let drain = prop_oneof![
        Just(DrainMode::AtOnce),
        Just(DrainMode::WhenIdle),
        Just(DrainMode::Counted),
    ];
    let ends_natively = prop::bool::weighted(0.2);
    let carrier = (0..2_u64, any::<(bool, bool)>(), ends_natively, drain);
    carrier.prop_map(
        |(local_bit, (opens_by_frame, has_orphans), ends_natively, drain)| Carrier {
            local_bit,
            opens_by_frame,
            has_orphans,
            ends_natively,
            drain,
            is_plain: false,
        },
    )
}

struct Side {
    session: Session<Handle, u8>,
    now: Instant,
    all: Vec<Handle>,
    next_local: u64,
    next_remote: u64,
    pings: usize,
}

impl Side {
    fn new(carrier: Carrier, fails_streams: bool) -> Self {
        let now = Instant::now();
        let config = SessionConfig {
            hello: HELLO,
            max_stream_window: 4000,
            window_growth: 10_000,
            growth_budget: None,
            keep_alive: Duration::from_secs(1),
            disconnected_after: Duration::from_secs(3),
            failed_after: Duration::from_secs(20),
            fails_streams,
        };
        Self {
            session: Session::new(carrier, config, now),
            now,
            all: Vec::new(),
            next_local: carrier.local_bit,
            next_remote: 1 - carrier.local_bit,
            pings: 0,
        }
    }

    fn add(&mut self, stream: Stream) -> Handle {
        let stream = stream.with_credit_threshold(Some(5)).with_carrier();
        let handle = Handle(Rc::new(RefCell::new(stream)));
        self.all.push(handle.clone());
        handle
    }

    fn pick(&self, index: u8) -> Option<Handle> {
        let count = self.all.len();
        (count > 0).then(|| self.all[usize::from(index) % count].clone())
    }

    /// Does something to a stream, and what follows from it.
    fn act<R>(&mut self, index: u8, act: impl FnOnce(&mut Stream) -> R) -> Option<R> {
        let stream = self.pick(index)?;
        let done = stream.with(act);
        if stream.with(|stream| stream.needs_session()) {
            self.session.update(&stream);
        }
        Some(done)
    }

    fn perform(&mut self, op: Op) {
        let result = match op {
            Op::Frame(frame) => self.session.handle_frame(frame, self.now),
            Op::Syn => {
                let id = self.next_remote;
                self.next_remote += 2;
                let stream = self.add(Stream::remote(id));
                self.session.accept(&stream)
            }
            Op::SynOf(id) => {
                let stream = self.add(Stream::remote(id));
                self.session.accept(&stream)
            }
            Op::Bytes(stream, count) => {
                let taken = self.act(stream, |stream| stream.on_bytes(count));
                taken.unwrap_or(Ok(false)).map(drop)
            }
            Op::Fin(stream, is_clean) => {
                let taken = self.act(stream, |stream| stream.on_fin(is_clean).map(drop));
                taken.unwrap_or(Ok(()))
            }
            other => {
                self.perform_here(&other);
                Ok(())
            }
        };
        if let Err(violation) = result {
            let violation = self.session.blame(violation);
            assert_eq!(
                violation.kind() == ViolationKind::Handshake,
                self.session.peer().is_none(),
                "{violation}"
            );
            self.session.fail();
        }
        self.check();
    }

    fn perform_here(&mut self, op: &Op) {
        match *op {
            Op::CarrierEnd(stream) => drop(self.act(stream, Stream::on_carrier_end)),
            Op::Cut(stream) => drop(self.act(stream, |stream| {
                let _ = stream.on_cut();
            })),
            Op::Open if self.session.check_open().is_ok() => {
                let by_frame = self.session.carrier().opens_by_frame;
                let stream = self.add(Stream::local(self.next_local, by_frame));
                self.next_local += 2;
                self.session.open(&stream, self.now);
            }
            Op::Accept(stream) => {
                let stream = self
                    .pick(stream)
                    .filter(|stream| !stream.with(|s| s.is_local()));
                if let Some(stream) = stream {
                    self.session.on_accepted(&stream);
                }
            }
            Op::Write(stream, count) => drop(self.act(stream, |stream| {
                if stream.send().check_write().is_ok() {
                    stream.wrote(count, count as u32);
                }
            })),
            Op::Read(stream, count) => drop(self.act(stream, |stream| {
                let unread = stream.bytes_arrived() - stream.bytes_read();
                if stream.recv().takes_bytes() {
                    stream.read(count.min(unread as usize));
                }
            })),
            Op::Shutdown(stream) => drop(self.act(stream, |stream| stream.shutdown().is_ok())),
            Op::Reset(stream, code) => drop(self.act(stream, |stream| stream.reset(code))),
            Op::Stop(stream, code) => drop(self.act(stream, |stream| stream.stop(code))),
            Op::Ping => {
                let bytes = [self.pings as u8; PING_LEN];
                self.pings += usize::from(self.session.ping(bytes, 0, self.now).is_ok());
            }
            Op::Drain => drop(self.session.drain()),
            Op::Close => self.session.close(7, 0, "enough"),
            Op::Wait(millis) => {
                self.now += Duration::from_millis(millis);
                self.session.handle_timeout(self.now);
            }
            Op::Send => drop(self.take_frames()),
            _ => {}
        }
    }

    /// Takes out everything that the session keeps for its caller, which is bounded.
    fn check(&mut self) {
        let mut events = 0;
        while let Some(event) = self.session.poll_event() {
            events += 1;
            match event {
                Event::KeepAlive => {
                    let bytes = [self.pings as u8; PING_LEN];
                    self.pings += 1;
                    self.session.keep_alive(bytes, self.now);
                }
                Event::Failed => self.session.fail(),
                _ => {}
            }
        }
        assert!(events <= 32 + 8 * self.all.len(), "{events} events");
        let remote = self.session.streams();
        let remote = remote.filter(|stream| !stream.with(|stream| stream.is_local()));
        let is_native = self.session.carrier().ends_natively;
        assert!(
            remote.count()
                <= if is_native {
                    4 * MAX_REMOTE
                } else {
                    MAX_REMOTE
                }
        );
    }

    fn take_frames(&mut self) -> Vec<Frame> {
        let frames: Vec<_> = std::iter::from_fn(|| self.session.poll_frame()).collect();
        // Beside them HELLO, DRAIN, DRAINED, CLOSE and pings.
        let bound = MAX_PONGS + 4 + self.pings + FRAMES_OF_A_STREAM * self.all.len();
        assert!(frames.len() <= bound, "{} frames", frames.len());
        frames
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn any_frames_cost_a_violation_at_most(
        carrier in carrier(),
        fails_streams in any::<bool>(),
        greeted in prop::bool::weighted(0.95),
        ops in vec(op(), 0..150),
    ) {
        let mut side = Side::new(carrier, fails_streams);
        if greeted {
            side.perform(Op::Frame(Frame::Hello(HELLO)));
        }
        for op in ops {
            side.perform(op);
        }
        // The application lets go of everything.
        for index in 0..side.all.len() {
            let stream = side.all[index].clone();
            side.session.on_accepted(&stream);
            stream.with(|stream| {
                stream.reset(0);
                stream.stop(0);
            });
            side.session.update(&stream);
        }
        side.session.close(0, 0, "");
        let frames = side.take_frames();
        let close = frames.iter().position(|frame| matches!(frame, Frame::Close { .. }));
        prop_assert!(close.is_none_or(|at| at + 1 == frames.len()), "a frame behind the close");
        side.check();
        prop_assert!(side.session.streams().next().is_none());
        prop_assert!(!side.session.has_frames());
    }

    #[test]
    fn frames_about_streams_that_never_come_are_bounded(frames in vec(frame(), 200)) {
        let mut side = Side::new(YAMUX, false);
        side.perform(Op::Frame(Frame::Hello(HELLO)));
        let mut kept = 0;
        for frame in frames {
            if let Frame::Stream { id, frame } = frame {
                let frame = Frame::Stream { id: id | 1, frame };
                kept += usize::from(side.session.handle_frame(frame, side.now).is_ok());
            }
        }
        prop_assert!(kept <= MAX_REMOTE);
    }
}

#[test]
fn pings_whose_answers_are_not_taken_are_a_violation() {
    let mut side = Side::new(YAMUX, false);
    side.perform(Op::Frame(Frame::Hello(HELLO)));
    let ping = || Frame::Ping([7; PING_LEN]);
    for _ in 0..10 * MAX_PONGS {
        side.session.handle_frame(ping(), side.now).unwrap();
        side.session.poll_frame();
    }
    let taken =
        (0..10 * MAX_PONGS).take_while(|_| side.session.handle_frame(ping(), side.now).is_ok());
    assert!(taken.count() <= MAX_PONGS);
}
