use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use pipe_proto::codec::binary;
use pipe_proto::{
    Carrier, DrainMode, Event, Hello, RecvHalf, SendHalf, Session, SessionConfig, Stream,
    StreamHandle,
};

pub(super) const MAX_STREAMS: u32 = 4;
pub(super) const STREAM_WINDOW: u32 = 64;
pub(super) const CONNECTION_WINDOW: u64 = 100;
/// Two streams cannot grow to their limit at once.
const MAX_STREAM_WINDOW: u32 = 4 * STREAM_WINDOW;
const WINDOW_GROWTH: u64 = 250;

/// What says how streams end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Frames, as over yamux.
    Framed,
    /// The multiplexer, as over QUIC. It keeps a stream, and what comes of it, until the application takes it.
    Native,
}

/// One end of a stream: its state, and what a transport and an application have beside it.
#[derive(Clone, Debug)]
pub(super) struct End(pub(super) Rc<RefCell<EndState>>);

#[derive(Debug)]
pub(super) struct EndState {
    pub(super) stream: Stream,
    /// Bytes that came and were not read.
    pub(super) buffer: u64,
    pub(super) is_visible: bool,
    pub(super) fin_sent: bool,
    pub(super) fin_came: bool,
    /// What the multiplexer keeps for a stream that was not taken.
    pub(super) reset_came: Option<u32>,
    pub(super) stop_came: Option<u32>,
    pub(super) stop_sent: bool,
    /// The session knows it.
    pub(super) is_taken: bool,
    pub(super) is_held: bool,
    pub(super) read_waits: bool,
    pub(super) write_waits: bool,
}

impl StreamHandle for End {
    fn with<R>(&self, act: impl FnOnce(&mut Stream) -> R) -> R {
        act(&mut self.0.borrow_mut().stream)
    }
}

/// Something on the channel of the bytes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Data {
    Syn(u64),
    Bytes(u64, u64),
    Fin(u64),
    /// Of a multiplexer that has them: the sender abandons its direction, or reads no more of the other.
    Reset(u64, u32),
    Stop(u64, u32),
}

pub(super) struct Side {
    pub(super) mode: Mode,
    pub(super) every_byte: bool,
    pub(super) session: Session<End, u32>,
    pub(super) next_id: u64,
    pub(super) slots: u32,
    /// What all streams may still send.
    pub(super) room: u64,
    /// Streams that were opened and that the peer cannot see.
    pub(super) invisible: VecDeque<End>,
    pub(super) backlog: VecDeque<End>,
    /// Streams that the application has.
    pub(super) held: Vec<End>,
    /// Every stream that this side knew.
    pub(super) all: Vec<End>,
    pub(super) control: BytesMut,
    pub(super) data: VecDeque<Data>,
    pub(super) now: Instant,
    pub(super) keep_alives: u32,
    pub(super) pings: u32,
    pub(super) answers: u32,
    pub(super) is_draining: bool,
    pub(super) closed: Option<(u32, String)>,
    pub(super) failed: bool,
}

impl Side {
    pub(super) fn new(
        mode: Mode,
        local_bit: u64,
        fails_streams: bool,
        every_byte: bool,
        now: Instant,
    ) -> Self {
        let carrier = Carrier {
            local_bit,
            opens_by_frame: false,
            has_orphans: mode == Mode::Framed,
            ends_natively: mode == Mode::Native,
            drain: match mode {
                Mode::Framed => DrainMode::AtOnce,
                Mode::Native => DrainMode::WhenIdle,
            },
            is_plain: false,
        };
        let config = SessionConfig {
            hello: Hello {
                max_streams: MAX_STREAMS,
                stream_window: STREAM_WINDOW,
                connection_window: if every_byte { CONNECTION_WINDOW } else { 0 },
                flight: 0,
                takes_growth: local_bit == 0 || !fails_streams,
            },
            max_stream_window: MAX_STREAM_WINDOW,
            window_growth: WINDOW_GROWTH,
            growth_budget: None,
            keep_alive: Duration::from_secs(1),
            disconnected_after: Duration::from_secs(3),
            failed_after: Duration::from_secs(10_000),
            fails_streams,
        };
        Self {
            mode,
            every_byte,
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

    pub(super) fn threshold(&self) -> Option<u32> {
        match self.mode {
            _ if self.every_byte => Some(1),
            Mode::Framed => Some(STREAM_WINDOW / 4),
            // The multiplexer returns the window of a stream.
            Mode::Native => None,
        }
    }

    pub(super) fn add(&mut self, stream: Stream, is_visible: bool) -> End {
        let end = End(Rc::new(RefCell::new(EndState {
            stream: match self.mode {
                Mode::Framed => stream.with_carrier(),
                Mode::Native => stream,
            },
            buffer: 0,
            is_visible,
            fin_sent: false,
            fin_came: false,
            reset_came: None,
            stop_came: None,
            stop_sent: false,
            is_taken: true,
            is_held: false,
            read_waits: false,
            write_waits: false,
        })));
        self.all.push(end.clone());
        end
    }

    pub(super) fn hold(&mut self, end: End) {
        end.0.borrow_mut().is_held = true;
        self.held.push(end);
    }

    pub(super) fn pick(&self, index: u8) -> Option<End> {
        let count = self.held.len();
        (count > 0).then(|| self.held[usize::from(index) % count].clone())
    }

    /// Makes streams visible in their order, up to this one.
    pub(super) fn show(&mut self, last: Option<&End>) {
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
    pub(super) fn finish(&mut self, end: &End) {
        if self.mode == Mode::Native {
            return self.finish_natively(end);
        }
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

    /// Has the multiplexer end what has ended at this side.
    fn finish_natively(&mut self, end: &End) {
        let (id, send, recv) = end.with(|stream| (stream.id(), stream.send(), stream.recv()));
        let (fin_sent, is_visible) = {
            let state = end.0.borrow();
            (state.fin_sent, state.is_visible)
        };
        let last = match send {
            _ if fin_sent => None,
            SendHalf::Shut { .. } => Some(Data::Fin(id)),
            SendHalf::Reset { code } | SendHalf::Stopped { code, .. } => {
                Some(Data::Reset(id, code))
            }
            SendHalf::Disconnected { .. } => Some(Data::Reset(id, 0)),
            _ => None,
        };
        if last.is_some() && !is_visible {
            self.show(Some(end));
        }
        end.0.borrow_mut().fin_sent |= last.is_some();
        self.data.extend(last);
        let mut state = end.0.borrow_mut();
        if !recv.takes_bytes() && recv != RecvHalf::Ended {
            state.buffer = 0;
        }
        let code = match recv {
            RecvHalf::Stopped { code } => code,
            RecvHalf::Disconnected { .. } => 0,
            _ => return,
        };
        if !state.stop_sent && state.is_visible {
            state.stop_sent = true;
            self.data.push_back(Data::Stop(id, code));
        }
    }

    /// Passes on what the multiplexer has kept of a stream that the session knows.
    pub(super) fn take_native(&mut self, end: &End) {
        let mut state = end.0.borrow_mut();
        if !state.is_taken {
            return;
        }
        if let Some(code) = state.reset_came.take() {
            state.stream.on_reset(code);
            state.read_waits = false;
        }
        if let Some(code) = state.stop_came.take() {
            let freed = state.stream.on_stop(code).freed;
            state.write_waits = false;
            drop(state);
            self.add_room(freed.into());
        } else {
            drop(state);
        }
        self.update(end);
    }

    /// Takes the next stream for the application.
    pub(super) fn take_stream(&mut self) {
        let Some(end) = self.backlog.pop_front() else {
            return;
        };
        if self.mode == Mode::Native {
            if self.session.is_ended() {
                return;
            }
            self.session.accept(&end).expect("an honest peer");
            end.0.borrow_mut().is_taken = true;
        }
        self.session.on_accepted(&end);
        self.hold(end.clone());
        self.update(&end);
        if self.mode == Mode::Native {
            self.take_native(&end);
        }
    }

    pub(super) fn update(&mut self, end: &End) {
        self.finish(end);
        if let Some(due) = end.with(|stream| stream.due_credit()) {
            self.session.tune_window(end, due, self.now, || None);
        }
        if end.with(|stream| stream.needs_session()) {
            self.session.update(end);
        }
        self.take_events();
    }

    pub(super) fn take_events(&mut self) {
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
                Event::Room(bytes) => self.add_room(bytes),
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

    /// Gives bytes back to the connection window, and wakes all writers.
    fn add_room(&mut self, bytes: u64) {
        self.room += bytes;
        for end in &self.all {
            end.0.borrow_mut().write_waits = false;
        }
    }

    pub(super) fn write(&mut self, end: &End, want: u64) {
        let mut state = end.0.borrow_mut();
        if state.stream.send().check_write().is_err() {
            return;
        }
        let is_counted = match self.mode {
            Mode::Framed => true,
            Mode::Native => self.every_byte && state.stream.is_counted(),
        };
        let window = match self.mode {
            Mode::Framed => u64::from(STREAM_WINDOW - state.stream.unacknowledged()),
            // It is the multiplexer's.
            Mode::Native => want,
        };
        let room = if is_counted { self.room } else { u64::MAX };
        // Only a framed peer gives credit ahead of the windows.
        let ahead = want.min(state.stream.credit_ahead().into());
        let count = ahead + (want - ahead).min(window).min(room);
        if count == 0 {
            state.write_waits = want > 0;
            return;
        }
        let counted = if is_counted { count - ahead } else { 0 };
        self.room -= counted;
        state.stream.wrote(count as usize, counted as u32);
        let id = state.stream.id();
        let is_visible = state.is_visible;
        drop(state);
        if !is_visible {
            self.show(Some(end));
        }
        self.data.push_back(Data::Bytes(id, count));
        self.update(end);
    }

    pub(super) fn read(&mut self, end: &End, want: u64) {
        let mut state = end.0.borrow_mut();
        if state.stream.recv().check_read().is_err() || state.stream.recv() == RecvHalf::Ended {
            return;
        }
        let count = want.min(state.buffer);
        if count == 0 {
            if self.mode == Mode::Native && state.fin_came {
                let _ = state.stream.on_fin(true).expect("an honest peer");
                drop(state);
                return self.update(end);
            }
            state.read_waits = want > 0;
            return;
        }
        state.buffer -= count;
        state.stream.read(count as usize);
        drop(state);
        self.update(end);
    }

    pub(super) fn drop_stream(&mut self, end: &End) {
        end.with(|stream| {
            stream.reset(0);
            stream.stop(0);
        });
        end.0.borrow_mut().is_held = false;
        self.held.retain(|held| !Rc::ptr_eq(&held.0, &end.0));
        self.update(end);
    }

    /// Moves the frames that are due to the wire.
    pub(super) fn send(&mut self) {
        while let Some(frame) = self.session.poll_frame() {
            binary::encode(&frame, &mut self.control);
        }
        self.take_events();
    }

    pub(super) fn receive_data(&mut self, data: Data) {
        let (Data::Syn(id)
        | Data::Bytes(id, _)
        | Data::Fin(id)
        | Data::Reset(id, _)
        | Data::Stop(id, _)) = data;
        if self.session.is_ended() {
            return;
        }
        if let Data::Syn(id) = data {
            let stream = Stream::remote(id).with_credit_threshold(self.threshold());
            let end = self.add(stream, true);
            if self.mode == Mode::Native {
                end.0.borrow_mut().is_taken = false;
                return self.backlog.push_back(end);
            }
            self.session.accept(&end).expect("an honest peer");
            self.backlog.push_back(end.clone());
            return self.update(&end);
        }
        let Some(end) = self.all.iter().find(|end| end.with(|s| s.id()) == id) else {
            panic!("{data:?} of an unknown stream");
        };
        let end = end.clone();
        if self.mode == Mode::Native {
            return self.receive_natively(data, &end);
        }
        match data {
            Data::Syn(_) | Data::Reset(..) | Data::Stop(..) => {}
            Data::Bytes(_, count) => {
                let mut state = end.0.borrow_mut();
                assert!(!state.fin_came);
                if state
                    .stream
                    .on_bytes(count as usize)
                    .expect("an honest peer")
                {
                    state.buffer += count;
                    let window = STREAM_WINDOW + state.stream.window_growth();
                    assert!(state.buffer <= u64::from(window));
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

    fn receive_natively(&mut self, data: Data, end: &End) {
        let mut state = end.0.borrow_mut();
        match data {
            Data::Syn(_) => {}
            Data::Bytes(_, count) => {
                assert!(!state.fin_came && state.reset_came.is_none());
                if state.stream.recv().takes_bytes() {
                    state.buffer += count;
                    state.read_waits = false;
                }
            }
            Data::Fin(_) => {
                state.fin_came = true;
                state.read_waits = false;
            }
            Data::Reset(_, code) => {
                state.buffer = 0;
                state.reset_came = Some(code);
            }
            Data::Stop(_, code) => state.stop_came = Some(code),
        }
        drop(state);
        self.take_native(end);
    }
}
