mod arrivals;
mod ending;
mod incoming;
mod open;
mod opening;
mod pings;

use std::collections::{HashMap, VecDeque};
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Waker;

use bytes::BytesMut;
use pipe_core::backend::proto::codec::text::ControlLine;
use pipe_core::backend::proto::{
    Carrier, DrainMode, Frame, Hello, PingBytes, Session, SessionConfig,
};
use pipe_core::backend::{Changes, PeerWindows, SessionConn, SessionCore, State, now};
use pipe_core::{Addr, CloseReason, Config, Error, ErrorKind, PeerIdentity, Result};
use tokio::sync::{Notify, mpsc};

use crate::command::Command;
use crate::engine::{Channel, ChannelInfo, Peer};
use crate::error::protocol;
use crate::events::{ConnEvent, EventLog};
use crate::outbox::Outbox;
use crate::stream_core::{StreamRef, StreamState, Unread};
use crate::wire::{MAX_MESSAGE, Wire};
use arrivals::Arrivals;
use open::Open;

/// Part of SCTP's receive buffer that bytes in flight may use: the rest is for the overhead of
/// small messages, and for those that the peer does not count.
const FLIGHT_SHARE: (u32, u32) = (3, 4);

/// Minimum limit of bytes in flight: room for one message beside the unconfirmed ones.
const MIN_FLIGHT: u32 = 96 * 1024;

/// Maximum number of bytes that this side has in flight, whatever the peer allows, beside what its windows may grow by.
const BASE_FLIGHT: usize = 6 * 1024 * 1024;

/// Maximum number of bytes that windows that grow add to the flight.
const MAX_FLIGHT_GROWTH: u64 = 16 * 1024 * 1024;

/// Fraction of the flight limit, without that growth, after which arrived bytes are acknowledged to the peer.
const FLIGHT_PARTS: u32 = 8;

/// A connection: the state that its handles, its streams and its tasks share.
///
/// Locks are taken in the order `inner`, stream, outbox. None is held while a task is woken.
pub(crate) struct Shared {
    core: SessionCore<StreamState, Channels>,
    pub(crate) wire: Wire,
    /// Whether this side made the offer.
    pub(crate) offerer: bool,
    pub(crate) local_addr: Addr,
    pub(crate) remote_addr: Addr,
    pub(crate) identity: OnceLock<PeerIdentity>,
    pub(crate) peer: OnceLock<Arc<Peer>>,
    pub(crate) commands: OnceLock<mpsc::Sender<Command>>,
    pub(crate) events: Arc<EventLog>,
    pub(crate) outbox: Outbox,
    peer_hello: OnceLock<Hello>,
    peer_windows: OnceLock<PeerWindows>,
    /// Number of bytes read from which credit is returned to the peer.
    credit_threshold: u32,
    hello: Hello,
    /// Number of arrived bytes from which they are acknowledged to the peer.
    got_threshold: u64,
    /// Receive buffer of SCTP before windows grow, in bytes.
    receive_buffer: u32,
    /// Label of this side's channels, by which it recognises them.
    label: String,
    max_message: AtomicUsize,
    largest_message: AtomicUsize,
    pub(crate) unread: Unread,
    /// Number of arrived bytes that were not acknowledged to the peer.
    arrived: AtomicU64,
    /// Number of full plain channels, and a notification when there is none.
    full: AtomicUsize,
    flows: Notify,
    messages_sent: AtomicU64,
    messages_received: AtomicU64,
}

/// The channels of the streams, and what waits for them.
#[derive(Default)]
pub(crate) struct Channels {
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
            flight: flight.saturating_add(flight_growth(&config, wire)),
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
            got_threshold: (flight / FLIGHT_PARTS).into(),
            receive_buffer,
            credit_threshold: if ample {
                (config.stream_window / 4).max(1)
            } else {
                1
            },
            core: SessionCore::new(
                config,
                Session::new(carrier, session_config, now()),
                Channels::default(),
            ),
            wire,
            offerer,
            local_addr,
            remote_addr,
            identity: OnceLock::new(),
            peer: OnceLock::new(),
            commands: OnceLock::new(),
            max_message: AtomicUsize::new(MAX_MESSAGE),
            largest_message: AtomicUsize::new(MAX_MESSAGE),
            events: Arc::default(),
            outbox: Outbox::new(),
            label: format!("{:016x}", random_number()),
            peer_hello: OnceLock::new(),
            peer_windows: OnceLock::new(),
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
        // What a side may let the other have in flight, it may have as well.
        let ours = BASE_FLIGHT + flight_growth(&self.config, self.wire) as usize;
        let most = self
            .peer
            .get()
            .map_or(ours, |peer| peer.most_in_flight().min(ours));
        self.outbox.limit_flight(hello.flight, most);
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
            tracing::debug!(%error, "a command is dropped: the negotiation has ended, or its queue is full");
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
}

impl SessionConn for Shared {
    type Stream = StreamState;
    type Extra = Channels;
    type Dropped = Open;

    async fn open(shared: &Arc<Self>) -> Result<StreamRef> {
        shared.open_channel(ChannelInfo::new("", "", true)).await
    }

    fn local_addr(&self) -> Addr {
        self.local_addr.clone()
    }

    fn remote_addr(&self) -> Addr {
        self.remote_addr.clone()
    }

    fn peer_identity(&self) -> Option<PeerIdentity> {
        self.identity.get().cloned()
    }

    /// The driver waits for the end, and the outbox wakes the sender.
    fn wake_driver(&self) {}

    fn give_room(&self, bytes: u64) {
        self.peer_windows().give_back(bytes);
    }

    fn on_wake(&self, _: &mut State<Self>, stream: &StreamRef, _: &mut Changes<Self>) {
        stream.unlocked.room.notify_waiters();
    }

    /// Looks at a stream after a change: whether the application is done with it, whether there is
    /// something to send, and whether it can be forgotten.
    fn update(&self, stream: &StreamRef) {
        let mut state = stream.lock();
        let needs_turn = state.needs_turn();
        state.waits |= needs_turn;
        let needs_session = state.proto.needs_session();
        drop(state);
        if needs_turn {
            self.outbox.push_stream(stream.clone());
        }
        if needs_session {
            let mut inner = self.state.lock();
            self.tune_window(&mut inner, stream);
            inner.session.update(stream);
            self.settle(inner);
        }
    }

    fn on_window_growth(&self, bytes: u64) {
        self.unread.set_growth(bytes);
        // So that what is in flight has room in it where something was lost.
        let (part, of) = FLIGHT_SHARE;
        let grown = bytes.min(MAX_FLIGHT_GROWTH) as u32 / part * of;
        if let Some(peer) = self.peer.get() {
            peer.raise_receive_buffer(self.receive_buffer.saturating_add(grown));
        }
    }

    fn on_retired(&self, inner: &mut State<Self>, stream: &StreamRef, _: &mut Changes<Self>) {
        let channel = &stream.unlocked.channel;
        let current = inner.extra.current.get(&channel.key());
        if current.is_some_and(|s| s.is(stream)) && inner.session.is_local(stream.id) {
            // The last message of its stream has come, so the channel is as good as new.
            inner.extra.current.remove(&channel.key());
            if !self.wire.is_raw() {
                inner.extra.free.push(channel.clone());
            }
        }
    }

    fn on_drain(&self, inner: &mut State<Self>, changes: &mut Changes<Self>) {
        changes
            .dropped
            .extend(std::mem::take(&mut inner.extra.opens));
    }

    /// Puts the frames, and the streams with frames, into the outbox: while the lock is held, so that streams are
    /// announced in their order.
    fn send_frames(&self, inner: &mut State<Self>, changes: &mut Changes<Self>) -> bool {
        self.match_opens(inner, changes);
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
                Frame::Ping(bytes) => self.send_plain_ping(&bytes),
                frame => self.say(&frame),
            }
        }
        false
    }

    fn check_pings(&self) -> Result<()> {
        if self.has_pings() {
            return Ok(());
        }
        let why = "this connection has no channel for pings";
        Err(Error::new(ErrorKind::Unsupported, why))
    }

    fn send_plain_ping(&self, bytes: &PingBytes) {
        self.outbox.push_ping(BytesMut::from(&bytes[..]));
    }

    /// The driver sends the close, behind the bytes of the streams.
    fn end_session(&self, inner: &mut State<Self>, _: &CloseReason) {
        inner.session.fail();
    }

    fn on_session_end(&self, inner: &mut State<Self>, changes: &mut Changes<Self>) {
        self.on_drain(inner, changes);
    }

    fn on_end(&self) {
        self.flows.notify_waiters();
        self.tell(ConnEvent::State(self.status.state()));
    }

    /// The driver goes on after the drain, and sends the close.
    async fn until_left(&self) {}
}

impl Deref for Shared {
    type Target = SessionCore<StreamState, Channels>;

    fn deref(&self) -> &Self::Target {
        &self.core
    }
}

/// Returns by how many bytes windows that grow raise the limit of bytes in flight. A plain channel has no window of its
/// own.
fn flight_growth(config: &Config, wire: Wire) -> u32 {
    if wire.is_raw() {
        return 0;
    }
    // The lesser fits.
    config.effective_window_growth().min(MAX_FLIGHT_GROWTH) as u32
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
