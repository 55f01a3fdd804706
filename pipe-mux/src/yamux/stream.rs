use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, BytesMut};
use parking_lot::Mutex;
use pipe_core::Result;

use super::core::{Core, Limits};
use super::frame::{DATA, FIN, Header, RST, SYN, WINDOW_UPDATE, broken};
use super::received::Received;
use super::{FRAME, WINDOW};
use crate::muxer::MuxerStream;

/// A yamux stream.
pub(crate) struct YamuxStream {
    remote: Arc<Remote>,
    core: Arc<Core>,
    /// What the next frame has to say: SYN, ACK, or nothing.
    flag: u16,
    /// Bytes that were read and that the peer was not told of.
    unreturned: u32,
}

/// What the peer does to a stream.
pub(super) struct Remote {
    pub(super) id: u32,
    /// How many more bytes the peer takes. Only the stream takes away of it, only the session adds.
    credit: AtomicU32,
    /// Waits for credit.
    writer: Mutex<Option<Waker>>,
    /// The peer has cut the stream.
    reset: AtomicBool,
    incoming: Mutex<Incoming>,
    /// How many bytes may be unread. None for the control channel, whose bytes do not count against the
    /// connection either.
    max_unread: Option<u32>,
}

struct Incoming {
    received: Received,
    /// How many more bytes the peer may send.
    window: u32,
    /// Bytes of the current frame that have not come yet.
    announced: u32,
    /// What comes is thrown away.
    discards: bool,
    /// The peer's direction has ended.
    fin: bool,
    /// This side's direction has ended.
    finished: bool,
    reader: Option<Waker>,
}

impl YamuxStream {
    pub(super) fn new(remote: Arc<Remote>, core: Arc<Core>, flag: u16) -> Self {
        Self {
            remote,
            core,
            flag,
            unreturned: 0,
        }
    }

    fn frame(&mut self, kind: u8, flags: u16, length: u32) -> Header {
        Header {
            kind,
            flags: std::mem::take(&mut self.flag) | flags,
            stream: self.remote.id,
            length,
        }
    }

    fn is_cut(&self) -> bool {
        self.remote.reset.load(Ordering::Acquire)
    }

    /// Shows the stream together with the room beyond what every stream has.
    fn announce(&mut self) {
        let header = self.frame(WINDOW_UPDATE, 0, self.core.limits.window - WINDOW);
        self.core.output.push(header);
    }
}

impl MuxerStream for YamuxStream {
    fn id(&self) -> u64 {
        u64::from(self.remote.id)
    }

    fn announce(&mut self) {
        if self.flag != 0 {
            self.announce();
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut incoming = self.remote.incoming.lock();
        let count = incoming.received.read(buf);
        if count == 0 {
            if incoming.fin || buf.is_empty() {
                return Poll::Ready(Ok(0));
            }
            if self.is_cut() {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            incoming.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if self.remote.max_unread.is_some() {
            self.core.note_read(count);
        }
        self.unreturned += count as u32;
        if self.unreturned < self.core.limits.window / 2 || incoming.fin {
            return Poll::Ready(Ok(count));
        }
        let room = std::mem::take(&mut self.unreturned);
        incoming.window += room;
        drop(incoming);
        let header = self.frame(WINDOW_UPDATE, 0, room);
        self.core.output.push(header);
        Poll::Ready(Ok(count))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let credit = ready!(self.remote.poll_credit(cx))?;
        if self.flag != 0 && self.core.limits.window > WINDOW {
            self.announce();
        }
        let count = buf.len().min(credit as usize).min(FRAME);
        let header = Header {
            kind: DATA,
            flags: self.flag,
            stream: self.remote.id,
            length: count as u32,
        };
        ready!(self.core.output.poll_data(header, &buf[..count], cx))?;
        self.flag = 0;
        self.remote.credit.fetch_sub(count as u32, Ordering::AcqRel);
        Poll::Ready(Ok(count))
    }

    fn finish(&mut self) {
        let mut incoming = self.remote.incoming.lock();
        if std::mem::replace(&mut incoming.finished, true) {
            return;
        }
        let over = incoming.fin;
        drop(incoming);
        let header = self.frame(DATA, FIN, 0);
        self.core.output.push(header);
        if over {
            self.core.forget(self.remote.id);
        }
    }

    fn is_reset(&self) -> bool {
        self.is_cut() && !self.remote.incoming.lock().fin
    }
}

impl Drop for YamuxStream {
    fn drop(&mut self) {
        let mut incoming = self.remote.incoming.lock();
        incoming.discards = true;
        let unread = incoming.received.clear() + incoming.announced as usize;
        let over = incoming.fin && incoming.finished;
        drop(incoming);
        if self.remote.max_unread.is_some() {
            self.core.note_read(unread);
        }
        if over {
            return;
        }
        self.core.forget(self.remote.id);
        // What was never shown needs no end.
        if self.core.resets && self.flag != SYN && !self.is_cut() {
            let header = self.frame(DATA, RST, 0);
            self.core.output.push(header);
        }
    }
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

    /// How much may be sent, which is something.
    fn poll_credit(&self, cx: &mut Context<'_>) -> Poll<io::Result<u32>> {
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
    pub(super) fn announce(&self, length: u32, core: &Core) -> Result<()> {
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
        core.count_unread(length)
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
