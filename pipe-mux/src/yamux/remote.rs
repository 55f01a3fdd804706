use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};

use bytes::{Buf, BytesMut};
use parking_lot::Mutex;
use pipe_core::Result;

use super::WINDOW;
use super::frame::broken;
use super::limits::Limits;
use super::received::Received;
use super::unread::Unread;

/// What the peer does to a stream.
pub(super) struct Remote {
    pub(super) id: u32,
    /// How many more bytes the peer takes. Only the stream takes away of it, only the session adds.
    pub(super) credit: AtomicU32,
    /// Waits for credit.
    writer: Mutex<Option<Waker>>,
    /// The peer has cut the stream.
    pub(super) reset: AtomicBool,
    pub(super) incoming: Mutex<Incoming>,
    /// How many bytes may be unread. None for the control channel, whose bytes do not count against the
    /// connection either.
    pub(super) max_unread: Option<u32>,
}

/// The direction of the peer.
pub(super) struct Incoming {
    pub(super) received: Received,
    /// How many more bytes the peer may send.
    pub(super) window: u32,
    /// Bytes of the current frame that have not come yet.
    pub(super) announced: u32,
    /// What comes is thrown away.
    pub(super) discards: bool,
    /// The peer's direction has ended.
    pub(super) fin: bool,
    /// This side's direction has ended.
    pub(super) finished: bool,
    pub(super) reader: Option<Waker>,
}

impl Remote {
    /// Creates the stream of this number.
    pub(super) fn new(id: u32, limits: &Limits) -> Arc<Self> {
        Arc::new(Self {
            id,
            credit: AtomicU32::new(WINDOW),
            writer: Mutex::new(None),
            reset: AtomicBool::new(false),
            incoming: Mutex::new(Incoming {
                received: Received::default(),
                window: limits.window,
                announced: 0,
                discards: false,
                fin: false,
                finished: false,
                reader: None,
            }),
            max_unread: (limits.control != Some(id)).then_some(limits.stream_unread),
        })
    }

    /// Returns how much may be sent, which is something.
    pub(super) fn poll_credit(&self, cx: &mut Context<'_>) -> Poll<io::Result<u32>> {
        let look = || {
            if self.reset.load(Ordering::Acquire) {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            match self.credit.load(Ordering::Acquire) {
                0 => Poll::Pending,
                credit => Poll::Ready(Ok(credit)),
            }
        };
        if let Poll::Ready(seen) = look() {
            return Poll::Ready(seen);
        }
        *self.writer.lock() = Some(cx.waker().clone());
        // What came before the waker was there. The lock orders the two.
        look()
    }

    /// The peer takes more.
    pub(super) fn add_credit(&self, room: u32) -> Result<()> {
        let added = self
            .credit
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |credit| {
                credit.checked_add(room)
            });
        if added.is_err() {
            return Err(broken(&format!(
                "a window of more than {} bytes of stream {}",
                u32::MAX,
                self.id
            )));
        }
        wake(self.writer.lock().take());
        Ok(())
    }

    /// Notes that a frame of so many bytes begins. An error says that they are more than was granted.
    pub(super) fn announce(&self, length: u32, unread: &Unread) -> Result<()> {
        let mut incoming = self.incoming.lock();
        if incoming.fin {
            return Err(broken(&format!(
                "bytes behind the end of stream {}",
                self.id
            )));
        }
        let too_much = |room: u32| {
            let id = self.id;
            broken(&format!(
                "flow control: {length} bytes of stream {id}, which has room for {room}"
            ))
        };
        let room = incoming.window;
        incoming.window = room.checked_sub(length).ok_or_else(|| too_much(room))?;
        let Some(max_unread) = self.max_unread else {
            return Ok(());
        };
        let room = max_unread.saturating_sub(incoming.received.len() as u32);
        if length > room {
            return Err(too_much(room));
        }
        incoming.announced = length;
        unread.add(length)
    }

    /// Takes `count` bytes of its frame from the input.
    pub(super) fn take(&self, input: &mut BytesMut, count: usize) {
        let mut incoming = self.incoming.lock();
        if incoming.discards {
            input.advance(count);
            return;
        }
        incoming.announced = incoming.announced.saturating_sub(count as u32);
        incoming.received.take(input, count);
        let reader = incoming.reader.take();
        drop(incoming);
        wake(reader);
    }

    /// The peer's direction has ended. Returns whether both have.
    pub(super) fn end(&self) -> bool {
        let mut incoming = self.incoming.lock();
        incoming.fin = true;
        let reader = incoming.reader.take();
        let over = incoming.finished;
        drop(incoming);
        wake(reader);
        over
    }

    /// The peer has cut the stream.
    pub(super) fn cut(&self) {
        let mut incoming = self.incoming.lock();
        self.reset.store(true, Ordering::Release);
        let reader = incoming.reader.take();
        drop(incoming);
        wake(reader);
        wake(self.writer.lock().take());
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}
