//! Any lines, as they come on the data channels of `pipe/1`: frames for a session, or a violation.
//!
//! The first byte chooses whether the peer has said hello before. A line is about the connection, or else about the
//! stream that was opened last.

#![no_main]

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use pipe_core::backend::proto::codec::text::{
    ControlLine, MAX_LEN, StreamLine, StreamWord, decode_control, decode_stream,
};
use pipe_core::backend::proto::{
    Carrier, DrainMode, Frame, Hello, MAX_REASON_LEN, Session, SessionConfig, Stream, StreamFrame,
    StreamHandle, Violation,
};

const HELLO: Hello = Hello {
    max_streams: 4,
    stream_window: 1 << 18,
    connection_window: 0,
    flight: 1 << 18,
    takes_growth: true,
};

const CARRIER: Carrier = Carrier {
    local_bit: 0,
    opens_by_frame: true,
    has_orphans: false,
    ends_natively: false,
    drain: DrainMode::Counted,
    is_plain: false,
};

/// The streams of the peer that a session keeps at most.
const MAX_REMOTE: usize = 4 * HELLO.max_streams as usize;

fuzz_target!(|data: &[u8]| {
    let [choice, lines @ ..] = data else {
        return;
    };
    let lines = || lines.split(|byte| *byte == b'\n');
    lines().for_each(codec);
    let mut run = Run::new(choice & 1 == 1);
    for line in lines() {
        if run.receive(line).is_err() {
            run.session.fail();
        }
        run.check();
    }
    run.finish();
});

/// A line that is read is written and read again without a change.
fn codec(line: &[u8]) {
    if let Ok(Some(word)) = decode_stream(line) {
        let again = match word {
            StreamWord::Open(id) => StreamLine(id, StreamFrame::Open),
            StreamWord::About(frame) => StreamLine(0, frame),
        };
        let again = decode_stream(again.to_string().as_bytes());
        assert_eq!(again, Ok(Some(word)));
    }
    if let Ok(Some(frame)) = decode_control(line) {
        if let Frame::Close { reason, .. } = &frame {
            assert!(reason.len() <= MAX_REASON_LEN, "{} bytes", reason.len());
        }
        let again = ControlLine(&frame).to_string();
        assert!(again.len() <= MAX_LEN, "{} bytes", again.len());
        assert_eq!(decode_control(again.as_bytes()), Ok(Some(frame)));
    }
}

#[derive(Clone, Debug)]
struct Handle(Rc<RefCell<Stream>>);

impl StreamHandle for Handle {
    fn with<R>(&self, act: impl FnOnce(&mut Stream) -> R) -> R {
        act(&mut self.0.borrow_mut())
    }
}

struct Run {
    session: Session<Handle, ()>,
    streams: Vec<Handle>,
    now: Instant,
}

impl Run {
    fn new(greeted: bool) -> Self {
        let now = Instant::now();
        let config = SessionConfig {
            hello: HELLO,
            max_stream_window: 1 << 20,
            window_growth: 1 << 20,
            growth_budget: None,
            keep_alive: Duration::from_secs(5),
            disconnected_after: Duration::from_secs(10),
            failed_after: Duration::from_secs(30),
            fails_streams: false,
        };
        let mut run = Self {
            session: Session::new(CARRIER, config, now),
            streams: Vec::new(),
            now,
        };
        if greeted {
            let hello = run.session.handle_frame(Frame::Hello(HELLO), now);
            hello.expect("a first hello");
            let local = run.add(Stream::local(0, true));
            local.with(|stream| stream.wrote(100, 100));
            run.session.open(&local, now);
        }
        run
    }

    fn add(&mut self, stream: Stream) -> Handle {
        let stream = stream.with_credit_threshold(Some(20));
        let handle = Handle(Rc::new(RefCell::new(stream)));
        self.streams.push(handle.clone());
        handle
    }

    fn receive(&mut self, line: &[u8]) -> Result<(), Violation> {
        if let Ok(frame) = decode_control(line) {
            return match frame {
                Some(frame) => self.session.handle_frame(frame, self.now),
                None => Ok(()),
            };
        }
        match decode_stream(line).map_err(|violation| self.session.blame(violation))? {
            Some(StreamWord::Open(id)) => {
                let stream = self.add(Stream::remote(id));
                self.session.accept(&stream)?;
                // The application takes every other one, and reads some of it.
                if self.streams.len().is_multiple_of(2) {
                    self.session.on_accepted(&stream);
                    stream.with(|stream| {
                        // After the end of the session nothing is for the application.
                        if stream.on_bytes(30) == Ok(true) {
                            stream.read(25);
                        }
                        let _ = stream.shutdown();
                    });
                    self.session.update(&stream);
                }
                Ok(())
            }
            Some(StreamWord::About(frame)) => {
                let Some(stream) = self.streams.last() else {
                    return Ok(());
                };
                let id = stream.with(|stream| stream.id());
                self.session
                    .handle_frame(Frame::Stream { id, frame }, self.now)
            }
            None => Ok(()),
        }
    }

    fn check(&mut self) {
        while self.session.poll_event().is_some() {}
        let remote = self.session.streams();
        let remote = remote.filter(|stream| !stream.with(|stream| stream.is_local()));
        assert!(remote.count() <= MAX_REMOTE);
    }

    /// The application lets go of everything, and closes.
    fn finish(mut self) {
        for stream in self.streams.clone() {
            stream.with(|stream| {
                stream.reset(0);
                stream.stop(0);
            });
            self.session.update(&stream);
        }
        self.session.close(7, 0, "enough");
        let frames = std::iter::from_fn(|| self.session.poll_frame()).count();
        assert!(frames <= 6 * self.streams.len() + 5, "{frames} frames");
        assert!(!self.session.has_frames());
    }
}
