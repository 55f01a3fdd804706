mod drain;
mod output;
mod pings;
mod room;

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::FutureExt;
use parking_lot::Mutex;
use pipe_core::wire::{Hello, Message, PING_LEN};
use pipe_core::{
    Addr, CloseReason, Config, ConnStats, ConnStatus, ConnWindow, Error, ErrorKind, OnDisconnect,
    PeerIdentity, Result, StreamSlot, StreamSlots,
};
use pipe_tls::rustls::pki_types::CertificateDer;
use quinn::{ConnectionError, VarInt};
use rustc_hash::FxHashMap;
use tokio::sync::{Notify, Semaphore};

use crate::addr::{AddrForm, Wire};
use crate::early::{self, EarlyData};
use crate::error::{Condition, reason_of};
use crate::stream_core::StreamCore;
use output::Output;
use pings::{MAX_PINGS, Ping};

/// A connection: what its handles, its streams and its driver share.
///
/// Locks are taken in the order `inner`, stream. None is held while a task is woken.
pub(crate) struct Shared {
    pub(crate) quinn: quinn::Connection,
    pub(crate) config: Config,
    pub(crate) wire: Wire,
    pub(crate) status: ConnStatus,
    pub(crate) slots: StreamSlots,
    /// Streams of the peer that were looked at before they were accepted. Bounded by quinn's limit.
    waiting: Mutex<VecDeque<StreamPair>>,
    /// Told when there are some.
    swept: Notify,
    /// Told when the last stream is over, and of every step of a drain.
    pub(crate) idle: Notify,
    /// Halves of streams that were dropped after this side's close: were they gone, the peer would hear
    /// of their ends before it hears of the close. None once it has.
    late: Mutex<Option<Vec<Half>>>,
    /// Told when there is something for the driver.
    pub(crate) news: Notify,
    pub(crate) inner: Mutex<Inner>,
    /// What all streams may have unread at the peer, where it counts that.
    peer_window: OnceLock<Option<ConnWindow>>,
    /// Whether this side counts it, and tells what was read.
    pub(crate) tight: bool,
    /// How often streams were ended by a disconnect.
    disconnects: AtomicU64,
    pub(crate) bytes_sent: AtomicU64,
    pub(crate) bytes_received: AtomicU64,
    opened: AtomicU64,
    accepted: AtomicU64,
    /// How many directions were shut down and are not at the peer yet. Counted where the wire is raw:
    /// else the peer says what it has read.
    unacknowledged: AtomicUsize,
    ping_places: Arc<Semaphore>,
    identity: Option<PeerIdentity>,
    ends: Ends,
}

/// A stream of quinn.
type StreamPair = (quinn::SendStream, quinn::RecvStream);

/// A direction of a stream of quinn.
pub(crate) enum Half {
    Send(#[expect(dead_code, reason = "it is kept for its drop")] quinn::SendStream),
    Recv(#[expect(dead_code, reason = "it is kept for its drop")] quinn::RecvStream),
}

/// The addresses of the ends.
pub(crate) struct Ends {
    pub(crate) form: AddrForm,
    /// The hash of the listener's certificate, and whether this side is the listener.
    pub(crate) pin: Option<pipe_tls::CertSha256>,
    pub(crate) listens: bool,
    pub(crate) local: SocketAddr,
    /// As long as the connection lives.
    pub(crate) endpoint: Mutex<Option<quinn::Endpoint>>,
}

#[derive(Default)]
pub(crate) struct Inner {
    /// This side's control stream, until the connection has ended; none where the wire is raw.
    pub(crate) control: Option<quinn::SendStream>,
    /// What is to be sent over it.
    pub(crate) output: Output,
    /// Streams that this side opened and that are in use at either side, and accepted ones that are in
    /// use here.
    streams: FxHashMap<u64, Arc<StreamCore>>,
    /// How many of them this side opened.
    ours: usize,
    /// How many of them this side's application is not done with.
    in_use: usize,
    pings: HashMap<[u8; PING_LEN], Ping>,
    /// Pings that nobody waits for.
    asked: HashSet<[u8; PING_LEN]>,
    last_round_trip: Option<Duration>,
    drain_announced: bool,
    drain_by_peer: bool,
    drained_told: bool,
    drained_by_peer: bool,
    ended_idle: bool,
    early: EarlyData,
}

/// What a connection is made with.
pub(crate) struct NewConn {
    pub(crate) quinn: quinn::Connection,
    pub(crate) config: Config,
    pub(crate) wire: Wire,
    pub(crate) ends: Ends,
    /// This side's control stream, if there is one.
    pub(crate) control: Option<quinn::SendStream>,
    /// What the peer has shown, or is known by.
    pub(crate) certificates: Option<Vec<CertificateDer<'static>>>,
    pub(crate) early: EarlyData,
}

/// What a side says of itself.
pub(crate) fn hello(config: &Config) -> Hello {
    Hello {
        max_streams: config.max_streams,
        stream_window: config.stream_window,
        connection_window: if config.connection_window_is_ample() {
            0
        } else {
            config.connection_window
        },
    }
}

impl Shared {
    /// `hello` is the peer's, if it says one.
    pub(crate) fn new(new: NewConn, hello: Option<&Hello>) -> Arc<Self> {
        let NewConn {
            quinn,
            config,
            wire,
            ends,
            control,
            certificates,
            early,
        } = new;
        let slots = StreamSlots::new(config.max_streams);
        let mut window = None;
        if let Some(hello) = hello {
            slots.shrink(hello.max_streams);
            window = Some(hello.connection_window).filter(|&size| size > 0);
        }
        Arc::new(Self {
            identity: pipe_tls::peer_identity(certificates.as_deref()),
            quinn,
            tight: wire == Wire::Pipe && !config.connection_window_is_ample(),
            config,
            wire,
            status: ConnStatus::new(),
            slots,
            waiting: Mutex::new(VecDeque::new()),
            swept: Notify::new(),
            idle: Notify::new(),
            late: Mutex::new(Some(Vec::new())),
            news: Notify::new(),
            inner: Mutex::new(Inner {
                control,
                early,
                ..Inner::default()
            }),
            peer_window: OnceLock::from(window.map(ConnWindow::new)),
            disconnects: AtomicU64::new(0),
            bytes_sent: AtomicU64::new(0),
            bytes_received: AtomicU64::new(0),
            opened: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
            unacknowledged: AtomicUsize::new(0),
            ping_places: Arc::new(Semaphore::new(MAX_PINGS)),
            ends,
        })
    }

    /// `Ok` if this side may open streams.
    pub(crate) fn check_open(&self) -> Result<()> {
        self.status.check()?;
        self.inner.lock().check_open()
    }

    /// Takes in a stream that this side has opened.
    ///
    /// # Errors
    ///
    /// As in [`check_open`](Self::check_open): the stream must not be used.
    pub(crate) fn insert_opened(&self, id: u64, slot: StreamSlot) -> Result<Arc<StreamCore>> {
        let mut inner = self.inner.lock();
        self.status.check()?;
        inner.check_open()?;
        let core = Arc::new(StreamCore::new(id, Some(slot)));
        inner.streams.insert(id, core.clone());
        inner.ours += 1;
        inner.in_use += 1;
        drop(inner);
        self.opened.fetch_add(1, Ordering::Relaxed);
        Ok(core)
    }

    /// The next stream of the peer.
    pub(crate) async fn accept(
        &self,
    ) -> Result<(quinn::SendStream, quinn::RecvStream, Arc<StreamCore>)> {
        let (send, recv) = match self.accept_now()? {
            Some(stream) => stream,
            None => self.accept_later().await?,
        };
        let core = Arc::new(StreamCore::new(send.id().into(), None));
        let mut inner = self.inner.lock();
        if let Some(error) = self.status.error() {
            drop(inner);
            self.drop_half(Half::Send(send));
            self.drop_half(Half::Recv(recv));
            return Err(error);
        }
        inner.streams.insert(core.id, core.clone());
        inner.in_use += 1;
        drop(inner);
        self.accepted.fetch_add(1, Ordering::Relaxed);
        Ok((send, recv, core))
    }

    /// A stream that has come already.
    fn accept_now(&self) -> Result<Option<StreamPair>> {
        if let Some(stream) = self.take_waiting()? {
            return Ok(Some(stream));
        }
        match self.quinn.accept_bi().now_or_never() {
            None => Ok(None),
            Some(Ok(stream)) => Ok(Some(stream)),
            Some(Err(error)) => Err(self.lost(&error)),
        }
    }

    async fn accept_later(&self) -> Result<StreamPair> {
        loop {
            let swept = self.swept.notified();
            if let Some(stream) = self.take_waiting()? {
                return Ok(stream);
            }
            tokio::select! {
                biased;
                () = swept => {}
                stream = self.quinn.accept_bi() => {
                    return stream.map_err(|error| self.lost(&error));
                }
            }
        }
    }

    /// One of the streams that were looked at before.
    fn take_waiting(&self) -> Result<Option<StreamPair>> {
        self.status.check()?;
        let mut waiting = self.waiting.lock();
        let stream = waiting.pop_front();
        if stream.is_some() && !waiting.is_empty() {
            // One wake-up may have stood for several streams.
            self.swept.notify_one();
        }
        Ok(stream)
    }

    /// Looks for streams of the peer that nobody has accepted, and returns how many there are.
    fn sweep(&self) -> usize {
        let mut waiting = self.waiting.lock();
        let before = waiting.len();
        while let Some(Ok(stream)) = self.quinn.accept_bi().now_or_never() {
            waiting.push_back(stream);
        }
        let count = waiting.len();
        drop(waiting);
        if count > before {
            self.swept.notify_one();
        }
        count
    }

    /// Notes that this side is done with directions of a stream, and what follows from it.
    pub(crate) fn over(&self, core: &StreamCore, send: bool, recv: bool) {
        if !self.tight && !core.state.lock().note(send, recv) {
            return;
        }
        let mut inner = self.inner.lock();
        let mut state = core.state.lock();
        if recv && !state.recv_over && self.tight {
            // Whatever was not read needs no more room.
            inner.say(&Message::Credit {
                stream: core.id,
                bytes: u32::MAX,
            });
        }
        if state.note(send, recv) && !state.done {
            state.done = true;
            inner.in_use -= 1;
            if !core.ours && self.wire == Wire::Pipe {
                // It gives the peer room for another stream, of which it has plenty.
                let done = Message::Done { stream: core.id };
                let limit = if inner.drain_by_peer {
                    1
                } else {
                    self.config.max_streams / 4
                };
                inner.output.gather(&done, limit);
            }
        }
        drop(state);
        self.settle(&mut inner, core);
        self.send(inner);
    }

    /// Forgets a stream that is not needed any more.
    fn settle(&self, inner: &mut Inner, core: &StreamCore) {
        let mut state = core.state.lock();
        if !state.done {
            return;
        }
        let over = if core.ours {
            state.peer_done || self.wire == Wire::Raw
        } else {
            state.used == 0 || state.free
        };
        if !over {
            return;
        }
        let unread = state.free();
        let slot = state.slot.take();
        drop(state);
        if inner.streams.remove(&core.id).is_some() {
            inner.ours -= usize::from(core.ours);
            if inner.ours == 0 {
                inner.tell_drained();
            }
            self.idle.notify_waiters();
        }
        self.give(unread);
        drop(slot);
    }

    /// The peer's application is done with a stream that this side opened.
    pub(crate) fn peer_done(&self, id: u64) {
        let mut inner = self.inner.lock();
        if let Some(core) = inner.streams.get(&id).cloned() {
            core.state.lock().peer_done = true;
            // Called by the driver, who looks for output anyway.
            self.settle(&mut inner, &core);
        }
    }

    /// Closes the connection from this side.
    pub(crate) fn close(&self, code: u32, reason: &str) {
        self.end(&CloseReason::local(code, reason), None);
    }

    /// The connection of quinn is over. Returns the error of whoever noticed.
    pub(crate) fn lost(&self, error: &ConnectionError) -> Error {
        self.end(&reason_of(error), None);
        self.error()
    }

    /// The error of every operation after the end.
    pub(crate) fn error(&self) -> Error {
        let unknown = || Error::new(ErrorKind::Failed, "the connection is over");
        self.status.error().unwrap_or_else(unknown)
    }

    /// This side gives the connection up, and tells the peer why.
    pub(crate) fn fail(&self, condition: Condition, error: Error) {
        self.end(&CloseReason::Failed(error), Some(condition));
    }

    /// Ends the connection, unless it has ended: all that waits wakes up.
    fn end(&self, reason: &CloseReason, condition: Option<Condition>) {
        let mut inner = self.inner.lock();
        if !self.status.end(reason.clone()) {
            return;
        }
        inner.ended_idle = inner.in_use == 0;
        let pings = std::mem::take(&mut inner.pings);
        let streams: Vec<_> = inner.streams.values().cloned().collect();
        if let CloseReason::Local { code, reason } = reason
            && self.wire == Wire::Pipe
        {
            // The driver closes the connection of quinn when the peer has it.
            inner.say(&Message::Close {
                code: *code,
                reason: reason.as_ref().to_owned(),
            });
        }
        drop(inner);
        match (reason, condition) {
            (CloseReason::Local { .. }, _) if self.wire == Wire::Raw => self.close_quinn(),
            (CloseReason::Failed(error), Some(condition)) => {
                let why = CloseReason::local(0, &error.to_string());
                let text = match &why {
                    CloseReason::Local { reason, .. } => reason.as_bytes(),
                    _ => b"",
                };
                self.quinn.close(condition.code(), text);
            }
            _ => {}
        }
        self.slots.close();
        self.ping_places.close();
        drop(pings);
        for core in streams {
            core.reader.wake();
            core.writer.wake();
        }
        for (send, recv) in std::mem::take(&mut *self.waiting.lock()) {
            self.drop_half(Half::Send(send));
            self.drop_half(Half::Recv(recv));
        }
        self.swept.notify_waiters();
        self.idle.notify_waiters();
        self.news.notify_one();
    }

    /// The peer has closed the connection.
    pub(crate) fn closed_by_peer(&self, code: u32, reason: &str) {
        self.end(&CloseReason::remote(code, reason), None);
    }

    /// Closes the connection of quinn with the reason of the end, if that is this side's.
    pub(crate) fn close_quinn(&self) {
        if self.quinn.close_reason().is_some() {
            return;
        }
        match self.status.reason() {
            Some(CloseReason::Local { code, reason }) => {
                self.quinn.close(VarInt::from_u32(*code), reason.as_bytes());
            }
            _ => self.quinn.close(VarInt::from_u32(0), b""),
        }
    }

    /// Lets the halves go that were dropped after the close.
    pub(crate) fn bury(&self) {
        let late = self.late.lock().take();
        drop(late);
    }

    /// Drops a half; after this side's close, when the peer has heard of that.
    pub(crate) fn drop_half(&self, half: Half) {
        if self.status.reason().is_none() {
            return;
        }
        let mut late = self.late.lock();
        if let Some(late) = &mut *late {
            late.push(half);
        }
    }

    /// The peer is silent.
    pub(crate) fn disconnect(&self) {
        if !self.status.set_connected(false) || self.config.on_disconnect == OnDisconnect::Wait {
            return;
        }
        self.disconnects.fetch_add(1, Ordering::Relaxed);
        let streams: Vec<_> = self.inner.lock().streams.values().cloned().collect();
        for core in streams {
            core.reader.wake();
            core.writer.wake();
        }
    }

    /// How often streams were ended by a disconnect; `None` if they never are.
    pub(crate) fn disconnects(&self) -> Option<u64> {
        (self.config.on_disconnect == OnDisconnect::FailStreams)
            .then(|| self.disconnects.load(Ordering::Relaxed))
    }

    /// Whether the connection was used before its handshake was over.
    pub(crate) fn early(&self) -> EarlyData {
        self.inner.lock().early
    }

    /// The handshake is over, and what was sent before was taken.
    pub(crate) fn confirm(&self) {
        self.inner.lock().early = EarlyData::Accepted;
        self.idle.notify_waiters();
    }

    /// The listener has not taken what was sent before the handshake was over. Returns the error.
    pub(crate) fn refuse_early(&self) -> Error {
        self.fail(Condition::Refused, early::refused());
        self.error()
    }

    /// Whether no stream was cut short by the end of the connection.
    pub(crate) fn ended_idle(&self) -> bool {
        self.inner.lock().ended_idle
    }

    /// How many streams this side's application uses.
    pub(crate) fn in_use(&self) -> usize {
        self.inner.lock().in_use
    }

    pub(crate) fn stats(&self) -> ConnStats {
        let waiting = if self.status.reason().is_none() {
            self.sweep()
        } else {
            0
        };
        let inner = self.inner.lock();
        let mut stats = ConnStats::default();
        stats.bytes_sent = self.bytes_sent.load(Ordering::Relaxed);
        stats.bytes_received = self.bytes_received.load(Ordering::Relaxed);
        stats.streams_opened = self.opened.load(Ordering::Relaxed);
        stats.streams_accepted = self.accepted.load(Ordering::Relaxed);
        stats.streams_open = (inner.streams.len() + waiting) as u64;
        stats.last_round_trip = inner.last_round_trip;
        stats
    }

    pub(crate) fn identity(&self) -> Option<PeerIdentity> {
        self.identity.clone()
    }

    pub(crate) fn endpoint(&self) -> Option<quinn::Endpoint> {
        self.ends.endpoint.lock().clone()
    }

    /// Lets the endpoint go once the connection is over.
    pub(crate) fn take_endpoint(&self) -> Option<quinn::Endpoint> {
        self.ends.endpoint.lock().take()
    }

    pub(crate) fn local_addr(&self) -> Addr {
        let Ends {
            form,
            pin,
            listens,
            local,
            endpoint,
        } = &self.ends;
        let port = endpoint
            .lock()
            .as_ref()
            .and_then(|endpoint| endpoint.local_addr().ok())
            .map_or_else(|| local.port(), |addr| addr.port());
        let ip = self.quinn.local_ip().unwrap_or_else(|| local.ip());
        form.end(SocketAddr::new(ip, port), pin.filter(|_| *listens))
    }

    pub(crate) fn remote_addr(&self) -> Addr {
        let Ends {
            form, pin, listens, ..
        } = &self.ends;
        form.end(self.quinn.remote_address(), pin.filter(|_| !*listens))
    }
}

impl Inner {
    fn say(&mut self, message: &Message) {
        self.output.say(message);
    }

    fn check_open(&self) -> Result<()> {
        let why = if self.drain_announced {
            "this side is draining the connection"
        } else if self.drain_by_peer {
            "the peer is draining the connection"
        } else {
            return Ok(());
        };
        Err(Error::new(ErrorKind::Closed, why))
    }
}

/// The peer broke the rules.
pub(crate) fn protocol(what: &str) -> Error {
    let why = format!("the peer broke the protocol: {what}");
    Error::new(ErrorKind::Protocol, why)
}
