use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use webrtc::runtime::{AsyncUdpSocket, RecvMeta, Transmit};

use super::Faults;
use super::refusals::RefusalWatch;
use super::vitals::Vitals;

/// A UDP socket of the engine: it can lose what it is told to, and looks at what goes through it.
pub(super) struct Socket {
    inner: Arc<dyn AsyncUdpSocket>,
    vitals: Arc<Vitals>,
    faults: Option<Faults>,
    refusals: RefusalWatch,
}

impl Socket {
    pub(super) fn new(
        inner: Arc<dyn AsyncUdpSocket>,
        vitals: Arc<Vitals>,
        faults: Option<Faults>,
    ) -> Self {
        Self {
            inner,
            vitals,
            faults,
            refusals: RefusalWatch::default(),
        }
    }

    /// Looks for what TURN servers say to this side.
    fn inspect(&self, buf: &[u8], meta: &RecvMeta) {
        let length = meta.len.min(buf.len());
        let first = if meta.stride == 0 {
            length
        } else {
            meta.stride.min(length)
        };
        if let Some(why) = self.refusals.inspect(meta.addr, &buf[..first]) {
            self.vitals.refusals().note(why);
        }
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Socket").field(&self.inner).finish()
    }
}

impl AsyncUdpSocket for Socket {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn poll_send(&self, cx: &mut Context<'_>, transmit: &Transmit<'_>) -> Poll<io::Result<usize>> {
        if self.vitals.is_connecting() {
            self.vitals.inspect(transmit.contents);
        }
        self.vitals.note_path(transmit.contents);
        let first = transmit.contents.first();
        if self.faults.as_ref().is_some_and(|f| f.loses_one(first)) {
            return Poll::Ready(Ok(transmit.contents.len()));
        }
        self.inner.poll_send(cx, transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        loop {
            let received = ready!(self.inner.poll_recv(cx, bufs, meta));
            // What was sent before the cut, or by a peer without these faults, is lost too.
            let first = bufs.first().and_then(|buf| buf.first());
            if received.is_ok() && self.faults.as_ref().is_some_and(|f| f.cuts(first)) {
                continue;
            }
            if let Ok(count) = received {
                self.vitals.note_heard();
                if self.vitals.is_connecting() {
                    for (buf, meta) in bufs.iter().zip(meta.iter()).take(count) {
                        self.inspect(buf, meta);
                    }
                }
            }
            return Poll::Ready(received);
        }
    }

    fn max_gso_segments(&self) -> usize {
        // With losses, datagrams go one by one: the loss of a batch would be out of proportion.
        if self.faults.as_ref().is_some_and(Faults::is_lossy) {
            1
        } else {
            self.inner.max_gso_segments()
        }
    }

    fn max_gro_segments(&self) -> usize {
        self.inner.max_gro_segments()
    }
}
