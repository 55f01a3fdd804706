use std::any::Any;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Waker;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use pipe_core::backend::proto::{
    Carrier, DrainMode, Event, Frame, Hello, PING_LEN, PingBytes, Session, SessionConfig, Stream,
};
use pipe_core::backend::{
    Backlog, ConnStatus, PeerWindows, PingWaiter, Pings, StreamSlots, lost, open_error, random_ping,
};
use pipe_core::{Addr, CloseReason, Config, ConnStats, Error, PeerIdentity, Result, Wire};
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use crate::deferred::Deferred;
use crate::opens::Opens;
use crate::stream_inner::{StreamRef, StreamState};
use crate::turns::DriverWaker;
use crate::yamux::frame::{ACK, DATA, PING, RST, SYN};
use crate::yamux::{Header, Limits, Output, Unread, WINDOW};

/// A connection: the state that its handles, its streams and its driver share.
///
/// Locks are taken in the order `state`, stream, output. No task is woken while one is held.
pub(crate) struct ConnInner {
    pub(crate) config: Config,
    pub(crate) wire: Wire,
    pub(crate) limits: Limits,
    pub(crate) local_addr: Addr,
    pub(crate) remote_addr: Addr,
    pub(crate) identity: Option<PeerIdentity>,
    pub(crate) inner_io: Option<Arc<dyn Any + Send + Sync>>,
    pub(crate) status: ConnStatus,
    pub(crate) backlog: Backlog<StreamRef>,
    pub(crate) slots: StreamSlots,
    /// Notified when the last stream is over, and of every step of a drain.
    pub(crate) idle: Notify,
    /// Closed once the driver has ended: all frames have been sent, or cannot be.
    pub(crate) left: Semaphore,
    pub(crate) state: Mutex<ConnState>,
    pub(crate) output: Output,
    /// Unread bytes of all streams.
    pub(crate) unread: Unread,
    pub(crate) driver: Arc<DriverWaker>,
    /// The session has frames to send, or an earlier deadline.
    has_work: AtomicBool,
    /// Windows that the peer grants, where this side counts them.
    peer_windows: OnceLock<Option<PeerWindows>>,
    pings: Pings,
    /// Number of bytes read from which credit is returned, where the peer counts by itself.
    pub(crate) credit_threshold: Option<u32>,
}

pub(crate) struct ConnState {
    pub(crate) session: Session<StreamRef, PingWaiter>,
    pub(crate) opens: Opens,
}

/// The parts of a new connection.
pub(crate) struct NewConn {
    pub(crate) config: Config,
    pub(crate) wire: Wire,
    pub(crate) is_client: bool,
    pub(crate) limits: Limits,
    pub(crate) local_addr: Addr,
    pub(crate) remote_addr: Addr,
    pub(crate) identity: Option<PeerIdentity>,
    pub(crate) inner: Option<Arc<dyn Any + Send + Sync>>,
    pub(crate) output: Output,
    pub(crate) driver: Arc<DriverWaker>,
}

impl ConnInner {
    pub(crate) fn new(new: NewConn) -> Arc<Self> {
        let NewConn {
            config,
            wire,
            is_client,
            limits,
            local_addr,
            remote_addr,
            identity,
            inner,
            output,
            driver,
        } = new;
        let carrier = Carrier {
            local_bit: u64::from(is_client),
            opens_by_frame: false,
            has_orphans: wire == Wire::Pipe,
            ends_natively: false,
            drain: DrainMode::AtOnce,
            is_plain: wire == Wire::Raw,
        };
        let session_config = SessionConfig::from(&config);
        let session = Session::new(carrier, session_config, Instant::now().into_std());
        let credit_threshold = if !config.connection_window_is_ample() {
            Some(1)
        } else {
            (config.stream_window < WINDOW).then_some(config.stream_window / 4)
        };
        Arc::new(Self {
            credit_threshold: credit_threshold.filter(|_| wire == Wire::Pipe),
            slots: StreamSlots::new(config.max_streams),
            unread: Unread::new(limits.conn_unread),
            config,
            wire,
            limits,
            local_addr,
            remote_addr,
            identity,
            inner_io: inner,
            status: ConnStatus::new(),
            backlog: Backlog::new(),
            idle: Notify::new(),
            left: Semaphore::new(0),
            state: Mutex::new(ConnState {
                session,
                opens: Opens::new(is_client, wire),
            }),
            output,
            driver,
            has_work: AtomicBool::new(true),
            peer_windows: OnceLock::new(),
            pings: Pings::new(),
        })
    }

    /// Wakes the driver to send the session's frames and check its deadline.
    pub(crate) fn call_driver(&self) {
        self.has_work.store(true, Ordering::Release);
        self.driver.notify();
    }

    /// Requests that the driver looks for frames in its present turn.
    pub(crate) fn expect_frames(&self) {
        self.has_work.store(true, Ordering::Release);
    }

    /// Returns whether the driver was called since the last check.
    pub(crate) fn take_work(&self) -> bool {
        self.has_work.swap(false, Ordering::AcqRel)
    }

    pub(crate) fn has_work(&self) -> bool {
        self.has_work.load(Ordering::Acquire)
    }

    /// Returns `None` where the peer does not count by itself.
    pub(crate) fn peer_windows(&self) -> Option<&PeerWindows> {
        self.peer_windows.get()?.as_ref()
    }

    fn on_hello(&self, hello: &Hello) {
        self.slots.shrink(hello.max_streams);
        let counts = hello.stream_window < WINDOW || hello.connection_window > 0;
        let windows =
            counts.then(|| PeerWindows::new(hello.stream_window, hello.connection_window));
        // The session refuses a second hello.
        let _ = self.peer_windows.set(windows);
    }

    // Streams.

    /// Returns `Ok` if this side may open streams.
    pub(crate) fn check_open(&self) -> Result<()> {
        let check = self.state.lock().session.check_open();
        check.map_err(|error| open_error(error, self.error()))
    }

    /// Ends the yamux stream as far as its state requires. Streams are announced in their order, so
    /// a stream that is not announced yet is announced first, with those before it.
    fn finish(&self, conn: &mut ConnState, stream: &StreamRef) {
        let mut state = stream.lock();
        if !state.needs_finish(self.wire) {
            return;
        }
        if state.is_hidden() && self.wire == Wire::Pipe {
            drop(state);
            conn.opens.show(Some(stream.id), &self.limits, &self.output);
            state = stream.lock();
        }
        state.finish(self.wire, &self.limits, &self.output, &self.unread);
    }

    /// Looks at a stream after a change that concerns more than itself.
    pub(crate) fn update(&self, stream: &StreamRef) {
        let mut conn = self.state.lock();
        self.finish(&mut conn, stream);
        conn.session.update(stream);
        self.settle(conn);
    }

    /// Returns whether a change of a stream concerns nothing but itself.
    fn is_settled(&self, state: &StreamState) -> bool {
        !state.proto.needs_session() && !state.needs_finish(self.wire)
    }

    /// Notes that the application took a stream of the peer.
    pub(crate) fn on_accepted(&self, stream: &StreamRef) {
        let mut conn = self.state.lock();
        conn.session.on_accepted(stream);
        self.settle(conn);
    }

    /// Shows a stream to the peer, and those opened before it.
    pub(crate) fn show(&self, stream: &StreamRef) {
        let mut conn = self.state.lock();
        conn.opens.show(Some(stream.id), &self.limits, &self.output);
    }

    /// Abandons the sending direction of a stream if it is open, and lets go of it.
    pub(crate) fn reset_send(&self, stream: &StreamRef, code: u32) {
        self.change(stream, |proto| proto.reset(code));
    }

    /// Stops the receiving direction of a stream if it is open, and lets go of it.
    pub(crate) fn stop_recv(&self, stream: &StreamRef, code: u32) {
        self.change(stream, |proto| proto.stop(code));
    }

    /// Changes a stream for the application, and does what follows. Returns the result of the change.
    pub(crate) fn change<R>(&self, stream: &StreamRef, act: impl FnOnce(&mut Stream) -> R) -> R {
        let mut state = stream.lock();
        let done = act(&mut state.proto);
        let is_settled = self.is_settled(&state);
        drop(state);
        if !is_settled {
            self.update(stream);
        }
        done
    }

    /// Abandons a stream that the application does not get.
    pub(crate) fn abandon(&self, stream: &StreamRef) {
        self.reset_send(stream, 0);
        self.stop_recv(stream, 0);
    }

    /// Refuses a stream that the peer opened, with a reset.
    pub(crate) fn refuse(&self, id: u32) {
        self.output.push(Header {
            kind: DATA,
            flags: ACK | RST,
            stream: id,
            length: 0,
        });
    }

    // Events.

    /// Acts on the events of the session, and unlocks it.
    pub(crate) fn settle(&self, conn: MutexGuard<'_, ConnState>) {
        self.settle_with(conn, Deferred::default());
    }

    /// Settles as [`settle`](Self::settle) does, with actions that are deferred already.
    pub(crate) fn settle_with(&self, mut conn: MutexGuard<'_, ConnState>, mut deferred: Deferred) {
        self.take_events(&mut conn, &mut deferred);
        let has_frames = conn.session.has_frames();
        drop(conn);
        if has_frames {
            self.call_driver();
        }
        self.run(deferred);
    }

    /// Acts on the events of the session, for the driver, which handles its frames itself.
    pub(crate) fn settle_events(&self, mut conn: MutexGuard<'_, ConnState>) {
        let mut deferred = Deferred::default();
        self.take_events(&mut conn, &mut deferred);
        drop(conn);
        self.run(deferred);
    }

    fn take_events(&self, conn: &mut ConnState, deferred: &mut Deferred) {
        while let Some(event) = conn.session.poll_event() {
            self.on_event(conn, event, deferred);
        }
    }

    fn on_event(
        &self,
        conn: &mut ConnState,
        event: Event<StreamRef, PingWaiter>,
        deferred: &mut Deferred,
    ) {
        match event {
            Event::Hello(hello) => self.on_hello(&hello),
            Event::Wake {
                stream,
                reader,
                writer,
            } => {
                self.finish(conn, &stream);
                let mut state = stream.lock();
                if reader {
                    deferred.wakers.extend(state.reader.take());
                }
                if writer {
                    deferred.wakers.extend(state.writer.take());
                }
                let needs_session = state.proto.needs_session();
                drop(state);
                if needs_session {
                    conn.session.update(&stream);
                }
            }
            Event::Room(bytes) => deferred.room += bytes,
            Event::SlotFreed(stream) => deferred.slots.extend(stream.lock().slot.take()),
            Event::Retired(stream) => self.on_answered(conn, &stream, deferred),
            Event::Idle => deferred.is_idle = true,
            Event::Pong { waiter, round_trip } => deferred.pongs.push((waiter, round_trip)),
            Event::PingsEnded(waiters) => deferred.lost_pings = waiters,
            Event::KeepAlive => {
                deferred.nudges = true;
                self.keep_alive(conn);
            }
            Event::Announce => conn.opens.show(None, &self.limits, &self.output),
            Event::Disconnected => {
                self.status.set_connected(false);
            }
            Event::Reconnected => {
                self.status.set_connected(true);
            }
            Event::Failed => deferred.is_lost = true,
            Event::Draining => deferred.is_draining = true,
            Event::Closed { code, reason, .. } => {
                let is_first = self.status.end(CloseReason::remote(code, &reason));
                deferred.ended = is_first.then(|| conn.opens.end());
            }
            // The rest is about frames that yamux does not have. The driver bounds the close.
            _ => {}
        }
    }

    fn run(&self, deferred: Deferred) {
        if deferred.room > 0
            && let Some(windows) = self.peer_windows()
        {
            windows.give_back(deferred.room);
        }
        if deferred.nudges
            && let Some(windows) = self.peer_windows()
        {
            windows.nudge();
        }
        if deferred.is_draining {
            self.slots.close();
        }
        for (waiter, round_trip) in deferred.pongs {
            waiter.answer(round_trip);
        }
        drop(deferred.lost_pings);
        drop(deferred.slots);
        for (done, stream) in deferred.opened {
            // The open may have been given up meanwhile.
            if let Err(stream) = done.send(stream) {
                self.abandon(&stream);
            }
        }
        deferred.wakers.into_iter().for_each(Waker::wake);
        if deferred.is_idle {
            self.idle.notify_waiters();
            self.driver.notify();
        }
        if let Some(opens) = deferred.ended {
            self.on_end(opens);
        }
        if deferred.is_lost {
            self.end(&CloseReason::Failed(lost(&self.config)));
        }
    }

    // Pings.

    /// Measures a round trip.
    pub(crate) async fn ping(&self) -> Result<Duration> {
        let send = |bytes, waiter| self.start_ping(bytes, waiter);
        self.pings.round_trip(&self.status, send).await
    }

    /// Sends a ping, unless the connection has ended.
    fn start_ping(&self, mut bytes: PingBytes, waiter: PingWaiter) {
        if self.wire == Wire::Raw {
            // The ping of yamux carries less.
            bytes = ping_of(value_of(&bytes));
        }
        let mut conn = self.state.lock();
        let now = Instant::now().into_std();
        if conn.session.ping(bytes, waiter, now).is_ok() && self.wire == Wire::Raw {
            self.push_ping(&bytes);
        }
        self.settle(conn);
    }

    /// Sends a ping that nothing waits for.
    fn keep_alive(&self, conn: &mut ConnState) {
        let Ok(mut bytes) = random_ping() else {
            return tracing::debug!("the system gives no random bytes for a ping");
        };
        if self.wire == Wire::Raw {
            bytes = ping_of(value_of(&bytes));
        }
        if conn.session.keep_alive(bytes, Instant::now().into_std()) {
            self.push_ping(&bytes);
        }
    }

    fn push_ping(&self, bytes: &PingBytes) {
        self.output.push(Header {
            kind: PING,
            flags: SYN,
            stream: 0,
            length: value_of(bytes),
        });
    }

    /// Takes the answer to a ping of yamux. One to a ping that was not sent means nothing there.
    pub(crate) fn on_yamux_pong(&self, value: u32) {
        let mut conn = self.state.lock();
        let pong = Frame::Pong(ping_of(value));
        if let Err(error) = conn.session.handle_frame(pong, Instant::now().into_std()) {
            tracing::debug!(%error, "a pong is ignored");
        }
        self.settle(conn);
    }

    // The end.

    /// Closes the connection from this side.
    pub(crate) fn close(&self, code: u32, reason: &str) {
        self.end(&CloseReason::local(code, reason));
    }

    /// Ends the connection, unless it has ended: all that waits wakes up. Returns whether this end
    /// counts.
    pub(crate) fn end(&self, reason: &CloseReason) -> bool {
        let mut conn = self.state.lock();
        if !self.status.end(reason.clone()) {
            return false;
        }
        match reason {
            CloseReason::Local { code, reason } => {
                let now = Instant::now().into_std();
                conn.session.close(*code, 0, reason, now);
            }
            _ => conn.session.fail(),
        }
        let opens = conn.opens.end();
        self.settle(conn);
        self.on_end(opens);
        true
    }

    /// Wakes the tasks that wait for the connection itself.
    fn on_end(&self, opens: Opens) {
        self.slots.close();
        self.pings.close();
        drop(self.backlog.close());
        drop(opens);
        self.idle.notify_waiters();
        self.driver.notify();
    }

    /// Announces that this side drains the connection.
    pub(crate) fn drain(&self) {
        let mut conn = self.state.lock();
        if conn.session.drain() {
            self.slots.close();
        }
        self.settle(conn);
    }

    /// Notes that a plain peer takes no more streams.
    pub(crate) fn on_go_away(&self) {
        let mut conn = self.state.lock();
        conn.session.on_plain_drain();
        self.settle(conn);
    }

    pub(crate) fn is_drained(&self) -> bool {
        let conn = self.state.lock();
        conn.session.is_drained() && conn.opens.is_empty()
    }

    /// Returns whether no stream was cut short by the end of the connection.
    pub(crate) fn ended_idle(&self) -> bool {
        self.state.lock().session.ended_idle()
    }

    pub(crate) fn has_streams(&self) -> bool {
        self.state.lock().session.streams().next().is_some()
    }

    pub(crate) fn stats(&self) -> ConnStats {
        self.state.lock().session.totals().into()
    }

    /// Returns the error of the connection, if it has ended.
    pub(crate) fn error(&self) -> Option<Error> {
        self.status.error()
    }
}

/// Returns the value of a yamux ping that stands for these bytes.
fn value_of(bytes: &PingBytes) -> u32 {
    u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

/// Returns the bytes that a yamux ping stands for.
fn ping_of(value: u32) -> PingBytes {
    let mut bytes = [0; PING_LEN];
    bytes[..4].copy_from_slice(&value.to_be_bytes());
    bytes
}
