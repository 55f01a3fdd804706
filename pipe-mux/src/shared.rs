use std::any::Any;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Waker;

use parking_lot::Mutex;
use pipe_core::backend::wire::{Control, Hello};
use pipe_core::backend::{Backlog, ConnStatus, PeerWindows, RecvState, SendState, StreamSlots};
use pipe_core::{
    Addr, CloseReason, Config, ConnStats, Error, ErrorKind, OnDisconnect, PeerIdentity, Result,
};
use tokio::sync::{Notify, Semaphore};

use crate::muxer::MuxerHandle;
use crate::open_queue::Opens;
use crate::pings::{PingBytes, Pings};
use crate::stream_core::{StreamCore, StreamState, wake};
use crate::turns::DriverWaker;
use crate::wire::Wire;
use crate::yamux::{WINDOW, YamuxHandle};

/// A connection: what its handles, its streams and its driver share.
///
/// Locks are taken in the order `inner`, stream. None is held while a task is woken.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) wire: Wire,
    /// What the peer said of its windows, where it counts them.
    peer_windows: OnceLock<Option<PeerWindows>>,
    /// From how many bytes read on the peer is told, where this side counts its windows.
    worth_telling: Option<u32>,
    pub(crate) local_addr: Addr,
    pub(crate) remote_addr: Addr,
    pub(crate) identity: Option<PeerIdentity>,
    pub(crate) inner_io: Option<Arc<dyn Any + Send + Sync>>,
    pub(crate) status: ConnStatus,
    pub(crate) backlog: Backlog<Arc<StreamCore>>,
    pub(crate) slots: StreamSlots,
    /// Told when the last stream is over, and of every step of a drain.
    pub(crate) idle: Notify,
    pub(crate) inner: Mutex<Inner>,
    /// Closed once the driver has left: what was to be said has been said, or cannot be.
    pub(crate) left: Semaphore,
    /// There are chores.
    busy: AtomicBool,
    pub(crate) driver: Arc<DriverWaker>,
    pub(crate) mux: YamuxHandle,
    pub(crate) pings: Pings,
    pub(crate) opened: AtomicU64,
    accepted: AtomicU64,
}

pub(crate) struct Inner {
    /// None where the wire is raw.
    pub(crate) control: Option<Control>,
    /// With a keyed hash, as the peer chooses numbers.
    pub(crate) streams: HashMap<u64, Arc<StreamCore>>,
    pub(crate) opens: Opens,
    /// What the driver has to do next.
    pub(crate) chores: Chores,
    /// How many of the streams the peer opened.
    pub(crate) theirs: usize,
    /// How many of those this side's application is not done with.
    pub(crate) theirs_in_use: usize,
    /// Room in the peer's connection window that is free once the peer is told of the resets.
    freed: u64,
    /// Streams that owe the peer a word; bounded by the streams.
    owing: Vec<Arc<StreamCore>>,
    carried: Carried,
    drain_announced: bool,
    drain_by_peer: bool,
    drain_seen: bool,
    ended_idle: bool,
}

/// What streams and handles leave to the driver.
#[derive(Default)]
pub(crate) struct Chores {
    /// Streams that it has to look at or bring to their ends; bounded by the streams.
    pub(crate) lingering: Vec<Arc<StreamCore>>,
    /// Streams can be opened that wait, or have to be shown to the peer soon.
    pub(crate) opens: bool,
}

#[derive(Clone, Copy, Default)]
struct Carried {
    sent: u64,
    received: u64,
}

/// What a connection is made with.
pub(crate) struct NewConn {
    pub(crate) config: Config,
    pub(crate) wire: Wire,
    pub(crate) local_addr: Addr,
    pub(crate) remote_addr: Addr,
    pub(crate) identity: Option<PeerIdentity>,
    pub(crate) inner: Option<Arc<dyn Any + Send + Sync>>,
    pub(crate) mux: YamuxHandle,
    pub(crate) driver: Arc<DriverWaker>,
}

impl Shared {
    pub(crate) fn new(new: NewConn) -> Arc<Self> {
        let NewConn {
            config,
            wire,
            local_addr,
            remote_addr,
            identity,
            inner,
            mux,
            driver,
        } = new;
        let control = (wire == Wire::Pipe).then(|| Control::new(Hello::from(&config)));
        let worth_telling = if !config.connection_window_is_ample() {
            Some(1)
        } else {
            (config.stream_window < WINDOW).then_some(config.stream_window / 4)
        };
        Arc::new(Self {
            peer_windows: OnceLock::new(),
            worth_telling: worth_telling.filter(|_| wire == Wire::Pipe),
            slots: StreamSlots::new(config.max_streams),
            config,
            wire,
            local_addr,
            remote_addr,
            identity,
            inner_io: inner,
            status: ConnStatus::new(),
            backlog: Backlog::new(),
            idle: Notify::new(),
            inner: Mutex::new(Inner {
                control,
                streams: HashMap::default(),
                opens: Opens::default(),
                chores: Chores::default(),
                theirs: 0,
                theirs_in_use: 0,
                freed: 0,
                owing: Vec::new(),
                carried: Carried::default(),
                drain_announced: false,
                drain_by_peer: false,
                drain_seen: false,
                ended_idle: false,
            }),
            left: Semaphore::new(0),
            busy: AtomicBool::new(false),
            driver,
            mux,
            pings: Pings::new(),
            opened: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
        })
    }

    pub(crate) fn wake_driver(&self) {
        self.driver.notify();
    }

    /// Says something over the control channel, if there is one.
    pub(crate) fn tell(&self, say: impl FnOnce(&mut Control)) {
        if let Some(control) = &mut self.inner.lock().control {
            say(control);
        }
        self.wake_driver();
    }

    /// `Ok` if this side may open streams.
    pub(crate) fn check_open(&self) -> Result<()> {
        self.status.check()?;
        let inner = self.inner.lock();
        if inner.drain_announced {
            return Err(Error::new(
                ErrorKind::Closed,
                "this side is draining the connection",
            ));
        }
        if inner.drain_by_peer {
            return Err(Error::new(
                ErrorKind::Closed,
                "the peer is draining the connection",
            ));
        }
        Ok(())
    }

    /// Takes the chores of the driver, and tells the peer what is owed to it. Returns whether there were
    /// any. `chores` has to be empty.
    pub(crate) fn take_chores(&self, chores: &mut Chores) -> bool {
        if !self.busy.swap(false, Ordering::AcqRel) {
            return false;
        }
        let mut inner = self.inner.lock();
        std::mem::swap(&mut inner.chores, chores);
        self.settle_debts(&mut inner);
        true
    }

    pub(crate) fn has_chores(&self) -> bool {
        self.busy.load(Ordering::Acquire)
    }

    /// Has the driver do its chores.
    pub(crate) fn call_driver(&self) {
        self.busy.store(true, Ordering::Release);
        self.wake_driver();
    }

    /// What the peer has said of itself.
    pub(crate) fn greet(&self, hello: &Hello) {
        self.slots.shrink(hello.max_streams);
        let counts = hello.stream_window < WINDOW || hello.connection_window > 0;
        let windows =
            counts.then(|| PeerWindows::new(hello.stream_window, hello.connection_window));
        // A second hello is refused before it comes here.
        let _ = self.peer_windows.set(windows);
    }

    pub(crate) fn peer_windows(&self) -> Option<&PeerWindows> {
        self.peer_windows.get()?.as_ref()
    }

    /// The application has read of a stream. Returns whether the stream now [owes](Self::owe) the peer
    /// a word.
    pub(crate) fn has_read(&self, state: &mut StreamState) -> bool {
        let credit = self
            .worth_telling
            .is_some_and(|worth| state.unreturned >= worth.max(1));
        (credit || state.owes_taken) && !std::mem::replace(&mut state.owes, true)
    }

    /// Puts a stream on the list of those that owe the peer a word.
    pub(crate) fn owe(&self, stream: &Arc<StreamCore>) {
        self.inner.lock().owing.push(stream.clone());
        self.call_driver();
    }

    /// Tells the peer what is owed to it.
    fn settle_debts(&self, inner: &mut Inner) {
        let mut owing = std::mem::take(&mut inner.owing);
        for stream in owing.drain(..) {
            let mut state = stream.state.lock();
            state.owes = false;
            let bytes = std::mem::take(&mut state.unreturned);
            let taken = std::mem::take(&mut state.owes_taken)
                && !std::mem::replace(&mut state.told_taken, true);
            let Some(control) = &mut inner.control else {
                continue;
            };
            if self.worth_telling.is_some() && bytes > 0 {
                control.credit(stream.id, bytes);
            }
            if taken {
                control.taken(stream.id);
            }
        }
        inner.owing = owing;
    }

    /// The peer has room again, or will not need it.
    pub(crate) fn credit(&self, stream: &StreamCore, bytes: u32) {
        let (freed, writer) = stream.state.lock().credit(bytes);
        if let Some(windows) = self.peer_windows() {
            windows.give_back(freed.into());
        }
        wake(writer);
    }

    /// Takes a stream into the table.
    pub(crate) fn insert(&self, stream: &Arc<StreamCore>) {
        self.insert_into(&mut self.inner.lock(), stream);
    }

    pub(crate) fn insert_into(&self, inner: &mut Inner, stream: &Arc<StreamCore>) {
        if self.status.reason().is_some() {
            stream.state.lock().end();
        } else {
            inner.streams.insert(stream.id, stream.clone());
            inner.theirs += usize::from(!stream.ours);
            inner.theirs_in_use += usize::from(!stream.ours);
        }
    }

    /// The application has taken a stream of the peer.
    pub(crate) fn accept(&self, stream: &Arc<StreamCore>) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        let cut = {
            let mut state = stream.state.lock();
            state.accepted = true;
            state.is_done()
        };
        if cut {
            self.settle(stream);
        }
    }

    /// Looks at a stream after a change: whether the application is done with it, whether the driver
    /// has to bring it to its end, and whether it can be forgotten.
    pub(crate) fn settle(&self, stream: &Arc<StreamCore>) {
        if self.settle_in_turn(stream) {
            self.call_driver();
        }
    }

    /// As [`settle`](Self::settle), in a turn of the driver. Returns whether there is work for it.
    pub(crate) fn settle_in_turn(&self, stream: &Arc<StreamCore>) -> bool {
        let mut inner = self.inner.lock();
        let mut state = stream.state.lock();
        let newly_done = !state.done && state.is_done();
        if newly_done {
            state.done = true;
            inner.theirs_in_use -= usize::from(!stream.ours);
            if let Some(control) = &mut inner.control {
                if !stream.ours {
                    // Which says that everything was taken, too.
                    state.told_taken = true;
                    control.done(stream.id);
                } else if state.has_taken_all() && !state.told_taken {
                    state.told_taken = true;
                    control.taken(stream.id);
                }
            }
        }
        let mut work = newly_done;
        if state.needs_driver() && !state.lingers {
            state.lingers = true;
            inner.chores.lingering.push(stream.clone());
            self.busy.store(true, Ordering::Release);
            work = true;
        }
        // A plain stream that the peer has not ended still counts in the multiplexer.
        let plain_end = self.wire == Wire::Raw && state.is_closed();
        let over = state.done && (state.peer_done || !stream.ours || plain_end);
        let slot = if over { state.slot.take() } else { None };
        let forget = over && state.is_closed() && state.is_sent();
        if forget && let Some(windows) = self.peer_windows() {
            windows.give_back(state.credit(u32::MAX).0.into());
        }
        drop(state);
        drop(slot);
        if forget && inner.streams.remove(&stream.id).is_some() {
            inner.theirs -= usize::from(!stream.ours);
            inner.carried.add(stream);
            if inner.streams.is_empty() {
                self.idle.notify_waiters();
                if inner.drain_by_peer {
                    self.wake_driver();
                }
            }
        }
        work
    }

    /// Puts a stream on the list of those that the driver brings to their ends, and calls it.
    pub(crate) fn linger(&self, stream: &Arc<StreamCore>) {
        let mut inner = self.inner.lock();
        let is_news = !std::mem::replace(&mut stream.state.lock().lingers, true);
        if is_news {
            inner.chores.lingering.push(stream.clone());
        }
        drop(inner);
        self.call_driver();
    }

    /// The application has let go of the sending half of a stream.
    pub(crate) fn release_send(&self, stream: &Arc<StreamCore>) {
        let done = stream.state.lock().release_send();
        if done {
            self.settle(stream);
        }
    }

    /// The application has let go of the receiving half of a stream.
    pub(crate) fn release_recv(&self, stream: &Arc<StreamCore>) {
        let done = stream.state.lock().release_recv();
        if done {
            self.settle(stream);
        }
    }

    /// Gives room back that was in use by streams that were reset, now that the peer is told of that.
    pub(crate) fn free_room(&self) {
        let Some(windows) = self.peer_windows() else {
            return;
        };
        let freed = std::mem::take(&mut self.inner.lock().freed);
        if freed > 0 {
            windows.give_back(freed);
        }
    }

    pub(crate) fn stream(&self, id: u64) -> Option<Arc<StreamCore>> {
        self.inner.lock().streams.get(&id).cloned()
    }

    /// Closes the connection from this side.
    pub(crate) fn close(&self, code: u32, reason: &str) {
        self.end(&CloseReason::local(code, reason));
    }

    /// Ends the connection, unless it has ended: all that waits wakes up. Returns whether this end
    /// counts.
    pub(crate) fn end(&self, reason: &CloseReason) -> bool {
        let mut inner = self.inner.lock();
        if !self.status.end(reason.clone()) {
            return false;
        }
        // Under the lock, so that the driver does not leave before it.
        if let (CloseReason::Local { code, reason }, Some(control)) = (reason, &mut inner.control) {
            control.close(*code, reason);
        }
        self.slots.close();
        let mut wakers = Vec::new();
        inner.ended_idle = inner.streams.is_empty();
        let opens = std::mem::take(&mut inner.opens);
        for stream in inner.streams.values() {
            let mut state = stream.state.lock();
            state.end();
            wakers.extend(state.reader.take());
            wakers.extend(state.writer.take());
        }
        drop(inner);
        drop(self.backlog.close());
        self.pings.end();
        drop(opens);
        wakers.into_iter().for_each(Waker::wake);
        self.idle.notify_waiters();
        self.wake_driver();
        true
    }

    /// Resets every plain stream that has not ended: with the connection, it would seem to.
    pub(crate) fn reset_plain_streams(&self) {
        for stream in self.inner.lock().streams.values() {
            stream.state.lock().reset_plain();
        }
    }

    /// The peer is silent.
    pub(crate) fn disconnect(&self) {
        if !self.status.set_connected(false) || self.config.on_disconnect == OnDisconnect::Wait {
            return;
        }
        let streams: Vec<_> = self.inner.lock().streams.values().cloned().collect();
        for stream in streams {
            self.cut_send(&stream, |state| state.cut_open(SendState::Disconnected), 0);
            self.cut_recv(&stream, RecvState::Disconnected, 0);
        }
    }

    /// Cuts this side's direction short and tells the peer, if `to` makes anything of its state.
    pub(crate) fn cut_send(
        &self,
        stream: &Arc<StreamCore>,
        to: impl FnOnce(SendState) -> Option<SendState>,
        code: u32,
    ) {
        let waker = {
            let mut state = stream.state.lock();
            let Some(next) = to(state.send) else { return };
            state.send = next;
            state.writer.take()
        };
        {
            let mut inner = self.inner.lock();
            if let Some(control) = &mut inner.control {
                control.reset(stream.id, code);
            }
            // What was written counts at the peer until it knows of the reset.
            inner.freed += u64::from(stream.state.lock().credit(u32::MAX).0);
        }
        self.wake_driver();
        self.settle(stream);
        wake(waker);
    }

    /// Cuts the peer's direction short and tells it, unless it has ended.
    pub(crate) fn cut_recv(&self, stream: &Arc<StreamCore>, to: RecvState, code: u32) {
        let waker = {
            let mut state = stream.state.lock();
            if !state.cut_recv(to) {
                return;
            }
            state.reader.take()
        };
        self.tell(|control| control.stop(stream.id, code));
        self.settle(stream);
        wake(waker);
    }

    /// Resets the sending direction of a stream if it is open, and lets go of it.
    pub(crate) fn abandon_send(&self, stream: &Arc<StreamCore>, code: u32) {
        let cut = |state: SendState| state.cut_open(SendState::Reset(code));
        self.cut_send(stream, cut, code);
        self.release_send(stream);
    }

    /// Stops the receiving direction of a stream if it is open, and lets go of it.
    pub(crate) fn abandon_recv(&self, stream: &Arc<StreamCore>, code: u32) {
        self.cut_recv(stream, RecvState::Stopped(code), code);
        self.release_recv(stream);
    }

    /// Gives up a stream that the application has not got, as its drop does.
    pub(crate) fn abandon(&self, stream: &Arc<StreamCore>) {
        // In this order: the peer hears of the reset before the stop.
        self.abandon_send(stream, 0);
        self.abandon_recv(stream, 0);
    }

    /// Announces that this side drains the connection.
    pub(crate) fn announce_drain(&self) {
        let mut inner = self.inner.lock();
        if std::mem::replace(&mut inner.drain_announced, true) {
            return;
        }
        match &mut inner.control {
            Some(control) => control.drain(),
            // A plain peer cannot be told.
            None => inner.drain_seen = true,
        }
        drop(inner);
        self.slots.close();
        self.wake_driver();
    }

    /// The peer has announced a drain. The control channel has answered.
    pub(crate) fn drain_by_peer(&self) {
        self.inner.lock().drain_by_peer = true;
        self.slots.close();
    }

    /// The peer has seen this side's drain.
    pub(crate) fn drain_seen(&self) {
        self.inner.lock().drain_seen = true;
        self.idle.notify_waiters();
    }

    pub(crate) fn is_drained(&self) -> bool {
        let inner = self.inner.lock();
        inner.drain_seen && inner.streams.is_empty() && inner.opens.is_empty()
    }

    /// Whether no stream was cut short by the end of the connection.
    pub(crate) fn ended_idle(&self) -> bool {
        self.inner.lock().ended_idle
    }

    pub(crate) fn send_ping(&self, bytes: PingBytes) {
        if self.wire == Wire::Raw {
            let [a, b, c, d, ..] = bytes;
            self.mux.ping(u32::from_be_bytes([a, b, c, d]));
        } else {
            self.tell(|control| control.ping(bytes));
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
        stats.last_round_trip = self.pings.last_round_trip();
        stats
    }
}

impl Carried {
    fn add(&mut self, stream: &StreamCore) {
        let state = stream.state.lock();
        self.sent += state.sent;
        self.received += state.received;
    }
}
