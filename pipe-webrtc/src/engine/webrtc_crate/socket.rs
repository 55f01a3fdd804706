use std::cell::Cell;
use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use parking_lot::Mutex;
use webrtc::runtime::{AsyncUdpSocket, RecvMeta, Transmit};

use super::super::faults::Faults;
use super::gaps::Gaps;
use super::refusals::RefusalWatch;
use super::tunnels::{Servers, Tunnels};
use super::vitals::Vitals;

/// Maximum number of bytes that the system returns at once: the length of a UDP packet has 16 bits.
const BATCH: usize = 1 << 16;

/// Number of segments of 1,500 bytes in each of the engine's buffers: one record of DTLS (2^14 +
/// 2,048 bytes and its header, RFC 6347, section 4.1).
const ROOM: usize = 13;

thread_local! {
    /// Receive buffer of this thread, while it is not in use.
    static SPARE: Cell<Option<Vec<u8>>> = const { Cell::new(None) };
}

/// A UDP socket of the engine.
///
/// The system joins datagrams that come together (`UDP_GRO`). The engine would need a buffer of 96 KB a
/// socket for that, and one more, while a connection has a socket for each address of the machine: here
/// they share a buffer a thread, and the engine gets few datagrams at a time.
///
/// The engine reads all available datagrams, and acknowledges them together, at the end of its
/// turn. That is too seldom after a loss: RFC 9260 requires an acknowledgement for each packet then
/// (section 6.7), and the peer sends the lost one again at the third of them, or when a second is
/// over. So the engine gets no more than [`Gaps::together`] a turn.
pub(super) struct Socket {
    inner: Arc<dyn AsyncUdpSocket>,
    vitals: Arc<Vitals>,
    faults: Option<Faults>,
    refusals: RefusalWatch,
    tunnels: Tunnels,
    intake: Mutex<Intake>,
    local: Option<SocketAddr>,
}

/// The received datagrams.
#[derive(Default)]
struct Intake {
    batch: Option<Batch>,
    gaps: Gaps,
    /// A turn of the engine, and how many datagrams it has taken in it.
    turn: u64,
    count: u32,
}

/// Datagrams that have come together, as far as the engine has not taken them.
struct Batch {
    bytes: Vec<u8>,
    /// Offset of the next one.
    at: usize,
    meta: RecvMeta,
}

impl Batch {
    /// Returns the next datagram. Each but the last one has the length of the first.
    fn first(&self) -> Option<&[u8]> {
        let end = self.meta.len.min(self.bytes.len());
        let next = end.min(self.at + self.meta.stride.max(1));
        self.bytes
            .get(self.at..next)
            .filter(|next| !next.is_empty())
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
        servers: Arc<Servers>,
    ) -> Self {
        Self {
            local: inner.local_addr().ok(),
            inner,
            tunnels: Tunnels::new(servers, vitals.clone()),
            vitals,
            faults,
            refusals: RefusalWatch::default(),
            intake: Mutex::default(),
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

    /// Takes the next datagrams into a buffer, as many of those that came together as have room: each but
    /// the last one has the same length. Returns the length of all, and where they come from.
    fn poll_datagrams(
        &self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<(usize, RecvMeta)>> {
        let mut intake = self.intake.lock();
        let Intake {
            batch,
            gaps,
            turn,
            count,
        } = &mut *intake;
        let now = self.vitals.turns();
        if std::mem::replace(turn, now) != now {
            *count = 0;
        }
        if *count >= gaps.together() {
            // The engine polls again in its next turn.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if let Some((from, datagram)) = self.vitals.early().take(cx)
            && let Some(place) = buf.get_mut(..datagram.len())
        {
            place.copy_from_slice(&datagram);
            gaps.note(&datagram);
            *count = count.saturating_add(1);
            let mut meta = RecvMeta::default();
            (meta.addr, meta.len, meta.stride) = (from, datagram.len(), datagram.len());
            return Poll::Ready(Ok((datagram.len(), meta)));
        }
        while let Poll::Ready((from, datagram)) = self.tunnels.poll_recv(cx) {
            if self
                .faults
                .as_ref()
                .is_some_and(|f| f.cuts(datagram.first()))
            {
                continue;
            }
            // One that is longer is too long for any protocol that is spoken here.
            if let Some(place) = buf.get_mut(..datagram.len()) {
                place.copy_from_slice(&datagram);
                gaps.note(&datagram);
                *count = count.saturating_add(1);
                let mut meta = RecvMeta::default();
                (meta.addr, meta.len, meta.stride) = (from, datagram.len(), datagram.len());
                return Poll::Ready(Ok((datagram.len(), meta)));
            }
        }
        loop {
            if let Some(batch) = batch {
                let mut taken = 0;
                while let Some(next) = batch.first() {
                    let length = next.len();
                    // Datagrams sent before the cut, or by a peer without these faults, are lost
                    // too.
                    let cut = self.faults.as_ref().is_some_and(|f| f.cuts(next.first()));
                    let is_early = self.is_early(batch.meta.addr, next);
                    match buf.get_mut(taken..taken + length) {
                        Some(place) if !cut && !is_early => place.copy_from_slice(next),
                        _ if taken > 0 => break,
                        // It is held or lost, or too long for any protocol that is spoken here.
                        _ => {
                            if is_early && !cut {
                                self.vitals.early().hold(batch.meta.addr, next);
                            }
                            batch.at += length;
                            continue;
                        }
                    }
                    gaps.note(next);
                    *count = count.saturating_add(1);
                    taken += length;
                    batch.at += length;
                    if *count >= gaps.together() {
                        break;
                    }
                }
                if taken > 0 {
                    return Poll::Ready(Ok((taken, batch.meta)));
                }
            }
            *batch = None;
            *batch = Some(ready!(self.poll_batch(cx))?);
        }
    }

    /// Returns whether a datagram is one of DTLS that comes before a pair is chosen, from where the
    /// peer has proved to be.
    fn is_early(&self, from: SocketAddr, datagram: &[u8]) -> bool {
        self.vitals.early().wants(datagram) && self.vitals.checks().has_answered(from)
    }

    /// Changes the first byte of checks that the engine must not process to one that no protocol
    /// here begins with (RFC 7983, section 7).
    fn hide_checks(&self, datagrams: &mut [u8], stride: usize, from: SocketAddr) {
        let Some(local) = self.local else {
            return;
        };
        for datagram in datagrams.chunks_mut(stride) {
            if !self.vitals.checks().accepts(local, from, datagram)
                && let Some(first) = datagram.first_mut()
            {
                *first = 0xff;
            }
        }
    }

    /// Checks for messages of TURN servers to this side.
    fn inspect(&self, datagram: &[u8], from: SocketAddr) {
        if let Some(mut why) = self.refusals.inspect(from, datagram) {
            if let Some(server) = self.tunnels.server(from) {
                why = why.replace(&from.to_string(), &server.to_string());
            }
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
        if let Some(server) = self.tunnels.server(transmit.destination) {
            let (from, datagrams) = (self.inner.local_addr()?, transmit.contents);
            let each = transmit.segment_size.unwrap_or(datagrams.len());
            self.tunnels
                .send(from, transmit.destination, server, datagrams, each);
            return Poll::Ready(Ok(datagrams.len()));
        }
        if let Some(local) = self.local {
            let to = transmit.destination;
            if !self.vitals.checks().allows(local, to, transmit.contents) {
                return Poll::Ready(Ok(transmit.contents.len()));
            }
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
        let (length, mut meta) = ready!(self.poll_datagrams(cx, buf))?;
        let stride = meta.stride.clamp(1, length);
        self.vitals.note_heard();
        if self.vitals.is_connecting() {
            self.inspect(&buf[..stride], meta.addr);
        }
        self.hide_checks(&mut buf[..length], stride, meta.addr);
        meta.len = length;
        meta.stride = stride;
        *place = meta;
        Poll::Ready(Ok(1))
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

    use super::super::vitals::tests::record;
    use super::*;

    /// Returns its datagrams, each with their length.
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

    fn socket(given: impl Into<VecDeque<(Vec<u8>, usize)>>, vitals: &Arc<Vitals>) -> Socket {
        let given = Given(Mutex::new(given.into()));
        let servers = Servers::new(pipe_tls::TlsOptions::new());
        Socket::new(Arc::new(given), vitals.clone(), None, servers)
    }

    /// Returns the bytes that the engine gets, and the length of its datagrams.
    fn take(socket: &Socket, room: usize) -> Option<(Vec<u8>, usize)> {
        let mut buf = vec![0; room];
        let mut metas = [RecvMeta::default()];
        let mut cx = Context::from_waker(Waker::noop());
        match socket.poll_recv(&mut cx, &mut [IoSliceMut::new(&mut buf)], &mut metas) {
            Poll::Ready(received) => {
                assert_eq!(received.unwrap(), 1);
                buf.truncate(metas[0].len);
                Some((buf, metas[0].stride))
            }
            Poll::Pending => None,
        }
    }

    #[test]
    fn datagrams_that_come_together_are_taken_as_there_is_room() {
        let joined = [[1; 1200], [2; 1200], [3; 1200]].concat();
        let vitals = Vitals::new();
        let given = [
            (vec![9; 60], 60),
            (joined[..2500].to_vec(), 1200),
            (vec![8; 5000], 5000),
            (vec![], 0),
            (vec![7; 65_535], 1500),
        ];
        let socket = socket(given, &vitals);
        assert_eq!(take(&socket, 2400).unwrap(), (vec![9; 60], 60));
        assert_eq!(take(&socket, 2400).unwrap(), (joined[..2400].into(), 1200));
        assert_eq!(take(&socket, 2400).unwrap(), (vec![3; 100], 100));
        // The one that is too long is left out.
        for _ in 0..14 {
            assert_eq!(take(&socket, 4600).unwrap(), (vec![7; 4500], 1500));
        }
        assert_eq!(take(&socket, 4600).unwrap(), (vec![7; 2535], 1500));
        assert_eq!(take(&socket, 4600), None);
        assert_eq!(vitals.heard(), 18);
        // Between them the socket holds no memory.
        assert!(socket.intake.lock().batch.is_none());
    }

    #[test]
    fn after_a_loss_each_datagram_has_a_turn_of_its_own() {
        let data = |number: u8| {
            let mut data = record(23, 1, &[number; 40]);
            data[10] = number;
            data
        };
        let joined = |numbers: &[u8]| numbers.iter().copied().flat_map(data).collect::<Vec<_>>();
        let length = data(1).len();
        let vitals = Vitals::new();
        let given = [(joined(&[1, 2, 3, 5, 6]), length), (data(7), length)];
        let socket = socket(given, &vitals);
        assert_eq!(
            take(&socket, 1000).unwrap(),
            (joined(&[1, 2, 3, 5]), length)
        );
        for number in [6, 7] {
            assert_eq!(take(&socket, 1000), None);
            vitals.note_turn();
            assert_eq!(take(&socket, 1000).unwrap(), (data(number), length));
        }
    }

    #[test]
    fn dtls_that_comes_before_a_pair_is_chosen_waits_for_it() {
        let vitals = Vitals::new();
        let (peer, stranger) = (
            RecvMeta::default().addr,
            SocketAddr::from(([10, 0, 0, 1], 2)),
        );
        let mut hello = record(22, 0, &[1; 100]);
        // None is missing before it.
        hello[10] = 0;
        let length = hello.len();
        let check = [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &[7; 12]].concat();
        let batch = [hello.clone(), hello.clone()].concat();
        let socket = socket([(batch.clone(), length), (check.clone(), 20)], &vitals);
        // No answered check has shown yet that it is the peer.
        assert_eq!(take(&socket, 4000).unwrap(), (batch.clone(), length));
        assert_eq!(take(&socket, 4000).unwrap(), (check.clone(), 20));

        let mut answer = check.clone();
        answer[..2].copy_from_slice(&[1, 1]);
        assert!(vitals.checks().allows(stranger, peer, &answer));
        let more = [
            (batch, length),
            (check.clone(), 20),
            (hello.clone(), length),
        ];
        let socket = self::socket(more, &vitals);
        // A check overtakes held datagrams.
        assert_eq!(take(&socket, 4000).unwrap(), (check, 20));
        assert_eq!(take(&socket, 4000), None);
        vitals.early().set_chosen(true);
        for _ in 0..3 {
            assert_eq!(take(&socket, 4000).unwrap(), (hello.clone(), length));
        }
        assert_eq!(take(&socket, 4000), None);
    }
}
