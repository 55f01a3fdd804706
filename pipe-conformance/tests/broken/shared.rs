//! What the wrapped objects of one transport, one connection and one stream have in common.

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::Waker;

use parking_lot::Mutex;
use pipe_core::{Config, Conn, Stream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Instant;

use crate::fault::Fault;

/// The sending half of a stream of `C`.
pub(crate) type SendHalf<C> = <<C as Conn>::Stream as Stream>::SendHalf;
/// The receiving half of a stream of `C`.
pub(crate) type RecvHalf<C> = <<C as Conn>::Stream as Stream>::RecvHalf;

/// What a transport and all that comes of it share.
pub(crate) struct Setting {
    pub(crate) fault: Fault,
    /// What the case asked for; the transport inside may have been given something else.
    pub(crate) config: Config,
    leaked: Mutex<Vec<Box<dyn Any + Send>>>,
    /// The slots of streams by their ids, for the fault whose slots the acceptor gives back.
    pub(crate) slots: Mutex<HashMap<u64, OwnedSemaphorePermit>>,
    /// Stops that came after the end, by the ids of their streams.
    pub(crate) late_stops: Mutex<HashMap<u64, u32>>,
}

impl Setting {
    pub(crate) fn new(fault: Fault, config: Config) -> Self {
        Self {
            fault,
            config,
            leaked: Mutex::default(),
            slots: Mutex::default(),
            late_stops: Mutex::default(),
        }
    }

    /// Keeps `value` as long as the transport lives.
    pub(crate) fn leak(&self, value: impl Send + 'static) {
        self.leaked.lock().push(Box::new(value));
    }
}

/// The two sides of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Dialer,
    Listener,
}

/// What the handles and streams of one side of a connection share.
pub(crate) struct Shared<C: Conn> {
    pub(crate) inner: C,
    pub(crate) setting: Arc<Setting>,
    /// Which side of the connection this is.
    pub(crate) side: Side,
    /// The slots of the streams that this side opens, for the faults that count by themselves.
    pub(crate) slots: Arc<Semaphore>,
    /// Streams opened by this side, ever.
    pub(crate) opened: AtomicU64,
    /// Streams accepted by this side, ever.
    pub(crate) accepted: AtomicU64,
    /// Streams taken from the connection inside and not yet given to the application.
    pub(crate) stack: Mutex<Vec<C::Stream>>,
    /// Calls of `accept_stream` under way.
    pub(crate) accepting: AtomicUsize,
    /// Calls of `ping`, ever.
    pub(crate) pings: AtomicU64,
    /// Whether a call of `closed` has begun.
    pub(crate) asked: Flag,
    /// The last close by this side.
    pub(crate) last_close: Mutex<Option<(u32, String)>>,
    /// The last byte that was written, and the stream it was written to.
    pub(crate) last_byte: Mutex<Option<(u64, u8)>>,
    /// The stream whose writer waits for its window.
    pub(crate) stalled: Mutex<Option<u64>>,
    /// When this side last wrote.
    pub(crate) last_write: Mutex<Option<Instant>>,
    /// Bytes whose credit is never returned.
    pub(crate) lost_credit: AtomicU64,
    /// Streams that are over and still count.
    pub(crate) ghosts: AtomicU64,
    /// Closed once the runtime is gone that the connection was made in.
    pub(crate) driver: oneshot::Sender<()>,
    /// Bytes that were written, ever.
    pub(crate) written: AtomicU64,
    /// Whether the next read of any stream ends with a reset.
    pub(crate) reset_next: Flag,
}

impl<C: Conn> Shared<C> {
    pub(crate) fn new(inner: C, side: Side, setting: Arc<Setting>) -> Self {
        let (driver, gone) = oneshot::channel::<()>();
        if matches!(
            setting.fault,
            Fault::LostRuntimeIsNotNoticed | Fault::LostRuntimeStopsOpens
        ) {
            tokio::spawn(async move {
                let _ = gone.await;
            });
        }
        let slots = Semaphore::new(setting.config.max_streams as usize);
        Self {
            inner,
            setting,
            side,
            slots: Arc::new(slots),
            opened: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
            stack: Mutex::default(),
            accepting: AtomicUsize::new(0),
            pings: AtomicU64::new(0),
            asked: Flag::default(),
            last_close: Mutex::default(),
            last_byte: Mutex::default(),
            stalled: Mutex::default(),
            last_write: Mutex::default(),
            lost_credit: AtomicU64::new(0),
            ghosts: AtomicU64::new(0),
            driver,
            written: AtomicU64::new(0),
            reset_next: Flag::default(),
        }
    }

    pub(crate) fn fault(&self) -> Fault {
        self.setting.fault
    }
}

/// What the two halves of a stream share.
#[derive(Default)]
pub(crate) struct Both {
    /// Whether this side has shut its direction down.
    pub(crate) shut: Flag,
    /// Whether the end of the peer's bytes was read.
    pub(crate) ended: Flag,
    /// Whether this side has reset its direction.
    pub(crate) reset: Flag,
    /// Whether this side has stopped the peer.
    pub(crate) stopped: Flag,
    /// Whether the receiving half is gone.
    pub(crate) deaf: Flag,
    /// Whether the peer has opened the stream.
    pub(crate) accepted: Flag,
    /// Whether a write has failed of the peer's stop.
    pub(crate) refused: Flag,
    /// Whether a read waits.
    pub(crate) reading: Flag,
    /// The write or shutdown that waits for a read.
    pub(crate) writer: Mutex<Option<Waker>>,
    /// The slot that the stream takes up.
    pub(crate) slot: Mutex<Option<OwnedSemaphorePermit>>,
    /// Memory that the stream holds for nothing.
    pub(crate) ballast: Mutex<Vec<u8>>,
}

/// Something that happens once, or comes and goes.
#[derive(Default)]
pub(crate) struct Flag(AtomicBool);

impl Flag {
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    pub(crate) fn set(&self) {
        self.put(true);
    }

    /// Sets it to `value` and returns what it was.
    pub(crate) fn put(&self, value: bool) -> bool {
        self.0.swap(value, Ordering::SeqCst)
    }
}
