use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Waker;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use pipe_core::backend::proto::{OpenError, RecvHalf, SendHalf, Windows};
use pipe_core::backend::{
    Backlog, ConnStatus, ConnWindow, StreamSlot, StreamSlots, now, open_error,
};
use pipe_core::{Addr, CloseReason, Config, ConnStats, Error, ErrorKind, OnDisconnect, Result};
use slab::Slab;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use crate::credit::Credit;
use crate::event::Event;
use crate::pings::Pings;
use crate::pipe::Pipe;
use crate::profile::LinkProfile;
use crate::side::{PerSide, Side};
use crate::stream_core::{Part, StreamCore};
use crate::wire::Wire;

/// A connection: the state that its two sides share.
///
/// Both sides' handles point here, and so does the pump while the link is not ideal. Streams do not,
/// so there is no cycle. Locks are taken in the order streams, pipe, connection window, and never
/// held while an event is sent or a task is woken.
pub(crate) struct ConnCore {
    pub(crate) sides: PerSide<SideCore>,
    /// The window of each stream, by the writer's side.
    pub(crate) stream_windows: PerSide<u32>,
    /// Window of all streams together, by the writer's side; absent where it cannot run short.
    pub(crate) conn_windows: PerSide<Option<ConnWindow>>,
    /// Growth of the windows of streams, by the writer's side.
    windows: PerSide<Mutex<Windows>>,
    pub(crate) wire: Wire,
    streams: Mutex<Streams>,
    /// Notified when the last stream is over, and of every step of a drain.
    pub(crate) idle: Notify,
    /// Runtime of its delivery task.
    pub(crate) runtime: Handle,
    /// The pump was started.
    pub(crate) pumped: AtomicBool,
    /// Its number on its link.
    number: u64,
}

/// One side of a connection.
pub(crate) struct SideCore {
    pub(crate) addr: Addr,
    pub(crate) config: Config,
    pub(crate) status: ConnStatus,
    pub(crate) backlog: Backlog<Arc<StreamCore>>,
    pub(crate) slots: StreamSlots,
    pub(crate) pings: Pings,
    next_id: AtomicU64,
    opened: AtomicU64,
    accepted: AtomicU64,
    /// Whether this side has announced a drain.
    draining: AtomicBool,
    /// The peer has announced a drain.
    drained_by_peer: AtomicBool,
    /// The peer has seen this side's drain.
    drain_seen: AtomicBool,
}

struct Streams {
    live: Slab<LiveStream>,
    /// Counters of the streams that are over, by the writer's side.
    carried: PerSide<Carried>,
    /// Whether no stream was alive when the first side ended.
    ended_idle: bool,
}

struct LiveStream {
    core: Arc<StreamCore>,
    _slot: StreamSlot,
}

#[derive(Clone, Copy, Default)]
struct Carried {
    sent: u64,
    received: u64,
}

/// Everything that a connection starts from.
pub(crate) struct NewConn {
    pub(crate) addrs: PerSide<Addr>,
    pub(crate) configs: PerSide<Config>,
    pub(crate) wire: Wire,
    pub(crate) number: u64,
    pub(crate) runtime: Handle,
}

impl ConnCore {
    pub(crate) fn new(new: NewConn) -> Arc<Self> {
        let NewConn {
            addrs,
            configs,
            wire,
            number,
            runtime,
        } = new;
        // The receiver's limits apply to the sender.
        let max_streams = configs.iter().map(|c| c.max_streams).min().unwrap_or(1);
        let conn_window = |writer: Side| {
            let config = &configs[writer.other()];
            (!config.connection_window_is_ample()).then_some(config.connection_window)
        };
        Arc::new(Self {
            stream_windows: PerSide::new(|writer| configs[writer.other()].stream_window),
            conn_windows: PerSide::new(|writer| conn_window(writer).map(ConnWindow::new)),
            windows: PerSide::new(|writer| Mutex::new(windows_of(&configs[writer.other()]))),
            sides: PerSide::new(|side| SideCore {
                addr: addrs[side].clone(),
                config: configs[side].clone(),
                status: ConnStatus::new(),
                backlog: Backlog::new(),
                slots: StreamSlots::new(max_streams),
                pings: Pings::new(),
                // Odd for the dialer's streams, even for the listener's.
                next_id: AtomicU64::new(1 + side as u64),
                opened: AtomicU64::new(0),
                accepted: AtomicU64::new(0),
                draining: AtomicBool::new(false),
                drained_by_peer: AtomicBool::new(false),
                drain_seen: AtomicBool::new(false),
            }),
            wire,
            streams: Mutex::new(Streams {
                live: Slab::new(),
                carried: PerSide::default(),
                ended_idle: false,
            }),
            idle: Notify::new(),
            runtime,
            pumped: AtomicBool::new(false),
            number,
        })
    }

    /// Notes that the link has changed, or is not ideal from the start.
    pub(crate) fn link_changed(&self, profile: LinkProfile, up: bool) {
        self.wire.reshape(profile, up, self.number);
    }

    /// Makes the side vanish, as if its process had been killed.
    pub(crate) fn kill(&self, side: Side) {
        self.wire.kill(side);
        let error = Error::new(
            ErrorKind::Failed,
            "this side was killed by its simulated link",
        );
        self.end(side, CloseReason::Failed(error));
    }

    /// Returns whether both sides have ended.
    pub(crate) fn is_over(&self) -> bool {
        self.sides.iter().all(|side| side.status.reason().is_some())
    }

    /// Returns whether any side has ended.
    pub(crate) fn is_ending(&self) -> bool {
        self.sides.iter().any(|side| side.status.reason().is_some())
    }

    pub(crate) fn send(&self, from: Side, event: Event) {
        if let Some(event) = self.wire.send(from, event) {
            self.apply(from.other(), event);
        }
    }

    /// Lets an event take effect where it arrives.
    pub(crate) fn apply(&self, at: Side, event: Event) {
        let side = &self.sides[at];
        if let Some(reason) = side.status.reason() {
            // As on a host without such a connection, the peer is notified.
            if matches!(reason, CloseReason::Failed(_)) && !matches!(event, Event::Gone) {
                self.send(at, Event::Gone);
            }
            return;
        }
        match event {
            Event::Open(stream) => {
                // A queue that is closed belongs to a connection that is ending.
                let _ = side.backlog.push(stream);
            }
            Event::Data(stream, bytes) => {
                let window = self.stream_windows[at.other()];
                let mut pipe = stream.pipes[at.other()].lock();
                pipe.arrive(&bytes, window);
                let reader = pipe.reader.take();
                drop(pipe);
                wake(reader);
            }
            Event::End(stream) => self.apply_end(at, &stream),
            Event::Reset(stream, code) => {
                self.cut_recv(at, &stream, |recv| recv.on_reset(code));
            }
            Event::Stop(stream, code) => {
                self.cut_send(at, &stream, |send| send.on_stop(code));
            }
            Event::Credit(stream, credit) => self.credit(at, stream.pipes[at].lock(), credit),
            Event::Ping(token) => self.send(at, Event::Pong(token)),
            Event::Pong(token) => side.pings.answer(token),
            Event::Drain => {
                side.drained_by_peer.store(true, Ordering::Release);
                side.slots.close();
                self.send(at, Event::Drained);
            }
            Event::Drained => {
                side.drain_seen.store(true, Ordering::Release);
                self.idle.notify_waiters();
            }
            Event::Close(code, reason) => {
                self.end(at, CloseReason::Remote { code, reason });
            }
            Event::Gone => {
                let error = "the peer aborted the connection";
                self.end(
                    at,
                    CloseReason::Failed(Error::new(ErrorKind::Failed, error)),
                );
            }
        }
    }

    fn apply_end(&self, at: Side, stream: &Arc<StreamCore>) {
        let writer = at.other();
        let mut pipe = stream.pipes[writer].lock();
        if pipe.recv != RecvHalf::Open {
            return;
        }
        let (total, read) = (pipe.sent, pipe.received);
        pipe.recv.on_end(total, read);
        let credit = if pipe.is_consumed() {
            pipe.all_credit()
        } else {
            0
        };
        let credit = self.returned(writer, &mut pipe, credit);
        let over = pipe.is_over();
        let reader = pipe.reader.take();
        drop(pipe);
        if credit.read > 0 {
            self.send(at, Event::Credit(stream.clone(), credit));
        }
        if over {
            self.release_recv(stream, at);
            self.mark_over(stream, writer);
        }
        wake(reader);
    }

    /// Cuts the receiving direction of `at` short by `cut`. Returns whether that changed anything.
    pub(crate) fn cut_recv(
        &self,
        at: Side,
        stream: &Arc<StreamCore>,
        cut: impl FnOnce(&mut RecvHalf) -> bool,
    ) -> bool {
        let writer = at.other();
        let mut pipe = stream.pipes[writer].lock();
        if !cut(&mut pipe.recv) {
            return false;
        }
        self.release_growth(writer, &mut pipe);
        let (over, freed) = settle(&mut pipe);
        let reader = pipe.reader.take();
        drop(pipe);
        self.after_cut(stream, writer, over, freed);
        wake(reader);
        true
    }

    /// Cuts the sending direction of `at` short by `cut`. Returns whether that changed anything.
    pub(crate) fn cut_send(
        &self,
        at: Side,
        stream: &Arc<StreamCore>,
        cut: impl FnOnce(&mut SendHalf) -> bool,
    ) -> bool {
        let mut pipe = stream.pipes[at].lock();
        if !cut(&mut pipe.send) {
            return false;
        }
        let (over, freed) = settle(&mut pipe);
        let writer = pipe.writer.take();
        drop(pipe);
        self.after_cut(stream, at, over, freed);
        wake(writer);
        true
    }

    fn after_cut(&self, stream: &Arc<StreamCore>, writer: Side, over: bool, freed: u32) {
        if let Some(window) = &self.conn_windows[writer] {
            window.give(freed.into());
            window.nudge();
        }
        if over {
            self.mark_over(stream, writer);
        }
    }

    /// Notes that the reader of `writer`'s direction has made room.
    #[inline]
    pub(crate) fn credit(&self, writer: Side, mut pipe: MutexGuard<'_, Pipe>, credit: Credit) {
        let (freed, waker) = pipe.credit(credit, self.stream_windows[writer]);
        drop(pipe);
        if let Some(window) = &self.conn_windows[writer] {
            window.set_growth(credit.all_growth);
            window.give(freed.into());
        }
        wake(waker);
    }

    /// Returns what the writer of a direction learns when it is given `read` bytes back. The window of the stream grows
    /// over a link that takes time, if it has to.
    pub(crate) fn returned(&self, writer: Side, pipe: &mut Pipe, read: u32) -> Credit {
        if pipe.recv != RecvHalf::Open {
            self.release_growth(writer, pipe);
        }
        if read == 0 {
            return Credit::default();
        }
        let mut windows = self.windows[writer].lock();
        if pipe.recv == RecvHalf::Open && windows.may_grow() {
            windows.set_round_trip(self.wire.round_trip());
            let total = pipe.received;
            windows.tune(pipe.growth.get_or_insert_default(), total, read, now());
        }
        Credit {
            read,
            growth: pipe.window_growth(),
            all_growth: windows.growth(),
        }
    }

    /// Returns the same over a link that takes no time, where nothing grows.
    #[inline]
    pub(crate) fn returned_at_once(&self, writer: Side, pipe: &Pipe, read: u32) -> Credit {
        let shared = self.conn_windows[writer].as_ref();
        Credit {
            read,
            growth: pipe.window_growth(),
            all_growth: shared.map_or(0, |_| self.windows[writer].lock().growth()),
        }
    }

    /// Takes the growth of a direction back that brings no more bytes.
    fn release_growth(&self, writer: Side, pipe: &mut Pipe) {
        if let Some(mut growth) = pipe.growth.take() {
            self.windows[writer].lock().release(&mut growth);
        }
    }

    /// Opens a stream in a slot that was taken for it.
    pub(crate) fn open(&self, side: Side, slot: StreamSlot) -> Result<Arc<StreamCore>> {
        let id = self.sides[side].next_id.fetch_add(2, Ordering::Relaxed);
        let stream = {
            let mut streams = self.streams.lock();
            self.check_open(side)?;
            let entry = streams.live.vacant_entry();
            let stream = Arc::new(StreamCore::new(id, entry.key()));
            entry.insert(LiveStream {
                core: stream.clone(),
                _slot: slot,
            });
            stream
        };
        self.sides[side].opened.fetch_add(1, Ordering::Relaxed);
        self.send(side, Event::Open(stream.clone()));
        Ok(stream)
    }

    /// Returns `Ok` if this side may open streams.
    pub(crate) fn check_open(&self, side: Side) -> Result<()> {
        let side = &self.sides[side];
        side.status.check()?;
        if side.draining.load(Ordering::Acquire) {
            return Err(open_error(OpenError::Draining, None));
        }
        if side.drained_by_peer.load(Ordering::Acquire) {
            return Err(open_error(OpenError::DrainedByPeer, None));
        }
        Ok(())
    }

    /// Notes that the side's application has the stream now.
    pub(crate) fn accepted(&self, side: Side, stream: &StreamCore) {
        self.sides[side].accepted.fetch_add(1, Ordering::Relaxed);
        self.mark(stream, Part::Accepted);
    }

    /// Notes that the application at this side has ended or dropped its sending half.
    pub(crate) fn release_send(&self, stream: &StreamCore, at: Side) {
        if at != stream.opener() {
            self.mark(stream, Part::SendReleased);
        }
    }

    /// Notes that the application at this side has ended or dropped its receiving half, or has read
    /// its end.
    pub(crate) fn release_recv(&self, stream: &StreamCore, at: Side) {
        if at != stream.opener() {
            self.mark(stream, Part::RecvReleased);
        }
    }

    /// Notes that the direction of this writer is over.
    pub(crate) fn mark_over(&self, stream: &StreamCore, writer: Side) {
        self.mark(stream, Part::Direction(writer));
    }

    fn mark(&self, stream: &StreamCore, part: Part) {
        if !stream.mark(part) {
            return;
        }
        let mut streams = self.streams.lock();
        // The table is emptied when both sides end.
        let live = streams
            .live
            .get(stream.key)
            .is_some_and(|l| l.core.id == stream.id);
        if !live {
            return;
        }
        let gone = streams.live.remove(stream.key);
        streams.settle(stream);
        let idle = streams.live.is_empty();
        drop(streams);
        drop(gone);
        if idle {
            self.idle.notify_waiters();
        }
    }

    /// Closes the connection from this side.
    pub(crate) fn close(&self, side: Side, code: u32, reason: &str) {
        let reason = CloseReason::local(code, reason);
        let CloseReason::Local { code, reason: text } = reason.clone() else {
            return;
        };
        if self.end(side, reason) {
            self.send(side, Event::Close(code, text));
        }
    }

    /// Ends one side, unless it has ended: all that waits there wakes up. Returns whether this end
    /// counts.
    pub(crate) fn end(&self, at: Side, reason: CloseReason) -> bool {
        let was_over = self.is_ending();
        let side = &self.sides[at];
        if !side.status.end(reason) {
            return false;
        }
        drop(side.backlog.close());
        side.slots.close();
        side.pings.fail();

        let mut wakers = Vec::new();
        let mut streams = self.streams.lock();
        if !was_over {
            streams.ended_idle = streams.live.is_empty();
        }
        for (_, live) in &streams.live {
            wakers.extend(live.core.pipes[at].lock().end_send());
            wakers.extend(live.core.pipes[at.other()].lock().end_recv());
        }
        let gone = if self.is_over() {
            streams.clear()
        } else {
            Slab::new()
        };
        drop(streams);
        drop(gone);
        wakers.into_iter().for_each(Waker::wake);
        self.idle.notify_waiters();
        self.wire.nudge();
        true
    }

    /// Notes that the peer of this side is silent.
    pub(crate) fn disconnect(&self, at: Side) {
        let side = &self.sides[at];
        if !side.status.set_connected(false) || side.config.on_disconnect == OnDisconnect::Wait {
            return;
        }
        let live: Vec<_> = self
            .streams
            .lock()
            .live
            .iter()
            .map(|(_, live)| live.core.clone())
            .collect();
        for stream in live {
            if self.cut_send(at, &stream, SendHalf::disconnect) {
                self.send(at, Event::Reset(stream.clone(), 0));
            }
            if self.cut_recv(at, &stream, RecvHalf::disconnect) {
                self.send(at, Event::Stop(stream, 0));
            }
        }
    }

    /// Announces that this side drains the connection.
    pub(crate) fn announce_drain(&self, at: Side) {
        let side = &self.sides[at];
        if !side.draining.swap(true, Ordering::AcqRel) {
            side.slots.close();
            self.send(at, Event::Drain);
        }
    }

    /// Returns whether the drain has nothing left to wait for.
    pub(crate) fn is_drained(&self, at: Side) -> bool {
        self.sides[at].drain_seen.load(Ordering::Acquire) && self.streams.lock().live.is_empty()
    }

    /// Returns whether the connection ended in good order, with no stream cut short.
    pub(crate) fn ended_idle(&self) -> bool {
        self.streams.lock().ended_idle
    }

    pub(crate) fn stats(&self, at: Side) -> ConnStats {
        let side = &self.sides[at];
        let streams = self.streams.lock();
        let carried = |writer: Side| {
            let mut sum = streams.carried[writer];
            for (_, live) in &streams.live {
                sum.add(&live.core.pipes[writer].lock());
            }
            sum
        };
        let mut stats = ConnStats::default();
        stats.bytes_sent = carried(at).sent;
        stats.bytes_received = carried(at.other()).received;
        stats.streams_opened = side.opened.load(Ordering::Relaxed);
        stats.streams_accepted = side.accepted.load(Ordering::Relaxed);
        stats.streams_open = streams.live.len() as u64;
        stats.last_round_trip = side.pings.last_round_trip();
        stats
    }

    /// Measures a round trip.
    pub(crate) async fn ping(&self, at: Side) -> Result<Duration> {
        let side = &self.sides[at];
        let ended = || side.status.error().unwrap_or_else(lost_ping);
        let ping = side.pings.start().await.ok_or_else(ended)?;
        // The end may have come before the ping was registered.
        side.status.check()?;
        self.send(at, Event::Ping(ping.token));
        ping.finish().await.ok_or_else(ended)
    }
}

fn windows_of(config: &Config) -> Windows {
    Windows::new(
        config.stream_window,
        config.max_stream_window,
        config.effective_window_growth(),
    )
    .with_shared(config.growth_budget.clone())
}

fn lost_ping() -> Error {
    Error::new(ErrorKind::Failed, "the connection ended before the answer")
}

/// Returns whether a direction that was cut is over; if so, its window and memory are free.
fn settle(pipe: &mut Pipe) -> (bool, u32) {
    let over = pipe.is_over();
    let freed = if over { pipe.release() } else { 0 };
    (over, freed)
}

#[inline]
pub(crate) fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl Streams {
    /// Adds the counters of a stream that is over.
    fn settle(&mut self, stream: &StreamCore) {
        for writer in Side::BOTH {
            self.carried[writer].add(&stream.pipes[writer].lock());
        }
    }

    fn clear(&mut self) -> Slab<LiveStream> {
        let live = std::mem::take(&mut self.live);
        for (_, stream) in &live {
            self.settle(&stream.core);
        }
        live
    }
}

impl Carried {
    fn add(&mut self, pipe: &Pipe) {
        self.sent += pipe.sent;
        self.received += pipe.received;
    }
}
