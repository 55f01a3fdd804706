use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::BytesMut;
use parking_lot::{Mutex, MutexGuard};
use pipe_core::backend::proto::codec::binary;
use pipe_core::backend::proto::{Event, PingBytes, Stream, StreamHandle};
use pipe_core::backend::{
    ConnStatus, ConnWindow, PingWaiter, Pings, StreamSlot, StreamSlots, lost, open_error,
    random_ping,
};
use pipe_core::{CloseReason, Config, ConnStats, Error, ErrorKind, PeerIdentity, Result, Wire};
use pipe_tls::rustls::pki_types::CertificateDer;
use quinn::{ConnectionError, WriteError};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::arrivals::{Arrivals, StreamPair};
use crate::control_output::ControlOutput;
use crate::deferred::Deferred;
use crate::early_data::{EarlyData, refused};
use crate::ends::Ends;
use crate::error::Condition;
use crate::session::QuicSession;
use crate::stream_inner::StreamRef;

/// A connection: the state that its handles, its streams and its driver share.
///
/// Locks are taken in the order `state`, stream, quinn's.
pub(crate) struct ConnInner {
    pub(crate) quinn: quinn::Connection,
    pub(crate) config: Config,
    pub(crate) wire: Wire,
    pub(crate) status: ConnStatus,
    pub(crate) slots: StreamSlots,
    pub(crate) ends: Ends,
    pub(crate) identity: Option<PeerIdentity>,
    /// Window of all streams at the peer, where it counts that.
    pub(crate) peer_window: Option<ConnWindow>,
    /// Number of bytes read from which credit is returned, where this side counts that window.
    credit_threshold: Option<u32>,
    pub(crate) arrivals: Arrivals,
    /// Notified when the last stream is over, and of every step of a drain.
    pub(crate) idle: Notify,
    /// Notified when there is work for the driver.
    pub(crate) news: Notify,
    pub(crate) state: Apart<Mutex<ConnState>>,
    /// Number of directions that were shut down and are not at the peer yet. Counted where the wire
    /// is raw: otherwise the peer acknowledges what it has read.
    pub(crate) undelivered: AtomicUsize,
    pub(crate) pings: Pings,
}

pub(crate) struct ConnState {
    pub(crate) session: QuicSession,
    pub(crate) control: ControlOutput,
    /// Streams that were opened since the last announcement, and may be hidden from the peer.
    hidden: Vec<StreamRef>,
    /// The driver has to announce them.
    is_announcing: bool,
    /// Streams that the end of the connection has cut. They are kept so that quinn's resets and stops do not reach the
    /// peer before the close; `None` once the peer has acknowledged it.
    pub(crate) late: Option<Vec<StreamRef>>,
    early: EarlyData,
}

/// Fields that many threads change, apart from those that they only read, so that a change does not
/// invalidate the latter in the others' caches: 128 bytes are two lines of a cache, which some
/// processors fetch together.
#[repr(align(128))]
pub(crate) struct Apart<T>(T);

impl<T> Deref for Apart<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// The parts of a new connection.
pub(crate) struct NewConn {
    pub(crate) quinn: quinn::Connection,
    pub(crate) config: Config,
    pub(crate) wire: Wire,
    pub(crate) ends: Ends,
    /// The session, after the peer's hello.
    pub(crate) session: QuicSession,
    /// This side's control stream, if there is one.
    pub(crate) control: Option<quinn::SendStream>,
    /// Certificates of the peer, shown in the handshake or kept with the session of TLS.
    pub(crate) certificates: Option<Vec<CertificateDer<'static>>>,
    pub(crate) early: EarlyData,
}

impl ConnInner {
    pub(crate) fn new(new: NewConn) -> Arc<Self> {
        let NewConn {
            quinn,
            config,
            wire,
            ends,
            session,
            control,
            certificates,
            early,
        } = new;
        let slots = StreamSlots::new(config.max_streams);
        let mut peer_window = None;
        if let Some(hello) = session.peer() {
            slots.shrink(hello.max_streams);
            peer_window = Some(hello.connection_window).filter(|&size| size > 0);
        }
        let counts = wire == Wire::Pipe && !config.connection_window_is_ample();
        Arc::new(Self {
            identity: pipe_tls::peer_identity(certificates.as_deref()),
            quinn,
            credit_threshold: counts.then_some(1),
            config,
            wire,
            status: ConnStatus::new(),
            slots,
            ends,
            peer_window: peer_window.map(ConnWindow::new),
            arrivals: Arrivals::default(),
            idle: Notify::new(),
            news: Notify::new(),
            state: Apart(Mutex::new(ConnState {
                session,
                control: ControlOutput::new(control),
                hidden: Vec::new(),
                is_announcing: false,
                late: Some(Vec::new()),
                early,
            })),
            undelivered: AtomicUsize::new(0),
            pings: Pings::new(),
        })
    }

    /// Returns the use of early data on the connection.
    pub(crate) fn early(&self) -> EarlyData {
        self.state.lock().early
    }

    /// Notes that the handshake is over, and that the early data was accepted.
    pub(crate) fn confirm(&self) {
        self.state.lock().early = EarlyData::Accepted;
        self.idle.notify_waiters();
    }

    /// Ends the connection, since the listener rejected the early data. Returns the error.
    pub(crate) fn refuse_early(&self) -> Error {
        self.fail(Condition::Refused, refused());
        self.error()
    }

    /// Lets the endpoint go once the connection is over.
    pub(crate) fn take_endpoint(&self) -> Option<quinn::Endpoint> {
        self.ends.endpoint.lock().take()
    }

    // Streams.

    /// Returns `Ok` if this side may open streams.
    pub(crate) fn check_open(&self) -> Result<()> {
        let check = self.state.lock().session.check_open();
        check.map_err(|error| open_error(error, self.status.error()))
    }

    pub(crate) fn stream(&self, pair: StreamPair, slot: Option<StreamSlot>) -> StreamRef {
        let id = pair.0.id().into();
        let proto = match slot {
            Some(_) => Stream::local(id, false),
            None => Stream::remote(id),
        };
        let mut proto = proto.with_credit_threshold(self.credit_threshold);
        if self.wire == Wire::Raw {
            proto = proto.into_plain();
        }
        let stream = match slot {
            Some(slot) => StreamRef::local(proto, pair, slot),
            None => StreamRef::remote(proto, pair),
        };
        match self.wire {
            Wire::Pipe => stream,
            Wire::Raw => stream.into_plain(),
        }
    }

    /// Takes in a stream that this side has opened.
    ///
    /// # Errors
    ///
    /// As in [`check_open`](Self::check_open): the stream is not announced to the peer.
    pub(crate) fn open(&self, pair: StreamPair, slot: StreamSlot) -> Result<StreamRef> {
        let stream = self.stream(pair, Some(slot));
        let mut conn = self.state.lock();
        if let Err(error) = conn.session.check_open() {
            if conn.session.is_ended() {
                conn.keep_late(stream);
            } else {
                drop(conn);
                stream.lock().refuse();
            }
            return Err(open_error(error, self.status.error()));
        }
        if self.wire == Wire::Pipe {
            conn.hidden.push(stream.clone());
        }
        let is_earlier = conn.session.open(&stream, Instant::now().into_std());
        drop(conn);
        if is_earlier {
            self.news.notify_one();
        }
        Ok(stream)
    }

    /// Returns the next stream of the peer.
    pub(crate) async fn accept(&self) -> Result<StreamRef> {
        let lost = |error: &ConnectionError| self.lost(error);
        let pair = self.arrivals.next(&self.quinn, &self.status, lost).await?;
        let stream = self.stream(pair, None);
        let mut conn = self.state.lock();
        if conn.session.is_ended() {
            conn.keep_late(stream);
            return Err(self.error());
        }
        if let Err(violation) = conn.session.accept(&stream) {
            drop(conn);
            self.fail(Condition::Protocol, violation.into());
            return Err(self.error());
        }
        conn.session.on_accepted(&stream);
        self.settle(conn);
        Ok(stream)
    }

    /// Looks at a stream after a change that concerns more than itself.
    pub(crate) fn update(&self, stream: &StreamRef) {
        let mut conn = self.state.lock();
        conn.session.update(stream);
        self.settle(conn);
    }

    /// Adds the streams that have to be shown to the peer now.
    pub(crate) fn take_hidden(&self, streams: &mut Vec<StreamRef>) {
        let mut conn = self.state.lock();
        if std::mem::take(&mut conn.is_announcing) {
            let hidden = conn.hidden.drain(..);
            streams.extend(hidden.filter(|stream| stream.lock().is_hidden()));
        }
    }

    /// Shows streams to the peer, and forgets those that are shown. A task that finds no room is woken when
    /// there is some.
    pub(crate) fn show(&self, streams: &mut Vec<StreamRef>, cx: &mut Context<'_>) {
        streams.retain(|stream| {
            let shown = stream.lock().poll_show(cx);
            if let Poll::Ready(Err(WriteError::ZeroRttRejected)) = shown {
                self.refuse_early();
            }
            // The next use of the stream reports any other error.
            shown.is_pending()
        });
    }

    // Frames and events.

    /// Takes in the frames that have come over the control stream.
    ///
    /// # Errors
    ///
    /// That of a peer that broke the rules.
    pub(crate) fn receive(&self, input: &mut BytesMut) -> Result<()> {
        let now = Instant::now().into_std();
        let mut conn = self.state.lock();
        conn.session.on_heard(now);
        let taken = conn.take_frames(input, now);
        self.settle(conn);
        taken
    }

    /// Sends the frames that are due. Ready when the control stream is cut.
    pub(crate) fn poll_send(&self, cx: &mut Context<'_>) -> Poll<WriteError> {
        let mut conn = self.state.lock();
        let ConnState {
            session, control, ..
        } = &mut *conn;
        if !control.is_urgent() {
            return Poll::Pending;
        }
        let sent = control.poll_send(session, cx);
        let mut deferred = Deferred::default();
        self.take_events(&mut conn, &mut deferred);
        drop(conn);
        self.run(&mut deferred);
        sent
    }

    /// Takes out this side's control stream after the end, and the last frames for it.
    pub(crate) fn take_control(&self) -> Option<(quinn::SendStream, BytesMut)> {
        let mut conn = self.state.lock();
        let ConnState {
            session, control, ..
        } = &mut *conn;
        control.take(session)
    }

    /// Acts on the events of the session, sends its frames with the caller's own, and unlocks it. The driver sends
    /// what has no room, and a DONE when its time has come.
    pub(crate) fn settle(&self, mut conn: MutexGuard<'_, ConnState>) {
        let mut deferred = Deferred::default();
        self.take_events(&mut conn, &mut deferred);
        let calls_driver = conn.session.has_frames() && !conn.session.is_ended() && {
            let ConnState {
                session, control, ..
            } = &mut *conn;
            let limit = if session.is_drained_by_peer() {
                1
            } else {
                self.config.max_streams / 4
            };
            // A CREDIT lets the peer write on.
            let is_urgent = self.credit_threshold.is_some();
            let calls = control.on_frames(session, is_urgent, limit as usize);
            self.take_events(&mut conn, &mut deferred);
            calls
        };
        let is_flooded = conn.session.is_flooded();
        drop(conn);
        if calls_driver {
            self.news.notify_one();
        }
        self.run(&mut deferred);
        if is_flooded {
            self.broken("it does not read its control stream");
        }
    }

    fn take_events(&self, conn: &mut ConnState, deferred: &mut Deferred) {
        while let Some(event) = conn.session.poll_event() {
            deferred.has_events = true;
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
            Event::Wake { stream, .. } => {
                let wakers = stream.lock().on_wake();
                for waker in wakers {
                    deferred.wakers.extend(waker);
                }
                if conn.session.is_ended() {
                    conn.keep_late(stream);
                } else if stream.with(|stream| stream.needs_session()) {
                    conn.session.update(&stream);
                }
            }
            Event::Room(bytes) => deferred.room += bytes,
            Event::SlotFreed(stream) => deferred.slots.extend(stream.lock().slot.take()),
            Event::Idle => deferred.is_idle = true,
            Event::Pong { waiter, round_trip } => deferred.pongs.push((waiter, round_trip)),
            Event::PingsEnded(waiters) => deferred.lost_pings = waiters,
            Event::KeepAlive => self.keep_alive(conn),
            Event::Announce => conn.is_announcing = true,
            Event::Disconnected => {
                self.status.set_connected(false);
            }
            Event::Reconnected => {
                self.status.set_connected(true);
            }
            Event::Failed => deferred.is_lost = true,
            Event::Draining => deferred.is_draining = true,
            Event::Closed { code, reason, .. } => {
                deferred.is_ended |= self.status.end(CloseReason::remote(code, &reason));
            }
            // The hello was taken in before. The driver bounds the close.
            _ => {}
        }
    }

    fn run(&self, deferred: &mut Deferred) {
        if !deferred.has_events {
            return;
        }
        if let Some(window) = &self.peer_window {
            window.give(deferred.room);
        }
        if deferred.is_draining {
            self.slots.close();
        }
        for (waiter, round_trip) in deferred.pongs.drain(..) {
            waiter.answer(round_trip);
        }
        deferred.lost_pings.clear();
        deferred.slots.clear();
        deferred.wakers.drain(..).for_each(Waker::wake);
        if deferred.is_idle {
            self.idle.notify_waiters();
        }
        if deferred.is_ended {
            self.on_end();
        }
        if deferred.is_lost {
            self.fail(Condition::Silent, lost(&self.config));
        }
    }

    // Signs of life.

    /// Measures a round trip.
    pub(crate) async fn ping(&self) -> Result<Duration> {
        self.status.check()?;
        if self.wire == Wire::Raw {
            let why = "a peer of plain QUIC streams cannot be pinged through this connection";
            return Err(Error::new(ErrorKind::Unsupported, why));
        }
        let send = |bytes, waiter| self.start_ping(bytes, waiter);
        self.pings.round_trip(&self.status, send).await
    }

    /// Sends a ping. Drops the waiter once the connection has ended.
    fn start_ping(&self, bytes: PingBytes, waiter: PingWaiter) {
        let mut conn = self.state.lock();
        let now = Instant::now().into_std();
        let ended = conn.session.ping(bytes, waiter, now).err();
        self.settle(conn);
        drop(ended);
    }

    /// Sends a ping that nothing waits for. To a plain peer, quinn sends its own.
    fn keep_alive(&self, conn: &mut ConnState) {
        if self.wire == Wire::Raw {
            return;
        }
        match random_ping() {
            Ok(bytes) => {
                let now = Instant::now().into_std();
                conn.session.keep_alive(bytes, now);
            }
            Err(error) => tracing::debug!(%error, "no ping is sent"),
        }
    }

    /// Acts on the deadlines that have passed. `heard` says that the peer's packets have come.
    pub(crate) fn handle_timeout(&self, now: Instant, heard: bool) {
        let mut conn = self.state.lock();
        if heard {
            conn.session.on_heard(now.into_std());
        }
        conn.session.handle_timeout(now.into_std());
        conn.control.handle_timeout(now);
        self.settle(conn);
    }

    pub(crate) fn stats(&self) -> ConnStats {
        let waiting = if self.status.reason().is_none() {
            self.arrivals.sweep(&self.quinn)
        } else {
            0
        };
        let mut stats = ConnStats::from(self.state.lock().session.totals());
        stats.streams_open += waiting as u64;
        stats
    }
}

impl ConnState {
    fn take_frames(&mut self, input: &mut BytesMut, now: std::time::Instant) -> Result<()> {
        // Nothing counts behind a close.
        while !self.session.is_ended()
            && let Some(frame) = binary::decode(input)?
        {
            self.session.handle_frame(frame, now)?;
        }
        Ok(())
    }

    /// Keeps a stream of a connection that has ended until the peer has acknowledged the close.
    pub(crate) fn keep_late(&mut self, stream: StreamRef) {
        if let Some(late) = &mut self.late {
            late.push(stream);
        }
    }
}
