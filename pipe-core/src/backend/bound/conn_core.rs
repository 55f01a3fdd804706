use std::fmt;
use std::io;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use pipe_proto::{Carrier, Hello, Session, Stream};
use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::stream_io::{IoState, StreamCore, StreamIo};
use crate::backend::{
    Changes, PeerWindows, SessionConn, SessionCore, State, StreamSlot, now, open_error,
};
use crate::{Addr, CloseReason, Config, Error, ErrorKind, Result};

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
pub struct ConnCore<B: Binding> {
    core: SessionCore<IoState<B::Io>, NextId>,
    binding: B,
    runtime: Handle,
    addrs: [Addr; 2],
    windows: OnceLock<PeerWindows>,
    /// Notified of streams that the peer opens.
    pub(super) opened: Notify,
    /// Wakes the driver.
    pub(super) work: Notify,
}

/// The number of the next stream of this side.
#[derive(Debug)]
pub struct NextId(u64);

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
        let session = Session::new(carrier, config.into(), now());
        let first = if carrier.local_bit == 1 { 1 } else { 2 };
        Arc::new(Self {
            core: SessionCore::new(config.clone(), session, NextId(first)),
            binding,
            runtime: Handle::current(),
            addrs,
            windows: OnceLock::new(),
            opened: Notify::new(),
            work: Notify::new(),
        })
    }

    /// Returns the binding.
    pub fn binding(&self) -> &B {
        &self.binding
    }

    /// Returns the runtime that the connection was made in. Its tasks belong there, whatever runtime a call comes from.
    pub fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Returns the guard of the task that drives the connection.
    pub fn driver_guard(self: &Arc<Self>) -> DriverGuard<B> {
        DriverGuard(self.clone())
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
        StreamCore::new(IoState::new(proto, self.binding.io(), slot), ())
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
                let state = self.state.lock();
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
            let why = format!("stream {} lost its carrier: {error}", stream.id);
            let error = Error::with_source(ErrorKind::Failed, why, error);
            self.end(&CloseReason::Failed(error));
        }
    }

    /// Returns whether bytes of a stream may still have to come or go, after all that the peer has said until now: its
    /// answer to a ping comes behind that.
    pub async fn still_needs_io(&self, stream: &StreamCore<B::Io>) -> bool {
        stream.needs_io() && self.ping().await.is_ok() && stream.needs_io()
    }
}

impl<B: Binding> SessionConn for ConnCore<B> {
    type Stream = IoState<B::Io>;
    type Extra = NextId;
    type Dropped = B::Io;

    async fn open(conn: &Arc<Self>) -> Result<StreamCore<B::Io>> {
        let slot = conn.slots.acquire().await;
        let mut state = conn.state.lock();
        let checked = state.session.check_open();
        checked.map_err(|error| open_error(error, conn.status.error()))?;
        let id = state.extra.0;
        state.extra.0 += 2;
        let stream = conn.stream_of(Stream::local(id, true), slot);
        state.session.open(&stream, now());
        conn.settle(state);
        B::on_stream(conn, &stream);
        Ok(stream)
    }

    fn local_addr(&self) -> Addr {
        self.addrs[0].clone()
    }

    fn remote_addr(&self) -> Addr {
        self.addrs[1].clone()
    }

    fn wake_driver(&self) {
        self.work.notify_one();
    }

    fn give_room(&self, bytes: u64) {
        self.windows().give_back(bytes);
    }

    fn nudge(&self) {
        self.windows().nudge();
    }

    fn on_hello(&self, hello: &Hello) {
        self.slots.shrink(hello.max_streams);
        let windows = PeerWindows::new(hello.stream_window, hello.connection_window);
        // The session refuses a second hello.
        let _ = self.windows.set(windows);
    }

    fn on_wake(
        &self,
        state: &mut State<Self>,
        stream: &StreamCore<B::Io>,
        changes: &mut Changes<Self>,
    ) {
        // With the connection, its streams end without a word.
        if state.session.is_ended() {
            self.on_retired(state, stream, changes);
        }
    }

    fn on_retired(
        &self,
        _: &mut State<Self>,
        stream: &StreamCore<B::Io>,
        changes: &mut Changes<Self>,
    ) {
        changes.dropped.extend(stream.lock().io.take());
    }
}

impl<B: Binding> Deref for ConnCore<B> {
    type Target = SessionCore<IoState<B::Io>, NextId>;

    fn deref(&self) -> &Self::Target {
        &self.core
    }
}

impl<B: Binding> Drop for DriverGuard<B> {
    fn drop(&mut self) {
        self.0.on_driver_gone();
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
