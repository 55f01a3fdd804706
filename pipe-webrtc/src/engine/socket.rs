use std::cell::Cell;
use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use parking_lot::Mutex;
use webrtc::runtime::{AsyncUdpSocket, RecvMeta, Transmit};

use super::Faults;
use super::refusals::RefusalWatch;
use super::vitals::Vitals;

/// What the system gives at most in one go, in bytes: the length of a UDP packet has 16 bits.
const BATCH: usize = 1 << 16;

/// How many segments of 1,500 bytes the engine is to have room for, in each of its buffers: one record of
/// DTLS (2^14 + 2,048 bytes and its header, RFC 6347, section 4.1).
const ROOM: usize = 13;

thread_local! {
    /// A buffer for what the system gives, while nobody on this thread holds it.
    static SPARE: Cell<Option<Vec<u8>>> = const { Cell::new(None) };
}

/// A UDP socket of the engine.
///
/// The system joins datagrams that come together (`UDP_GRO`). The engine would need a buffer of 96 KB a
/// socket for that, and one more, while a connection has a socket for each address of the machine: here
/// they share a buffer a thread, and the engine gets one datagram at a time.
pub(super) struct Socket {
    inner: Arc<dyn AsyncUdpSocket>,
    vitals: Arc<Vitals>,
    faults: Option<Faults>,
    refusals: RefusalWatch,
    batch: Mutex<Option<Batch>>,
}

/// Datagrams that have come together, as far as the engine has not taken them.
struct Batch {
    bytes: Vec<u8>,
    /// Where the next one begins.
    at: usize,
    meta: RecvMeta,
}

impl Batch {
    /// The next datagram. Each but the last one has the length of the first.
    fn next(&mut self) -> Option<&[u8]> {
        let end = self.meta.len.min(self.bytes.len());
        let stride = self.meta.stride.max(1);
        if self.at >= end {
            return None;
        }
        let start = self.at;
        self.at = end.min(start + stride);
        Some(&self.bytes[start..self.at])
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        // A thread that ends needs no buffer.
        let _ = SPARE.try_with(|spare| spare.set(Some(bytes)));
    }
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
            batch: Mutex::new(None),
        }
    }

    /// Waits for datagrams from the system.
    fn poll_batch(&self, cx: &mut Context<'_>) -> Poll<io::Result<Batch>> {
        let spare = SPARE.try_with(Cell::take).ok().flatten();
        // It is put back when it is dropped.
        let mut batch = Batch {
            bytes: spare.unwrap_or_else(|| vec![0; BATCH]),
            at: 0,
            meta: RecvMeta::default(),
        };
        let mut bufs = [IoSliceMut::new(&mut batch.bytes)];
        let mut metas = [RecvMeta::default()];
        let received = ready!(self.inner.poll_recv(cx, &mut bufs, &mut metas));
        [batch.meta] = metas;
        Poll::Ready(received.map(|_| batch))
    }

    /// Takes the next datagram into a buffer. Returns its length, and where it comes from.
    fn poll_datagram(
        &self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<(usize, RecvMeta)>> {
        let mut waiting = self.batch.lock();
        loop {
            if let Some(batch) = &mut *waiting {
                let meta = batch.meta;
                while let Some(datagram) = batch.next() {
                    // A longer one is of no protocol that is spoken here.
                    if let Some(place) = buf.get_mut(..datagram.len()) {
                        place.copy_from_slice(datagram);
                        return Poll::Ready(Ok((datagram.len(), meta)));
                    }
                }
            }
            *waiting = None;
            *waiting = Some(ready!(self.poll_batch(cx))?);
        }
    }

    /// Looks for what TURN servers say to this side.
    fn inspect(&self, datagram: &[u8], from: SocketAddr) {
        if let Some(why) = self.refusals.inspect(from, datagram) {
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
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let (Some(buf), Some(place)) = (bufs.first_mut(), metas.first_mut()) else {
            return Poll::Ready(Ok(0));
        };
        loop {
            let (length, mut meta) = ready!(self.poll_datagram(cx, buf))?;
            // What was sent before the cut, or by a peer without these faults, is lost too.
            if self.faults.as_ref().is_some_and(|f| f.cuts(buf[..length].first())) {
                continue;
            }
            self.vitals.note_heard();
            if self.vitals.is_connecting() {
                self.inspect(&buf[..length], meta.addr);
            }
            meta.len = length;
            meta.stride = length.max(1);
            *place = meta;
            return Poll::Ready(Ok(1));
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
        ROOM
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::task::Waker;

    use super::*;

    /// Gives what it was made with, each with the length of its datagrams.
    #[derive(Debug)]
    struct Given(Mutex<VecDeque<(Vec<u8>, usize)>>);

    impl AsyncUdpSocket for Given {
        fn local_addr(&self) -> io::Result<SocketAddr> {
            Ok(SocketAddr::from(([127, 0, 0, 1], 1)))
        }

        fn poll_send(&self, _: &mut Context<'_>, _: &Transmit<'_>) -> Poll<io::Result<usize>> {
            Poll::Pending
        }

        fn poll_recv(
            &self,
            _: &mut Context<'_>,
            bufs: &mut [IoSliceMut<'_>],
            meta: &mut [RecvMeta],
        ) -> Poll<io::Result<usize>> {
            let Some((bytes, stride)) = self.0.lock().pop_front() else {
                return Poll::Pending;
            };
            bufs[0][..bytes.len()].copy_from_slice(&bytes);
            meta[0].len = bytes.len();
            meta[0].stride = stride;
            Poll::Ready(Ok(1))
        }

        fn max_gso_segments(&self) -> usize {
            64
        }

        fn max_gro_segments(&self) -> usize {
            64
        }
    }

    fn take(socket: &Socket, room: usize) -> Option<Vec<u8>> {
        let mut buf = vec![0; room];
        let mut metas = [RecvMeta::default()];
        let mut cx = Context::from_waker(Waker::noop());
        match socket.poll_recv(&mut cx, &mut [IoSliceMut::new(&mut buf)], &mut metas) {
            Poll::Ready(received) => {
                assert_eq!(received.unwrap(), 1);
                assert_eq!(metas[0].stride, metas[0].len.max(1));
                buf.truncate(metas[0].len);
                Some(buf)
            }
            Poll::Pending => None,
        }
    }

    #[test]
    fn datagrams_that_come_together_are_taken_one_by_one() {
        let joined = [[1; 1200], [2; 1200], [3; 1200]].concat();
        let given = VecDeque::from([
            (vec![9; 60], 60),
            (joined[..2500].to_vec(), 1200),
            (vec![8; 3000], 3000),
            (vec![7; 65_535], 1500),
        ]);
        let given = Given(Mutex::new(given));
        let vitals = Vitals::new();
        let socket = Socket::new(Arc::new(given), vitals.clone(), None);
        assert_eq!(take(&socket, 2000).unwrap(), [9; 60]);
        assert_eq!(take(&socket, 2000).unwrap(), [1; 1200]);
        assert_eq!(take(&socket, 2000).unwrap(), [2; 1200]);
        assert_eq!(take(&socket, 2000).unwrap(), [3; 100]);
        // The one that is too long is left out.
        for _ in 0..43 {
            assert_eq!(take(&socket, 2000).unwrap(), [7; 1500]);
        }
        assert_eq!(take(&socket, 2000).unwrap(), [7; 1035]);
        assert_eq!(take(&socket, 2000), None);
        assert_eq!(vitals.heard(), 48);
        // Between them the socket holds no memory.
        assert!(socket.batch.lock().is_none());
    }
}
