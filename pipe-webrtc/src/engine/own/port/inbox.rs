use std::net::SocketAddr;
use std::task::Waker;

use futures::task::AtomicWaker;
use parking_lot::Mutex;

/// Maximum number of bytes and of datagrams that wait for one connection. When one more does not fit it is
/// dropped, as a socket's buffer does, and no other connection notices.
pub(super) const MAX_BYTES: usize = 1024 * 1024;
pub(super) const MAX_DATAGRAMS: usize = 4096;

/// Capacity of a buffer that is kept in any case, in bytes.
const KEPT: usize = 4096;

/// Number of consecutive turns that a large buffer is kept while it is hardly used.
const PATIENCE: u8 = 16;

/// The datagrams of one connection that the sockets of a port have received and the connection has not.
#[derive(Debug, Default)]
pub(in crate::engine::own) struct Inbox {
    state: Mutex<State>,
    waker: AtomicWaker,
}

#[derive(Debug, Default)]
struct State {
    waiting: Datagrams,
    /// Whether the connection was, or is about to be, woken for those that wait.
    is_told: bool,
    is_closed: bool,
}

/// What has become of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    /// It waits, and the connection has to be [woken](Inbox::wake).
    First,
    /// It waits with others.
    Further,
    Dropped,
}

impl Inbox {
    /// Adds a datagram that has come to the connection's socket of this number.
    pub(super) fn push(&self, socket: usize, from: SocketAddr, datagram: &[u8]) -> Pushed {
        let mut state = self.state.lock();
        if state.is_closed || !state.waiting.push(socket, from, datagram) {
            return Pushed::Dropped;
        }
        if std::mem::replace(&mut state.is_told, true) {
            Pushed::Further
        } else {
            Pushed::First
        }
    }

    /// Wakes the connection.
    pub(super) fn wake(&self) {
        self.waker.wake();
    }

    /// Sets what is woken.
    pub(in crate::engine::own) fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    /// Exchanges the datagrams that wait for these, which were all taken.
    pub(in crate::engine::own) fn swap(&self, taken: &mut Datagrams) {
        taken.clear();
        let mut state = self.state.lock();
        state.is_told = false;
        std::mem::swap(&mut state.waiting, taken);
    }

    /// Drops what waits, and all that comes from now on.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.is_closed = true;
        state.waiting = Datagrams::default();
    }
}

/// Datagrams, one after another in one buffer.
#[derive(Debug, Default)]
pub(in crate::engine::own) struct Datagrams {
    bytes: Vec<u8>,
    list: Vec<(usize, SocketAddr, usize)>,
    /// Number of those that were taken, and of their bytes.
    taken: usize,
    taken_bytes: usize,
    /// Number of consecutive uses that have needed little of the capacity.
    idle: u8,
}

impl Datagrams {
    /// Adds a datagram. Returns whether it fits.
    fn push(&mut self, socket: usize, from: SocketAddr, datagram: &[u8]) -> bool {
        if self.list.len() >= MAX_DATAGRAMS || self.bytes.len() + datagram.len() > MAX_BYTES {
            return false;
        }
        self.bytes.extend_from_slice(datagram);
        self.list.push((socket, from, datagram.len()));
        true
    }

    /// Takes the next datagram: the number of the socket, its source, and its bytes.
    pub(in crate::engine::own) fn next(&mut self) -> Option<(usize, SocketAddr, &[u8])> {
        let (socket, from, length) = *self.list.get(self.taken)?;
        let start = self.taken_bytes;
        self.taken += 1;
        self.taken_bytes += length;
        let datagram = self.bytes.get(start..self.taken_bytes)?;
        Some((socket, from, datagram))
    }

    /// Returns whether all were taken.
    pub(in crate::engine::own) fn is_empty(&self) -> bool {
        self.taken == self.list.len()
    }

    /// Makes room for others. A buffer that has grown is given back once it is of little use.
    fn clear(&mut self) {
        let capacity = self.bytes.capacity();
        if capacity > KEPT && self.bytes.len() < capacity / 4 {
            self.idle += 1;
        } else {
            self.idle = 0;
        }
        if self.idle > PATIENCE {
            *self = Self::default();
            return;
        }
        self.bytes.clear();
        self.list.clear();
        (self.taken, self.taken_bytes) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    #[test]
    fn datagrams_are_taken_in_their_order_and_the_first_wakes() {
        let inbox = Inbox::default();
        assert_eq!(inbox.push(0, addr(1), b"one"), Pushed::First);
        assert_eq!(inbox.push(1, addr(2), b""), Pushed::Further);
        assert_eq!(inbox.push(0, addr(1), b"three"), Pushed::Further);
        let mut taken = Datagrams::default();
        inbox.swap(&mut taken);
        assert_eq!(inbox.push(0, addr(3), b"four"), Pushed::First);
        assert_eq!(taken.next(), Some((0, addr(1), &b"one"[..])));
        assert_eq!(taken.next(), Some((1, addr(2), &b""[..])));
        assert!(!taken.is_empty());
        assert_eq!(taken.next(), Some((0, addr(1), &b"three"[..])));
        assert!(taken.is_empty());
        assert_eq!(taken.next(), None);
        inbox.swap(&mut taken);
        assert_eq!(taken.next(), Some((0, addr(3), &b"four"[..])));
        inbox.close();
        assert_eq!(inbox.push(0, addr(1), b"late"), Pushed::Dropped);
    }

    #[test]
    fn what_waits_is_bounded_in_bytes_and_in_number() {
        let inbox = Inbox::default();
        let count = |length: usize| {
            let datagram = vec![0; length];
            let fits = |_: &usize| inbox.push(0, addr(1), &datagram) != Pushed::Dropped;
            (0..2 * MAX_DATAGRAMS).take_while(fits).count()
        };
        assert_eq!(count(1024), MAX_BYTES / 1024);
        inbox.swap(&mut Datagrams::default());
        assert_eq!(count(0), MAX_DATAGRAMS);
    }

    #[test]
    fn a_large_buffer_is_given_back_when_little_comes() {
        let inbox = Inbox::default();
        let mut taken = Datagrams::default();
        while inbox.push(0, addr(1), &[0; 1024]) != Pushed::Dropped {}
        inbox.swap(&mut taken);
        assert!(taken.bytes.capacity() >= MAX_BYTES);
        for _ in 0..4 * u32::from(PATIENCE) {
            inbox.push(0, addr(1), &[0; 100]);
            inbox.swap(&mut taken);
        }
        let waiting = inbox.state.lock().waiting.bytes.capacity();
        assert!(taken.bytes.capacity() <= KEPT && waiting <= KEPT);
    }
}
