use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use super::core::Core;
use super::frame::{DATA, FIN, Header, RST, SYN, WINDOW_UPDATE};
use super::remote::Remote;
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
            self.core.unread.subtract(count);
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
            self.core.unread.subtract(unread);
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
