mod ending;
mod incoming;
mod opening;
mod pings;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Waker;
use std::time::Duration;

use parking_lot::Mutex;
use pipe_core::backend::proto::codec::text::ControlLine;
use pipe_core::backend::proto::{Frame, Hello, PingBytes};
use pipe_core::backend::{
    Backlog, ConnStatus, PeerWindows, RecvState, SendState, StreamSlot, StreamSlots,
};
use pipe_core::{Addr, Config, ConnStats, Error, ErrorKind, PeerIdentity, Result};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use crate::command::Command;
use crate::engine::{Channel, ChannelInfo, Peer};
use crate::error::protocol;
use crate::events::{ConnEvent, EventLog};
use crate::outbox::Outbox;
use crate::stream_core::{StreamCore, Unread};
use crate::wire::{MAX_MESSAGE, Wire};

/// Maximum number of pings in flight, and of liveness pings besides them. Further pings wait.
const MAX_PINGS: usize = 64;

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
    pub(crate) backlog: Backlog<Arc<StreamCore>>,
    pub(crate) slots: StreamSlots,
    /// Notified when the last stream is over, and of every step of a drain.
    pub(crate) idle: Notify,
    pub(crate) outbox: Outbox,
    inner: Mutex<Inner>,
    peer_hello: OnceLock<Hello>,
    peer_windows: OnceLock<PeerWindows>,
    /// Number of bytes read from which credit is returned to the peer.
    worth_telling: u32,
    hello: Hello,
    /// Label of this side's channels, by which it recognises them.
    label: String,
    max_message: AtomicUsize,
    largest_message: AtomicUsize,
    pub(crate) unread: Unread,
    ping_places: Arc<Semaphore>,
    /// Number of arrived bytes that were not acknowledged to the peer.
    arrived: AtomicU64,
    /// Number of full plain channels, and a notification when there is none.
    full: AtomicUsize,
    flows: Notify,
    messages_sent: AtomicU64,
    messages_received: AtomicU64,
    opened: AtomicU64,
    accepted: AtomicU64,
}

#[derive(Default)]
struct Inner {
    /// Streams that are alive, by their numbers.
    streams: HashMap<u64, Arc<StreamCore>>,
    /// The newest stream of each channel, by the channel's key.
    current: HashMap<usize, Arc<StreamCore>>,
    /// Channels of this side that carry no stream; bounded by the streams that were open at once.
    free: Vec<Channel>,
    /// Opens that wait for a channel; bounded by the slots.
    opens: VecDeque<Open>,
    /// Number of channels being opened.
    opening: usize,
    /// Number of channels of this side, including those.
    channels: usize,
    next_id: u64,
    /// Number of streams that the peer has opened.
    seen: u64,
    /// Number of them that are alive, or await their last messages.
    theirs: usize,
    /// Number of those that this side's application is not done with.
    theirs_in_use: usize,
    /// The number after the highest one of a stream of the peer.
    next_number: u64,
    /// Numbers below it that have not come yet.
    missing: BTreeSet<u64>,
    /// Streams of the peer that came before others which were opened before them; bounded by the
    /// streams.
    held: BTreeMap<u64, Arc<StreamCore>>,
    /// The number of the next stream to be accepted.
    next_accept: u64,
    pings: HashMap<PingBytes, Ping>,
    /// Number of them without a caller.
    asked: usize,
    last_round_trip: Option<Duration>,
    carried: Carried,
    drain_announced: bool,
    drain_by_peer: bool,
    /// Number of streams that the peer had opened when it saw this side's drain.
    drained: Option<u64>,
    ended_idle: bool,
}

/// An open that waits for a channel.
pub(crate) struct Open {
    slot: StreamSlot,
    /// Parameters of a plain channel.
    pub(crate) info: ChannelInfo,
    done: oneshot::Sender<Arc<StreamCore>>,
}

/// A ping whose echo has not come.
struct Ping {
    started: Instant,
    /// Absent for a liveness ping, which has no caller.
    waiter: Option<PingWaiter>,
}

struct PingWaiter {
    answer: oneshot::Sender<()>,
    _place: OwnedSemaphorePermit,
}

#[derive(Clone, Copy, Default)]
struct Carried {
    sent: u64,
    received: u64,
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
        Arc::new(Self {
            unread: if wire.is_raw() {
                Unread::default()
            } else {
                Unread::new(&config)
            },
            hello: Hello {
                flight,
                ..Hello::from(&config)
            },
            worth_telling: if ample {
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
            inner: Mutex::new(Inner::default()),
            label: format!("{:016x}", random_number()),
            peer_hello: OnceLock::new(),
            peer_windows: OnceLock::new(),
            ping_places: Arc::new(Semaphore::new(MAX_PINGS)),
            arrived: AtomicU64::new(0),
            full: AtomicUsize::new(0),
            flows: Notify::new(),
            messages_sent: AtomicU64::new(0),
            messages_received: AtomicU64::new(0),
            opened: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
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

    pub(crate) fn worth_telling(&self) -> u32 {
        self.worth_telling
    }

    /// Returns `Ok` if this side may open streams.
    pub(crate) fn check_open(&self) -> Result<()> {
        self.status.check()?;
        self.inner.lock().check_open()
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

    /// Puts a stream that has something to send into the queue, unless it is there.
    pub(crate) fn announce(&self, stream: &Arc<StreamCore>) {
        let push = {
            let mut state = stream.state.lock();
            state.has_output(self.worth_telling) && !std::mem::replace(&mut state.waits, true)
        };
        if push {
            self.outbox.push_stream(stream.clone());
        }
    }

    /// Notes that the application has taken a stream of the peer.
    pub(crate) fn accept(&self, stream: &Arc<StreamCore>) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        stream.state.lock().accepted = true;
        self.settle(stream);
    }

    /// Looks at a stream after a change: whether the application is done with it, whether there is
    /// something to send, and whether it can be forgotten.
    pub(crate) fn settle(&self, stream: &Arc<StreamCore>) {
        let mut inner = self.inner.lock();
        let mut state = stream.state.lock();
        if state.note_done(stream.ours) && !stream.ours {
            inner.theirs_in_use = inner.theirs_in_use.saturating_sub(1);
        }
        if state.has_output(self.worth_telling) && !std::mem::replace(&mut state.waits, true) {
            drop(state);
            drop(inner);
            return self.outbox.push_stream(stream.clone());
        }
        if !state.is_over(stream.ours) || state.waits {
            return;
        }
        let slot = state.slot.take();
        let (freed, _) = state.credit(u32::MAX);
        drop(state);
        if inner.streams.remove(&stream.id).is_none() {
            return;
        }
        inner.theirs -= usize::from(!stream.ours);
        inner.carried.add(stream);
        let key = stream.channel.key();
        let is_current = |s: &Arc<StreamCore>| Arc::ptr_eq(s, stream);
        if stream.ours && inner.current.get(&key).is_some_and(is_current) {
            // The last message of its stream has come, so the channel is as good as new.
            inner.current.remove(&key);
            if !self.wire.is_raw() {
                inner.free.push(stream.channel.clone());
            }
        }
        let opens = !inner.opens.is_empty();
        let idle = inner.streams.is_empty();
        drop(inner);
        drop(slot);
        self.peer_windows().give_back(freed.into());
        if opens {
            self.match_opens();
        }
        if idle {
            self.idle.notify_waiters();
        }
    }

    /// Notes that the application has let go of the sending half of a stream.
    pub(crate) fn release_send(&self, stream: &Arc<StreamCore>) {
        let done = stream.state.lock().release_send();
        if done {
            self.settle(stream);
        }
    }

    /// Notes that the application has let go of the receiving half of a stream.
    pub(crate) fn release_recv(&self, stream: &Arc<StreamCore>) {
        let done = stream.state.lock().release_recv();
        if done {
            self.settle(stream);
        }
    }

    /// Cuts this side's direction short and sends that to the peer, if it is open.
    pub(crate) fn cut_send(&self, stream: &Arc<StreamCore>, to: SendState, code: u32) {
        let (freed, waker) = {
            let mut state = stream.state.lock();
            if !state.cut_send(to, code) {
                return;
            }
            state.credit(u32::MAX)
        };
        self.peer_windows().give_back(freed.into());
        self.settle(stream);
        wake(waker);
    }

    /// Stops the peer's direction and sends that to the peer, unless it has ended.
    pub(crate) fn cut_recv(&self, stream: &Arc<StreamCore>, to: RecvState, code: u32) {
        let waker = {
            let mut state = stream.state.lock();
            if !state.stop(to, code) {
                return;
            }
            state.reader.take()
        };
        self.settle(stream);
        wake(waker);
    }

    /// Resets a stream of this side that the application does not get.
    fn abandon(&self, stream: &Arc<StreamCore>) {
        // In this order: the reset arrives before the stop.
        self.cut_send(stream, SendState::Reset(0), 0);
        self.release_send(stream);
        self.cut_recv(stream, RecvState::Stopped(0), 0);
        self.release_recv(stream);
    }

    pub(crate) fn stats(&self) -> ConnStats {
        let inner = self.inner.lock();
        let mut carried = inner.carried;
        for stream in inner.streams.values() {
            carried.add(stream);
        }
        let mut stats = ConnStats::default();
        stats.bytes_sent = carried.sent;
        stats.bytes_received = carried.received;
        stats.streams_opened = self.opened.load(Ordering::Relaxed);
        stats.streams_accepted = self.accepted.load(Ordering::Relaxed);
        stats.streams_open = inner.streams.len() as u64;
        stats.last_round_trip = inner.last_round_trip;
        stats
    }
}

impl Inner {
    fn check_open(&self) -> Result<()> {
        let why = match (self.drain_announced, self.drain_by_peer) {
            (true, _) => "this side is draining the connection",
            (_, true) => "the peer is draining the connection",
            _ => return Ok(()),
        };
        Err(Error::new(ErrorKind::Closed, why))
    }
}

impl Carried {
    fn add(&mut self, stream: &StreamCore) {
        let state = stream.state.lock();
        self.sent += state.sent;
        self.received += state.received;
    }
}

pub(crate) fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// Returns a random number, or 0 if the system has no random bytes: the label only has to differ
/// from the peer's.
fn random_number() -> u64 {
    let mut bytes = [0; 8];
    let _ = getrandom::fill(&mut bytes);
    u64::from_ne_bytes(bytes)
}
