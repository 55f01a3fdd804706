mod end;
mod streams;

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::carrier::Carrier;
use crate::control::Control;
use crate::drain::Drain;
use crate::event::{Event, Totals};
use crate::frame::{Frame, Hello, PingBytes, StreamFrame};
use crate::growth_budget::GrowthBudget;
use crate::liveness::{Liveness, LivenessEvent};
use crate::orphans::Orphans;
use crate::pings::Pings;
use crate::stream::Stream;
use crate::timers::{Timer, TimerTable};
use crate::violation::Violation;
use crate::windows::Windows;

/// How long a stream may stay invisible to the peer after it was opened, so that its first bytes make it visible.
const ANNOUNCE_AFTER: Duration = Duration::from_millis(1);

/// Streams of the peer that are over here and await its last frames, for each one that may be open.
const CLOSING_FACTOR: usize = 4;

/// Refers to a [`Stream`] that a transport keeps, beside what belongs to the transport and behind a lock of its
/// choice.
pub trait StreamHandle: Clone {
    /// Gives access to the stream. A session calls it while it is borrowed, so that the lock of the session comes
    /// before that of the stream.
    fn with<R>(&self, act: impl FnOnce(&mut Stream) -> R) -> R;
}

/// The settings of a session.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// What this side allows the peer.
    pub hello: Hello,
    /// The largest window that a stream grows to, in bytes. Windows start with [`Hello::stream_window`].
    pub max_stream_window: u32,
    /// By how many bytes all windows may grow together.
    pub window_growth: u64,
    /// What they share with those of other connections.
    pub growth_budget: Option<GrowthBudget>,
    /// After how much silence a ping is due.
    pub keep_alive: Duration,
    /// After how much silence the peer is disconnected.
    pub disconnected_after: Duration,
    /// After how much silence the peer is lost.
    pub failed_after: Duration,
    /// Whether a disconnect ends all streams.
    pub fails_streams: bool,
}

/// The state of one connection: the rules of `pipe/1` without I/O.
///
/// The caller passes in [frames](Self::handle_frame), [signs of life](Self::on_heard) and the [time](Self::handle_timeout),
/// [looks](Self::update) at streams after they changed, and takes out [frames](Self::poll_frame),
/// [events](Self::poll_event) and the [next deadline](Self::poll_timeout). `S` refers to a stream, `P` is what waits for
/// the answer to a ping.
///
/// Everything that a peer can make it keep is bounded: streams by [`Hello::max_streams`], frames by the streams, and
/// answers to pings, beyond which the peer is in violation.
#[derive(Debug)]
pub struct Session<S, P> {
    carrier: Carrier,
    config: SessionConfig,
    peer: Option<Hello>,
    /// With a keyed hash, as the peer chooses numbers.
    streams: HashMap<u64, S>,
    counts: Counts,
    /// Streams with frames to send.
    queue: VecDeque<S>,
    control: Control,
    drain: Drain,
    pings: Pings<P>,
    windows: Windows,
    liveness: Liveness,
    timers: TimerTable,
    orphans: Orphans,
    events: VecDeque<Event<S, P>>,
    ended: Option<Ended>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    /// Streams of the peer in the table.
    remote: usize,
    /// Those that this side's application is not done with.
    remote_in_use: usize,
    /// The highest number of a stream of the peer.
    newest_remote: Option<u64>,
    opened: u64,
    seen: u64,
    accepted: u64,
    /// What streams carried that are over.
    sent: u64,
    read: u64,
}

#[derive(Clone, Copy, Debug)]
struct Ended {
    /// No stream was open.
    was_idle: bool,
    /// This side closes: its frames still leave.
    is_local: bool,
}

impl<S: StreamHandle, P> Session<S, P> {
    /// Starts a session, with a HELLO to send unless the peer speaks no frames.
    pub fn new(carrier: Carrier, config: SessionConfig, now: Instant) -> Self {
        let liveness = Liveness::new(
            config.keep_alive,
            config.disconnected_after,
            config.failed_after,
            now,
        );
        let mut timers = TimerTable::default();
        timers.set(Timer::Liveness, liveness.deadline());
        let mut control = Control::default();
        if !carrier.is_plain {
            control.push(Frame::Hello(config.hello));
        }
        let windows = Windows::new(
            config.hello.stream_window,
            config.max_stream_window,
            config.window_growth,
        );
        let windows = match &config.growth_budget {
            Some(budget) => windows.with_shared(budget.clone()),
            None => windows,
        };
        Self {
            carrier,
            config,
            peer: carrier.is_plain.then_some(Hello::UNLIMITED),
            streams: HashMap::new(),
            counts: Counts::default(),
            queue: VecDeque::new(),
            control,
            drain: Drain::default(),
            pings: Pings::new(),
            windows,
            liveness,
            timers,
            orphans: Orphans::default(),
            events: VecDeque::new(),
            ended: None,
        }
    }

    /// Returns what the peer allows, once it said so.
    pub fn peer(&self) -> Option<&Hello> {
        self.peer.as_ref()
    }

    /// Returns what the session is over.
    pub fn carrier(&self) -> &Carrier {
        &self.carrier
    }

    // Frames.

    /// Takes in a frame of the peer. Nothing counts behind its close.
    ///
    /// # Errors
    ///
    /// A violation, which ends the connection: a rule was broken, or the first frame is no hello.
    pub fn handle_frame(&mut self, frame: Frame, now: Instant) -> Result<(), Violation> {
        if self.ended.is_some() {
            return Ok(());
        }
        if self.peer.is_none() {
            let Frame::Hello(hello) = frame else {
                return Err(Violation::handshake(
                    "the peer's first message is not its hello",
                ));
            };
            self.peer = Some(hello);
            self.events.push_back(Event::Hello(hello));
            return Ok(());
        }
        match frame {
            Frame::Hello(_) => return Err(Violation::new("a second hello")),
            Frame::Ping(bytes) => self.control.answer(bytes)?,
            Frame::Pong(bytes) => {
                let answered = self.pings.on_pong(&bytes, now)?;
                if let Some(round_trip) = self.pings.last_round_trip() {
                    self.windows.on_round_trip(round_trip);
                }
                if let Some((waiter, round_trip)) = answered {
                    self.events.push_back(Event::Pong { waiter, round_trip });
                }
            }
            Frame::Stream { id, frame } => self.on_stream_frame(id, frame)?,
            Frame::Received(bytes) => self.events.push_back(Event::Received(bytes)),
            Frame::Drain => {
                self.drain.on_drain()?;
                self.events.push_back(Event::Draining);
                self.answer_drain();
            }
            Frame::Drained { streams } => {
                self.drain.on_drained(streams)?;
                self.events.push_back(Event::Idle);
            }
            Frame::Close {
                code,
                messages,
                reason,
            } => {
                // In front of the wakes, so that a task that is woken finds out why.
                self.events.push_back(Event::Closed {
                    code,
                    messages,
                    reason,
                });
                self.end(false);
            }
            Frame::Closed => return Err(Violation::new("an answer to a close that was not sent")),
        }
        Ok(())
    }

    fn on_stream_frame(&mut self, id: u64, frame: StreamFrame) -> Result<(), Violation> {
        if frame == StreamFrame::Open {
            return Err(Violation::new(format_args!(
                "stream {id} was opened by a message"
            )));
        }
        let says_end = matches!(
            frame,
            StreamFrame::End(_) | StreamFrame::Reset(_) | StreamFrame::Stop(_) | StreamFrame::Taken
        );
        if says_end && self.carrier.ends_natively {
            return Err(Violation::new(format_args!(
                "{frame:?} for stream {id}, whose ends the multiplexer signals"
            )));
        }
        let Some(stream) = self.streams.get(&id).cloned() else {
            if self.carrier.has_orphans && self.may_come(id) {
                let limit = self.closing_limit();
                return self.orphans.keep(id, frame, limit);
            }
            // The stream is over.
            return Ok(());
        };
        let reaction = stream.with(|stream| stream.on_frame(frame))?;
        self.react(&stream, reaction);
        self.update(&stream);
        Ok(())
    }

    /// Takes out the next stream with frames to send, where the frames about a stream leave on a channel of its own:
    /// its [`poll_frame`](Stream::poll_frame) gives them. It comes again once new ones are due after that gave none.
    pub fn poll_stream(&mut self) -> Option<S> {
        self.queue.pop_front()
    }

    /// Takes out the next frame to send over the control channel. Frames about one stream leave in their order, those
    /// about the connection before them, and a close last.
    pub fn poll_frame(&mut self) -> Option<Frame> {
        if let Some(frame) = self.control.poll() {
            return Some(frame);
        }
        while let Some(stream) = self.queue.front() {
            let next = stream.with(|stream| {
                let next = stream.poll_frame(false);
                next.map(|(frame, freed)| (stream.id(), frame, freed))
            });
            if let Some((id, frame, freed)) = next {
                self.free(freed);
                return Some(Frame::Stream { id, frame });
            }
            if let Some(stream) = self.queue.pop_front() {
                self.update(&stream);
            }
        }
        self.control.poll_close()
    }

    /// Returns whether a frame waits to be sent.
    pub fn has_frames(&self) -> bool {
        !self.control.is_empty() || !self.queue.is_empty()
    }

    /// Returns whether a frame about the connection waits to be sent.
    pub fn has_control_frames(&self) -> bool {
        !self.control.is_empty()
    }

    /// Returns how many streams have frames that wait to be sent.
    pub fn queued_streams(&self) -> usize {
        self.queue.len()
    }

    /// Returns whether the peer does not take what this side says: more waits than a peer that keeps the rules leaves
    /// there. The connection is to be ended then.
    pub fn is_flooded(&self) -> bool {
        let streams = self.config.hello.max_streams as usize;
        self.queue.len()
            > streams
                .saturating_mul(2 * CLOSING_FACTOR)
                .saturating_add(64)
    }

    // Pings and time.

    /// Sends a ping with these bytes, which have to be random. `waiter` comes back with the answer.
    ///
    /// # Errors
    ///
    /// The waiter, after the end of the connection.
    pub fn ping(&mut self, bytes: PingBytes, waiter: P, now: Instant) -> Result<(), P> {
        if self.ended.is_some() {
            return Err(waiter);
        }
        self.pings.start(bytes, waiter, now);
        if !self.carrier.is_plain {
            self.control.push(Frame::Ping(bytes));
        }
        Ok(())
    }

    /// Sends a ping that nothing waits for. Returns whether the multiplexer has to send it, as a plain peer knows no
    /// frames.
    pub fn keep_alive(&mut self, bytes: PingBytes, now: Instant) -> bool {
        let is_due = self.ended.is_none() && self.pings.keep_alive(bytes, now);
        if is_due && !self.carrier.is_plain {
            self.control.push(Frame::Ping(bytes));
        }
        is_due && self.carrier.is_plain
    }

    /// Notes a sign of life: anything at all that came from the peer.
    pub fn on_heard(&mut self, now: Instant) {
        if self.liveness.heard(now) {
            self.events.push_back(Event::Reconnected);
        }
    }

    /// Returns when [`handle_timeout`](Self::handle_timeout) is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Acts on the deadlines that have passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.timers.take_expired(Timer::Announce, now) {
            self.events.push_back(Event::Announce);
        }
        if !self.timers.take_expired(Timer::Liveness, now) {
            return;
        }
        while let Some(event) = self.liveness.poll(now) {
            match event {
                LivenessEvent::Ping => self.events.push_back(Event::KeepAlive),
                LivenessEvent::Disconnected => self.disconnect(),
                LivenessEvent::Failed => {
                    self.events.push_back(Event::Failed);
                    return;
                }
            }
        }
        self.timers.set(Timer::Liveness, self.liveness.deadline());
    }

    /// Notes that the peer is silent. The session calls it where its own clock finds out.
    pub fn disconnect(&mut self) {
        self.events.push_back(Event::Disconnected);
        if !self.config.fails_streams {
            return;
        }
        let streams: Vec<S> = self.streams.values().cloned().collect();
        for stream in streams {
            stream.with(Stream::disconnect);
            self.events.push_back(Event::Wake {
                stream: stream.clone(),
                reader: true,
                writer: true,
            });
            self.update(&stream);
        }
    }

    /// Takes out the next event.
    pub fn poll_event(&mut self) -> Option<Event<S, P>> {
        self.events.pop_front()
    }

    /// Returns what the connection carried.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals {
            bytes_sent: self.counts.sent,
            bytes_read: self.counts.read,
            opened: self.counts.opened,
            accepted: self.counts.accepted,
            open: self.streams.len() as u64,
            last_round_trip: self.pings.last_round_trip(),
        };
        for stream in self.streams.values() {
            stream.with(|stream| {
                totals.bytes_sent += stream.bytes_sent();
                totals.bytes_read += stream.bytes_read();
            });
        }
        totals
    }
}
