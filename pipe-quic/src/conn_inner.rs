use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use futures::FutureExt;
use pipe_core::backend::proto::codec::binary;
use pipe_core::backend::proto::{Hello, OpenError, Stream};
use pipe_core::backend::{
    Changes, PeerWindows, SessionConn, SessionCore, SessionState, State, StreamSlot, lost, now,
    open_error,
};
use pipe_core::{
    Addr, CloseReason, Config, ConnStats, Error, ErrorKind, PeerIdentity, Result, Wire,
};
use pipe_tls::rustls::pki_types::CertificateDer;
use quinn::{ConnectionError, WriteError};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::arrivals::{Arrivals, StreamPair};
use crate::control_output::ControlOutput;
use crate::dialect::{Codes, Dialect};
use crate::early_data::{EarlyData, refused};
use crate::ends::Ends;
use crate::error::Condition;
use crate::session::QuicSession;
use crate::stream_inner::{StreamRef, StreamState};

/// A connection: the state that its handles, its streams and its driver share.
///
/// Locks are taken in the order `state`, stream, quinn's.
pub(crate) struct ConnInner {
    core: SessionCore<StreamState, QuicState>,
    pub(crate) quinn: quinn::Connection,
    pub(crate) wire: Wire,
    pub(crate) dialect: Dialect,
    pub(crate) ends: Ends,
    identity: Option<PeerIdentity>,
    /// Windows of the peer, where this side counts what it sends.
    pub(crate) peer_windows: Option<PeerWindows>,
    /// Number of bytes read from which credit is returned, where the peer counts what it sends.
    credit_threshold: Option<u32>,
    pub(crate) arrivals: Arrivals,
    /// Notified when there is work for the driver.
    pub(crate) news: Notify,
    /// Number of directions that were shut down and are not at the peer yet. Counted where the wire
    /// is raw: otherwise the peer acknowledges what it has read.
    pub(crate) undelivered: AtomicUsize,
}

/// What is behind the lock of the session besides it.
pub(crate) struct QuicState {
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

/// The parts of a new connection.
pub(crate) struct NewConn {
    pub(crate) quinn: quinn::Connection,
    pub(crate) config: Config,
    pub(crate) wire: Wire,
    pub(crate) dialect: Dialect,
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
            dialect,
            ends,
            session,
            control,
            certificates,
            early,
        } = new;
        let hello = session.peer().copied();
        let credit_threshold = match (wire, hello) {
            (Wire::Pipe, _) if !config.connection_window_is_ample() => Some(1),
            (Wire::Pipe, Some(peer)) if peer.takes_growth => Some(config.stream_window / 4),
            _ => None,
        };
        let extra = QuicState {
            control: ControlOutput::new(control),
            hidden: Vec::new(),
            is_announcing: false,
            late: Some(Vec::new()),
            early,
        };
        let core = SessionCore::new(config, session, extra);
        let mut peer_windows = None;
        if let Some(hello) = hello {
            core.slots.shrink(hello.max_streams);
            peer_windows = windows_of(&hello);
        }
        Arc::new(Self {
            core,
            identity: pipe_tls::peer_identity(certificates.as_deref()),
            quinn,
            credit_threshold,
            wire,
            dialect,
            ends,
            peer_windows,
            arrivals: Arrivals::default(),
            news: Notify::new(),
            undelivered: AtomicUsize::new(0),
        })
    }

    /// Returns the use of early data on the connection.
    pub(crate) fn early(&self) -> EarlyData {
        self.state.lock().extra.early
    }

    /// Notes that the handshake is over, and that the early data was accepted.
    pub(crate) fn confirm(&self) {
        self.state.lock().extra.early = EarlyData::Accepted;
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
        StreamState::new(proto, pair, slot, &self.dialect)
    }

    /// Takes in a stream that this side has opened.
    ///
    /// # Errors
    ///
    /// As in [`check_open`](SessionConn::check_open): the stream is not announced to the peer.
    fn adopt(&self, pair: StreamPair, slot: StreamSlot) -> Result<StreamRef> {
        let stream = self.stream(pair, Some(slot));
        let mut conn = self.state.lock();
        if let Err(error) = conn.session.check_open() {
            if conn.session.is_ended() {
                conn.extra.keep_late(stream);
            } else {
                drop(conn);
                stream.lock().refuse();
            }
            return Err(open_error(error, self.status.error()));
        }
        if self.wire == Wire::Pipe {
            conn.extra.hidden.push(stream.clone());
        }
        let is_earlier = conn.session.open(&stream, now());
        drop(conn);
        if is_earlier {
            self.news.notify_one();
        }
        Ok(stream)
    }

    /// Adds the streams that have to be shown to the peer now.
    pub(crate) fn take_hidden(&self, streams: &mut Vec<StreamRef>) {
        let mut conn = self.state.lock();
        if std::mem::take(&mut conn.extra.is_announcing) {
            let hidden = conn.extra.hidden.drain(..);
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
        let mut conn = self.state.lock();
        conn.session.on_heard(now());
        let taken = take_frames(&mut conn.session, input);
        self.settle(conn);
        taken
    }

    /// Sends the frames that are due. Ready when the control stream is cut.
    pub(crate) fn poll_send(&self, cx: &mut Context<'_>) -> Poll<WriteError> {
        let mut conn = self.state.lock();
        let SessionState { session, extra } = &mut *conn;
        if session.is_flooded() {
            drop(conn);
            self.broken("it does not read its control stream");
            return Poll::Pending;
        }
        if !extra.control.is_urgent() {
            return Poll::Pending;
        }
        let sent = extra.control.poll_send(session, cx);
        self.settle_events(conn);
        sent
    }

    /// Takes out this side's control stream after the end, and the last frames for it.
    pub(crate) fn take_control(&self) -> Option<(quinn::SendStream, BytesMut)> {
        let mut conn = self.state.lock();
        let SessionState { session, extra } = &mut *conn;
        extra.control.take(session)
    }

    /// Acts on the deadlines that have passed. `heard` says that the peer's packets have come.
    pub(crate) fn handle_timeout(&self, now: Instant, heard: bool) {
        let mut conn = self.state.lock();
        if heard {
            conn.session.on_heard(now.into_std());
        }
        conn.session.handle_timeout(now.into_std());
        conn.extra.control.handle_timeout(now);
        self.settle(conn);
    }
}

impl SessionConn for ConnInner {
    type Stream = StreamState;
    type Extra = QuicState;
    type Dropped = ();

    async fn open(conn: &Arc<Self>) -> Result<StreamRef> {
        let Some(slot) = conn.slots.acquire().await else {
            conn.check_open()?;
            return Err(open_error(OpenError::Ended, None));
        };
        let opened = match conn.quinn.open_bi().now_or_never() {
            Some(opened) => opened,
            None => tokio::select! {
                biased;
                _ = conn.status.ended() => return Err(conn.error()),
                opened = conn.quinn.open_bi() => opened,
            },
        };
        let pair = opened.map_err(|error| conn.lost(&error))?;
        conn.adopt(pair, slot)
    }

    async fn accept(&self) -> Result<StreamRef> {
        let lost = |error: &ConnectionError| self.lost(error);
        let pair = self.arrivals.next(&self.quinn, &self.status, lost).await?;
        let stream = self.stream(pair, None);
        let mut conn = self.state.lock();
        if conn.session.is_ended() {
            conn.extra.keep_late(stream);
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

    fn local_addr(&self) -> Addr {
        self.ends.local_addr(&self.quinn)
    }

    fn remote_addr(&self) -> Addr {
        self.ends.remote_addr(&self.quinn)
    }

    fn peer_identity(&self) -> Option<PeerIdentity> {
        self.identity.clone()
    }

    fn wake_driver(&self) {
        self.news.notify_one();
    }

    fn give_room(&self, bytes: u64) {
        if let Some(windows) = &self.peer_windows {
            windows.give_back(bytes);
        }
    }

    fn on_wake(&self, conn: &mut State<Self>, stream: &StreamRef, _: &mut Changes<Self>) {
        stream.lock().on_wake();
        if conn.session.is_ended() {
            conn.extra.keep_late(stream.clone());
        }
    }

    fn measured_round_trip(&self) -> Option<Duration> {
        Some(self.quinn.rtt())
    }

    fn before_update(&self, conn: &mut State<Self>, stream: &StreamRef) {
        if stream.lock().proto.owes_credit() {
            // It lets the peer write on.
            conn.extra.control.set_urgent();
        }
    }

    fn on_announce(&self, conn: &mut State<Self>) {
        conn.extra.is_announcing = true;
    }

    /// Sends the frames with the caller's own task. The driver sends what has no room, and a DONE when its time has
    /// come.
    fn send_frames(&self, conn: &mut State<Self>, _: &mut Changes<Self>) -> bool {
        let SessionState { session, extra } = conn;
        if !session.has_frames() || session.is_ended() {
            return false;
        }
        let limit = if session.is_drained_by_peer() {
            1
        } else {
            self.config.max_streams / 4
        };
        extra.control.on_frames(session, limit as usize)
    }

    /// A plain peer gets quinn's own pings.
    fn check_pings(&self) -> Result<()> {
        if self.wire == Wire::Pipe {
            return Ok(());
        }
        let why = "a peer of plain QUIC streams cannot be pinged through this connection";
        Err(Error::new(ErrorKind::Unsupported, why))
    }

    fn end_session(&self, conn: &mut State<Self>, reason: &CloseReason) {
        match reason {
            // The driver closes the connection of quinn when the peer has the CLOSE, or the end of the session.
            CloseReason::Local { code, reason } => {
                conn.session.close(*code, 0, reason);
                if self.wire == Wire::Raw && self.dialect.codes() == Codes::Quic {
                    self.close_quinn();
                }
            }
            _ => conn.session.fail(),
        }
    }

    fn on_end(&self) {
        for pair in self.arrivals.end() {
            let stream = self.stream(pair, None);
            self.state.lock().extra.keep_late(stream);
        }
    }

    fn on_silence(&self) {
        self.fail(Condition::Silent, lost(&self.config));
    }

    fn is_drained(&self) -> bool {
        self.state.lock().session.is_drained() && self.undelivered.load(Ordering::Acquire) == 0
    }

    async fn until_left(&self) {
        if let Some(CloseReason::Local { .. }) = self.status.reason() {
            // The driver bounds the wait.
            self.quinn.closed().await;
        }
    }

    fn stats(&self) -> ConnStats {
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

impl QuicState {
    /// Keeps a stream of a connection that has ended until the peer has acknowledged the close.
    pub(crate) fn keep_late(&mut self, stream: StreamRef) {
        if let Some(late) = &mut self.late {
            late.push(stream);
        }
    }
}

impl Deref for ConnInner {
    type Target = SessionCore<StreamState, QuicState>;

    fn deref(&self) -> &Self::Target {
        &self.core
    }
}

/// Returns the windows that a peer has the sender count: those of streams, if it returns CREDIT for them, and the one that
/// streams share. The others are QUIC's own.
fn windows_of(hello: &Hello) -> Option<PeerWindows> {
    let stream = if hello.takes_growth {
        hello.stream_window
    } else {
        u32::MAX
    };
    let counts = hello.takes_growth || hello.connection_window > 0;
    counts.then(|| PeerWindows::new(stream, hello.connection_window))
}

fn take_frames(session: &mut QuicSession, input: &mut BytesMut) -> Result<()> {
    // Nothing counts behind a close.
    while !session.is_ended()
        && let Some(frame) = binary::decode(input)?
    {
        session.handle_frame(frame, now())?;
    }
    Ok(())
}
