//! Windows that grow: a session receives over a path with a round trip, on virtual time.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use pipe_proto::{
    Carrier, DrainMode, Event, Frame, GrowthBudget, Hello, PingBytes, Session, SessionConfig,
    Stream, StreamFrame, StreamHandle,
};

/// The window of a stream at first.
const WINDOW: u32 = 1 << 16;

const MAX_WINDOW: u32 = 32 * WINDOW;

/// How far the clock moves in a step.
const STEP: Duration = Duration::from_millis(1);

/// Steps of a round trip.
const ROUND_TRIP: u32 = 20;

const HELLO: Hello = Hello {
    max_streams: 16,
    stream_window: WINDOW,
    connection_window: 0,
    flight: 0,
    takes_growth: true,
};

const BY_FRAMES: Carrier = Carrier {
    local_bit: 1,
    opens_by_frame: true,
    has_orphans: false,
    ends_natively: false,
    drain: DrainMode::Counted,
    is_plain: false,
};

#[derive(Clone)]
struct Handle(Rc<RefCell<Stream>>);

impl StreamHandle for Handle {
    fn with<R>(&self, act: impl FnOnce(&mut Stream) -> R) -> R {
        act(&mut self.0.borrow_mut())
    }
}

/// What is under way in one direction.
struct Lane<T>(VecDeque<(Instant, T)>);

impl<T> Lane<T> {
    fn new() -> Self {
        Self(VecDeque::new())
    }

    fn put(&mut self, now: Instant, what: T) {
        self.0.push_back((now + STEP * (ROUND_TRIP / 2), what));
    }

    fn take(&mut self, now: Instant) -> Option<T> {
        let (at, _) = self.0.front()?;
        let has_come = *at <= now;
        has_come.then(|| self.0.pop_front())?.map(|(_, what)| what)
    }
}

/// A stream on which the peer sends as much as it may.
struct Flow {
    stream: Handle,
    /// What the peer may send yet.
    granted: u64,
    /// What it sends, and the application reads, in a step at most.
    sends: u64,
    reads: u64,
    unread: u64,
    bytes: Lane<u64>,
    credits: Lane<u64>,
}

struct Path {
    session: Session<Handle, ()>,
    now: Instant,
    flows: Vec<Flow>,
    pings: Lane<PingBytes>,
    sent_pings: u8,
    budget: u64,
}

impl Path {
    fn new(hello: Hello, budget: u64) -> Self {
        Self::over(BY_FRAMES, hello, budget, None)
    }

    fn over(carrier: Carrier, hello: Hello, budget: u64, shared: Option<GrowthBudget>) -> Self {
        let config = SessionConfig {
            hello: HELLO,
            max_stream_window: MAX_WINDOW,
            window_growth: budget,
            growth_budget: shared,
            keep_alive: Duration::from_secs(1000),
            disconnected_after: Duration::from_secs(2000),
            failed_after: Duration::from_secs(3000),
            fails_streams: false,
        };
        let now = Instant::now();
        let mut session = Session::new(carrier, config, now);
        session.handle_frame(Frame::Hello(hello), now).unwrap();
        let mut path = Self {
            session,
            now,
            flows: Vec::new(),
            pings: Lane::new(),
            sent_pings: 0,
            budget,
        };
        path.send();
        path
    }

    /// Adds a stream, with the bytes that the peer sends and the application reads in a step at most.
    fn flow(&mut self, sends: u64, reads: u64) -> usize {
        let id = 2 * self.flows.len() as u64;
        let stream = Stream::remote(id).with_credit_threshold(Some(WINDOW / 4));
        let stream = Handle(Rc::new(RefCell::new(stream)));
        self.session.accept(&stream).unwrap();
        self.session.on_accepted(&stream);
        self.flows.push(Flow {
            stream,
            granted: WINDOW.into(),
            sends,
            reads,
            unread: 0,
            bytes: Lane::new(),
            credits: Lane::new(),
        });
        self.flows.len() - 1
    }

    fn run(&mut self, round_trips: u32) {
        for _ in 0..round_trips * ROUND_TRIP {
            self.now += STEP;
            self.step();
            let lent = (0..self.flows.len()).map(|at| u64::from(self.growth(at)));
            assert!(lent.sum::<u64>() <= self.budget);
        }
    }

    fn step(&mut self) {
        let now = self.now;
        for at in 0..self.flows.len() {
            let flow = &mut self.flows[at];
            while let Some(credit) = flow.credits.take(now) {
                flow.granted += credit;
            }
            let count = flow.sends.min(flow.granted);
            if count > 0 {
                flow.granted -= count;
                flow.bytes.put(now, count);
            }
            while let Some(count) = flow.bytes.take(now) {
                let takes = flow.stream.with(|stream| stream.on_bytes(count as usize));
                flow.unread += if takes.unwrap() { count } else { 0 };
            }
            let window = WINDOW + flow.stream.with(|stream| stream.window_growth());
            assert!(flow.unread <= window.into(), "more than was granted");
            let count = flow.unread.min(flow.reads);
            flow.unread -= count;
            let stream = flow.stream.clone();
            let due = stream.with(|stream| {
                stream.read(count as usize);
                stream.due_credit()
            });
            if let Some(due) = due {
                self.session.tune_window(&stream, due, now, || None);
            }
            self.session.update(&stream);
            // Tuned or not: a sender that waits for the credit would wait for ever.
            let still_due = stream.with(|stream| stream.due_credit());
            assert_eq!(still_due, due);
        }
        self.send();
        while let Some(bytes) = self.pings.take(now - STEP * (ROUND_TRIP / 2)) {
            self.session.handle_frame(Frame::Pong(bytes), now).unwrap();
        }
    }

    fn send(&mut self) {
        while let Some(event) = self.session.poll_event() {
            if matches!(event, Event::KeepAlive) {
                self.sent_pings += 1;
                self.session.keep_alive([self.sent_pings; 64], self.now);
            }
        }
        while let Some(frame) = self.session.poll_frame() {
            match frame {
                Frame::Ping(bytes) => self.pings.put(self.now, bytes),
                Frame::Stream {
                    id,
                    frame: StreamFrame::Credit(bytes),
                } => self.flows[id as usize / 2]
                    .credits
                    .put(self.now, bytes.into()),
                _ => {}
            }
        }
    }

    fn growth(&self, at: usize) -> u32 {
        self.flows[at].stream.with(|stream| stream.window_growth())
    }

    fn read(&self, at: usize) -> u64 {
        self.flows[at].stream.with(|stream| stream.bytes_read())
    }

    /// Ends a stream: the peer abandons it.
    fn end(&mut self, at: usize) {
        self.flows[at].sends = 0;
        self.flows[at].unread = 0;
        let id = self.flows[at].stream.with(|stream| stream.id());
        let frame = StreamFrame::Reset(0);
        let frame = Frame::Stream { id, frame };
        self.session.handle_frame(frame, self.now).unwrap();
    }
}

const AMPLE: u64 = 1 << 30;

/// More than any window allows.
const FAST: u64 = 1 << 30;

#[test]
fn a_window_that_is_used_up_doubles_about_every_round_trip() {
    let mut path = Path::new(HELLO, AMPLE);
    let flow = path.flow(FAST, FAST);
    path.run(5);
    assert!(path.growth(flow) >= WINDOW, "{}", path.growth(flow));
    path.run(10);
    assert_eq!(path.growth(flow), MAX_WINDOW - WINDOW);
    let before = path.read(flow);
    path.run(10);
    let read = path.read(flow) - before;
    assert!(read >= 9 * u64::from(MAX_WINDOW), "{read}");
    // A few measurements, and none while nothing happens.
    assert!((1..=2).contains(&path.sent_pings), "{}", path.sent_pings);
    path.flows[flow].sends = 0;
    path.run(200);
    assert!(path.sent_pings <= 2, "{}", path.sent_pings);
}

#[test]
fn a_window_grows_where_the_multiplexer_says_how_streams_end() {
    let carrier = Carrier {
        local_bit: 1,
        opens_by_frame: false,
        has_orphans: true,
        ends_natively: true,
        drain: DrainMode::WhenIdle,
        is_plain: false,
    };
    let mut path = Path::over(carrier, HELLO, AMPLE, None);
    let flow = path.flow(FAST, FAST);
    path.run(15);
    assert_eq!(path.growth(flow), MAX_WINDOW - WINDOW);
}

#[test]
fn connections_share_a_budget_and_return_it() {
    let bytes = 12 * u64::from(WINDOW);
    let shared = GrowthBudget::new(bytes);
    let path = || Path::over(BY_FRAMES, HELLO, AMPLE, Some(shared.clone()));
    let (mut first, mut second) = (path(), path());
    let flow = first.flow(FAST, FAST);
    first.run(30);
    assert_eq!(u64::from(first.growth(flow)), bytes);
    assert_eq!(shared.lent(), bytes);
    // A newcomer gets its half.
    let newcomer = second.flow(FAST, FAST);
    for _ in 0..60 {
        first.run(1);
        second.run(1);
    }
    let shares = [first.growth(flow), second.growth(newcomer)].map(u64::from);
    for share in shares {
        assert!(
            (bytes / 3..=bytes * 2 / 3).contains(&share),
            "{shares:?} of {bytes}"
        );
    }
    drop(first);
    assert_eq!(shared.lent(), shares[1]);
    second.run(100);
    assert_eq!(u64::from(second.growth(newcomer)), bytes);
    second.end(newcomer);
    assert_eq!(shared.lent(), 0);
}

#[test]
fn connections_need_no_shared_budget_to_carry_what_their_windows_allow_at_first() {
    let none = GrowthBudget::new(0);
    let mut path = Path::over(BY_FRAMES, HELLO, AMPLE, Some(none));
    let flow = path.flow(FAST, FAST);
    path.run(50);
    assert_eq!(path.growth(flow), 0);
    assert!(path.read(flow) > 45 * u64::from(WINDOW));
}

#[test]
fn a_window_grows_ahead_of_a_sender_that_starts_slowly() {
    // As TCP and QUIC do: the first flight is a small part of a common window, and each is twice what went before.
    let mut path = Path::new(HELLO, AMPLE);
    let flow = path.flow(0, FAST);
    let mut rate = u64::from(WINDOW / 18);
    let mut round_trips = 0;
    while rate < u64::from(MAX_WINDOW / 2) {
        path.flows[flow].sends = rate / u64::from(ROUND_TRIP);
        let before = path.read(flow);
        path.run(1);
        let read = path.read(flow) - before;
        println!(
            "{read} bytes at a rate of {rate}, grown by {}",
            path.growth(flow)
        );
        rate = rate.max(2 * read);
        round_trips += 1;
    }
    assert_eq!(round_trips, 13, "as many as without a window");
}

#[test]
fn a_window_that_is_not_read_does_not_grow() {
    let mut path = Path::new(HELLO, AMPLE);
    let flow = path.flow(FAST, 0);
    path.run(100);
    assert_eq!((path.growth(flow), path.read(flow)), (0, 0));
    assert_eq!(path.flows[flow].unread, WINDOW.into());
    assert_eq!(path.sent_pings, 0);
}

/// A stream between ends with these rates has the window that the slower one can use, three times the first.
fn has_a_window_of_use(sends: u64, reads: u64) {
    let mut path = Path::new(HELLO, AMPLE);
    let flow = path.flow(sends, reads);
    path.run(100);
    let window = u64::from(WINDOW + path.growth(flow));
    let needed = sends.min(reads) * u64::from(ROUND_TRIP);
    assert!((needed..=4 * needed).contains(&window), "{window}");
}

#[test]
fn a_slow_reader_gets_the_window_that_it_can_use() {
    has_a_window_of_use(FAST, 3 * u64::from(WINDOW / ROUND_TRIP));
}

#[test]
fn a_slow_sender_does_not_grow_the_window() {
    let mut path = Path::new(HELLO, AMPLE);
    let flow = path.flow(u64::from(WINDOW / ROUND_TRIP / 5), FAST);
    path.run(100);
    assert!(path.read(flow) > 18 * u64::from(WINDOW));
    assert_eq!(path.growth(flow), 0);
    // Nor does a burst after a rest.
    path.flows[flow].sends = 0;
    path.run(100);
    path.flows[flow].sends = FAST;
    path.run(1);
    assert_eq!(path.growth(flow), 0);
}

#[test]
fn a_slow_path_gets_the_window_that_it_can_use() {
    has_a_window_of_use(3 * u64::from(WINDOW / ROUND_TRIP), FAST);
}

#[test]
fn streams_share_the_budget_and_return_it() {
    let budget = 12 * u64::from(WINDOW);
    let mut path = Path::new(HELLO, budget);
    let first = path.flow(FAST, FAST);
    path.run(30);
    assert_eq!(u64::from(path.growth(first)), budget);
    // A newcomer gets its half.
    let second = path.flow(FAST, FAST);
    path.run(60);
    let shares = [path.growth(first), path.growth(second)].map(u64::from);
    for share in shares {
        assert!(
            (budget / 3..=budget * 2 / 3).contains(&share),
            "{shares:?} of {budget}"
        );
    }
    path.end(first);
    assert_eq!(path.growth(first), 0);
    path.run(100);
    assert_eq!(u64::from(path.growth(second)), budget);
}

#[test]
fn a_stream_that_does_not_use_its_window_gives_the_budget_back_when_it_is_short() {
    let budget = 8 * u64::from(WINDOW);
    let mut path = Path::new(HELLO, budget);
    let idle = path.flow(FAST, FAST);
    path.run(30);
    // Its sender has become slow. No other stream needs the budget.
    path.flows[idle].sends = u64::from(WINDOW / ROUND_TRIP / 4);
    path.run(100);
    assert_eq!(u64::from(path.growth(idle)), budget);
    let busy = path.flow(FAST, FAST);
    path.run(200);
    assert_eq!(path.growth(idle), 0);
    assert_eq!(u64::from(path.growth(busy)), budget);
    // It still has the window that it began with.
    let before = path.read(idle);
    path.flows[idle].sends = FAST;
    path.run(2);
    assert!(path.read(idle) - before >= u64::from(WINDOW));
}

#[test]
fn many_streams_are_served_alike() {
    let budget = 16 * u64::from(WINDOW);
    let mut path = Path::new(HELLO, budget);
    for _ in 0..8 {
        path.flow(FAST, FAST);
        path.run(20);
    }
    path.run(200);
    let growths: Vec<u64> = (0..8).map(|at| path.growth(at).into()).collect();
    let share = budget / 8;
    assert!(
        growths.iter().all(|growth| *growth >= share / 2),
        "{growths:?}"
    );
}

#[test]
fn a_peer_that_does_not_know_of_growth_is_given_none() {
    let earlier = Hello {
        takes_growth: false,
        ..HELLO
    };
    let mut path = Path::new(earlier, AMPLE);
    let flow = path.flow(FAST, FAST);
    path.run(50);
    assert_eq!((path.growth(flow), path.sent_pings), (0, 0));
    assert!(path.read(flow) > 45 * u64::from(WINDOW));
}

#[test]
fn windows_without_a_budget_stay_and_ask_for_no_round_trip() {
    let mut path = Path::new(HELLO, 0);
    let flow = path.flow(FAST, FAST);
    path.run(50);
    assert_eq!((path.growth(flow), path.sent_pings), (0, 0));
}

#[test]
fn hostile_credit_costs_nothing() {
    let mut stream = Stream::local(1, false);
    for bytes in [0, 1, u32::MAX, u32::MAX, 7] {
        let reaction = stream.on_frame(StreamFrame::Credit(bytes)).unwrap();
        assert_eq!(reaction.freed, 0, "nothing counted");
    }
    assert_eq!(stream.credit_ahead(), u32::MAX);
    // Bytes that use it count against no window.
    stream.wrote(1000, 0);
    assert_eq!(stream.credit_ahead(), u32::MAX - 1000);
    assert_eq!(stream.unacknowledged(), 0);
    stream.wrote(10, 10);
    let reaction = stream.on_frame(StreamFrame::Credit(4)).unwrap();
    assert_eq!((reaction.freed, stream.unacknowledged()), (4, 6));
    stream.reset(3);
    let before = stream.credit_ahead();
    let reaction = stream.on_frame(StreamFrame::Credit(u32::MAX)).unwrap();
    assert_eq!((reaction.freed, stream.unacknowledged()), (6, 0));
    assert_eq!(stream.credit_ahead(), before);
}
