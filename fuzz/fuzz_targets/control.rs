//! Any bytes, in any pieces, on the control channel of `pipe/1`: frames for a session, or a violation.
//!
//! The first byte chooses whether the peer has said hello before and what the session is over, the second the pieces.

#![no_main]

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use pipe_core::backend::proto::codec::binary;
use pipe_core::backend::proto::{
    Carrier, DrainMode, Event, Frame, Hello, MAX_REASON_LEN, PING_LEN, Session, SessionConfig,
    Stream, StreamHandle, ViolationKind,
};

const HELLO: Hello = Hello {
    max_streams: 8,
    stream_window: 1 << 18,
    connection_window: 0,
    flight: 0,
    takes_growth: false,
};

/// Streams of each side.
const STREAMS: u64 = 3;

/// The frames that wait to be sent at most: answers to pings, six of each stream, and HELLO, PING, DRAIN, DRAINED
/// and CLOSE.
const MAX_OUTPUT: usize = 1024 + 6 * 2 * STREAMS as usize + 5;

fuzz_target!(|data: &[u8]| {
    let [choices, size, wire @ ..] = data else {
        return;
    };
    let greeted = choices & 1 == 1;
    let carrier = carrier(choices >> 1);
    let pieces = usize::from(*size) + 1;
    codec(wire, pieces);

    let now = Instant::now();
    let run = |pieces, is_taken| Run::new(carrier, greeted, now).play(wire, pieces, is_taken);
    let (whole, whole_end) = run(usize::MAX, false);
    let (parts, parts_end) = run(pieces, false);
    assert_eq!(whole, parts, "the pieces change what is heard");
    assert_eq!(whole_end, parts_end, "the pieces change how it ends");
    // A peer that takes its answers never floods.
    let (_, end) = run(pieces, true);
    assert_ne!(end.as_deref(), Some("a flood of pings"));
});

/// What is decoded is encoded and decoded again without a change, and pieces make no difference.
fn codec(wire: &[u8], pieces: usize) {
    let whole = decode(wire, usize::MAX);
    assert_eq!(whole, decode(wire, pieces));
    for frame in &whole.0 {
        if let Frame::Close { reason, .. } = frame {
            assert!(reason.len() <= MAX_REASON_LEN, "{} bytes", reason.len());
        }
        let mut bytes = BytesMut::new();
        binary::encode(frame, &mut bytes);
        let again = binary::decode(&mut bytes).expect("a frame that was encoded");
        assert_eq!(again.as_ref(), Some(frame));
        assert!(bytes.is_empty());
    }
}

fn decode(wire: &[u8], pieces: usize) -> (Vec<Frame>, Option<String>) {
    let mut input = BytesMut::new();
    let mut frames = Vec::new();
    for piece in wire.chunks(pieces) {
        input.extend_from_slice(piece);
        loop {
            match binary::decode(&mut input) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(violation) => return (frames, Some(violation.to_string())),
            }
        }
        assert!(
            input.len() < binary::MAX_PAYLOAD + 3,
            "a whole frame was kept back"
        );
    }
    (frames, None)
}

/// What yamux is at a server, and QUIC at a client or a server.
fn carrier(choice: u8) -> Carrier {
    let is_quic = choice & 1 == 1;
    Carrier {
        local_bit: u64::from(choice >> 1) & 1,
        opens_by_frame: false,
        has_orphans: !is_quic,
        ends_natively: is_quic,
        drain: if is_quic {
            DrainMode::WhenIdle
        } else {
            DrainMode::AtOnce
        },
        is_plain: false,
    }
}

#[derive(Clone, Debug)]
struct Handle(Rc<RefCell<Stream>>);

impl StreamHandle for Handle {
    fn with<R>(&self, act: impl FnOnce(&mut Stream) -> R) -> R {
        act(&mut self.0.borrow_mut())
    }
}

/// A session with streams of both sides, in several states.
struct Run {
    session: Session<Handle, ()>,
    streams: Vec<Handle>,
    now: Instant,
    heard: Vec<String>,
}

impl Run {
    fn new(carrier: Carrier, greeted: bool, now: Instant) -> Self {
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
            session: Session::new(carrier, config, now),
            streams: Vec::new(),
            now,
            heard: Vec::new(),
        };
        // One ping that the bytes may answer, and a drain.
        let pinged = run.session.ping([0; PING_LEN], (), now);
        assert!(pinged.is_ok());
        if !greeted {
            return run;
        }
        let hello = run.session.handle_frame(Frame::Hello(HELLO), now);
        hello.expect("a first hello");
        for n in 0..STREAMS {
            // The first numbers of yamux are those of the control channel.
            let local = Stream::local(2 + 2 * n + carrier.local_bit, false);
            let local = run.add(local);
            run.session.open(&local, now);
            let remote = run.add(Stream::remote(2 + 2 * n + (1 - carrier.local_bit)));
            run.session.accept(&remote).expect("a stream of the peer");
            if n > 0 {
                run.session.on_accepted(&remote);
            }
            for stream in [local, remote] {
                stream.with(|stream| {
                    stream.wrote(100, 100);
                    assert_eq!(stream.on_bytes(100), Ok(true));
                    stream.read(50);
                    if n == 2 {
                        stream.read(50);
                        let _ = stream.shutdown();
                    }
                });
                run.session.update(&stream);
            }
        }
        run.session.drain();
        run.take_events();
        run
    }

    fn add(&mut self, stream: Stream) -> Handle {
        let stream = stream.with_credit_threshold(Some(20)).with_carrier();
        let handle = Handle(Rc::new(RefCell::new(stream)));
        self.streams.push(handle.clone());
        handle
    }

    /// Receives the bytes. Returns the events, and the violation.
    fn play(mut self, wire: &[u8], pieces: usize, is_taken: bool) -> (Vec<String>, Option<String>) {
        let mut input = BytesMut::new();
        let mut end = None;
        'wire: for piece in wire.chunks(pieces) {
            input.extend_from_slice(piece);
            loop {
                let received = match binary::decode(&mut input) {
                    Ok(Some(frame)) => self.session.handle_frame(frame, self.now),
                    Ok(None) => break,
                    Err(violation) => Err(self.session.blame(violation)),
                };
                self.take_events();
                if is_taken {
                    self.take_frames();
                }
                if let Err(violation) = received {
                    let is_greeted = self.session.peer().is_some();
                    assert_eq!(violation.kind() == ViolationKind::Protocol, is_greeted);
                    end = Some(violation.to_string());
                    break 'wire;
                }
            }
        }
        // The shortest frame has three bytes, and has few events; the last one ends everything.
        assert!(self.heard.len() <= 64 + 4 * wire.len());
        let heard = std::mem::take(&mut self.heard);
        self.finish();
        (heard, end)
    }

    /// The application lets go of everything, and closes.
    fn finish(&mut self) {
        for stream in self.streams.clone() {
            stream.with(|stream| {
                stream.reset(0);
                stream.stop(0);
                stream.on_carrier_end();
            });
            self.session.update(&stream);
        }
        self.session.close(7, 0, "enough");
        self.take_events();
        self.take_frames();
        assert!(!self.session.has_frames());
        assert!(self.session.streams().next().is_none());
    }

    /// Notes the events, in an order of their own: that of streams differs from run to run.
    fn take_events(&mut self) {
        let events = std::iter::from_fn(|| self.session.poll_event());
        let mut events: Vec<_> = events.map(|event| describe(&event)).collect();
        events.sort();
        self.heard.append(&mut events);
    }

    fn take_frames(&mut self) {
        let mut frames = 0;
        while self.session.poll_frame().is_some() {
            frames += 1;
        }
        assert!(frames <= MAX_OUTPUT, "{frames} frames wait to be sent");
        self.take_events();
    }
}

fn describe(event: &Event<Handle, ()>) -> String {
    let id = |stream: &Handle| stream.with(|stream| stream.id());
    match event {
        Event::Wake {
            stream,
            reader,
            writer,
        } => format!("wake {} {reader} {writer}", id(stream)),
        Event::SlotFreed(stream) => format!("slot of {}", id(stream)),
        Event::Retired(stream) => format!("retired {}", id(stream)),
        other => format!("{other:?}"),
    }
}
