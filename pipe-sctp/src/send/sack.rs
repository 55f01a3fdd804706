//! Handles SACK chunks (RFC 9260, section 6.2.1). Only what a SACK newly acknowledges is walked.

use super::{
    Sender,
    outstanding::{Sent, Status},
};
use crate::{
    chunk::sack::Sack, congestion::Ack, event::Violation, stats::Stats, timers::Timers, tsn,
};
use std::time::Instant;

/// What a SACK acknowledged for the first time.
#[derive(Debug, Default)]
struct Newly {
    bytes: usize,
    /// Packet, time and TSN of the newest transmission that is known to have arrived.
    newest: Option<(u64, Instant, u64)>,
    /// Packet and time of the newest chunk that was sent once.
    sampled: Option<(u64, Instant)>,
    /// The chunk that the probe carried again, and when it was first sent, if that replaced a lost one.
    probe: Option<(u64, Instant)>,
}

impl Sender {
    /// Handles a SACK.
    pub(crate) fn on_sack(
        &mut self,
        now: Instant,
        sack: &Sack<'_>,
        timers: &mut Timers,
        stats: &mut Stats,
    ) -> Result<(), Violation> {
        let cumulative = tsn::expand32(self.outstanding.cumulative(), sack.cumulative);
        if cumulative < self.outstanding.cumulative() {
            // An older SACK that was overtaken.
            return Ok(());
        }
        self.on_cumulative(now, cumulative, Some(sack), timers, stats)
    }

    /// Handles the cumulative TSN of a SHUTDOWN chunk (RFC 9260, section 6.2).
    pub(crate) fn on_shutdown(
        &mut self,
        now: Instant,
        cumulative: u32,
        timers: &mut Timers,
        stats: &mut Stats,
    ) -> Result<(), Violation> {
        let cumulative = tsn::expand32(self.outstanding.cumulative(), cumulative);
        let cumulative = cumulative.max(self.outstanding.cumulative());
        self.on_cumulative(now, cumulative, None, timers, stats)
    }

    fn on_cumulative(
        &mut self,
        now: Instant,
        cumulative: u64,
        sack: Option<&Sack<'_>>,
        timers: &mut Timers,
        stats: &mut Stats,
    ) -> Result<(), Violation> {
        if cumulative >= self.outstanding.next() {
            return Err(Violation::protocol(
                "a SACK acknowledges a TSN that was not sent",
            ));
        }
        let in_flight = self.outstanding.in_flight;
        let mut newly = Newly::default();
        while self.outstanding.cumulative() < cumulative {
            let Some((tsn, sent)) = self.outstanding.pop() else {
                break;
            };
            self.on_popped(now, tsn, &sent, &mut newly);
        }
        self.outstanding.acked.remove_to(cumulative);
        self.check_unsettled();
        if let Some(sack) = sack {
            self.peer_window = sack.window as usize;
            self.on_gaps(now, cumulative, sack, &mut newly);
            self.on_duplicates(sack, &mut newly);
        }
        let sample = match (newly.sampled, newly.newest) {
            (Some((packet, sent)), Some((newest, ..))) if packet == newest => {
                Some(now.saturating_duration_since(sent))
            }
            _ => None,
        };
        if let Some(sample) = sample {
            self.rtt.update(sample);
        }
        if let Some((packet, sent, _)) = newly.newest {
            self.recovery
                .on_newest(packet, now.saturating_duration_since(sent));
        }
        if newly.bytes > 0 {
            self.timer_base = Some(now);
            self.rtt.reset_backoff();
            // As many as have left the path, or one SACK for a whole burst would bring no larger one.
            self.burst = self.max_burst + newly.bytes / self.mtu;
            let srtt = self.rtt.smoothed().unwrap_or_else(|| self.rtt.latest());
            let sent = newly.newest.map(|(_, sent, _)| sent);
            self.controller.on_ack(&Ack {
                now,
                bytes: newly.bytes,
                sent: sent.or_else(|| now.checked_sub(srtt)).unwrap_or(now),
                rtt: sample,
                srtt,
                min_rtt: self.rtt.min().unwrap_or(srtt),
                in_flight,
                app_limited: newly
                    .newest
                    .is_none_or(|(.., tsn)| tsn >= self.limited_until),
            });
        }
        if let Some((tsn, sent_at)) = newly.probe {
            self.on_probe_replaced(now, tsn, sent_at, in_flight);
        }
        self.detect_losses(now, stats);
        self.undo_if_spurious(now, stats);
        self.advance();
        self.check_forward(now);
        if self.outstanding.is_empty() {
            self.recovery.probe_due = false;
            self.recovery.probe = None;
            self.shrink();
        }
        self.set_timers(now, timers);
        Ok(())
    }

    /// Counts a chunk that left the ring.
    fn on_popped(&mut self, now: Instant, tsn: u64, sent: &Sent, newly: &mut Newly) {
        if let Some(limited) = sent.limited {
            self.limits.settled(limited);
        }
        if matches!(sent.status, Status::InFlight | Status::Lost) {
            self.on_acked(now, tsn, sent, newly);
            self.unbuffer(sent.header.stream, sent.payload.len());
        }
    }

    /// Walks the parts of gap reports that were not reported before.
    fn on_gaps(&mut self, now: Instant, cumulative: u64, sack: &Sack<'_>, newly: &mut Newly) {
        let last = self.outstanding.next() - 1;
        let mut added = Vec::new();
        for (from, to) in sack.gaps() {
            // A gap that began at the next TSN would be part of the cumulative one.
            let start = cumulative + u64::from(from.max(2));
            let end = (cumulative + u64::from(to)).min(last);
            if start <= end {
                self.outstanding
                    .acked
                    .insert_range(start, end, |from, to| added.push((from, to)));
            }
        }
        for (from, to) in added {
            for tsn in from..=to {
                let Some(before) = self.outstanding.get(tsn).map(|sent| sent.status) else {
                    continue;
                };
                if matches!(before, Status::InFlight | Status::Lost) {
                    self.on_gap_acked(now, tsn, newly);
                }
            }
        }
    }

    fn on_gap_acked(&mut self, now: Instant, tsn: u64, newly: &mut Newly) {
        let Some(sent) = self.outstanding.get(tsn) else {
            return;
        };
        let (stream, len) = (sent.header.stream, sent.payload.len());
        let seen = Seen::of(sent);
        self.on_acked_seen(now, tsn, seen, newly);
        self.outstanding.set_status(tsn, Status::Acked);
        self.unbuffer(stream, len);
    }

    fn on_acked(&mut self, now: Instant, tsn: u64, sent: &Sent, newly: &mut Newly) {
        self.on_acked_seen(now, tsn, Seen::of(sent), newly);
    }

    fn on_acked_seen(&mut self, now: Instant, tsn: u64, seen: Seen, newly: &mut Newly) {
        newly.bytes += self.outstanding.size(seen.len);
        let age = now.saturating_duration_since(seen.sent_at);
        // Sooner than a round trip after it was sent again, the first one arrived (RFC 3522).
        let resent = seen.transmissions > 1;
        let early = resent && self.rtt.min().is_some_and(|min| age < min);
        if seen.status == Status::Lost || early {
            self.recovery.on_spurious(tsn);
        }
        if !early && let Some(sent_at) = self.recovery.probed_at(tsn, seen.packet) {
            newly.probe = Some((tsn, sent_at));
        }
        self.recovery.on_acked(tsn, resent);
        if early {
            return;
        }
        let newest = newly.newest.map_or(0, |(packet, ..)| packet);
        if newly.newest.is_none() || seen.packet > newest {
            newly.newest = Some((seen.packet, seen.sent_at, tsn));
        } else if let Some((packet, _, newest_tsn)) = &mut newly.newest
            && *packet == seen.packet
        {
            *newest_tsn = (*newest_tsn).min(tsn);
        }
        if !resent && newly.sampled.is_none_or(|(packet, _)| seen.packet > packet) {
            newly.sampled = Some((seen.packet, seen.sent_at));
        }
    }

    /// Handles the report of TSNs that arrived twice: the retransmission was not needed (RFC 3708).
    fn on_duplicates(&mut self, sack: &Sack<'_>, newly: &mut Newly) {
        for duplicate in sack.duplicates() {
            let tsn = tsn::expand32(self.outstanding.cumulative(), duplicate);
            if self.recovery.on_duplicate(tsn) {
                newly.probe = None;
            }
        }
    }
}

/// What is looked at of a chunk that arrived.
#[derive(Clone, Copy, Debug)]
struct Seen {
    status: Status,
    transmissions: u16,
    packet: u64,
    sent_at: Instant,
    len: usize,
}

impl Seen {
    fn of(sent: &Sent) -> Self {
        Self {
            status: sent.status,
            transmissions: sent.transmissions,
            packet: sent.packet,
            sent_at: sent.sent_at,
            len: sent.payload.len(),
        }
    }
}
