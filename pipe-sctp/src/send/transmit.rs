//! Fills packets with chunks: retransmissions first, then new fragments (RFC 9260, sections 6.1 and 6.9).

use super::{
    MAX_OUTSTANDING, Sender,
    outstanding::{Sent, Status},
    queue::Begun,
};
use crate::{
    chunk::data::{DataHeader, flag, header_len},
    packet,
    stats::Stats,
    timers::{Timer, Timers},
};
use std::time::Instant;

/// Fewest bytes of payload for which a fragment is made to fill a packet.
const LEAST_FRAGMENT: usize = 64;

/// Why a packet may be begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Permit {
    /// The windows have room.
    Window,
    /// One packet is sent without regard to the congestion window, and what is lost goes first.
    Recovery,
    /// A tail-loss probe.
    Probe,
}

impl Sender {
    /// Appends chunks to a packet that began at `start` of `buf`. Returns whether any was.
    pub(crate) fn fill(
        &mut self,
        now: Instant,
        buf: &mut Vec<u8>,
        start: usize,
        timers: &mut Timers,
        stats: &mut Stats,
    ) -> bool {
        self.unpark(now, stats);
        if self.outstanding.is_empty() && self.scheduler.is_empty() {
            return false;
        }
        let Some(permit) = self.permit(now, timers) else {
            return false;
        };
        let before = buf.len();
        let in_flight = self.outstanding.in_flight;
        let idle = self.outstanding.is_empty();
        self.fill_lost(now, buf, start, stats);
        self.fill_new(now, buf, start, stats);
        if permit == Permit::Probe {
            self.finish_probe(now, buf, start, before, stats);
        }
        let bytes = buf.len() - before;
        if bytes == 0 {
            return false;
        }
        self.next_packet += 1;
        self.recovery.free_packets = 0;
        self.burst = self.burst.saturating_sub(1);
        self.controller.on_sent(now, bytes, in_flight);
        self.pacer.on_sent(bytes);
        if idle || permit == Permit::Probe || self.timer_base.is_none() {
            self.timer_base = Some(now);
        }
        self.last_sent = Some(now);
        self.set_timers(now, timers);
        true
    }

    /// Returns whether a packet of data may be sent now, and why.
    fn permit(&mut self, now: Instant, timers: &mut Timers) -> Option<Permit> {
        if self.recovery.probe_due {
            return Some(Permit::Probe);
        }
        if self.outstanding.in_flight == 0 {
            self.burst = self.max_burst;
        }
        let lost = self.outstanding.first_lost().is_some();
        if lost && self.recovery.free_packets > 0 {
            return Some(Permit::Recovery);
        }
        if !lost && !self.may_send_new() {
            return None;
        }
        if self.outstanding.in_flight >= self.window() || self.burst == 0 {
            self.limited_until = self.outstanding.next();
            return None;
        }
        let slow_start = self.controller.is_in_slow_start();
        let (mtu, window) = (self.mtu, self.window());
        match self
            .pacer
            .delay(now, mtu, window, self.rtt.smoothed(), slow_start)
        {
            None => Some(Permit::Window),
            Some(at) => {
                self.limited_until = self.outstanding.next();
                timers.set(Timer::Pacing, at);
                None
            }
        }
    }

    /// Returns whether a new chunk is there and the peer has room for it.
    fn may_send_new(&self) -> bool {
        !self.scheduler.is_empty()
            && self.outstanding.len() < MAX_OUTSTANDING
            && if self.outstanding.in_flight == 0 {
                self.peer_window > 0 || self.window_probe
            } else {
                self.outstanding.in_flight_payload < self.peer_window
            }
    }

    fn room(&self, buf: &[u8], start: usize) -> usize {
        let used = buf.len() - start + header_len(self.interleaved);
        // A chunk is padded to a multiple of four, as the mtu is.
        self.mtu.saturating_sub(used) & !3
    }

    /// Appends what is lost.
    fn fill_lost(&mut self, now: Instant, buf: &mut Vec<u8>, start: usize, stats: &mut Stats) {
        while let Some(tsn) = self.outstanding.first_lost() {
            let exceeded = self.is_exceeded(tsn, now);
            if exceeded {
                self.abandon(tsn, now, stats);
                continue;
            }
            let room = self.room(buf, start);
            let Some(sent) = self.outstanding.get(tsn) else {
                return;
            };
            if sent.payload.len() > room {
                return;
            }
            self.put_again(tsn, now, buf, stats);
            self.recovery.resent(tsn);
        }
    }

    /// Appends a chunk that was sent before.
    fn put_again(&mut self, tsn: u64, now: Instant, buf: &mut Vec<u8>, stats: &mut Stats) {
        // An acknowledgement without delay ends the doubt soonest (RFC 7053, section 5.1).
        let immediate = self.rtt.backoff() > 0 || self.recovery.probe_due;
        if let Some(sent) = self.outstanding.get(tsn) {
            let mut header = sent.header;
            if immediate {
                header.flags |= flag::IMMEDIATE;
            }
            header.put(buf, self.interleaved, &sent.payload);
        }
        self.outstanding.resend(tsn, self.next_packet, now);
        stats.chunks_sent += 1;
        stats.chunks_retransmitted += 1;
    }

    /// Appends new fragments.
    fn fill_new(&mut self, now: Instant, buf: &mut Vec<u8>, start: usize, stats: &mut Stats) {
        while self.may_send_new() {
            self.unpark(now, stats);
            let Some(id) = self.scheduler.next() else {
                return;
            };
            self.expire(id, now, stats);
            let room = self.room(buf, start);
            let full = (self.mtu - packet::HEADER - header_len(self.interleaved)) & !3;
            let Some(stream) = self.streams.get_mut(&id) else {
                self.scheduler.remove(id, 0, 1);
                continue;
            };
            let Some(message) = stream.queue.front() else {
                stream.active = false;
                stream.finished = self.scheduler.remove(id, 0, stream.weight);
                self.check_reset(id);
                self.forget(id);
                continue;
            };
            let total = message.payload.len();
            if total > full && stream.begun.is_none() && !self.fits(total) {
                self.park(id);
                continue;
            }
            let Some(stream) = self.streams.get(&id) else {
                return;
            };
            let offset = stream.begun.map_or(0, |begun| begun.offset);
            let left = total - offset;
            let len = if left <= room {
                left
            } else if left <= full || room < LEAST_FRAGMENT {
                return;
            } else {
                room
            };
            let available = self
                .peer_window
                .saturating_sub(self.outstanding.in_flight_payload);
            if len > available && self.outstanding.in_flight > 0 {
                return;
            }
            self.window_probe = false;
            self.put_new(id, len, now, buf);
            stats.chunks_sent += 1;
        }
    }

    /// Returns whether another message of `len` bytes may be begun. The peer has to hold all that are
    /// begun until they are complete: more than its window has room for, and none of them ever is.
    fn fits(&self, len: usize) -> bool {
        let available = self
            .peer_window
            .saturating_sub(self.outstanding.in_flight_payload);
        // A fifth is for what the peer counts beyond the payload.
        !self.interleaved || self.begun == 0 || self.begun + len <= available / 5 * 4
    }

    /// Takes the stream that is next out of the scheduler, until its message may be begun.
    fn park(&mut self, id: u16) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.finished = self.scheduler.remove(id, 0, stream.weight);
            self.parked.push_back(id);
        }
    }

    /// Puts the first stream that waits back into the scheduler if its message may be begun.
    fn unpark(&mut self, now: Instant, stats: &mut Stats) {
        let Some(id) = self.parked.front().copied() else {
            return;
        };
        self.expire(id, now, stats);
        let Some(stream) = self.streams.get(&id) else {
            self.parked.pop_front();
            return;
        };
        let (len, finished) = (
            stream.queue.front().map_or(0, |m| m.payload.len()),
            stream.finished,
        );
        if self.fits(len) {
            self.parked.pop_front();
            self.scheduler.activate(id, finished);
        }
    }

    /// Appends `len` bytes of the first message of a stream, which is the next of the scheduler.
    fn put_new(&mut self, id: u16, len: usize, now: Instant, buf: &mut Vec<u8>) {
        let tsn = self.outstanding.next();
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let Some(message) = stream.queue.front() else {
            return;
        };
        let total = message.payload.len();
        let (unordered, immediate, ppid) = (message.unordered, message.immediate, message.ppid);
        let mut flags = if unordered { flag::UNORDERED } else { 0 };
        let begun = if let Some(begun) = stream.begun {
            begun
        } else {
            flags |= flag::BEGIN;
            let (most, deadline) = (message.max_retransmits, message.deadline);
            let limit = self.partial_reliability && (most.is_some() || deadline.is_some());
            let limited = limit.then(|| self.limits.insert(id, most, deadline));
            let mid = stream.assign(unordered, self.interleaved);
            Begun {
                offset: 0,
                mid,
                fsn: 0,
                limited,
            }
        };
        if begun.offset == 0 {
            self.begun += total;
        }
        self.begun -= len;
        let end = begun.offset + len;
        let ends = end == total;
        if ends {
            flags |= flag::END;
            if immediate {
                flags |= flag::IMMEDIATE;
            }
        }
        let Some(message) = stream.queue.front_mut() else {
            return;
        };
        let payload = if ends && begun.offset == 0 {
            std::mem::take(&mut message.payload)
        } else {
            message.payload.slice(begun.offset..end)
        };
        if ends {
            stream.queue.pop_front();
            stream.begun = None;
        } else {
            stream.begun = Some(Begun {
                offset: end,
                fsn: begun.fsn + 1,
                ..begun
            });
        }
        if let Some(limited) = begun.limited {
            self.limits.sent(limited, tsn, ends);
        }
        let header = DataHeader {
            flags,
            tsn: tsn as u32,
            stream: id,
            mid: begun.mid,
            ppid,
            fsn: begun.fsn,
        };
        header.put(buf, self.interleaved, &payload);
        // Without interleaving a stream pays for a whole message when it ends.
        let sent = if self.interleaved { len } else { total } + header_len(self.interleaved);
        if stream.queue.is_empty() {
            stream.active = false;
            stream.finished = self.scheduler.remove(id, sent, stream.weight);
            stream.shrink();
        } else if self.interleaved || ends {
            self.scheduler.charge(id, sent, stream.weight);
        } else {
            self.scheduler.lock(id);
        }
        if begun.limited.is_some() {
            stream.settled_at = tsn;
        }
        self.outstanding.push(Sent {
            payload,
            header,
            status: Status::InFlight,
            transmissions: 1,
            limited: begun.limited,
            packet: self.next_packet,
            sent_at: now,
        });
        self.check_reset(id);
    }

    /// Makes a probe of what was not new data: the chunk that was sent last goes again (RFC 8985,
    /// section 7.3).
    fn finish_probe(
        &mut self,
        now: Instant,
        buf: &mut Vec<u8>,
        start: usize,
        before: usize,
        stats: &mut Stats,
    ) {
        let mut again = None;
        if buf.len() == before
            && let Some(tsn) = self.outstanding.newest()
            && let Some(sent) = self.outstanding.get(tsn)
            && sent.payload.len() <= self.room(buf, start)
        {
            again = Some((tsn, sent.sent_at));
            self.put_again(tsn, now, buf, stats);
        }
        if buf.len() > before {
            stats.probes += 1;
            self.recovery.probed(again, self.next_packet);
        }
        // With control chunks in the way the probe is left to the next packet.
        self.recovery.probe_due = buf.len() == before && self.outstanding.newest().is_some();
    }
}
