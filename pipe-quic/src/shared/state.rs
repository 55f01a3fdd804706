use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use pipe_core::backend::proto::{Hello, PingBytes};
use pipe_core::backend::{ConnStatus, ConnWindow, StreamSlots};
use pipe_core::{Addr, Config, ConnStats, Error, ErrorKind, PeerIdentity, Result, Wire};
use pipe_tls::rustls::pki_types::CertificateDer;
use tokio::sync::{Notify, Semaphore};

use super::arrivals::Arrivals;
use super::ends::Ends;
use super::half::Half;
use super::output::Output;
use super::pings::{MAX_PINGS, Ping};
use super::table::Table;
use super::unshown::Unshown;
use crate::early_data::{EarlyData, refused};
use crate::error::Condition;

/// A connection: the state that its handles, its streams and its driver share.
///
/// Locks are taken in the order `inner`, stream, quinn's.
pub(crate) struct Shared {
    pub(crate) quinn: quinn::Connection,
    pub(crate) config: Config,
    pub(crate) wire: Wire,
    pub(crate) status: ConnStatus,
    pub(crate) slots: StreamSlots,
    pub(super) arrivals: Arrivals,
    /// Notified when the last stream is over, and of every step of a drain.
    pub(crate) idle: Notify,
    /// Stream halves dropped after this side's close. They are kept so that their resets and stops
    /// do not reach the peer before the close; `None` once the peer has acknowledged it.
    pub(super) late: Mutex<Option<Vec<Half>>>,
    /// Notified when there is work for the driver.
    pub(crate) news: Notify,
    pub(crate) inner: Apart<Mutex<Inner>>,
    /// Window of all streams at the peer, where it counts that.
    pub(super) peer_window: Option<ConnWindow>,
    /// Whether this side counts that window, and returns credit for it.
    pub(crate) tight: bool,
    /// Number of times that a disconnect has ended the streams.
    pub(super) disconnects: AtomicU64,
    pub(crate) bytes: Apart<Bytes>,
    /// Number of directions that were shut down and are not at the peer yet. Counted where the wire
    /// is raw: otherwise the peer acknowledges what it has read.
    pub(super) unacknowledged: AtomicUsize,
    pub(super) ping_places: Arc<Semaphore>,
    pub(super) identity: Option<PeerIdentity>,
    pub(super) ends: Ends,
}

/// Fields that many threads change, apart from those that they only read, so that a change does not
/// invalidate the latter in the others' caches: 128 bytes are two lines of a cache, which some
/// processors fetch together.
#[derive(Default)]
#[repr(align(128))]
pub(crate) struct Apart<T>(T);

impl<T> Deref for Apart<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// Counters of the application's writes and reads, in bytes.
#[derive(Default)]
pub(crate) struct Bytes {
    pub(crate) sent: AtomicU64,
    pub(crate) received: AtomicU64,
}

#[derive(Default)]
pub(crate) struct Inner {
    /// This side's control stream, until the connection has ended; absent where the wire is raw.
    pub(crate) control: Option<quinn::SendStream>,
    /// Frames to be sent over it.
    pub(crate) output: Output,
    pub(super) table: Table,
    pub(super) unshown: Unshown,
    pub(super) pings: HashMap<PingBytes, Ping>,
    /// Pings whose answers no caller waits for.
    pub(super) asked: HashSet<PingBytes>,
    pub(super) last_round_trip: Option<Duration>,
    pub(super) drain_announced: bool,
    pub(super) drain_by_peer: bool,
    pub(super) drained_told: bool,
    pub(super) drained_by_peer: bool,
    pub(super) ended_idle: bool,
    pub(super) early: EarlyData,
}

/// The parts of a new connection.
pub(crate) struct NewConn {
    pub(crate) quinn: quinn::Connection,
    pub(crate) config: Config,
    pub(crate) wire: Wire,
    pub(crate) ends: Ends,
    /// This side's control stream, if there is one.
    pub(crate) control: Option<quinn::SendStream>,
    /// Certificates of the peer, shown in the handshake or kept with the session.
    pub(crate) certificates: Option<Vec<CertificateDer<'static>>>,
    pub(crate) early: EarlyData,
}

impl Shared {
    /// Creates the state of a connection. `hello` is the peer's, if there is one.
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
            arrivals: Arrivals::default(),
            idle: Notify::new(),
            late: Mutex::new(Some(Vec::new())),
            news: Notify::new(),
            inner: Apart(Mutex::new(Inner {
                control,
                early,
                ..Inner::default()
            })),
            peer_window: window.map(ConnWindow::new),
            disconnects: AtomicU64::new(0),
            bytes: Apart::default(),
            unacknowledged: AtomicUsize::new(0),
            ping_places: Arc::new(Semaphore::new(MAX_PINGS)),
            ends,
        })
    }

    /// Returns the use of early data on the connection.
    pub(crate) fn early(&self) -> EarlyData {
        self.inner.lock().early
    }

    /// Notes that the handshake is over, and that the early data was accepted.
    pub(crate) fn confirm(&self) {
        self.inner.lock().early = EarlyData::Accepted;
        self.idle.notify_waiters();
    }

    /// Ends the connection, since the listener rejected the early data. Returns the error.
    pub(crate) fn refuse_early(&self) -> Error {
        self.fail(Condition::Refused, refused());
        self.error()
    }

    /// Returns the number of streams that this side's application uses.
    pub(crate) fn in_use(&self) -> usize {
        self.inner.lock().table.in_use()
    }

    pub(crate) fn stats(&self) -> ConnStats {
        let waiting = if self.status.reason().is_none() {
            self.sweep()
        } else {
            0
        };
        let inner = self.inner.lock();
        let mut stats = ConnStats::default();
        stats.bytes_sent = self.bytes.sent.load(Ordering::Relaxed);
        stats.bytes_received = self.bytes.received.load(Ordering::Relaxed);
        (stats.streams_opened, stats.streams_accepted) = inner.table.counts();
        stats.streams_open = (inner.table.len() + waiting) as u64;
        stats.last_round_trip = inner.last_round_trip;
        stats
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

    pub(crate) fn identity(&self) -> Option<PeerIdentity> {
        self.identity.clone()
    }
}

impl Inner {
    pub(super) fn check_open(&self) -> Result<()> {
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
