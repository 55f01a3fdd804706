use std::collections::{HashMap, VecDeque};
use std::error::Error;
use std::fmt;
use std::time::{Duration, Instant};

use crate::carrier::{Carrier, DrainMode};
use crate::control::Control;
use crate::drain::Drain;
use crate::frame::{Frame, Hello, PingBytes, StreamFrame, cut_reason};
use crate::liveness::{Liveness, LivenessEvent};
use crate::orphans::Orphans;
use crate::pings::Pings;
use crate::stream::{Reaction, Stream};
use crate::timers::{Timer, TimerTable};
use crate::violation::Violation;

/// How long a stream may stay invisible to the peer after it was opened, so that its first bytes make it visible.
const ANNOUNCE_AFTER: Duration = Duration::from_millis(1);

/// How long the peer may take to confirm a close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// Streams of the peer that are over here and await its last frames, for each one that may be open.
const CLOSING_FACTOR: usize = 4;

/// Refers to a [`Stream`] that a transport keeps, beside what belongs to the transport and behind a lock of its
/// choice.
pub trait StreamHandle: Clone {
    /// Gives access to the stream. A session calls it while it is borrowed, so that the lock of the session comes
    /// before that of the stream.
    fn with<R>(&self, act: impl FnOnce(&mut Stream) -> R) -> R;
}

/// What a session is made with.
#[derive(Clone, Copy, Debug)]
pub struct SessionConfig {
    /// What this side allows the peer.
    pub hello: Hello,
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

/// What a caller has to act on.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<S, P> {
    /// The peer said what it allows. Streams may be opened.
    Hello(Hello),
    /// Tasks that wait for a stream have to look again.
    Wake {
        /// The stream.
        stream: S,
        /// The one that reads.
        reader: bool,
        /// The one that writes.
        writer: bool,
    },
    /// So many bytes count against the peer's connection window no more.
    Room(u64),
    /// A stream of this side counts against the peer's limit no more.
    SlotFreed(S),
    /// Nothing of a stream is under way at either side.
    Retired(S),
    /// The last stream is over, or a drain went on.
    Idle,
    /// A ping was answered.
    Pong {
        /// What waits for it.
        waiter: P,
        /// The round trip.
        round_trip: Duration,
    },
    /// No pings are answered any more.
    PingsEnded(Vec<P>),
    /// A [keep-alive](Session::keep_alive) is due.
    KeepAlive,
    /// Streams that were opened have to become visible to the peer now.
    Announce,
    /// The peer was silent for too long; it may come back.
    Disconnected,
    /// The peer is back.
    Reconnected,
    /// The peer is lost.
    Failed,
    /// The peer opens no more streams and wants none.
    Draining,
    /// The peer received so many more bytes of streams.
    Received(u64),
    /// The peer closed the connection.
    Closed {
        /// The application's code.
        code: u32,
        /// How many messages it sent on the channels of streams.
        messages: u64,
        /// The application's reason.
        reason: String,
    },
    /// The peer received this side's close.
    CloseConfirmed,
    /// The peer did not confirm this side's close in time.
    CloseTimedOut,
}

/// Why no stream can be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpenError {
    /// The connection ended.
    Ended,
    /// This side drains the connection.
    Draining,
    /// The peer drains the connection.
    DrainedByPeer,
}

/// What a connection carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Totals {
    /// Bytes that the application wrote to all streams.
    pub bytes_sent: u64,
    /// Bytes that the application read of all streams.
    pub bytes_read: u64,
    /// Streams that this side opened.
    pub opened: u64,
    /// Streams of the peer that the application took.
    pub accepted: u64,
    /// Streams that are not over.
    pub open: u64,
    /// The last round trip of a ping.
    pub last_round_trip: Option<Duration>,
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

    // Streams.

    /// Returns whether this side may open streams.
    ///
    /// # Errors
    ///
    /// The reason why not.
    pub fn check_open(&self) -> Result<(), OpenError> {
        if self.ended.is_some() {
            return Err(OpenError::Ended);
        }
        if self.drain.is_local() {
            return Err(OpenError::Draining);
        }
        if self.drain.is_by_peer() {
            return Err(OpenError::DrainedByPeer);
        }
        Ok(())
    }

    /// Takes in a stream that this side opens. After the end of the connection the stream ends at once. Returns whether
    /// the next [deadline](Self::poll_timeout) may have moved forward.
    pub fn open(&mut self, stream: &S, now: Instant) -> bool {
        if self.ended.is_some() {
            stream.with(Stream::on_conn_end);
            return false;
        }
        self.counts.opened += 1;
        let id = self.adopt(stream);
        self.streams.insert(id, stream.clone());
        if self.carrier.opens_by_frame {
            self.update(stream);
            return false;
        }
        let is_first = !self.timers.is_set(Timer::Announce);
        if is_first {
            self.timers.set(Timer::Announce, now + ANNOUNCE_AFTER);
        }
        is_first
    }

    /// Tells a stream what the carrier says by itself. Returns its number.
    fn adopt(&self, stream: &S) -> u64 {
        stream.with(|stream| {
            stream.ends_natively = self.carrier.ends_natively;
            stream.id()
        })
    }

    /// Returns whether the peer may open another stream. Only a plain peer, which does not know the limit, is to be
    /// asked about: any other breaks the rules beyond it.
    pub fn has_room(&self) -> bool {
        let limit = self.config.hello.max_streams as usize;
        self.counts.remote_in_use < limit && self.counts.remote < self.closing_limit()
    }

    /// Returns how many streams of the peer may be in the table. Where the ends of streams are native, a stream is over
    /// at the peer as soon as DONE has come, and its last CREDIT may be under way while the peer opens the next ones.
    fn closing_limit(&self) -> usize {
        let limit = CLOSING_FACTOR.saturating_mul(self.config.hello.max_streams as usize);
        if self.carrier.ends_natively {
            limit.saturating_mul(CLOSING_FACTOR)
        } else {
            limit
        }
    }

    /// Takes in a stream that the peer opened, and what it said about it before.
    ///
    /// # Errors
    ///
    /// A violation: too many streams, or a number that is not the peer's to give or that came before.
    pub fn accept(&mut self, stream: &S) -> Result<(), Violation> {
        if self.ended.is_some() {
            stream.with(Stream::on_conn_end);
            return Ok(());
        }
        if self.peer.is_none() {
            return Err(Violation::handshake("a stream before its hello"));
        }
        let id = self.adopt(stream);
        if !self.has_room() {
            let limit = self.config.hello.max_streams;
            return Err(Violation::new(format_args!(
                "more than {limit} streams at once"
            )));
        }
        if self.is_local(id) {
            return Err(Violation::new(format_args!(
                "stream {id} was opened, whose number is not the peer's"
            )));
        }
        let is_old = self.counts.newest_remote.is_some_and(|newest| id <= newest);
        if is_old && self.carrier.has_orphans || self.streams.contains_key(&id) {
            return Err(Violation::new(format_args!(
                "stream {id} was opened after a later one: numbers rise"
            )));
        }
        self.counts.newest_remote = self.counts.newest_remote.max(Some(id));
        self.counts.remote += 1;
        self.counts.remote_in_use += 1;
        self.counts.seen += 1;
        self.streams.insert(id, stream.clone());
        for frame in self.orphans.take(id) {
            self.on_stream_frame(id, frame)?;
        }
        if self.drain.is_local() {
            self.events.push_back(Event::Idle);
        }
        Ok(())
    }

    /// Notes that the application took a stream of the peer.
    pub fn on_accepted(&mut self, stream: &S) {
        self.counts.accepted += 1;
        stream.with(Stream::accept);
        self.update(stream);
    }

    /// Returns the stream of a number.
    pub fn stream(&self, id: u64) -> Option<&S> {
        self.streams.get(&id)
    }

    /// Returns all streams that are not over.
    pub fn streams(&self) -> impl Iterator<Item = &S> {
        self.streams.values()
    }

    /// Returns whether this side opens streams of this number.
    pub fn is_local(&self, id: u64) -> bool {
        id & 1 == self.carrier.local_bit
    }

    /// Returns whether a stream of this number is one that the peer may still open.
    pub fn may_come(&self, id: u64) -> bool {
        !self.is_local(id) && self.counts.newest_remote.is_none_or(|newest| id > newest)
    }

    /// Looks at a stream after a change: queues its frames, counts that the application is done, and forgets it when
    /// it is over.
    pub fn update(&mut self, stream: &S) {
        struct Outcome {
            is_local: bool,
            is_done: bool,
            is_queued: bool,
            frees_slot: bool,
            freed: u32,
            is_over: bool,
        }
        let outcome = stream.with(|stream| {
            if stream.retired {
                return None;
            }
            let is_done = !stream.counted_done && stream.is_done();
            if is_done {
                stream.counted_done = true;
                stream.on_done();
            }
            let has_frames = stream.has_frames();
            let frees_slot = stream.frees_slot();
            stream.slot_freed |= frees_slot;
            let freed = stream.free_cut();
            Some(Outcome {
                is_local: stream.is_local(),
                is_done,
                is_queued: has_frames && !std::mem::replace(&mut stream.queued, true),
                frees_slot,
                freed,
                is_over: stream.is_over(),
            })
        });
        let Some(outcome) = outcome else { return };
        if outcome.is_done && !outcome.is_local && self.ended.is_none() {
            self.counts.remote_in_use -= 1;
        }
        if outcome.is_queued {
            self.queue.push_back(stream.clone());
        }
        self.free(outcome.freed);
        if outcome.frees_slot {
            self.events.push_back(Event::SlotFreed(stream.clone()));
        }
        if outcome.is_over {
            self.retire(stream);
        }
    }

    fn retire(&mut self, stream: &S) {
        let (id, is_local, freed) = stream.with(|stream| {
            self.counts.sent += stream.bytes_sent();
            self.counts.read += stream.bytes_read();
            (stream.id(), stream.is_local(), stream.retire())
        });
        if self.streams.remove(&id).is_none() {
            return;
        }
        self.counts.remote -= usize::from(!is_local);
        self.free(freed);
        self.events.push_back(Event::Retired(stream.clone()));
        if self.streams.is_empty() {
            self.events.push_back(Event::Idle);
        }
        if is_local {
            self.answer_drain();
        }
    }

    fn free(&mut self, bytes: u32) {
        if bytes > 0 {
            self.events.push_back(Event::Room(bytes.into()));
        }
    }

    fn react(&mut self, stream: &S, reaction: Reaction) {
        self.free(reaction.freed);
        if reaction.wakes_reader || reaction.wakes_writer {
            self.events.push_back(Event::Wake {
                stream: stream.clone(),
                reader: reaction.wakes_reader,
                writer: reaction.wakes_writer,
            });
        }
    }

    // Frames.

    /// Takes in a frame of the peer. Nothing counts behind its close.
    ///
    /// # Errors
    ///
    /// A violation, which ends the connection: a rule was broken, or the first frame is no hello.
    pub fn handle_frame(&mut self, frame: Frame, now: Instant) -> Result<(), Violation> {
        if self.ended.is_some() {
            if frame == Frame::Closed && self.timers.is_set(Timer::Close) {
                self.timers.stop(Timer::Close);
                self.events.push_back(Event::CloseConfirmed);
            }
            return Ok(());
        }
        if self.peer.is_none() {
            let Frame::Hello(hello) = frame else {
                return Err(Violation::handshake("the peer did not say hello"));
            };
            self.peer = Some(hello);
            self.events.push_back(Event::Hello(hello));
            return Ok(());
        }
        match frame {
            Frame::Hello(_) => return Err(Violation::new("a second hello")),
            Frame::Ping(bytes) => self.control.answer(bytes)?,
            Frame::Pong(bytes) => {
                if let Some((waiter, round_trip)) = self.pings.on_pong(&bytes, now)? {
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
                "{frame:?} of stream {id}, which the multiplexer says"
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
        if self.timers.take_expired(Timer::Close, now) {
            self.events.push_back(Event::CloseTimedOut);
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

    // The end.

    /// Announces that no more streams are wanted. Returns whether that is news.
    pub fn drain(&mut self) -> bool {
        let is_news = self.drain.start();
        if is_news && self.carrier.is_plain {
            // A plain peer cannot be told.
            self.drain.assume_answer();
        } else if is_news {
            self.control.push(Frame::Drain);
        }
        is_news
    }

    /// Notes that a plain peer opens no more streams.
    pub fn on_plain_drain(&mut self) {
        if self.drain.on_drain().is_ok() {
            self.events.push_back(Event::Draining);
        }
    }

    /// Returns whether the peer drains the connection.
    pub fn is_drained_by_peer(&self) -> bool {
        self.drain.is_by_peer()
    }

    /// Returns whether a drain of this side is complete: no stream is under way and none comes.
    pub fn is_drained(&self) -> bool {
        self.drain
            .has_seen_all(self.carrier.drain, self.counts.seen)
            && self.streams.is_empty()
    }

    fn answer_drain(&mut self) {
        let is_idle = match self.carrier.drain {
            DrainMode::WhenIdle => self.counts.remote == self.streams.len(),
            DrainMode::AtOnce | DrainMode::Counted => true,
        };
        if self.drain.poll_answer(self.carrier.drain, is_idle) {
            let streams = self.counts.opened;
            self.control.push(Frame::Drained { streams });
        }
    }

    /// Closes the connection from this side: frames that are due still leave, and CLOSE behind them. The first end
    /// counts.
    pub fn close(&mut self, code: u32, messages: u64, reason: &str, now: Instant) {
        if self.ended.is_some() {
            return;
        }
        if !self.carrier.is_plain {
            let reason = cut_reason(reason).to_owned();
            self.control.close(Frame::Close {
                code,
                messages,
                reason,
            });
        }
        self.end(true);
        self.timers.set(Timer::Close, now + CLOSE_TIMEOUT);
    }

    /// Ends the session without a CLOSE: the connection is lost, or the caller closes it by itself. The first end
    /// counts.
    pub fn fail(&mut self) {
        if self.ended.is_none() {
            self.end(false);
        }
    }

    fn end(&mut self, is_local: bool) {
        self.ended = Some(Ended {
            was_idle: self.streams.is_empty(),
            is_local,
        });
        self.timers = TimerTable::default();
        if !is_local {
            self.control = Control::default();
            self.queue.clear();
        }
        for (_, stream) in std::mem::take(&mut self.streams) {
            stream.with(|stream| {
                stream.on_conn_end();
                stream.retired = true;
                self.counts.sent += stream.bytes_sent();
                self.counts.read += stream.bytes_read();
            });
            self.events.push_back(Event::Wake {
                stream,
                reader: true,
                writer: true,
            });
        }
        self.counts.remote = 0;
        let pings = self.pings.end();
        if !pings.is_empty() {
            self.events.push_back(Event::PingsEnded(pings));
        }
        self.events.push_back(Event::Idle);
    }

    /// Returns how a violation in what came is to be told: before its hello the peer speaks another protocol.
    #[must_use]
    pub fn blame(&self, violation: Violation) -> Violation {
        if self.peer.is_some() {
            return violation;
        }
        Violation::handshake(format_args!("the peer does not speak pipe/1: {violation}"))
    }

    /// Returns whether the session ended, by either side or a failure.
    pub fn is_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// Returns whether this side closed the connection.
    pub fn is_closed_here(&self) -> bool {
        self.ended.is_some_and(|ended| ended.is_local)
    }

    /// Returns whether the session ended without a stream that was cut short by that.
    pub fn ended_idle(&self) -> bool {
        self.ended.is_some_and(|ended| ended.was_idle)
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

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ended => "the connection ended",
            Self::Draining => "this side is draining the connection",
            Self::DrainedByPeer => "the peer is draining the connection",
        })
    }
}

impl Error for OpenError {}
