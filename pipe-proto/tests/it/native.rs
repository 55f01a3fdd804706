//! A session over a multiplexer that says how streams end, as QUIC does.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use pipe_proto::{
    Carrier, DrainMode, Event, Frame, Hello, Session, SessionConfig, Stream, StreamFrame,
    StreamHandle,
};

const MAX_STREAMS: u32 = 2;

const HELLO: Hello = Hello {
    max_streams: MAX_STREAMS,
    stream_window: 1000,
    connection_window: 9000,
    flight: 0,
    takes_growth: false,
};

#[derive(Clone, Debug)]
struct Handle(Rc<RefCell<Stream>>);

impl StreamHandle for Handle {
    fn with<R>(&self, act: impl FnOnce(&mut Stream) -> R) -> R {
        act(&mut self.0.borrow_mut())
    }
}

fn handle(stream: Stream) -> Handle {
    Handle(Rc::new(RefCell::new(stream)))
}

/// A session of a server, after both hellos.
fn session(now: Instant) -> Session<Handle, ()> {
    let carrier = Carrier {
        local_bit: 1,
        opens_by_frame: false,
        has_orphans: false,
        ends_natively: true,
        drain: DrainMode::WhenIdle,
        is_plain: false,
    };
    let config = SessionConfig {
        hello: HELLO,
        max_stream_window: 4000,
        window_growth: 10_000,
        growth_budget: None,
        keep_alive: Duration::from_secs(1),
        disconnected_after: Duration::from_secs(3),
        failed_after: Duration::from_secs(20),
        fails_streams: false,
    };
    let mut session = Session::new(carrier, config, now);
    session.handle_frame(Frame::Hello(HELLO), now).unwrap();
    assert_eq!(session.poll_frame(), Some(Frame::Hello(HELLO)));
    session
}

/// Takes a stream of the peer and drops it, with `counted` written bytes.
fn take_and_drop(session: &mut Session<Handle, ()>, id: u64, counted: u32) -> bool {
    let stream = handle(Stream::remote(id));
    if session.accept(&stream).is_err() {
        return false;
    }
    session.on_accepted(&stream);
    stream.with(|stream| {
        stream.wrote(counted as usize, counted);
        stream.shutdown().unwrap();
        stream.stop(0);
    });
    session.update(&stream);
    true
}

#[test]
fn only_done_is_said_of_a_stream_of_the_peer() {
    let mut session = session(Instant::now());
    assert!(take_and_drop(&mut session, 0, 0));
    assert!(!session.has_control_frames());
    assert_eq!(session.queued_streams(), 1);
    let done = Frame::Stream {
        id: 0,
        frame: StreamFrame::Done,
    };
    assert_eq!(session.poll_frame(), Some(done));
    assert_eq!(session.poll_frame(), None);
    assert!(session.streams().next().is_none());
}

#[test]
fn a_drain_is_answered_when_the_last_stream_of_this_side_is_over() {
    let now = Instant::now();
    let mut session = session(now);
    let stream = handle(Stream::local(1, false));
    session.open(&stream, now);
    session.handle_frame(Frame::Drain, now).unwrap();
    assert!(!session.has_frames());
    stream.with(|stream| {
        stream.reset(0);
        stream.stop(0);
    });
    session.update(&stream);
    assert!(!session.has_frames());
    let done = Frame::Stream {
        id: 1,
        frame: StreamFrame::Done,
    };
    session.handle_frame(done, now).unwrap();
    assert_eq!(session.poll_frame(), Some(Frame::Drained { streams: 1 }));
}

#[test]
fn a_reset_returns_what_counted_at_the_peer() {
    let now = Instant::now();
    let mut session = session(now);
    let stream = handle(Stream::local(1, false));
    session.open(&stream, now);
    stream.with(|stream| {
        stream.wrote(9, 9);
        stream.reset(0);
    });
    session.update(&stream);
    let events: Vec<_> = std::iter::from_fn(|| session.poll_event()).collect();
    let freed = |event: &Event<_, _>| matches!(event, Event::Room(9));
    assert_eq!(events.iter().filter(|event| freed(event)).count(), 1);
}

#[test]
fn streams_whose_credit_does_not_come_are_bounded() {
    let mut session = session(Instant::now());
    let taken = (0..1000).take_while(|n| {
        let is_taken = take_and_drop(&mut session, 4 * n, 1);
        while session.poll_frame().is_some() {}
        is_taken
    });
    assert_eq!(taken.count(), 16 * MAX_STREAMS as usize);
}
