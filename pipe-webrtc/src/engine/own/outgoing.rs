use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::SocketAddr;

/// Maximum number of bytes of a batch: what the largest datagram takes, with its headers.
const MAX_BYTES: usize = 65_000;

/// Maximum number of queued batches beyond which no more packets of SCTP are made.
const MAX_BATCHES: usize = 8;

/// Maximum number of buffers that a thread keeps for the next batches.
const MAX_SPARE: usize = 4;

thread_local! {
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Datagrams of one size to one address, of which the last may be shorter: one call of the system sends
/// them.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) socket: usize,
    pub(super) to: SocketAddr,
    /// Length of each datagram but the last, in bytes.
    pub(super) segment: usize,
    pub(super) count: usize,
    /// Whether the last datagram is shorter, so that none can follow.
    is_full: bool,
    pub(super) bytes: Vec<u8>,
}

impl Drop for Batch {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        SPARE.with_borrow_mut(|spare| {
            if spare.len() < MAX_SPARE && bytes.capacity() > 0 {
                spare.push(bytes);
            }
        });
    }
}

/// The datagrams that wait to be sent, in batches.
#[derive(Debug)]
pub(super) struct Outgoing {
    queue: VecDeque<Batch>,
    /// Maximum number of datagrams of a batch.
    max_segments: usize,
}

impl Outgoing {
    pub(super) fn new(max_segments: usize) -> Self {
        Self {
            queue: VecDeque::new(),
            max_segments: max_segments.max(1),
        }
    }

    /// Sets the maximum number of datagrams of a batch.
    pub(super) fn set_max_segments(&mut self, max_segments: usize) {
        self.max_segments = max_segments.max(1);
    }

    /// Queues a datagram.
    pub(super) fn push(&mut self, socket: usize, to: SocketAddr, datagram: &[u8]) {
        let max_segments = self.max_segments;
        let fits = |batch: &&mut Batch| {
            !batch.is_full
                && batch.socket == socket
                && batch.to == to
                && datagram.len() <= batch.segment
                && batch.count < max_segments
                && batch.bytes.len() + datagram.len() <= MAX_BYTES
        };
        if let Some(batch) = self.queue.back_mut().filter(fits) {
            batch.is_full = datagram.len() < batch.segment;
            batch.bytes.extend_from_slice(datagram);
            batch.count += 1;
            return;
        }
        let mut bytes = SPARE.with_borrow_mut(Vec::pop).unwrap_or_default();
        bytes.extend_from_slice(datagram);
        self.queue.push_back(Batch {
            socket,
            to,
            segment: datagram.len(),
            count: 1,
            is_full: false,
            bytes,
        });
    }

    pub(super) fn front(&self) -> Option<&Batch> {
        self.queue.front()
    }

    pub(super) fn pop(&mut self) {
        self.queue.pop_front();
        if self.queue.is_empty() && self.queue.capacity() > MAX_BATCHES {
            self.queue = VecDeque::new();
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Returns whether packets of SCTP may be added.
    pub(super) fn has_room(&self) -> bool {
        self.queue.len() < MAX_BATCHES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn batches(out: &mut Outgoing) -> Vec<(u16, usize, usize)> {
        let mut all = Vec::new();
        while let Some(batch) = out.front() {
            all.push((batch.to.port(), batch.count, batch.bytes.len()));
            out.pop();
        }
        all
    }

    #[test]
    fn datagrams_of_one_size_go_together_and_a_shorter_one_ends_the_batch() {
        let mut out = Outgoing::new(64);
        for len in [100, 100, 50, 50, 100] {
            out.push(0, addr(1), &vec![0; len]);
        }
        out.push(0, addr(2), &[0; 100]);
        out.push(1, addr(2), &[0; 100]);
        let expected = [
            (1, 3, 250),
            (1, 1, 50),
            (1, 1, 100),
            (2, 1, 100),
            (2, 1, 100),
        ];
        assert_eq!(batches(&mut out), expected);
        assert!(out.is_empty());
    }

    #[test]
    fn a_batch_is_bounded_in_datagrams_and_bytes() {
        let mut out = Outgoing::new(2);
        for _ in 0..5 {
            out.push(0, addr(1), &[0; 10]);
        }
        assert_eq!(batches(&mut out), [(1, 2, 20), (1, 2, 20), (1, 1, 10)]);
        out.set_max_segments(64);
        for _ in 0..60 {
            out.push(0, addr(1), &[0; 1200]);
        }
        assert_eq!(batches(&mut out), [(1, 54, 64_800), (1, 6, 7200)]);
    }
}
