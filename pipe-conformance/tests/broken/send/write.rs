//! The ways in which a write goes wrong.

use std::io;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker, ready};

use pipe_core::{Conn, ConnState, Error, ErrorKind, SendStream};
use tokio::io::AsyncWrite;

use super::BrokenSend;
use crate::fault::Fault;

impl<C: Conn> BrokenSend<C> {
    /// A write, with what the fault makes of it.
    pub(super) fn poll_write_broken(
        &mut self,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let len = buf.len();
        match self.fault() {
            Fault::EmptyWriteSendsAByte if len == 0 => {
                ready!(self.inner().poll_write(cx, &[0]))?;
                return Poll::Ready(Ok(0));
            }
            Fault::WriteAfterShutdownIsSwallowed if self.both.shut.is_set() => {
                return Poll::Ready(Ok(len));
            }
            Fault::WriteAfterResetIsSwallowed if self.both.reset.is_set() => {
                return Poll::Ready(Ok(len));
            }
            Fault::StopEndsBothDirections if self.both.stopped.is_set() => {
                self.reset(0);
            }
            Fault::RecvDropResetsSend if self.both.deaf.is_set() => {
                self.reset(0);
            }
            Fault::HalvesShareALock if self.both.reading.is_set() => {
                *self.both.writer.lock() = Some(cx.waker().clone());
                return Poll::Pending;
            }
            Fault::StalledStreamBlocksSiblings
                if self.conn.stalled.lock().is_some_and(|id| id != self.id) =>
            {
                return Poll::Pending;
            }
            Fault::WritesInAnOutageAreLost
                if *self.conn.inner.state().borrow() == ConnState::Disconnected =>
            {
                return Poll::Ready(Ok(len));
            }
            Fault::WindowIsNeverRenewed
                if self.written >= u64::from(self.conn.setting.config.stream_window) =>
            {
                return Poll::Pending;
            }
            Fault::ConnWindowIsNeverRenewed
                if self.conn.written.load(Ordering::SeqCst)
                    >= self.conn.setting.config.connection_window =>
            {
                return Poll::Pending;
            }
            Fault::EndEndsBothDirections if self.both.ended.is_set() => {
                return Poll::Ready(Err(Error::write_after_shutdown().into()));
            }
            Fault::SwapsTwoWrites => return self.swap(cx, buf),
            Fault::FlushIsIgnored => return self.fill_packet(cx, buf),
            Fault::LosesLastByteAtShutdown => return self.hold_last_byte(cx, buf),
            Fault::ShutdownForgetsTheQueue => return self.queue_up(cx, buf),
            Fault::PendingWriteKeepsItsBytes => return self.keep_bytes(cx, buf),
            Fault::PendingWriteIsSent => return self.send_anyway(cx, buf),
            Fault::PendingWriteKeepsItsOffset => return self.keep_offset(cx, buf),
            Fault::LengthsHave16Bits if len > usize::from(u16::MAX) => {
                let short = len % (1 << 16);
                if short > 0 {
                    ready!(self.inner().poll_write(cx, &buf[..short]))?;
                }
                return Poll::Ready(Ok(len));
            }
            Fault::MixesStreams => return self.mix(cx, buf),
            Fault::WindowDoesNotWake => {
                let mut nobody = Context::from_waker(Waker::noop());
                return self.inner().poll_write(&mut nobody, buf);
            }
            _ => {}
        }
        let polled = self.inner().poll_write(cx, buf);
        match (self.fault(), &polled) {
            (Fault::FullWindowLosesBytes, Poll::Pending) => Poll::Ready(Ok(len)),
            (Fault::FullWindowWritesNothing, Poll::Pending) => Poll::Ready(Ok(0)),
            (Fault::StopDoesNotWakeWrites, Poll::Ready(Err(e)))
                if self.blocked && kind(e) == Some(ErrorKind::Stopped) =>
            {
                Poll::Pending
            }
            (Fault::CloseDoesNotWakeWrites, Poll::Ready(Err(e)))
                if self.blocked && kind(e) == Some(ErrorKind::Closed) =>
            {
                Poll::Pending
            }
            _ => polled,
        }
    }

    /// Holds the first write back until after the second.
    fn swap(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_queue(cx))?;
        if self.written == 0 {
            self.held = buf.to_vec();
        } else if self.held.is_empty() {
            return self.inner().poll_write(cx, buf);
        } else {
            self.queue = buf.to_vec();
            self.queue.append(&mut self.held);
        }
        Poll::Ready(Ok(buf.len()))
    }

    /// Keeps the last byte of each write until the next.
    fn hold_last_byte(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let Some((last, rest)) = buf.split_last() else {
            return Poll::Ready(Ok(0));
        };
        self.queue.append(&mut self.held);
        ready!(self.poll_queue(cx))?;
        if !rest.is_empty() {
            let n = ready!(self.inner().poll_write(cx, rest))?;
            if n < rest.len() {
                return Poll::Ready(Ok(n));
            }
        }
        self.held.push(*last);
        Poll::Ready(Ok(buf.len()))
    }

    /// Collects bytes until they fill a packet.
    fn fill_packet(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        const PACKET: usize = 1024;
        if self.queue.len() >= PACKET {
            ready!(self.poll_queue(cx))?;
        }
        let n = buf.len().min(PACKET - self.queue.len());
        self.queue.extend_from_slice(&buf[..n]);
        if self.queue.len() >= PACKET {
            let _ = self.poll_queue(cx)?;
        }
        Poll::Ready(Ok(n))
    }

    /// Takes bytes into a queue when the window is full.
    fn queue_up(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        const QUEUE: usize = 64 * 1024;
        if self.poll_queue(cx)?.is_ready() {
            match self.inner().poll_write(cx, buf) {
                Poll::Pending => {}
                ready => return ready,
            }
        }
        let n = buf.len().min(QUEUE - self.queue.len());
        if n == 0 && !buf.is_empty() {
            return Poll::Pending;
        }
        self.queue.extend_from_slice(&buf[..n]);
        Poll::Ready(Ok(n))
    }

    /// Takes the bytes of a write that has to wait, and expects the caller to bring them again.
    fn keep_bytes(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.queue.is_empty() {
            match self.inner().poll_write(cx, buf) {
                Poll::Pending => {}
                ready => return ready,
            }
            self.queue = buf.to_vec();
            self.done = buf.len();
        }
        ready!(self.poll_queue(cx))?;
        Poll::Ready(Ok(self.done.min(buf.len())))
    }

    /// Sends the bytes of a write that has to wait, as well as those of the one that comes instead.
    fn send_anyway(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_queue(cx))?;
        let polled = self.inner().poll_write(cx, buf);
        if polled.is_pending() {
            self.queue = buf.to_vec();
        }
        polled
    }

    /// Passes the whole buffer on before it returns, and goes on where it had to wait, whatever the
    /// buffer is by then.
    fn keep_offset(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        while self.done < buf.len() {
            let at = self.done;
            self.done += ready!(self.inner().poll_write(cx, &buf[at..]))?;
        }
        self.done = 0;
        Poll::Ready(Ok(buf.len()))
    }

    /// Sends, in place of the first byte, the last one of another stream that wrote just before.
    fn mix(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let before = *self.conn.last_byte.lock();
        let n = match before {
            Some((id, byte)) if id != self.id && !buf.is_empty() => {
                ready!(self.inner().poll_write(cx, &[byte]))?
            }
            _ => ready!(self.inner().poll_write(cx, buf))?,
        };
        if n > 0 {
            *self.conn.last_byte.lock() = Some((self.id, buf[n - 1]));
        }
        Poll::Ready(Ok(n))
    }

    /// Passes the queue on, as far as it goes.
    pub(super) fn poll_queue(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.queue.is_empty() {
            let queue = std::mem::take(&mut self.queue);
            let polled = self.inner().poll_write(cx, &queue);
            self.queue = queue;
            let n = ready!(polled)?;
            self.queue.drain(..n);
        }
        Poll::Ready(Ok(()))
    }
}

fn kind(error: &io::Error) -> Option<ErrorKind> {
    Error::from_io(error).map(Error::kind)
}
