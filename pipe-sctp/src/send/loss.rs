//! Finds lost chunks by time (RACK), probes the tail of a flight, and undoes what was spurious (RFC 8985,
//! RFC 9260, section 6.3).

use super::{Sender, outstanding::Status};
use crate::{congestion::Loss, stats::Stats, timers::Timers};
use std::time::{Duration, Instant};

/// Packets that overtake another before it counts as lost, unless reordering was seen.
const PACKET_THRESHOLD: u64 = 3;

/// Chunks that were declared lost together.
#[derive(Clone, Copy, Debug)]
struct Lost {
    bytes: usize,
    chunks: usize,
    packet: u64,
    sent_at: Instant,
}

impl Sender {
    /// Declares chunks lost that newer packets overtook, and sets the deadline for those that may still
    /// arrive (RFC 8985, section 6.2, step 5).
    pub(crate) fn detect_losses(&mut self, now: Instant, stats: &mut Stats) {
        self.recovery.reordering_deadline = None;
        let Some(newest) = self.recovery.newest else {
            return;
        };
        let in_flight = self.outstanding.in_flight;
        let round_trip = self
            .recovery
            .round_trip
            .max(self.rtt.smoothed().unwrap_or_default());
        let patience = round_trip + self.recovery.reordering_window(&self.rtt);
        let mut lost = None;
        while let Some((tsn, packet)) = self.outstanding.oldest() {
            if packet >= newest {
                break;
            }
            let Some(sent_at) = self.outstanding.get(tsn).map(|sent| sent.sent_at) else {
                break;
            };
            let overtaken = !self.recovery.reordering_seen && packet + PACKET_THRESHOLD <= newest;
            let deadline = sent_at + patience;
            if !overtaken && deadline > now {
                self.recovery.reordering_deadline = Some(deadline);
                break;
            }
            self.declare_lost(tsn, &mut lost);
        }
        if let Some(lost) = lost {
            self.on_lost(now, lost, in_flight, false, stats);
        }
    }

    fn declare_lost(&mut self, tsn: u64, lost: &mut Option<Lost>) {
        let Some(sent) = self.outstanding.get(tsn) else {
            return;
        };
        let bytes = self.outstanding.size(sent.payload.len());
        let (packet, sent_at) = (sent.packet, sent.sent_at);
        let sum = lost.get_or_insert(Lost {
            bytes: 0,
            chunks: 0,
            packet,
            sent_at,
        });
        sum.bytes += bytes;
        sum.chunks += 1;
        if packet > sum.packet {
            sum.packet = packet;
            sum.sent_at = sent_at;
        }
        self.outstanding.set_status(tsn, Status::Lost);
    }

    fn on_lost(
        &mut self,
        now: Instant,
        lost: Lost,
        in_flight: usize,
        timeout: bool,
        stats: &mut Stats,
    ) {
        if self
            .recovery
            .mark(lost.packet, lost.chunks, self.next_packet)
            || timeout
        {
            self.recovery.free_packets = 1;
        }
        self.controller.on_loss(&Loss {
            now,
            lost_bytes: lost.bytes,
            largest_sent: lost.sent_at,
            in_flight,
            persistent: timeout,
        });
        // What is not sent again is given up now, so that the peer is told.
        while let Some(tsn) = self.outstanding.first_lost() {
            if !self.is_exceeded(tsn, now) {
                break;
            }
            self.abandon(tsn, now, stats);
        }
    }

    /// Handles the timeout of retransmission (RFC 9260, section 6.3.3).
    pub(crate) fn on_timeout(&mut self, now: Instant, timers: &mut Timers, stats: &mut Stats) {
        self.timer_base = Some(now);
        self.rtt.back_off();
        self.burst = self.max_burst;
        if self.outstanding.is_empty() {
            self.window_probe = self.peer_window == 0;
            self.set_timers(now, timers);
            return;
        }
        stats.timeouts += 1;
        self.recovery.probe = None;
        self.recovery.probe_due = false;
        self.renege();
        let in_flight = self.outstanding.in_flight;
        let patience = self.rtt.smoothed().map_or(Duration::ZERO, |smoothed| {
            smoothed + self.recovery.reordering_window(&self.rtt)
        });
        let mut lost = None;
        while let Some((tsn, _)) = self.outstanding.oldest() {
            let sent_at = self.outstanding.get(tsn).map(|sent| sent.sent_at);
            let late = sent_at.is_none_or(|sent_at| sent_at + patience <= now);
            if !late && lost.is_some() {
                break;
            }
            self.declare_lost(tsn, &mut lost);
        }
        self.recovery.free_packets = 1;
        if let Some(lost) = lost {
            // A window that the peer closed, or a timeout after a timeout, is no further congestion.
            let first = self.rtt.backoff() == 1 && self.peer_window > 0;
            if first {
                self.on_lost(now, lost, in_flight, true, stats);
            } else {
                self.recovery
                    .mark(lost.packet, lost.chunks, self.next_packet);
            }
        }
        self.forward_due = self.advanced > self.outstanding.cumulative();
        self.set_timers(now, timers);
    }

    /// Makes everything in flight wait to be sent again: it went to a peer that is gone.
    pub(crate) fn take_back(&mut self) {
        while let Some((tsn, _)) = self.outstanding.oldest() {
            self.outstanding.set_status(tsn, Status::Lost);
        }
    }

    /// Takes back gap reports if the next TSN is among them: the peer dropped what it had reported (RFC 9260,
    /// section 6.2.1).
    fn renege(&mut self) {
        let first = self.outstanding.cumulative() + 1;
        if self
            .outstanding
            .get(first)
            .is_none_or(|sent| sent.status != Status::Acked)
        {
            return;
        }
        for tsn in first..self.outstanding.next() {
            let Some(sent) = self.outstanding.get(tsn) else {
                return;
            };
            if sent.status == Status::Acked {
                let (id, len) = (sent.header.stream, sent.payload.len());
                self.outstanding.set_status(tsn, Status::Lost);
                self.buffered += len;
                self.streams.entry(id).or_default().buffered += len;
            }
        }
        self.outstanding.acked.clear();
        self.scanned = first - 1;
    }

    /// Returns when a tail-loss probe is due (RFC 8985, section 7.2).
    pub(super) fn probe_deadline(&self) -> Option<Instant> {
        let recovery = &self.recovery;
        if self.outstanding.in_flight == 0
            || recovery.probe.is_some()
            || recovery.probe_due
            || recovery.reordering_deadline.is_some()
            || self.rtt.backoff() > 0
        {
            return None;
        }
        let wait = self
            .rtt
            .probe_timeout(self.outstanding.in_flight <= self.mtu)?;
        Some(self.last_sent.max(self.timer_base)? + wait)
    }

    /// Makes the next packet a probe.
    pub(crate) fn on_probe_timeout(&mut self) {
        self.recovery.probe_due = self.outstanding.in_flight > 0;
    }

    /// Handles the acknowledgement of a probe that replaced a lost chunk (RFC 8985, section 7.4.2).
    pub(super) fn on_probe_replaced(
        &mut self,
        now: Instant,
        tsn: u64,
        sent_at: Instant,
        in_flight: usize,
    ) {
        self.recovery
            .mark(self.next_packet.saturating_sub(1), 1, self.next_packet);
        self.recovery.resent(tsn);
        self.controller.on_loss(&Loss {
            now,
            lost_bytes: self.mtu,
            largest_sent: sent_at,
            in_flight,
            persistent: false,
        });
    }

    /// Undoes the last reduction if nothing that led to it was lost.
    pub(super) fn undo_if_spurious(&mut self, now: Instant, stats: &mut Stats) {
        if self.recovery.take_spurious() {
            self.controller.on_spurious_loss(now);
            stats.spurious_losses += 1;
        }
    }
}
