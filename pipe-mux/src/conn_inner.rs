use std::any::Any;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use pipe_core::backend::proto::{
    Carrier, DrainMode, Frame, Hello, OpenError, PING_LEN, PingBytes, Session, SessionConfig,
};
use pipe_core::backend::{Changes, PeerWindows, SessionConn, SessionCore, State, now, open_error};
use pipe_core::{Addr, Config, PeerIdentity, Result, Wire};

use crate::opens::Opens;
use crate::stream_inner::{StreamRef, StreamState};
use crate::turns::DriverWaker;
use crate::yamux::frame::{ACK, DATA, PING, RST, SYN};
use crate::yamux::{Header, Limits, Output, Unread, WINDOW};

/// A connection: the state that its handles, its streams and its driver share.
///
/// Locks are taken in the order `state`, stream, output. No task is woken while one is held.
pub(crate) struct ConnInner {
    core: SessionCore<StreamState, Opens>,
    pub(crate) wire: Wire,
    pub(crate) limits: Limits,
    local_addr: Addr,
    remote_addr: Addr,
    identity: Option<PeerIdentity>,
    pub(crate) inner_io: Option<Arc<dyn Any + Send + Sync>>,
    pub(crate) output: Output,
    /// Unread bytes of all streams.
    pub(crate) unread: Unread,
    pub(crate) driver: Arc<DriverWaker>,
    /// The session has frames to send, or an earlier deadline.
    has_work: AtomicBool,
    /// Windows that the peer grants, where this side counts them.
    peer_windows: OnceLock<Option<PeerWindows>>,
    /// Number of bytes read from which credit is returned, where the peer counts by itself.
    pub(crate) credit_threshold: Option<u32>,
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
        let session = Session::new(carrier, session_config, now());
        let credit_threshold = if !config.connection_window_is_ample() {
            Some(1)
        } else {
            (config.stream_window < WINDOW).then_some(config.stream_window / 4)
        };
        Arc::new(Self {
            credit_threshold: credit_threshold.filter(|_| wire == Wire::Pipe),
            core: SessionCore::new(config, session, Opens::new(is_client, wire)),
            unread: Unread::new(limits.conn_unread),
            wire,
            limits,
            local_addr,
            remote_addr,
            identity,
            inner_io: inner,
            output,
            driver,
            has_work: AtomicBool::new(true),
            peer_windows: OnceLock::new(),
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

    /// Returns the window of a stream to the peer that `due` read bytes have freed.
    pub(crate) fn return_window(&self, stream: &StreamRef, due: u32) {
        if self.credit_threshold.is_none() {
            let mut conn = self.state.lock();
            conn.session.tune_window(stream, due, now(), || None);
            self.settle(conn);
        }
        let update = stream.lock().window_update(&self.limits);
        if let Some(update) = update {
            self.output.push(update);
        }
    }

    /// Shows a stream to the peer, and those opened before it.
    pub(crate) fn show(&self, stream: &StreamRef) {
        let mut conn = self.state.lock();
        conn.extra.show(Some(stream.id), &self.limits, &self.output);
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

    /// Takes the answer to a ping of yamux. One to a ping that was not sent means nothing there.
    pub(crate) fn on_yamux_pong(&self, value: u32) {
        let mut conn = self.state.lock();
        let pong = Frame::Pong(ping_of(value));
        if let Err(error) = conn.session.handle_frame(pong, now()) {
            tracing::debug!(%error, "a pong is ignored");
        }
        self.settle(conn);
    }

    /// Notes that a plain peer takes no more streams.
    pub(crate) fn on_go_away(&self) {
        let mut conn = self.state.lock();
        conn.session.on_plain_drain();
        self.settle(conn);
    }

    pub(crate) fn has_streams(&self) -> bool {
        self.state.lock().session.streams().next().is_some()
    }
}

impl SessionConn for ConnInner {
    type Stream = StreamState;
    type Extra = Opens;
    type Dropped = Opens;

    async fn open(conn: &Arc<Self>) -> Result<StreamRef> {
        conn.check_open()?;
        match conn.slots.acquire().await {
            Some(slot) => conn.open_with(slot).await,
            None => {
                conn.check_open()?;
                Err(open_error(OpenError::Ended, None))
            }
        }
    }

    fn local_addr(&self) -> Addr {
        self.local_addr.clone()
    }

    fn remote_addr(&self) -> Addr {
        self.remote_addr.clone()
    }

    fn peer_identity(&self) -> Option<PeerIdentity> {
        self.identity.clone()
    }

    fn wake_driver(&self) {
        self.call_driver();
    }

    fn give_room(&self, bytes: u64) {
        if let Some(windows) = self.peer_windows() {
            windows.give_back(bytes);
        }
    }

    fn nudge(&self) {
        if let Some(windows) = self.peer_windows() {
            windows.nudge();
        }
    }

    fn on_hello(&self, hello: &Hello) {
        self.slots.shrink(hello.max_streams);
        let counts = hello.stream_window < WINDOW || hello.connection_window > 0;
        let windows =
            counts.then(|| PeerWindows::new(hello.stream_window, hello.connection_window));
        // The session refuses a second hello.
        let _ = self.peer_windows.set(windows);
    }

    fn on_wake(&self, conn: &mut State<Self>, stream: &StreamRef, _: &mut Changes<Self>) {
        self.before_update(conn, stream);
    }

    /// Ends the yamux stream as far as its state requires. Streams are announced in their order, so
    /// a stream that is not announced yet is announced first, with those before it.
    fn before_update(&self, conn: &mut State<Self>, stream: &StreamRef) {
        let mut state = stream.lock();
        if !state.needs_finish() {
            return;
        }
        if state.is_hidden() && self.wire == Wire::Pipe {
            drop(state);
            conn.extra.show(Some(stream.id), &self.limits, &self.output);
            state = stream.lock();
        }
        state.finish(&self.limits, &self.output, &self.unread);
    }

    fn on_window_growth(&self, bytes: u64) {
        self.unread.set_growth(bytes);
    }

    fn on_retired(&self, conn: &mut State<Self>, stream: &StreamRef, changes: &mut Changes<Self>) {
        self.on_answered(conn, stream, changes);
    }

    fn on_announce(&self, conn: &mut State<Self>) {
        conn.extra.show(None, &self.limits, &self.output);
    }

    fn cut_ping(&self, bytes: PingBytes) -> PingBytes {
        match self.wire {
            Wire::Pipe => bytes,
            // The ping of yamux carries less.
            Wire::Raw => ping_of(value_of(&bytes)),
        }
    }

    fn send_plain_ping(&self, bytes: &PingBytes) {
        self.output.push(Header {
            kind: PING,
            flags: SYN,
            stream: 0,
            length: value_of(bytes),
        });
    }

    fn on_session_end(&self, conn: &mut State<Self>, changes: &mut Changes<Self>) {
        changes.dropped.push(conn.extra.end());
    }

    fn on_idle(&self) {
        self.driver.notify();
    }

    fn is_drained(&self) -> bool {
        let conn = self.state.lock();
        conn.session.is_drained() && conn.extra.is_empty()
    }
}

impl Deref for ConnInner {
    type Target = SessionCore<StreamState, Opens>;

    fn deref(&self) -> &Self::Target {
        &self.core
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
