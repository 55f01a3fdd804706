use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use pipe_proto::{Carrier, Session, Stream};
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use super::stream_core::StreamCore;
use super::stream_io::StreamIo;
use crate::backend::{
    Backlog, ConnStatus, PeerWindows, PingWaiter, Pings, StreamSlot, StreamSlots, open_error,
};
use crate::{Addr, CloseReason, Config, ConnStats, Error, ErrorKind, Result};

/// Binds a session to the carrier of its streams. [`BoundConn`](super::BoundConn) and
/// [`BoundStream`](super::BoundStream) do the rest, but for the task that [sends](ConnCore::poll_output) and
/// [receives](ConnCore::on_input) the frames of the session.
pub trait Binding: Sized + Send + Sync + 'static {
    /// The carrier of one stream, behind the lock of the stream. It is dropped once the stream is over at both sides, or
    /// the connection has ended.
    type Io: StreamIo;

    /// Creates the carrier of a stream.
    fn io(&self) -> Self::Io;

    /// Notes that a stream was opened, by either side. No lock is held.
    fn on_stream(conn: &Arc<ConnCore<Self>>, stream: &StreamCore<Self::Io>);
}

/// A connection: the state that its handles, its streams and its driver share.
///
/// The lock of the session comes before those of streams. No task is woken while it is held.
pub struct ConnCore<B: Binding> {
    binding: B,
    runtime: Handle,
    pub(super) config: Config,
    pub(super) addrs: [Addr; 2],
    pub(super) status: ConnStatus,
    pub(super) backlog: Backlog<StreamCore<B::Io>>,
    pub(super) slots: StreamSlots,
    pub(super) windows: OnceLock<PeerWindows>,
    pub(super) pings: Pings,
    /// Notified of every step of a drain.
    pub(super) idle: Notify,
    /// Notified of streams that the peer opens.
    pub(super) opened: Notify,
    /// Wakes the driver.
    pub(super) work: Notify,
    /// Closed once the driver has ended.
    pub(super) left: Semaphore,
    state: Mutex<State<B>>,
}

pub(super) struct State<B: Binding> {
    pub(super) session: Session<StreamCore<B::Io>, PingWaiter>,
    next_id: u64,
}

/// A reference that the handles and streams of a connection share: dropping the last one closes it.
pub(super) struct ConnRef<B: Binding>(pub(super) Arc<ConnCore<B>>);

/// Ends a connection when it is dropped, unless the connection has ended: for the task that drives it. Without that task
/// everything that waits would wait for ever.
pub struct DriverGuard<B: Binding>(Arc<ConnCore<B>>);

impl<B: Binding> ConnCore<B> {
    /// Creates a connection between these addresses, that of this side first.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn new(binding: B, carrier: Carrier, config: &Config, addrs: [Addr; 2]) -> Arc<Self> {
        Arc::new(Self {
            binding,
            runtime: Handle::current(),
            config: config.clone(),
            addrs,
            status: ConnStatus::new(),
            backlog: Backlog::new(),
            slots: StreamSlots::new(config.max_streams),
            windows: OnceLock::new(),
            pings: Pings::new(),
            idle: Notify::new(),
            opened: Notify::new(),
            work: Notify::new(),
            left: Semaphore::new(0),
            state: Mutex::new(State {
                session: Session::new(carrier, config.into(), now()),
                next_id: if carrier.local_bit == 1 { 1 } else { 2 },
            }),
        })
    }

    /// Returns the binding.
    pub fn binding(&self) -> &B {
        &self.binding
    }

    /// Returns the configuration of this side.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Returns the state and the end of the connection.
    pub fn status(&self) -> &ConnStatus {
        &self.status
    }

    /// Returns the runtime that the connection was made in. Its tasks belong there, whatever runtime a call comes from.
    pub fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Returns the guard of the task that drives the connection.
    pub fn driver_guard(self: &Arc<Self>) -> DriverGuard<B> {
        DriverGuard(self.clone())
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State<B>> {
        self.state.lock()
    }

    /// Returns the windows that the peer grants. There is no room before its hello.
    pub(super) fn windows(&self) -> &PeerWindows {
        static NONE: PeerWindows = PeerWindows::none();
        self.windows.get().unwrap_or(&NONE)
    }

    /// Creates the state of a stream.
    pub(super) fn stream_of(&self, proto: Stream, slot: Option<StreamSlot>) -> StreamCore<B::Io> {
        // Credit goes back in quarters of a window, or at every read where streams share one.
        let is_shared = !self.config.connection_window_is_ample();
        let threshold = if is_shared {
            1
        } else {
            self.config.stream_window / 4
        };
        let proto = proto.with_credit_threshold(Some(threshold));
        StreamCore::new(proto, self.binding.io(), slot)
    }

    /// Opens a stream, once the peer's limit allows it.
    pub(super) async fn open(self: &Arc<Self>) -> Result<StreamCore<B::Io>> {
        let slot = self.slots.acquire().await;
        let mut state = self.lock();
        let checked = state.session.check_open();
        checked.map_err(|error| open_error(error, self.status.error()))?;
        let id = state.next_id;
        state.next_id += 2;
        let stream = self.stream_of(Stream::local(id, true), slot);
        state.session.open(&stream, now());
        self.settle(state);
        B::on_stream(self, &stream);
        Ok(stream)
    }

    /// Waits for a stream of the peer.
    pub(super) async fn accept(&self) -> Result<StreamCore<B::Io>> {
        let stream = self.status.accept(&self.backlog).await?;
        let mut state = self.lock();
        state.session.on_accepted(&stream);
        self.settle(state);
        Ok(stream)
    }

    /// Returns the stream of a number, once the peer has opened it. `None` if it is over.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop.
    pub async fn stream(&self, id: u64) -> Option<StreamCore<B::Io>> {
        loop {
            let opened = self.opened.notified();
            {
                let state = self.lock();
                let stream = state.session.stream(id);
                if stream.is_some() || !state.session.may_come(id) {
                    return stream.cloned();
                }
            }
            opened.await;
        }
    }

    /// Ends the connection if a stream has lost its carrier for no reason that the peer names.
    pub async fn on_lost(self: Arc<Self>, stream: StreamCore<B::Io>, error: io::Error) {
        if self.still_needs_io(&stream).await {
            let why = format!("stream {} lost what carries it: {error}", stream.id());
            let error = Error::with_source(ErrorKind::Failed, why, error);
            self.end(CloseReason::Failed(error));
        }
    }

    /// Returns whether bytes of a stream may still have to come or go, after all that the peer has said until now: its
    /// answer to a ping comes behind that.
    pub async fn still_needs_io(&self, stream: &StreamCore<B::Io>) -> bool {
        stream.needs_io() && self.ping().await.is_ok() && stream.needs_io()
    }

    /// Measures a round trip.
    ///
    /// # Errors
    ///
    /// That of the connection, once it has ended.
    pub async fn ping(&self) -> Result<Duration> {
        let send = |bytes, waiter| {
            let mut state = self.lock();
            // A waiter that comes back is dropped: the connection has ended.
            let _ = state.session.ping(bytes, waiter, now());
            self.settle(state);
        };
        self.pings.round_trip(&self.status, send).await
    }

    pub(super) fn stats(&self) -> ConnStats {
        self.lock().session.totals().into()
    }

    /// Waits until all streams are over, closes the connection, and waits until the peer knows.
    pub(super) async fn drain(&self) -> Result<()> {
        self.announce_drain();
        let is_drained = || self.lock().session.is_drained();
        let ended_idle = || self.lock().session.ended_idle();
        let close = || self.end(CloseReason::local(0, ""));
        let drained = self
            .status
            .drained(&self.idle, is_drained, close, ended_idle);
        drained.await?;
        // So that a program may end now. There are no permits: this waits for the close.
        let _ = self.left.acquire().await;
        Ok(())
    }

    fn announce_drain(&self) {
        let mut state = self.lock();
        if state.session.drain() {
            self.slots.close();
        }
        self.settle(state);
    }

    /// Ends the connection, unless it has ended: all that waits wakes up.
    pub fn end(&self, reason: CloseReason) {
        let mut state = self.lock();
        if !self.status.end(reason.clone()) {
            return;
        }
        match reason {
            CloseReason::Local { code, reason } => state.session.close(code, 0, &reason, now()),
            _ => state.session.fail(),
        }
        self.settle(state);
        self.on_end();
    }

    /// Wakes the tasks that wait for the connection itself.
    pub(super) fn on_end(&self) {
        self.slots.close();
        self.pings.close();
        drop(self.backlog.close());
        self.idle.notify_waiters();
        self.work.notify_one();
    }
}

impl<B: Binding> Drop for ConnRef<B> {
    fn drop(&mut self) {
        self.0.end(CloseReason::local(0, ""));
    }
}

impl<B: Binding> Drop for DriverGuard<B> {
    fn drop(&mut self) {
        let why = "the task that drives the connection has stopped";
        let stopped = Error::new(ErrorKind::Failed, why);
        self.0.end(CloseReason::Failed(stopped));
        self.0.left.close();
    }
}

impl<B: Binding> fmt::Debug for ConnCore<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("ConnCore");
        shown.field("addrs", &self.addrs);
        shown.field("state", &self.status.state());
        shown.finish_non_exhaustive()
    }
}

impl<B: Binding> fmt::Debug for DriverGuard<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DriverGuard").field(&self.0).finish()
    }
}

pub(super) fn now() -> std::time::Instant {
    Instant::now().into_std()
}
