use std::time::{Duration, Instant};

use pipe_proto::codec::binary;
use pipe_proto::{RecvError, RecvHalf, SendError, Stream, StreamHandle};

use super::side::{Mode, Side};

#[derive(Clone, Debug)]
pub(super) enum Op {
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

pub(super) struct Wire {
    pub(super) sides: [Side; 2],
    pub(super) now: Instant,
    pub(super) is_cut: bool,
}

impl Wire {
    pub(super) fn new(mode: Mode, fails_streams: bool, every_byte: bool) -> Self {
        let now = Instant::now();
        let side = |bit| Side::new(mode, bit, fails_streams, every_byte, now);
        Self {
            sides: [side(1), side(0)],
            now,
            is_cut: false,
        }
    }

    pub(super) fn control(&mut self, from: usize, count: usize) {
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

    pub(super) fn data(&mut self, from: usize, count: usize) {
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
            to.receive_data(data);
        }
    }

    pub(super) fn wait(&mut self, time: Duration) {
        self.now += time;
        for side in &mut self.sides {
            side.now = self.now;
            while side.session.poll_timeout().is_some_and(|at| at <= self.now) {
                side.session.handle_timeout(self.now);
                side.take_events();
            }
        }
    }

    pub(super) fn act(&mut self, at: usize, op: &Op) {
        let now = self.now;
        let side = &mut self.sides[at];
        match *op {
            Op::Open => {
                if side.slots > 0 && side.session.check_open().is_ok() {
                    side.slots -= 1;
                    let stream =
                        Stream::local(side.next_id, false).with_credit_threshold(side.threshold());
                    side.next_id += 2;
                    let end = side.add(stream, false);
                    side.session.open(&end, now);
                    side.invisible.push_back(end.clone());
                    side.hold(end.clone());
                    side.update(&end);
                }
            }
            Op::Accept => side.take_stream(),
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
                side.session.close(code, 0, "bye");
                side.take_events();
            }
            Op::Send => side.send(),
            Op::Control(count) if !self.is_cut => self.control(at, count),
            Op::Data(count) if !self.is_cut => self.data(at, count),
            Op::Control(_) | Op::Data(_) => {}
            Op::Wait(millis) => self.wait(Duration::from_millis(millis)),
            Op::Cut => self.is_cut = true,
            Op::Heal => self.is_cut = false,
        }
    }

    /// Delivers everything, until nothing is under way.
    pub(super) fn settle(&mut self) {
        self.is_cut = false;
        for _ in 0..1000 {
            for at in 0..2 {
                self.sides[at].send();
                self.control(at, usize::MAX);
                self.data(at, usize::MAX);
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

    pub(super) fn check_ends(&self) {
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
