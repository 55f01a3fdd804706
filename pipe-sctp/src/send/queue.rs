//! The messages of one outgoing stream that wait to be sent.

use crate::{event::SendOptions, send::scheduler::DEFAULT_WEIGHT};
use bytes::Bytes;
use std::{collections::VecDeque, time::Instant};

/// A message of which at least a part waits to be sent.
#[derive(Debug)]
pub(crate) struct Queued {
    pub(crate) payload: Bytes,
    pub(crate) ppid: u32,
    pub(crate) unordered: bool,
    pub(crate) immediate: bool,
    pub(crate) max_retransmits: Option<u16>,
    pub(crate) deadline: Option<Instant>,
}

impl Queued {
    pub(crate) fn new(now: Instant, ppid: u32, payload: Bytes, options: &SendOptions) -> Self {
        Self {
            payload,
            ppid,
            unordered: options.unordered,
            immediate: options.immediate,
            max_retransmits: options.max_retransmits,
            deadline: options
                .lifetime
                .and_then(|lifetime| now.checked_add(lifetime)),
        }
    }

    fn is_expired(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }
}

/// The part of the first message that was sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Begun {
    pub(crate) offset: usize,
    pub(crate) mid: u32,
    pub(crate) fsn: u32,
    /// Its entry among the messages with a limit.
    pub(crate) limited: Option<u32>,
}

/// Where the reset of a stream stands (RFC 6525).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Resetting {
    #[default]
    No,
    /// Asked for; what is queued is sent first.
    Draining,
    /// In the list of streams to be reset, or in a request.
    Requested,
}

/// One outgoing stream.
#[derive(Debug)]
pub(crate) struct OutStream {
    pub(crate) queue: VecDeque<Queued>,
    pub(crate) begun: Option<Begun>,
    next_ordered: u32,
    next_unordered: u32,
    /// Bytes queued or not yet acknowledged.
    pub(crate) buffered: usize,
    pub(crate) weight: u16,
    /// Whether a message was queued since its numbers began.
    pub(crate) is_used: bool,
    /// Whether it is in the scheduler.
    pub(crate) active: bool,
    /// The virtual time at which it left the scheduler.
    pub(crate) finished: u64,
    pub(crate) resetting: Resetting,
    /// The TSN from which on no FORWARD-TSN names the stream, if it is acknowledged.
    pub(crate) settled_at: u64,
}

impl Default for OutStream {
    fn default() -> Self {
        Self {
            queue: VecDeque::new(),
            begun: None,
            next_ordered: 0,
            next_unordered: 0,
            buffered: 0,
            weight: DEFAULT_WEIGHT,
            is_used: false,
            active: false,
            finished: 0,
            resetting: Resetting::No,
            settled_at: 0,
        }
    }
}

impl OutStream {
    /// Assigns the MID of a message whose first fragment is sent. Without interleaving unordered
    /// messages have none.
    pub(crate) fn assign(&mut self, unordered: bool, interleaved: bool) -> u32 {
        let next = match (unordered, interleaved) {
            (false, _) => &mut self.next_ordered,
            (true, true) => &mut self.next_unordered,
            (true, false) => return 0,
        };
        let mid = *next;
        *next = next.wrapping_add(1);
        mid
    }

    /// Starts over with the numbers of messages (RFC 6525, section 5.1.4).
    pub(crate) fn restart_numbers(&mut self) {
        self.next_ordered = 0;
        self.next_unordered = 0;
        self.is_used = false;
        self.resetting = Resetting::No;
    }

    /// Removes messages from the front that expired before any part was sent. Returns their number and
    /// bytes.
    pub(crate) fn expire(&mut self, now: Instant) -> (u64, usize) {
        let mut count = 0;
        let mut bytes = 0;
        while self.begun.is_none() && self.queue.front().is_some_and(|m| m.is_expired(now)) {
            bytes += self
                .queue
                .pop_front()
                .map_or(0, |message| message.payload.len());
            count += 1;
        }
        self.buffered -= bytes;
        (count, bytes)
    }

    /// Returns whether the stream is as if it was never used.
    pub(crate) fn is_pristine(&self) -> bool {
        self.buffered == 0
            && self.next_ordered == 0
            && self.next_unordered == 0
            && !self.active
            && self.weight == DEFAULT_WEIGHT
            && self.resetting == Resetting::No
    }

    pub(crate) fn shrink(&mut self) {
        if self.queue.is_empty() && self.queue.capacity() > 32 {
            self.queue = VecDeque::new();
        }
    }
}
