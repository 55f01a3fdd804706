//! The receiving half.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Wake, Waker, ready};

use bytes::Bytes;
use pipe_core::{Conn, ConnState, Error, ErrorKind, RecvStream, Result};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::watch;

use crate::fault::Fault;
use crate::shared::{Both, Flag, RecvHalf, Shared};

/// The receiving half of a stream.
pub(crate) struct BrokenRecv<C: Conn> {
    /// There until the drop.
    inner: Option<RecvHalf<C>>,
    id: u64,
    conn: Arc<Shared<C>>,
    both: Arc<Both>,
    /// Bytes that were read ahead, to be given out first.
    ahead: Vec<u8>,
    /// How many of the next bytes are thrown away.
    skip: usize,
    /// Whether the last read had to wait.
    blocked: bool,
    /// The read that waits, with the length of its buffer.
    posted: Option<(Arc<Posted>, usize)>,
    /// The waker of the first poll of the read that waits.
    first: Option<Waker>,
    state: watch::Receiver<ConnState>,
}

impl<C: Conn> BrokenRecv<C> {
    pub(crate) fn new(
        inner: RecvHalf<C>,
        id: u64,
        conn: Arc<Shared<C>>,
        both: Arc<Both>,
        ahead: Vec<u8>,
    ) -> Self {
        let state = conn.inner.state();
        Self {
            inner: Some(inner),
            id,
            conn,
            both,
            ahead,
            skip: 0,
            blocked: false,
            posted: None,
            first: None,
            state,
        }
    }

    fn fault(&self) -> Fault {
        self.conn.fault()
    }

    pub(crate) fn both(&self) -> &Both {
        &self.both
    }

    fn inner(&mut self) -> Pin<&mut RecvHalf<C>> {
        Pin::new(self.inner.as_mut().expect("only the drop takes it"))
    }

    fn poll_read_broken(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.fault() {
            Fault::EmptyReadTakesAByte if buf.remaining() == 0 => {
                let mut byte = [0];
                let _ = self.inner().poll_read(cx, &mut ReadBuf::new(&mut byte));
                return Poll::Ready(Ok(()));
            }
            Fault::EmptyReadHangs if buf.remaining() == 0 => return Poll::Pending,
            Fault::EndIsToldOnce if self.both.ended.is_set() => return Poll::Pending,
            Fault::ShutdownEndsBothDirections if self.both.shut.is_set() => {
                return Poll::Ready(Ok(()));
            }
            Fault::ResetEndsBothDirections if self.both.reset.is_set() => {
                return Poll::Ready(Err(Error::reset(0).into()));
            }
            Fault::ReadAfterStopHangs if self.both.stopped.is_set() => return Poll::Pending,
            Fault::ResetHitsASibling if self.conn.reset_next.put(false) => {
                return Poll::Ready(Err(Error::reset(0).into()));
            }
            Fault::UnreadDropKeepsCredit
                if self.conn.lost_credit.load(Ordering::SeqCst)
                    >= self.conn.setting.config.connection_window =>
            {
                return Poll::Pending;
            }
            Fault::ReadKeepsItsFirstWaker => {
                let first = self.first.get_or_insert_with(|| cx.waker().clone()).clone();
                let polled = self
                    .inner()
                    .poll_read(&mut Context::from_waker(&first), buf);
                if polled.is_ready() {
                    self.first = None;
                }
                return polled;
            }
            Fault::ReadsAreMessages => return self.read_message(cx, buf),
            Fault::CancelledReadTakesBytes => self.post(cx, buf.remaining()),
            Fault::RecoveryLosesBytes
                if self.state.has_changed().unwrap_or(false)
                    && *self.state.borrow_and_update() == ConnState::Connected =>
            {
                self.skip = 10;
            }
            _ => {}
        }
        if !self.ahead.is_empty() && buf.remaining() > 0 {
            let n = self.ahead.len().min(buf.remaining());
            buf.put_slice(&self.ahead[..n]);
            self.ahead.drain(..n);
            return Poll::Ready(Ok(()));
        }
        while self.skip > 0 {
            let mut bin = [0; 16];
            let most = self.skip.min(bin.len());
            let mut bin = ReadBuf::new(&mut bin[..most]);
            ready!(self.poll_posted(cx, &mut bin))?;
            if bin.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            self.skip -= bin.filled().len();
        }
        self.poll_posted(cx, buf)
    }

    /// Reads with the waker of the posted read, if there is one.
    fn poll_posted(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &self.posted {
            Some((posted, _)) => {
                let waker = Waker::from(posted.clone());
                self.inner()
                    .poll_read(&mut Context::from_waker(&waker), buf)
            }
            None => self.inner().poll_read(cx, buf),
        }
    }

    /// Posts a read, as it were to the system. A read that was posted before and polled again without
    /// having been woken counts as given up, and keeps its place: the next bytes are lost with it.
    fn post(&mut self, cx: &mut Context<'_>, len: usize) {
        if let Some((posted, len)) = self.posted.take()
            && !posted.woken.is_set()
        {
            self.skip += len;
        }
        let posted = Posted {
            woken: Flag::default(),
            waker: cx.waker().clone(),
        };
        self.posted = Some((Arc::new(posted), len));
    }

    /// Reads what is there at once, and throws away what the buffer has no room for.
    fn read_message(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut message = vec![0; 64 * 1024];
        let mut message = ReadBuf::new(&mut message);
        ready!(self.inner().poll_read(cx, &mut message))?;
        let n = message.filled().len().min(buf.remaining());
        buf.put_slice(&message.filled()[..n]);
        Poll::Ready(Ok(()))
    }

    /// What an error of the stream inside becomes.
    fn fail(&self, error: io::Error) -> Poll<io::Result<()>> {
        const CLEAN_END: Poll<io::Result<()>> = Poll::Ready(Ok(()));
        match (self.fault(), Error::from_io(&error).map(Error::kind)) {
            (Fault::ResetReadsAsEnd, Some(ErrorKind::Reset)) => CLEAN_END,
            (Fault::ResetReadsAsEndAfterShutdown, Some(ErrorKind::Reset))
                if self.both.shut.is_set() =>
            {
                CLEAN_END
            }
            (Fault::CrossingResetIsLost, Some(ErrorKind::Reset)) if self.both.reset.is_set() => {
                Poll::Pending
            }
            (Fault::CrossingResetReadsAsEnd, Some(ErrorKind::Reset))
                if self.both.reset.is_set() =>
            {
                CLEAN_END
            }
            (Fault::CrossingResetKeepsItsSlot, Some(ErrorKind::Reset))
                if self.both.reset.is_set() =>
            {
                if let Some(slot) = self.both.slot.lock().take() {
                    slot.forget();
                }
                Poll::Ready(Err(error))
            }
            (Fault::ReadResetFreesTheSlot, Some(ErrorKind::Reset))
                if self.both.accepted.is_set() =>
            {
                self.conn.setting.slots.lock().remove(&self.id);
                Poll::Ready(Err(error))
            }
            (Fault::FailureReadsAsEnd, Some(ErrorKind::Failed)) => CLEAN_END,
            (Fault::CloseReadsAsEnd, Some(ErrorKind::Closed)) => CLEAN_END,
            (Fault::ResetDoesNotWakeReads, Some(ErrorKind::Reset))
            | (Fault::CloseDoesNotWakeReads, Some(ErrorKind::Closed))
            | (Fault::FailureDoesNotWakeReads, Some(ErrorKind::Failed))
                if self.blocked =>
            {
                Poll::Pending
            }
            (Fault::ResetHitsASibling, Some(ErrorKind::Reset)) => {
                self.conn.reset_next.set();
                Poll::Ready(Err(error))
            }
            (Fault::ErrorsAreBare, _) => {
                Poll::Ready(Err(io::Error::new(error.kind(), error.to_string())))
            }
            _ => Poll::Ready(Err(error)),
        }
    }

    /// What becomes of the stream after a read of this many bytes.
    fn note(&mut self, polled: &Poll<io::Result<()>>, n: usize) {
        if let (Poll::Ready(Ok(())), true) = (polled, n == 0) {
            self.both.ended.set();
        }
        self.blocked = polled.is_pending();
        self.both.reading.put(self.blocked);
        if !self.blocked {
            self.posted = None;
            if let Some(writer) = self.both.writer.lock().take() {
                writer.wake();
            }
        }
    }

    /// Reads and discards what is there, and returns how many bytes it was.
    pub(crate) fn discard(&mut self) -> u64 {
        let mut total = 0;
        let mut bin = [0; 4096];
        loop {
            let mut bin = ReadBuf::new(&mut bin);
            let mut nobody = Context::from_waker(Waker::noop());
            match self.inner().poll_read(&mut nobody, &mut bin) {
                Poll::Ready(Ok(())) if !bin.filled().is_empty() => {
                    total += bin.filled().len() as u64;
                }
                _ => return total,
            }
        }
    }
}

impl<C: Conn> RecvStream for BrokenRecv<C> {
    fn id(&self) -> u64 {
        self.id
    }

    fn stop(&mut self, code: u32) {
        self.both.stopped.set();
        let code = match self.fault() {
            Fault::StopIsSilent | Fault::ReadAfterStopHangs => return,
            Fault::StopAfterTheEndIsSent if self.both.ended.is_set() => {
                self.conn.setting.late_stops.lock().insert(self.id, code);
                return;
            }
            Fault::StopLosesItsCode => 0,
            Fault::CodesHave16Bits => code & 0xffff,
            _ => code,
        };
        self.inner().get_mut().stop(code);
    }

    fn poll_read_chunk(&mut self, cx: &mut Context<'_>, max: usize) -> Poll<Result<Option<Bytes>>> {
        match self.fault() {
            Fault::None => self.inner().poll_read_chunk(cx, max),
            Fault::ChunkLosesItsRest => {
                let chunk = ready!(self.inner().poll_read_chunk(cx, usize::MAX))?;
                Poll::Ready(Ok(chunk.map(|chunk| chunk.slice(..chunk.len().min(max)))))
            }
            _ => {
                let mut bytes = vec![0; max.min(4096)];
                let mut buf = ReadBuf::new(&mut bytes);
                ready!(Pin::new(self).poll_read(cx, &mut buf))?;
                let is_end = buf.filled().is_empty() && max > 0;
                let chunk = Bytes::copy_from_slice(buf.filled());
                Poll::Ready(Ok((!is_end).then_some(chunk)))
            }
        }
    }
}

impl<C: Conn> AsyncRead for BrokenRecv<C> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let room = buf.remaining();
        let polled = match this.poll_read_broken(cx, buf) {
            Poll::Ready(Err(e)) => this.fail(e),
            polled => polled,
        };
        if room > 0 {
            this.note(&polled, room - buf.remaining());
        }
        polled
    }
}

impl<C: Conn> Drop for BrokenRecv<C> {
    fn drop(&mut self) {
        self.both.deaf.set();
        let ended = self.both.ended.is_set();
        match self.fault() {
            Fault::UnreadDropKeepsCredit => {
                let lost = self.discard();
                self.conn.lost_credit.fetch_add(lost, Ordering::SeqCst);
            }
            Fault::UnreadDropEndsConn if !ended => {
                self.conn.inner.close(1, "data on a dead stream");
            }
            Fault::AbandonedStreamsStay if !ended => {
                self.inner().get_mut().stop(0);
                self.conn.setting.leak(self.inner.take());
            }
            Fault::StreamDropIsSilent if !ended => self.conn.setting.leak(self.inner.take()),
            _ => {}
        }
    }
}

/// The waker of a posted read, which remembers whether it was used.
struct Posted {
    woken: Flag,
    waker: Waker,
}

impl Wake for Posted {
    fn wake(self: Arc<Self>) {
        self.woken.set();
        self.waker.wake_by_ref();
    }
}
