//! The sending half.

mod write;

use std::future::pending;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use pipe_core::{Conn, Error, ErrorKind, Result, SendStream};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};

use crate::conn::FirstWaker;
use crate::fault::Fault;
use crate::shared::{Both, SendHalf, Shared};

/// The sending half of a stream.
pub(crate) struct BrokenSend<C: Conn> {
    /// Gone only after a shutdown in the background.
    inner: Option<SendHalf<C>>,
    id: u64,
    conn: Arc<Shared<C>>,
    both: Arc<Both>,
    /// Bytes that were taken from the application and not yet passed on.
    queue: Vec<u8>,
    /// Bytes that are held back on purpose.
    held: Vec<u8>,
    /// How much of the buffer of a pending write was passed on.
    done: usize,
    /// Whether the last write had to wait.
    blocked: bool,
    /// Bytes that were taken from the application, ever.
    written: u64,
    /// A second stream that carries the same bytes.
    twin: Option<C::Stream>,
    /// The shutdown in the background.
    background: Option<AbortHandle>,
}

impl<C: Conn> BrokenSend<C> {
    pub(crate) fn new(
        inner: SendHalf<C>,
        id: u64,
        conn: Arc<Shared<C>>,
        both: Arc<Both>,
        twin: Option<C::Stream>,
    ) -> Self {
        Self {
            inner: Some(inner),
            id,
            conn,
            both,
            queue: Vec::new(),
            held: Vec::new(),
            done: 0,
            blocked: false,
            written: 0,
            twin,
            background: None,
        }
    }

    fn fault(&self) -> Fault {
        self.conn.fault()
    }

    fn inner(&mut self) -> Pin<&mut SendHalf<C>> {
        let inner = self.inner.as_mut();
        Pin::new(inner.expect("only a shutdown in the background takes it, and no write follows"))
    }

    /// What becomes of the connection after a write.
    fn note(&mut self, polled: &Poll<io::Result<usize>>, buf: &[u8]) {
        self.blocked = polled.is_pending();
        match self.fault() {
            Fault::StalledStreamBlocksSiblings => {
                let mut stalled = self.conn.stalled.lock();
                if polled.is_pending() {
                    stalled.get_or_insert(self.id);
                } else if *stalled == Some(self.id) {
                    *stalled = None;
                }
            }
            Fault::PingWaitsForSilence => *self.conn.last_write.lock() = Some(Instant::now()),
            _ => {}
        }
        if let Poll::Ready(Ok(n)) = polled {
            self.written += *n as u64;
            self.conn.written.fetch_add(*n as u64, Ordering::SeqCst);
            if self.fault() == Fault::WritesKeepPages {
                self.both.ballast.lock().extend([1; 4096]);
            }
            if let Some(twin) = &mut self.twin {
                // As far as its window goes: nobody is told of the rest.
                let mut nobody = Context::from_waker(Waker::noop());
                let _ = Pin::new(twin).poll_write(&mut nobody, &buf[..*n]);
            }
        }
    }

    /// Puts the shutdown off, and reports success.
    fn shut_down_in_the_background(&mut self) {
        if let Some(mut inner) = self.inner.take() {
            let task = tokio::spawn(async move {
                sleep(Duration::from_millis(50)).await;
                let _ = inner.shutdown().await;
                pending::<()>().await;
            });
            self.background = Some(task.abort_handle());
        }
    }

    fn error(&self, error: io::Error) -> io::Error {
        let inner = Error::from_io(&error).map(|e| (e.kind(), e.code().unwrap_or(0)));
        if let Some((ErrorKind::Stopped, _)) = inner {
            self.both.refused.set();
        }
        match (self.fault(), inner) {
            (Fault::StopLosesItsCode, Some((ErrorKind::Stopped, _))) => Error::stopped(0).into(),
            (Fault::CodesHave16Bits, Some((ErrorKind::Stopped, code))) => {
                Error::stopped(code & 0xffff).into()
            }
            (Fault::ErrorsAreBare, _) => io::Error::new(error.kind(), error.to_string()),
            _ => error,
        }
    }
}

impl<C: Conn> SendStream for BrokenSend<C> {
    fn id(&self) -> u64 {
        self.id
    }

    fn reset(&mut self, code: u32) {
        let again = self.both.reset.put(true);
        if self.fault() == Fault::SecondResetPanics {
            assert!(!again, "reset twice");
        }
        let code = match self.fault() {
            Fault::ResetLosesItsCode => 0,
            Fault::CodesHave16Bits => code & 0xffff,
            _ => code,
        };
        if let Some(inner) = &mut self.inner {
            inner.reset(code);
        }
        if self.fault() == Fault::ResetFreesTheSlot {
            self.both.slot.lock().take();
        }
    }

    async fn stopped(&mut self) -> Result<Option<u32>> {
        let fault = self.fault();
        let Some(inner) = &mut self.inner else {
            return pending().await;
        };
        let stopped = match fault {
            Fault::StoppedKeepsItsFirstWaker => FirstWaker::new(inner.stopped()).await,
            _ => inner.stopped().await,
        };
        match stopped {
            _ if fault == Fault::StoppedIsNeverTold => pending().await,
            Ok(None) if fault == Fault::EndSeemsStopped => Ok(Some(0)),
            Ok(None) if fault == Fault::StopAfterTheEndIsSent => {
                Ok(self.conn.setting.late_stops.lock().get(&self.id).copied())
            }
            Err(e)
                if fault == Fault::StoppedSeemsDoneOnFailure && e.kind() == ErrorKind::Failed =>
            {
                Ok(None)
            }
            Ok(Some(_)) if fault == Fault::StopLosesItsCode => Ok(Some(0)),
            Ok(Some(code)) if fault == Fault::CodesHave16Bits => Ok(Some(code & 0xffff)),
            stopped => stopped,
        }
    }
}

impl<C: Conn> AsyncWrite for BrokenSend<C> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.inner.is_none() {
            return Poll::Ready(Err(Error::write_after_shutdown().into()));
        }
        let polled = this.poll_write_broken(cx, buf);
        this.note(&polled, buf);
        polled.map_err(|e| this.error(e))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.inner.is_none() || this.fault() == Fault::FlushIsIgnored {
            return Poll::Ready(Ok(()));
        }
        this.queue.append(&mut this.held);
        ready!(this.poll_queue(cx))?;
        this.inner().poll_flush(cx).map_err(|e| this.error(e))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let again = this.both.shut.is_set();
        match this.fault() {
            Fault::SecondShutdownFails if again => {
                return Poll::Ready(Err(Error::write_after_shutdown().into()));
            }
            Fault::EmptyStreamHasNoEnd if this.written == 0 => return Poll::Ready(Ok(())),
            Fault::ShutdownIsLeftToTheBackground => {
                this.shut_down_in_the_background();
                this.both.shut.set();
                return Poll::Ready(Ok(()));
            }
            Fault::ShutdownAfterStopFails if this.both.refused.is_set() => {
                return Poll::Ready(Err(Error::stopped(0).into()));
            }
            Fault::ShutdownAfterResetSucceeds if this.both.reset.is_set() => {
                return Poll::Ready(Ok(()));
            }
            Fault::LosesLastByteAtShutdown => this.held.clear(),
            Fault::ShutdownForgetsTheQueue => this.queue.clear(),
            _ => {}
        }
        this.queue.append(&mut this.held);
        ready!(this.poll_queue(cx)).map_err(|e| this.error(e))?;
        ready!(this.inner().poll_shutdown(cx)).map_err(|e| this.error(e))?;
        if let Some(twin) = &mut this.twin {
            let _ = Pin::new(twin).poll_shutdown(&mut Context::from_waker(Waker::noop()));
        }
        this.both.shut.set();
        if this.fault() == Fault::ShutdownWaitsForThePeers && !this.both.ended.is_set() {
            *this.both.writer.lock() = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        match this.fault() {
            Fault::None => this.inner().poll_write_vectored(cx, bufs),
            Fault::VectoredWriteSendsOnePart => {
                let first = bufs.iter().find(|part| !part.is_empty());
                if let Some(first) = first {
                    ready!(this.inner().poll_write(cx, first))?;
                }
                Poll::Ready(Ok(bufs.iter().map(|part| part.len()).sum()))
            }
            _ => {
                let first = bufs.iter().find(|part| !part.is_empty());
                Pin::new(this).poll_write(cx, first.map_or(&[], |part| part))
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        match (self.fault(), &self.inner) {
            (Fault::VectoredWriteSendsOnePart, _) => true,
            (Fault::None, Some(inner)) => inner.is_write_vectored(),
            _ => false,
        }
    }
}

impl<C: Conn> Drop for BrokenSend<C> {
    fn drop(&mut self) {
        if let Some(task) = self.background.take() {
            task.abort();
        }
        let Some(mut inner) = self.inner.take() else {
            return;
        };
        let shut = self.both.shut.is_set();
        match self.fault() {
            Fault::ReadResetFreesTheSlot if self.both.accepted.is_set() => {
                self.conn.setting.slots.lock().remove(&self.id);
            }
            Fault::DropIsAShutdown if !shut => {
                let _ = Pin::new(&mut inner).poll_shutdown(&mut Context::from_waker(Waker::noop()));
            }
            Fault::FinishedStreamsStay if shut && self.both.ended.is_set() => {
                self.conn.ghosts.fetch_add(1, Ordering::SeqCst);
                if let Some(slot) = self.both.slot.lock().take() {
                    slot.forget();
                }
            }
            Fault::AbandonedStreamsStay if !shut => {
                inner.reset(0);
                self.conn.setting.leak(inner);
            }
            Fault::StreamDropIsSilent if !shut => self.conn.setting.leak(inner),
            _ => {}
        }
    }
}
