use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Waker;
use std::time::Duration;

use bytes::BytesMut;
use parking_lot::Mutex;
use pipe_core::{
    Addr, Backlog, CloseReason, Config, ConnStats, ConnStatus, ConnWindow, Error, ErrorKind,
    OnDisconnect, PeerIdentity, RecvState, Result, SendState, StreamSlot, StreamSlots,
};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use crate::conn::Handle;
use crate::engine::{Channel, ChannelInfo, Peer};
use crate::error::protocol;
use crate::negotiation::Command;
use crate::outbound::MAX_MESSAGE;
use crate::outbox::Outbox;
use crate::stream::WebRtcStream;
use crate::stream_core::{PeerWindows, StreamCore};
use crate::wire::{ControlMessage, Hello, MAX_TEXT, StreamMessage, Wire};

/// How many pings may be under way. Further ones wait.
const MAX_PINGS: usize = 64;

/// The length of a ping, in bytes.
pub(crate) const PING_LEN: usize = 64;

/// Of SCTP's receive buffer, the part that bytes on their way may use: what is over is for the
/// overhead of small messages, and for those that the peer does not count.
const FLIGHT_SHARE: (u32, u32) = (3, 4);

/// The least that may be on its way, in bytes: room for one message beside what is not confirmed yet.
const MIN_FLIGHT: u32 = 96 * 1024;

/// The peer is told of what has arrived each time that it is this part of the flight.
const FLIGHT_PARTS: u32 = 8;

/// A connection: what its handles, its streams and its tasks share.
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
    pub(crate) backlog: Backlog<Arc<StreamCore>>,
    pub(crate) slots: StreamSlots,
    /// Told when the last stream is over, and of every step of a drain.
    pub(crate) idle: Notify,
    pub(crate) outbox: Outbox,
    inner: Mutex<Inner>,
    peer_hello: OnceLock<Hello>,
    peer_windows: OnceLock<PeerWindows>,
    /// From how many bytes read on the peer is told.
    worth_telling: u32,
    hello: Hello,
    /// What this side names its channels, so that it knows them again.
    label: String,
    max_message: AtomicUsize,
    largest_message: AtomicUsize,
    ping_places: Arc<Semaphore>,
    /// Bytes that have arrived and that the peer was not told of.
    arrived: AtomicU64,
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
    /// How many channels are being opened.
    opening: usize,
    /// How many channels of this side there are, those included.
    channels: usize,
    next_id: u64,
    /// How many streams the peer has opened.
    seen: u64,
    /// Streams of the peer that came before others which were opened before them; bounded by the
    /// streams.
    held: BTreeMap<u64, Arc<StreamCore>>,
    /// The number of the next stream to be accepted.
    next_accept: u64,
    pings: HashMap<[u8; PING_LEN], Ping>,
    last_round_trip: Option<Duration>,
    carried: Carried,
    drain_announced: bool,
    drain_by_peer: bool,
    /// How many streams the peer had opened when it saw this side's drain.
    drained: Option<u64>,
    ended_idle: bool,
}

/// An open that waits for a channel.
pub(crate) struct Open {
    pub(crate) slot: StreamSlot,
    pub(crate) handle: Arc<Handle>,
    /// How to open a plain channel.
    pub(crate) info: ChannelInfo,
    pub(crate) done: oneshot::Sender<WebRtcStream>,
}

struct Ping {
    answer: oneshot::Sender<()>,
    started: Instant,
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
            // What may be unread is little, so what is on its way need not be much.
            let half = u32::try_from(config.connection_window / 2).unwrap_or(u32::MAX);
            flight = flight.min(half.max(MIN_FLIGHT));
        }
        Arc::new(Self {
            hello: Hello {
                max_streams: config.max_streams,
                stream_window: config.stream_window,
                connection_window: if ample { 0 } else { config.connection_window },
                flight,
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
            backlog: Backlog::new(),
            idle: Notify::new(),
            outbox: Outbox::new(),
            inner: Mutex::new(Inner::default()),
            label: format!("{:016x}", random_number()),
            peer_hello: OnceLock::new(),
            peer_windows: OnceLock::new(),
            ping_places: Arc::new(Semaphore::new(MAX_PINGS)),
            arrived: AtomicU64::new(0),
            messages_sent: AtomicU64::new(0),
            messages_received: AtomicU64::new(0),
            opened: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
        })
    }

    /// What this side says first.
    pub(crate) fn hello(&self) -> ControlMessage {
        ControlMessage::Hello(self.hello)
    }

    /// What the peer has said first. Returns whether it is news: a hello may come again.
    pub(crate) fn greet(&self, hello: &Hello) -> Result<bool> {
        if let Some(before) = self.peer_hello.get() {
            if before != hello {
                return Err(protocol("another hello"));
            }
            return Ok(false);
        }
        let windows = PeerWindows {
            stream: hello.stream_window,
            conn: (hello.connection_window > 0).then(|| ConnWindow::new(hello.connection_window)),
        };
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

    /// The windows of a connection that is made; those of one that is not allow nothing.
    pub(crate) fn peer_windows(&self) -> &PeerWindows {
        const NONE: &PeerWindows = &PeerWindows {
            stream: 0,
            conn: None,
        };
        self.peer_windows.get().unwrap_or(NONE)
    }

    pub(crate) fn label(&self) -> &str {
        &self.label
    }

    pub(crate) fn worth_telling(&self) -> u32 {
        self.worth_telling
    }

    /// `Ok` if this side may open streams.
    pub(crate) fn check_open(&self) -> Result<()> {
        self.status.check()?;
        self.inner.lock().check_open()
    }

    /// Opens a stream on a free channel, or asks for a channel.
    pub(crate) fn open(&self, open: Open) {
        let mut inner = self.inner.lock();
        if self.status.reason().is_some() || inner.check_open().is_err() {
            // Its caller notices.
            drop(inner);
            return drop(open);
        }
        inner.opens.push_back(open);
        if self.wire.is_raw() {
            return self.outbox.want_channel();
        }
        if !inner.free.is_empty() {
            drop(inner);
            self.match_opens();
        } else if inner.opening < inner.opens.len() {
            // Twice as many each time: those who open that many at once will do so again.
            let most = self.config.max_streams.min(self.peer_max_streams()) as usize;
            let more = inner.channels.max(1).min(most - inner.channels.min(most));
            for _ in 0..more.max(1) {
                inner.opening += 1;
                inner.channels += 1;
                self.outbox.want_channel();
            }
        }
    }

    /// A channel of this side was opened and can carry a stream.
    pub(crate) fn channel_opened(&self, channel: Channel) {
        let mut inner = self.inner.lock();
        inner.opening -= 1;
        inner.free.push(channel);
        drop(inner);
        self.match_opens();
    }

    /// Gives free channels to those who wait, in their order.
    fn match_opens(&self) {
        loop {
            let mut inner = self.inner.lock();
            if self.status.reason().is_some() {
                return;
            }
            // An open that was given up in the queue takes no channel.
            while inner.opens.front().is_some_and(|o| o.done.is_closed()) {
                let given_up = inner.opens.pop_front();
                drop(inner);
                drop(given_up);
                inner = self.inner.lock();
            }
            if inner.opens.is_empty() {
                return;
            }
            let Some(channel) = inner.free.pop() else {
                return;
            };
            let Some(open) = inner.opens.pop_front() else {
                return;
            };
            let Open {
                slot, handle, done, ..
            } = open;
            let id = inner.next_id << 1 | u64::from(!self.offerer);
            inner.next_id += 1;
            let key = channel.key();
            let stream = StreamCore::opened(id, channel, self.config.stream_window, slot);
            let stream = Arc::new(stream);
            inner.streams.insert(id, stream.clone());
            inner.current.insert(key, stream.clone());
            self.opened.fetch_add(1, Ordering::Relaxed);
            // Within the lock, so that streams are announced in their order.
            stream.state.lock().waits = true;
            self.outbox.push_stream(stream.clone());
            drop(inner);
            // Whoever asked may have given up; then the stream is dropped here, which resets it.
            let _ = done.send(WebRtcStream::new(stream, handle));
        }
    }

    /// The next open that a plain channel is to be opened for.
    pub(crate) fn next_raw_open(&self) -> Option<Open> {
        let mut inner = self.inner.lock();
        loop {
            let open = inner.opens.pop_front()?;
            if !open.done.is_closed() {
                return Some(open);
            }
        }
    }

    /// A plain channel of this side was opened.
    pub(crate) fn raw_opened(&self, open: Open, channel: Channel) {
        let Open {
            slot,
            handle,
            info,
            done,
        } = open;
        let mut inner = self.inner.lock();
        if self.status.reason().is_some() {
            drop(inner);
            return drop(handle);
        }
        let id = inner.next_id << 1 | u64::from(!self.offerer);
        inner.next_id += 1;
        let key = channel.key();
        let stream = StreamCore::opened(id, channel, self.config.stream_window, slot);
        let stream = Arc::new(stream.into_raw(info));
        inner.streams.insert(id, stream.clone());
        inner.current.insert(key, stream.clone());
        self.opened.fetch_add(1, Ordering::Relaxed);
        drop(inner);
        // Whoever asked may have given up; then the stream is dropped here, which resets it.
        let _ = done.send(WebRtcStream::new(stream, handle));
    }

    /// The peer has opened a plain channel.
    pub(crate) fn raw_incoming(&self, channel: &Channel, info: ChannelInfo) {
        let mut inner = self.inner.lock();
        if self.status.reason().is_some() {
            return;
        }
        let id = inner.seen << 1 | u64::from(self.offerer);
        inner.seen += 1;
        let stream = StreamCore::incoming(id, channel.clone(), self.config.stream_window);
        let stream = Arc::new(stream.into_raw(info));
        inner.streams.insert(id, stream.clone());
        inner.current.insert(channel.key(), stream.clone());
        drop(inner);
        // A queue that is closed belongs to a connection that is ending.
        let _ = self.backlog.push(stream);
    }

    /// A message has come on a plain channel.
    pub(crate) fn on_message(&self, channel: &Channel, bytes: BytesMut, text: bool) {
        if let Some(stream) = self.current(channel.key()) {
            let waker = stream.state.lock().arrive_raw(bytes, text);
            wake(waker);
        }
    }

    /// Waits until a plain channel can take more.
    pub(crate) async fn until_room(&self, key: usize) {
        while let Some(stream) = self.current(key) {
            let room = stream.room.notified();
            if self.status.reason().is_some()
                || !stream.state.lock().is_full(self.config.stream_window)
            {
                return;
            }
            room.await;
        }
    }

    /// The stream that a channel carries, or has carried last.
    pub(crate) fn current(&self, key: usize) -> Option<Arc<StreamCore>> {
        self.inner.lock().current.get(&key).cloned()
    }

    /// Something has been said on the channel of a stream.
    pub(crate) fn on_text(&self, channel: &Channel, ours: bool, text: &[u8]) -> Result<()> {
        self.messages_received.fetch_add(1, Ordering::Relaxed);
        if text.len() > MAX_TEXT {
            let length = text.len();
            return Err(protocol(format_args!(
                "a text message of {length} bytes, where {MAX_TEXT} are allowed"
            )));
        }
        text.split(|byte| *byte == b'\n')
            .try_for_each(|line| self.on_line(channel, ours, line))
    }

    fn on_line(&self, channel: &Channel, ours: bool, line: &[u8]) -> Result<()> {
        let Some(message) = StreamMessage::parse(line)? else {
            return Ok(());
        };
        if let StreamMessage::Open(id) = message {
            return self.on_open(channel, ours, id);
        }
        let Some(stream) = self.current(channel.key()) else {
            return Err(protocol(format_args!(
                "{message:?} on a channel without a stream"
            )));
        };
        let mut state = stream.state.lock();
        let (freed, waker) = match message {
            StreamMessage::Open(_) => (0, None),
            StreamMessage::End(bytes) => (0, state.announce_end(bytes)?),
            StreamMessage::Reset(code) => (0, state.reset_by_peer(code)),
            StreamMessage::Stop(code) => state.stop_by_peer(code),
            StreamMessage::Credit(bytes) => state.credit(bytes),
            StreamMessage::Taken => {
                state.taken = true;
                state.credit(u32::MAX)
            }
            StreamMessage::Done => {
                if !stream.ours {
                    return Err(protocol("a done of the side that opened the stream"));
                }
                state.taken = true;
                let (freed, waker) = state.credit(u32::MAX);
                state.peer_is_done();
                (freed, waker)
            }
        };
        drop(state);
        self.peer_windows().give_back(freed);
        self.settle(&stream);
        wake(waker);
        Ok(())
    }

    /// The peer opens a stream.
    fn on_open(&self, channel: &Channel, ours: bool, id: u64) -> Result<()> {
        if ours {
            return Err(protocol("a stream on a channel that this side opened"));
        }
        if id & 1 != u64::from(self.offerer) {
            return Err(protocol(format_args!(
                "a stream of number {id}, which is not the peer's to give"
            )));
        }
        let old = self.current(channel.key());
        if let Some(old) = &old {
            // A channel is used again when all of its last stream is known at both ends.
            let waker = {
                let mut state = old.state.lock();
                if !state.done {
                    return Err(protocol("a stream on a channel that carries one"));
                }
                state.taken = true;
                state.writer.take()
            };
            self.settle(old);
            wake(waker);
        }
        let stream = StreamCore::incoming(id, channel.clone(), self.config.stream_window);
        let stream = Arc::new(stream);
        {
            let mut inner = self.inner.lock();
            if self.status.reason().is_some() {
                return Ok(());
            }
            // The peer counts what is over a little earlier than this side.
            let theirs = inner.streams.values().filter(|s| !s.ours).count();
            if theirs >= 2 * self.config.max_streams as usize {
                let limit = self.config.max_streams;
                return Err(protocol(format_args!("more than {limit} streams at once")));
            }
            if inner.streams.contains_key(&id) {
                return Err(protocol(format_args!("a second stream of number {id}")));
            }
            inner.streams.insert(id, stream.clone());
            inner.current.insert(channel.key(), stream.clone());
            inner.seen += 1;
            inner.held.insert(id >> 1, stream);
            self.deliver(&mut inner, false);
        }
        self.idle.notify_waiters();
        Ok(())
    }

    /// Passes streams of the peer on in the order in which they were opened, as far as those before
    /// them have come, or all of them.
    fn deliver(&self, inner: &mut Inner, all: bool) {
        while let Some(first) = inner.held.first_entry() {
            let number = *first.key();
            if number > inner.next_accept && !all {
                return;
            }
            inner.next_accept = inner.next_accept.max(number.saturating_add(1));
            // A queue that is closed belongs to a connection that is ending.
            let _ = self.backlog.push(first.remove());
        }
    }

    /// Whether streams of the peer wait for those that were opened before them. The channels know no
    /// common order.
    pub(crate) fn holds_streams(&self) -> bool {
        !self.inner.lock().held.is_empty()
    }

    /// Passes on the streams that wait for others for too long.
    pub(crate) fn release_streams(&self) {
        self.deliver(&mut self.inner.lock(), true);
    }

    /// Bytes have come on the channel of a stream.
    pub(crate) fn on_bytes(&self, channel: &Channel, bytes: BytesMut) -> Result<()> {
        self.messages_received.fetch_add(1, Ordering::Relaxed);
        self.note_arrived(bytes.len());
        let Some(stream) = self.current(channel.key()) else {
            return Err(protocol("bytes on a channel without a stream"));
        };
        let waker = stream.state.lock().arrive(bytes)?;
        wake(waker);
        Ok(())
    }

    /// So many bytes have come out of the transport. The peer is told from time to time.
    pub(crate) fn note_arrived(&self, count: usize) {
        let count = count as u64;
        let arrived = self.arrived.fetch_add(count, Ordering::Relaxed) + count;
        if arrived >= u64::from(self.hello.flight / FLIGHT_PARTS) && !self.wire.is_raw() {
            self.arrived.fetch_sub(arrived, Ordering::Relaxed);
            let arrived = u32::try_from(arrived).unwrap_or(u32::MAX);
            self.say(&ControlMessage::Got(arrived));
        }
    }

    /// The largest message to send, in bytes.
    pub(crate) fn max_message(&self) -> usize {
        self.max_message.load(Ordering::Relaxed)
    }

    /// The largest message that the peer takes, in bytes.
    pub(crate) fn largest_message(&self) -> usize {
        self.largest_message.load(Ordering::Relaxed)
    }

    pub(crate) fn set_largest_message(&self, bytes: usize) {
        self.largest_message.store(bytes, Ordering::Relaxed);
        self.max_message
            .store(bytes.min(MAX_MESSAGE), Ordering::Relaxed);
    }

    /// Asks the negotiation for something. Once the signalling is gone that is in vain, which whoever
    /// waits for an answer notices.
    pub(crate) fn command(&self, command: Command) {
        if let Some(commands) = self.commands.get()
            && let Err(error) = commands.try_send(command)
        {
            tracing::debug!(%error, "the negotiation takes no command");
        }
    }

    /// The peer has closed the channel of a stream, which ends what of the stream had not ended.
    pub(crate) fn on_closed(&self, channel: &Channel) {
        let key = channel.key();
        let stream = {
            let mut inner = self.inner.lock();
            let free = inner.free.len();
            inner.free.retain(|free| free.key() != key);
            let stream = inner.current.remove(&key);
            if inner.free.len() < free || stream.as_ref().is_some_and(|s| s.ours) {
                inner.channels = inner.channels.saturating_sub(1);
            }
            stream
        };
        let Some(stream) = stream else { return };
        let (freed, wakers) = {
            let mut state = stream.state.lock();
            if state.is_raw() {
                let wakers = state.close_raw();
                drop(state);
                self.settle(&stream);
                return wakers.into_iter().for_each(wake);
            }
            let reader = state.reset_by_peer(0);
            let (freed, writer) = state.stop_by_peer(0);
            state.taken = true;
            state.peer_is_done();
            (freed, [reader, writer])
        };
        self.peer_windows().give_back(freed);
        self.settle(&stream);
        wakers.into_iter().for_each(wake);
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

    /// Says something over the control channel.
    pub(crate) fn say(&self, message: &ControlMessage) {
        self.outbox.push_text(message.to_string());
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

    /// The application has taken a stream of the peer.
    pub(crate) fn accept(&self, stream: &Arc<StreamCore>) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        stream.state.lock().accepted = true;
        self.settle(stream);
    }

    /// Looks at a stream after a change: whether the application is done with it, whether there is
    /// something to send, and whether it can be forgotten.
    pub(crate) fn settle(&self, stream: &Arc<StreamCore>) {
        self.announce_done(stream);
        let mut inner = self.inner.lock();
        let mut state = stream.state.lock();
        if !state.is_over(stream.ours) || state.waits {
            return;
        }
        let slot = state.slot.take();
        let (freed, _) = state.credit(u32::MAX);
        drop(state);
        if inner.streams.remove(&stream.id).is_none() {
            return;
        }
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
        self.peer_windows().give_back(freed);
        if opens {
            self.match_opens();
        }
        if idle {
            self.idle.notify_waiters();
        }
    }

    fn announce_done(&self, stream: &Arc<StreamCore>) {
        stream.state.lock().note_done(stream.ours);
        self.announce(stream);
    }

    /// Cuts this side's direction short and tells the peer, if it is open.
    pub(crate) fn cut_send(&self, stream: &Arc<StreamCore>, to: SendState, code: u32) {
        let (freed, waker) = {
            let mut state = stream.state.lock();
            if !state.cut_send(to, code) {
                return;
            }
            state.credit(u32::MAX)
        };
        self.peer_windows().give_back(freed);
        self.settle(stream);
        wake(waker);
    }

    /// Gives the peer's direction up and tells it, unless it has ended.
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

    /// Ends the connection as this side asks, unless it has ended.
    pub(crate) fn close(&self, code: u32, reason: &str) {
        self.end(&CloseReason::local(code, reason));
    }

    /// Ends the connection, unless it has ended: all that waits wakes up.
    pub(crate) fn end(&self, reason: &CloseReason) {
        let mut inner = self.inner.lock();
        if !self.status.end(reason.clone()) {
            return;
        }
        self.slots.close();
        self.ping_places.close();
        inner.ended_idle = inner.streams.is_empty();
        let pings = std::mem::take(&mut inner.pings);
        let opens = std::mem::take(&mut inner.opens);
        let mut wakers = Vec::new();
        for stream in inner.streams.values() {
            wakers.extend(stream.state.lock().end());
            stream.room.notify_waiters();
        }
        drop(inner);
        drop(self.backlog.close());
        drop(pings);
        drop(opens);
        wakers.into_iter().for_each(wake);
        self.idle.notify_waiters();
    }

    /// Forgets what only an open connection needs. Streams that the application holds stay readable
    /// as far as they can be.
    pub(crate) fn clear(&self) {
        let mut inner = self.inner.lock();
        let current = std::mem::take(&mut inner.current);
        let free = std::mem::take(&mut inner.free);
        let held = std::mem::take(&mut inner.held);
        drop(inner);
        drop((current, free, held));
        self.outbox.clear();
    }

    /// The peer is silent.
    pub(crate) fn disconnect(&self) {
        if !self.status.set_connected(false) || self.config.on_disconnect == OnDisconnect::Wait {
            return;
        }
        let streams: Vec<_> = self.inner.lock().streams.values().cloned().collect();
        for stream in streams {
            self.cut_send(&stream, SendState::Disconnected, 0);
            self.cut_recv(&stream, RecvState::Disconnected, 0);
        }
    }

    /// Announces that this side drains the connection.
    pub(crate) fn announce_drain(&self) {
        let mut inner = self.inner.lock();
        if std::mem::replace(&mut inner.drain_announced, true) {
            return;
        }
        if self.wire.is_raw() {
            // A plain peer cannot be told.
            inner.drained = Some(0);
        } else {
            self.say(&ControlMessage::Drain);
        }
        let opens = std::mem::take(&mut inner.opens);
        drop(inner);
        self.slots.close();
        drop(opens);
    }

    /// The peer drains the connection.
    pub(crate) fn drain_by_peer(&self) -> Result<()> {
        let mut inner = self.inner.lock();
        if std::mem::replace(&mut inner.drain_by_peer, true) {
            return Err(protocol("a second drain"));
        }
        let opens = std::mem::take(&mut inner.opens);
        self.say(&ControlMessage::Drained(inner.next_id));
        drop(inner);
        self.slots.close();
        drop(opens);
        Ok(())
    }

    /// The peer has seen this side's drain, and had opened so many streams.
    pub(crate) fn drained(&self, streams: u64) -> Result<()> {
        let mut inner = self.inner.lock();
        if !inner.drain_announced || inner.drained.replace(streams).is_some() {
            return Err(protocol("a drained that answers no drain"));
        }
        drop(inner);
        self.idle.notify_waiters();
        Ok(())
    }

    pub(crate) fn is_drained(&self) -> bool {
        let inner = self.inner.lock();
        inner.drained.is_some_and(|count| inner.seen >= count) && inner.streams.is_empty()
    }

    /// Whether no stream was cut short by the end of the connection.
    pub(crate) fn ended_idle(&self) -> bool {
        self.inner.lock().ended_idle
    }

    /// Measures a round trip.
    pub(crate) async fn ping(&self) -> Result<Duration> {
        self.status.check()?;
        if self.wire == (Wire::Raw { ping: false }) {
            let why = "this connection has no channel for pings";
            return Err(Error::new(ErrorKind::Unsupported, why));
        }
        let ended = || {
            self.status
                .error()
                .unwrap_or_else(|| Error::new(ErrorKind::Failed, "no answer came"))
        };
        let place = self.ping_places.clone().acquire_owned().await;
        let place = place.map_err(|_| ended())?;
        let (answer, answered) = oneshot::channel();
        let started = Instant::now();
        let bytes = random()?;
        {
            let mut inner = self.inner.lock();
            self.status.check()?;
            inner.pings.insert(
                bytes,
                Ping {
                    answer,
                    started,
                    _place: place,
                },
            );
        }
        self.outbox.push_ping(BytesMut::from(&bytes[..]));
        answered.await.map_err(|_| ended())?;
        Ok(started.elapsed().max(Duration::from_nanos(1)))
    }

    /// The answer to a ping has come, or that to one that nobody waits for.
    pub(crate) fn on_echo(&self, bytes: &[u8]) {
        let Ok(bytes) = <[u8; PING_LEN]>::try_from(bytes) else {
            return;
        };
        let mut inner = self.inner.lock();
        if let Some(ping) = inner.pings.remove(&bytes) {
            inner.last_round_trip = Some(ping.started.elapsed().max(Duration::from_nanos(1)));
            drop(inner);
            // Whoever asked may have given up.
            let _ = ping.answer.send(());
        }
    }

    /// Asks the peer for a sign of life that nobody waits for.
    pub(crate) fn ask(&self) {
        if self.wire != (Wire::Raw { ping: false })
            && let Ok(bytes) = random()
        {
            self.outbox.push_ping(BytesMut::from(&bytes[..]));
        }
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

/// Without random bytes it is 0, which is as good as any other unless the peer means harm to itself.
fn random_number() -> u64 {
    let mut bytes = [0; 8];
    let _ = getrandom::fill(&mut bytes);
    u64::from_ne_bytes(bytes)
}

fn random() -> Result<[u8; PING_LEN]> {
    let mut bytes = [0; PING_LEN];
    getrandom::fill(&mut bytes).map_err(|error| {
        Error::with_source(ErrorKind::Io, "the system gives no random bytes", error)
    })?;
    Ok(bytes)
}
