//! Chunks that were sent and not yet acknowledged by the cumulative TSN: a ring keyed by TSN.

use crate::{
    chunk::data::{DataHeader, header_len},
    range_set::RangeSet,
    wire::padded,
};
use bytes::Bytes;
use std::{collections::VecDeque, time::Instant};

/// What is known of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    InFlight,
    /// Declared lost; waits to be sent again.
    Lost,
    /// Reported in a gap of a SACK.
    Acked,
    /// Given up with its message (RFC 3758).
    Abandoned,
}

/// A chunk that was sent.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) payload: Bytes,
    /// The `tsn` in it has the low bits only, as on the wire.
    pub(crate) header: DataHeader,
    pub(crate) status: Status,
    pub(crate) transmissions: u16,
    /// Entry among the messages with a limit.
    pub(crate) limited: Option<u32>,
    /// Number of the packet that carried it last. Packets are numbered in the order they were sent.
    pub(crate) packet: u64,
    pub(crate) sent_at: Instant,
}

/// The chunks between the cumulative TSN and the next one to be assigned.
#[derive(Debug)]
pub(crate) struct Outstanding {
    ring: VecDeque<Sent>,
    /// TSN of the first chunk in the ring, or the next to be assigned.
    base: u64,
    interleaved: bool,
    /// TSNs beyond the cumulative one that gaps reported.
    pub(crate) acked: RangeSet,
    /// TSNs declared lost, in the order they were; those with another status are passed over.
    lost: VecDeque<u64>,
    /// TSN and packet of each transmission in order of time; those of another packet or status are
    /// passed over.
    pub(crate) transmissions: VecDeque<(u64, u64)>,
    /// Bytes of chunks in flight.
    pub(crate) in_flight: usize,
    /// Bytes of their payloads, which is what the window of the peer counts.
    pub(crate) in_flight_payload: usize,
    /// Bytes of the payloads of lost chunks.
    pub(crate) lost_payload: usize,
}

impl Outstanding {
    pub(crate) fn new(first: u64, interleaved: bool) -> Self {
        Self {
            ring: VecDeque::new(),
            base: first,
            interleaved,
            acked: RangeSet::default(),
            lost: VecDeque::new(),
            transmissions: VecDeque::new(),
            in_flight: 0,
            in_flight_payload: 0,
            lost_payload: 0,
        }
    }

    /// Returns the cumulative TSN of the peer.
    pub(crate) fn cumulative(&self) -> u64 {
        self.base - 1
    }

    /// Returns the TSN that is assigned next.
    pub(crate) fn next(&self) -> u64 {
        self.base + self.ring.len() as u64
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.ring.len()
    }

    pub(crate) fn get(&self, tsn: u64) -> Option<&Sent> {
        self.ring
            .get(usize::try_from(tsn.checked_sub(self.base)?).ok()?)
    }

    pub(crate) fn get_mut(&mut self, tsn: u64) -> Option<&mut Sent> {
        self.ring
            .get_mut(usize::try_from(tsn.checked_sub(self.base)?).ok()?)
    }

    /// Returns the bytes that a chunk takes in a packet.
    pub(crate) fn size(&self, payload: usize) -> usize {
        header_len(self.interleaved) + padded(payload)
    }

    /// Adds a chunk in flight, which has the next TSN.
    pub(crate) fn push(&mut self, sent: Sent) {
        self.in_flight += self.size(sent.payload.len());
        self.in_flight_payload += sent.payload.len();
        self.transmissions.push_back((self.next(), sent.packet));
        self.ring.push_back(sent);
    }

    /// Adds a chunk that is never sent.
    pub(crate) fn push_abandoned(&mut self, sent: Sent) {
        debug_assert_eq!(sent.status, Status::Abandoned);
        self.ring.push_back(sent);
    }

    /// Removes the first chunk. It counts as in flight no more.
    pub(crate) fn pop(&mut self) -> Option<(u64, Sent)> {
        let sent = self.ring.pop_front()?;
        match sent.status {
            Status::InFlight => self.leave_flight(sent.payload.len()),
            Status::Lost => self.lost_payload -= sent.payload.len(),
            Status::Acked | Status::Abandoned => {}
        }
        let tsn = self.base;
        self.base += 1;
        Some((tsn, sent))
    }

    /// Changes the status of a chunk from another than in flight or to another. Returns the former one.
    pub(crate) fn set_status(&mut self, tsn: u64, status: Status) -> Option<Status> {
        let sent = self.get_mut(tsn)?;
        let before = sent.status;
        sent.status = status;
        let len = sent.payload.len();
        if before == Status::InFlight && status != Status::InFlight {
            self.leave_flight(len);
        }
        match (before == Status::Lost, status == Status::Lost) {
            (false, true) => {
                self.lost.push_back(tsn);
                self.lost_payload += len;
            }
            (true, false) => self.lost_payload -= len,
            _ => {}
        }
        Some(before)
    }

    fn leave_flight(&mut self, payload: usize) {
        self.in_flight -= self.size(payload);
        self.in_flight_payload -= payload;
    }

    /// Returns the TSN that is to be sent again first.
    pub(crate) fn first_lost(&mut self) -> Option<u64> {
        while let Some(tsn) = self.lost.front().copied() {
            if self
                .get(tsn)
                .is_some_and(|sent| sent.status == Status::Lost)
            {
                return Some(tsn);
            }
            self.lost.pop_front();
        }
        None
    }

    /// Records that `tsn` is sent again in `packet`.
    pub(crate) fn resend(&mut self, tsn: u64, packet: u64, now: Instant) {
        let Some(sent) = self.get_mut(tsn) else {
            return;
        };
        let before = sent.status;
        sent.status = Status::InFlight;
        sent.transmissions = sent.transmissions.saturating_add(1);
        sent.packet = packet;
        sent.sent_at = now;
        let len = sent.payload.len();
        if before == Status::Lost {
            self.lost_payload -= len;
        }
        if before != Status::InFlight {
            self.in_flight += self.size(len);
            self.in_flight_payload += len;
        }
        self.transmissions.push_back((tsn, packet));
    }

    /// Returns the first transmission whose chunk is still in flight.
    pub(crate) fn oldest(&mut self) -> Option<(u64, u64)> {
        while let Some((tsn, packet)) = self.transmissions.front().copied() {
            let current = |sent: &Sent| sent.packet == packet && sent.status == Status::InFlight;
            if self.get(tsn).is_some_and(current) {
                return Some((tsn, packet));
            }
            self.transmissions.pop_front();
        }
        None
    }

    /// Returns the TSN of the last transmission whose chunk is still in flight.
    pub(crate) fn newest(&mut self) -> Option<u64> {
        while let Some((tsn, packet)) = self.transmissions.back().copied() {
            let current = |sent: &Sent| sent.packet == packet && sent.status == Status::InFlight;
            if self.get(tsn).is_some_and(current) {
                return Some(tsn);
            }
            self.transmissions.pop_back();
        }
        None
    }

    /// Gives memory back once nothing is outstanding.
    pub(crate) fn shrink(&mut self) {
        if self.ring.is_empty() {
            self.lost.clear();
            self.transmissions.clear();
            self.acked.clear();
            if self.ring.capacity() > 64 {
                self.ring = VecDeque::new();
                self.lost = VecDeque::new();
                self.transmissions = VecDeque::new();
            }
        }
    }
}
