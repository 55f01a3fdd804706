//! Chooses the stream that sends next: weighted fair queueing (RFC 8260, section 3).
//!
//! Each stream with queued messages has a virtual time that grows by what it sends, divided by its
//! weight; the stream with the least goes next. A stream that becomes active starts at the virtual time of
//! the others, so that it waits for none of their backlog and gains nothing from having been idle.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, binary_heap::PeekMut},
};

/// The weight of a stream that was given none.
pub(crate) const DEFAULT_WEIGHT: u16 = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    time: u64,
    /// Streams of one time take turns in this order.
    turn: u64,
    stream: u16,
}

/// The streams that have something to send.
#[derive(Debug, Default)]
pub(crate) struct Scheduler {
    heap: BinaryHeap<Reverse<Entry>>,
    time: u64,
    turn: u64,
    /// The stream whose message was begun and may not be interrupted.
    locked: Option<u16>,
}

impl Scheduler {
    /// Adds a stream that is not in the scheduler. `finished` is the virtual time it was left with.
    pub(crate) fn activate(&mut self, stream: u16, finished: u64) {
        self.turn += 1;
        let time = finished.max(self.time);
        self.heap.push(Reverse(Entry {
            time,
            turn: self.turn,
            stream,
        }));
    }

    /// Returns the stream that sends next.
    pub(crate) fn next(&self) -> Option<u16> {
        self.locked
            .or_else(|| self.heap.peek().map(|Reverse(entry)| entry.stream))
    }

    /// Keeps `stream`, which is the next, until it is charged or removed.
    pub(crate) fn lock(&mut self, stream: u16) {
        self.locked = Some(stream);
        if let Some(Reverse(top)) = self.heap.peek() {
            // What becomes active meanwhile comes behind it.
            self.time = self.time.max(top.time);
        }
    }

    /// Counts `bytes` sent by `stream`, which was the next.
    pub(crate) fn charge(&mut self, stream: u16, bytes: usize, weight: u16) {
        self.locked = None;
        let Some(mut top) = self.heap.peek_mut() else {
            return;
        };
        debug_assert_eq!(top.0.stream, stream, "the stream on top");
        self.time = self.time.max(top.0.time);
        self.turn += 1;
        top.0.time += cost(bytes, weight);
        top.0.turn = self.turn;
    }

    /// Removes `stream`, which is the next, after it sent `bytes`. Returns its virtual time.
    pub(crate) fn remove(&mut self, stream: u16, bytes: usize, weight: u16) -> u64 {
        self.locked = None;
        let Some(top) = self.heap.peek_mut() else {
            return self.time;
        };
        debug_assert_eq!(top.0.stream, stream, "the stream on top");
        let Reverse(entry) = PeekMut::pop(top);
        self.time = self.time.max(entry.time);
        self.shrink();
        entry.time + cost(bytes, weight)
    }

    /// Lets another stream be the next although a message of `stream` was begun.
    pub(crate) fn unlock(&mut self, stream: u16) {
        if self.locked == Some(stream) {
            self.locked = None;
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    fn shrink(&mut self) {
        if self.heap.is_empty() && self.heap.capacity() > 64 {
            self.heap = BinaryHeap::new();
        }
    }
}

fn cost(bytes: usize, weight: u16) -> u64 {
    ((bytes as u64) << 16) / u64::from(weight.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serve(scheduler: &mut Scheduler, rounds: usize, weights: &[u16]) -> Vec<usize> {
        let mut served = vec![0; weights.len()];
        for _ in 0..rounds {
            let stream = scheduler.next().expect("a stream");
            scheduler.charge(stream, 1000, weights[usize::from(stream)]);
            served[usize::from(stream)] += 1;
        }
        served
    }

    #[test]
    fn streams_of_one_weight_take_turns() {
        let mut scheduler = Scheduler::default();
        for stream in 0..3 {
            scheduler.activate(stream, 0);
        }
        let order: Vec<_> = (0..6)
            .map(|_| {
                let stream = scheduler.next().expect("a stream");
                scheduler.charge(stream, 500, 256);
                stream
            })
            .collect();
        assert_eq!(order, [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn shares_follow_weights() {
        let mut scheduler = Scheduler::default();
        let weights = [128, 256, 1024];
        for stream in 0..3 {
            scheduler.activate(stream, 0);
        }
        let served = serve(&mut scheduler, 1100, &weights);
        assert!(served[0].abs_diff(100) <= 2, "{served:?}");
        assert!(served[1].abs_diff(200) <= 2, "{served:?}");
        assert!(served[2].abs_diff(800) <= 2, "{served:?}");
    }

    #[test]
    fn a_stream_that_becomes_active_waits_for_no_backlog_and_gains_none() {
        let mut scheduler = Scheduler::default();
        let weights = [256, 256];
        scheduler.activate(0, 0);
        serve(&mut scheduler, 1000, &weights);
        scheduler.activate(1, 0);
        let served = serve(&mut scheduler, 10, &weights);
        assert_eq!(served[0].abs_diff(served[1]), 0, "{served:?}");
    }

    #[test]
    fn a_locked_stream_stays_until_its_message_ends() {
        let mut scheduler = Scheduler::default();
        scheduler.activate(0, 0);
        scheduler.lock(0);
        scheduler.activate(1, 0);
        assert_eq!(scheduler.next(), Some(0));
        scheduler.charge(0, 1000, 256);
        assert_eq!(scheduler.next(), Some(1));
        scheduler.remove(1, 0, 256);
        assert_eq!(scheduler.next(), Some(0));
        scheduler.remove(0, 0, 256);
        assert!(scheduler.is_empty());
        assert_eq!(scheduler.next(), None);
    }
}
