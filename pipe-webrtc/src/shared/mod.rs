mod arrivals;
mod deferred;
mod ending;
mod incoming;
mod open;
mod opening;
mod pings;

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Waker;
use std::time::Instant;

use bytes::BytesMut;
use parking_lot::{Mutex, MutexGuard};
use pipe_core::backend::proto::codec::text::ControlLine;
use pipe_core::backend::proto::{
    Carrier, DrainMode, Event, Frame, Hello, Session, SessionConfig, Stream,
};
use pipe_core::backend::{
    Backlog, ConnStatus, PeerWindows, PingWaiter, Pings, StreamSlots, open_error,
};
use pipe_core::{Addr, Config, ConnStats, PeerIdentity, Result};
use tokio::sync::{Notify, mpsc};

use crate::command::Command;
use crate::engine::{Channel, Peer};
use crate::error::protocol;
use crate::events::{ConnEvent, EventLog};
use crate::outbox::Outbox;
use crate::stream_core::{StreamRef, Unread};
use crate::wire::{MAX_MESSAGE, Wire};
use arrivals::Arrivals;
use deferred::Deferred;
use open::Open;

/// Part of SCTP's receive buffer that bytes in flight may use: the rest is for the overhead of
/// small messages, and for those that the peer does not count.
const FLIGHT_SHARE: (u32, u32) = (3, 4);

/// Minimum limit of bytes in flight: room for one message beside the unconfirmed ones.
const MIN_FLIGHT: u32 = 96 * 1024;

/// Fraction of the flight limit after which arrived bytes are acknowledged to the peer.
const FLIGHT_PARTS: u32 = 8;

/// A connection: the state that its handles, its streams and its tasks share.
///
/// Locks are taken in the order `inner`, stream, outbox. None is held while a task is woken.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) wire: Wire,
    /// Whether this side made the offer.
    pub(crate) offerer: bool,
    pub(crate) local_addr: Addr,
    pub(crate) remote_addr: Addr,
    pub(crate) identity: OnceLock<PeerIdentity>,
    pub(crate) peer: OnceLock<Arc<Peer>>,
    pub(crate) commands: OnceLock<mpsc::Sender<Command>>,
    pub(crate) status: ConnStatus,
    pub(crate) events: Arc<EventLog>,
    pub(crate) backlog: Backlog<StreamRef>,
    pub(crate) slots: StreamSlots,
    /// Notified when the last stream is over, and of every step of a drain.
    pub(crate) idle: Notify,
    pub(crate) outbox: Outbox,
    inner: Mutex<Inner>,
    peer_hello: OnceLock<Hello>,
    peer_windows: OnceLock<PeerWindows>,
    /// Number of bytes read from which credit is returned to the peer.
    credit_threshold: u32,
    hello: Hello,
    /// Label of this side's channels, by which it recognises them.
    label: String,
    max_message: AtomicUsize,
    largest_message: AtomicUsize,
    pub(crate) unread: Unread,
    pings: Pings,
    /// Number of arrived bytes that were not acknowledged to the peer.
    arrived: AtomicU64,
    /// Number of full plain channels, and a notification when there is none.
    full: AtomicUsize,
    flows: Notify,
    messages_sent: AtomicU64,
    messages_received: AtomicU64,
}

struct Inner {
    session: Session<StreamRef, PingWaiter>,
    /// The newest stream of each channel, by the channel's key.
    current: HashMap<usize, StreamRef>,
    /// Channels of this side that carry no stream; bounded by the streams that were open at once.
    free: Vec<Channel>,
    /// Opens that wait for a channel; bounded by the slots.
    opens: VecDeque<Open>,
    /// Number of channels being opened.
    opening: usize,
    /// Number of channels of this side, including those.
    channels: usize,
    /// The number of the next stream of this side.
    next_number: u64,
    arrivals: Arrivals,
}

impl Shared {
    pub(crate) fn new(
        config: Config,
        wire: Wire,
        receive_buffer: u32,
        offerer: bool,
        local_addr: Addr,
        remote_addr: Addr,
    ) -> Arc<Self> {
        let ample = config.connection_window_is_ample();
        let mut flight = receive_buffer / FLIGHT_SHARE.1 * FLIGHT_SHARE.0;
        if !ample {
            // The limit of unread bytes is low, so few bytes need to be in flight.
            let half = u32::try_from(config.connection_window / 2).unwrap_or(u32::MAX);
            flight = flight.min(half.max(MIN_FLIGHT));
        }
        let hello = Hello {
            flight,
            ..Hello::from(&config)
        };
        let carrier = Carrier {
            local_bit: u64::from(!offerer),
            opens_by_frame: true,
            has_orphans: false,
            ends_natively: false,
            drain: DrainMode::Counted,
            is_plain: wire.is_raw(),
        };
        let session_config = SessionConfig {
            hello,
            ..SessionConfig::from(&config)
        };
        Arc::new(Self {
            unread: if wire.is_raw() {
                Unread::default()
            } else {
                Unread::new(&config)
            },
            hello,
            credit_threshold: if ample {
                (config.stream_window / 4).max(1)
            } else {
                1
            },
            slots: StreamSlots::new(config.max_streams),
            config,
            wire,
            offerer,
            local_addr,
            remote_addr,
            identity: OnceLock::new(),
            peer: OnceLock::new(),
            commands: OnceLock::new(),
            max_message: AtomicUsize::new(MAX_MESSAGE),
            largest_message: AtomicUsize::new(MAX_MESSAGE),
            status: ConnStatus::new(),
            events: Arc::default(),
            backlog: Backlog::new(),
            idle: Notify::new(),
            outbox: Outbox::new(),
            inner: Mutex::new(Inner {
                session: Session::new(carrier, session_config, now()),
                current: HashMap::new(),
                free: Vec::new(),
                opens: VecDeque::new(),
                opening: 0,
                channels: 0,
                next_number: 0,
                arrivals: Arrivals::default(),
            }),
            label: format!("{:016x}", random_number()),
            peer_hello: OnceLock::new(),
            peer_windows: OnceLock::new(),
            pings: Pings::new(),
            arrived: AtomicU64::new(0),
            full: AtomicUsize::new(0),
            flows: Notify::new(),
            messages_sent: AtomicU64::new(0),
            messages_received: AtomicU64::new(0),
        })
    }

    /// Returns the hello of this side.
    pub(crate) fn hello(&self) -> Frame {
        Frame::Hello(self.hello)
    }

    /// Processes the peer's hello. Returns whether it is the first: a hello may come again.
    pub(crate) fn greet(&self, hello: &Hello) -> Result<bool> {
        if let Some(before) = self.peer_hello.get() {
            if before != hello {
                return Err(protocol("another hello"));
            }
            return Ok(false);
        }
        let windows = PeerWindows::new(hello.stream_window, hello.connection_window);
        // Only the driver sets them, one after the other.
        let _ = self.peer_windows.set(windows);
        let _ = self.peer_hello.set(*hello);
        if !self.wire.is_raw() {
            self.on_frame(Frame::Hello(*hello))?;
        }
        self.slots.shrink(hello.max_streams);
        self.outbox.limit_flight(hello.flight);
        Ok(true)
    }

    fn peer_max_streams(&self) -> u32 {
        self.peer_hello
            .get()
            .map_or(u32::MAX, |hello| hello.max_streams)
    }

    /// Returns the windows of a connection that is made; those of one that is not allow nothing.
    pub(crate) fn peer_windows(&self) -> &PeerWindows {
        static NONE: PeerWindows = PeerWindows::none();
        self.peer_windows.get().unwrap_or(&NONE)
    }

    pub(crate) fn label(&self) -> &str {
        &self.label
    }

    /// Returns `Ok` if this side may open streams.
    pub(crate) fn check_open(&self) -> Result<()> {
        let check = self.inner.lock().session.check_open();
        check.map_err(|error| open_error(error, self.status.error()))
    }

    /// Returns the largest message to send, in bytes.
    pub(crate) fn max_message(&self) -> usize {
        self.max_message.load(Ordering::Relaxed)
    }

    /// Returns the largest message that the peer takes, in bytes.
    pub(crate) fn largest_message(&self) -> usize {
        self.largest_message.load(Ordering::Relaxed)
    }

    pub(crate) fn set_largest_message(&self, bytes: usize) {
        self.largest_message.store(bytes, Ordering::Relaxed);
        self.max_message
            .store(bytes.min(MAX_MESSAGE), Ordering::Relaxed);
    }

    /// Sends a command to the negotiation. Once the signalling is gone it is dropped, which a
    /// caller that waits for an answer detects.
    pub(crate) fn command(&self, command: Command) {
        if let Some(commands) = self.commands.get()
            && let Err(error) = commands.try_send(command)
        {
            tracing::debug!(%error, "the negotiation takes no command");
        }
    }

    pub(crate) fn note_message_sent(&self) {
        self.messages_sent.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn messages_sent(&self) -> u64 {
        self.messages_sent.load(Ordering::Relaxed)
    }

    pub(crate) fn messages_received(&self) -> u64 {
        self.messages_received.load(Ordering::Relaxed)
    }

    /// Records an event for the readers of the events.
    pub(crate) fn tell(&self, event: ConnEvent) {
        tracing::debug!(peer = %self.remote_addr, ?event, "an event of the connection");
        self.events.push(event);
    }

    /// Queues a frame for the control channel.
    pub(crate) fn say(&self, frame: &Frame) {
        self.outbox.push_text(ControlLine(frame).to_string());
    }

    /// Notes that the application has taken a stream of the peer.
    pub(crate) fn on_accepted(&self, stream: &StreamRef) {
        let mut inner = self.inner.lock();
        inner.session.on_accepted(stream);
        self.settle(inner);
    }

    /// Changes a stream for the application, and does what follows. Returns the result of the change.
    pub(crate) fn change<R>(&self, stream: &StreamRef, act: impl FnOnce(&mut Stream) -> R) -> R {
        let mut state = stream.lock();
        let done = act(&mut state.proto);
        state.trim();
        let needs_session = state.needs_session();
        drop(state);
        if needs_session {
            self.update(stream);
        }
        done
    }

    /// Looks at a stream after a change: whether the application is done with it, whether there is
    /// something to send, and whether it can be forgotten.
    pub(crate) fn update(&self, stream: &StreamRef) {
        let mut state = stream.lock();
        let needs_turn = state.needs_turn();
        state.waits |= needs_turn;
        let needs_session = state.proto.needs_session();
        drop(state);
        if needs_turn {
            self.outbox.push_stream(stream.clone());
        }
        if needs_session {
            let mut inner = self.inner.lock();
            inner.session.update(stream);
            self.settle(inner);
        }
    }

    /// Resets a stream of this side that the application does not get.
    fn abandon(&self, stream: &StreamRef) {
        self.change(stream, |stream| stream.reset(0));
        self.change(stream, |stream| stream.stop(0));
    }

    /// Acts on the events and frames of the session, and unlocks it.
    fn settle(&self, inner: MutexGuard<'_, Inner>) {
        self.settle_with(inner, Deferred::default());
    }

    /// Settles as [`settle`](Self::settle) does, with actions that are deferred already.
    fn settle_with(&self, mut inner: MutexGuard<'_, Inner>, mut deferred: Deferred) {
        self.match_opens(&mut inner, &mut deferred);
        while let Some(event) = inner.session.poll_event() {
            self.on_event(&mut inner, event, &mut deferred);
        }
        // While the lock is held, so that streams are announced in their order.
        while let Some(stream) = inner.session.poll_stream() {
            let waits = std::mem::replace(&mut stream.lock().waits, true);
            if !waits {
                self.outbox.push_stream(stream);
            }
        }
        while let Some(frame) = inner.session.poll_frame() {
            match frame {
                // The driver says it when the peer can hear it.
                Frame::Hello(_) => {}
                Frame::Ping(bytes) => self.outbox.push_ping(BytesMut::from(&bytes[..])),
                frame => self.say(&frame),
            }
        }
        drop(inner);
        self.run(deferred);
    }

    fn on_event(
        &self,
        inner: &mut Inner,
        event: Event<StreamRef, PingWaiter>,
        deferred: &mut Deferred,
    ) {
        match event {
            Event::Wake {
                stream,
                reader,
                writer,
            } => {
                let mut state = stream.lock();
                if reader {
                    deferred.wakers.extend(state.reader.take());
                    stream.room.notify_waiters();
                }
                if writer {
                    deferred.wakers.extend(state.writer.take());
                }
            }
            Event::Room(bytes) => deferred.room += bytes,
            Event::SlotFreed(stream) => deferred.slots.extend(stream.lock().slot.take()),
            Event::Retired(stream) => {
                let key = stream.channel.key();
                let is_current = inner.current.get(&key).is_some_and(|s| s.is(&stream));
                if is_current && inner.session.is_local(stream.id) {
                    // The last message of its stream has come, so the channel is as good as new.
                    inner.current.remove(&key);
                    if !self.wire.is_raw() {
                        inner.free.push(stream.channel.clone());
                    }
                    self.match_opens(inner, deferred);
                }
            }
            Event::Idle => deferred.is_idle = true,
            Event::Pong { waiter, round_trip } => deferred.pongs.push((waiter, round_trip)),
            Event::PingsEnded(waiters) => deferred.lost_pings = waiters,
            Event::Draining => {
                deferred.is_draining = true;
                deferred.given_up.extend(std::mem::take(&mut inner.opens));
            }
            // The driver has the clock, and counts what has arrived.
            _ => {}
        }
    }

    fn run(&self, deferred: Deferred) {
        self.peer_windows().give_back(deferred.room);
        if deferred.is_draining {
            self.slots.close();
        }
        for (waiter, round_trip) in deferred.pongs {
            waiter.answer(round_trip);
        }
        drop((deferred.lost_pings, deferred.given_up, deferred.slots));
        for (done, stream) in deferred.opened {
            // The open may have been given up meanwhile.
            if let Err(stream) = done.send(stream) {
                self.abandon(&stream);
            }
        }
        deferred.wakers.into_iter().for_each(Waker::wake);
        if deferred.is_idle {
            self.idle.notify_waiters();
        }
    }

    pub(crate) fn stats(&self) -> ConnStats {
        self.inner.lock().session.totals().into()
    }
}

pub(crate) fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// Returns the time as a session takes it.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Returns a random number, or 0 if the system has no random bytes: the label only has to differ
/// from the peer's.
fn random_number() -> u64 {
    let mut bytes = [0; 8];
    let _ = getrandom::fill(&mut bytes);
    u64::from_ne_bytes(bytes)
}
