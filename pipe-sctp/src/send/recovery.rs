//! State of loss recovery: the newest packet that arrived, reordering, probes and episodes (RFC 8985).

use crate::rtt::Rtt;
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

/// Most steps of the reordering window; each is a quarter of the least round trip.
const MAX_STEPS: u32 = 16;
/// Recoveries without a spurious retransmission after which the window is as at the start.
const PERSISTENCE: u32 = 16;
/// Most retransmissions of an episode that are kept to be compared with duplicate reports.
const MAX_RESENT: usize = 256;

/// What loss recovery keeps beyond the chunks themselves.
#[derive(Debug)]
pub(super) struct Recovery {
    /// The newest packet that arrived, by its number.
    pub(super) newest: Option<u64>,
    /// The round trip of that packet.
    pub(super) round_trip: Duration,
    /// Largest TSN that arrived.
    highest: u64,
    pub(super) reordering_seen: bool,
    steps: u32,
    persistence: u32,
    /// Whether the window was widened in this episode.
    widened: bool,
    pub(super) reordering_deadline: Option<Instant>,
    /// Packets that may be sent without regard to the congestion window.
    pub(super) free_packets: usize,
    pub(super) probe_due: bool,
    pub(super) probe: Option<Probe>,
    episode: Option<Episode>,
}

/// A probe that was sent and not yet answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Probe {
    /// The chunk that was sent again, and when it was sent before; `None` if new data went.
    again: Option<(u64, Instant)>,
    packet: u64,
}

/// A reduction of the congestion window and what led to it.
#[derive(Debug)]
struct Episode {
    /// Number of the first packet after it; the loss of an earlier one belongs to it.
    end: u64,
    marked: usize,
    spurious: usize,
    resent: BTreeSet<u64>,
    undone: bool,
}

impl Default for Recovery {
    fn default() -> Self {
        Self {
            newest: None,
            round_trip: Duration::ZERO,
            highest: 0,
            reordering_seen: false,
            steps: 1,
            persistence: 0,
            widened: false,
            reordering_deadline: None,
            free_packets: 0,
            probe_due: false,
            probe: None,
            episode: None,
        }
    }
}

impl Recovery {
    /// Records the newest packet of a SACK that arrived.
    pub(super) fn on_newest(&mut self, packet: u64, round_trip: Duration) {
        if self.newest.is_none_or(|newest| packet >= newest) {
            self.newest = Some(packet);
            self.round_trip = round_trip;
        }
        if self.probe.is_some_and(|probe| packet >= probe.packet) {
            self.probe = None;
        }
    }

    /// Records a chunk that arrived.
    pub(super) fn on_acked(&mut self, tsn: u64, resent: bool) {
        if tsn < self.highest && !resent {
            self.reordering_seen = true;
        }
        self.highest = self.highest.max(tsn);
    }

    /// Records that a chunk was sent again.
    pub(super) fn resent(&mut self, tsn: u64) {
        if let Some(episode) = &mut self.episode
            && episode.resent.len() < MAX_RESENT
        {
            episode.resent.insert(tsn);
        }
    }

    /// Records that a chunk that was declared lost had arrived.
    pub(super) fn on_spurious(&mut self, tsn: u64) {
        if let Some(episode) = &mut self.episode {
            episode.resent.remove(&tsn);
            episode.spurious += 1;
        }
        self.widen();
    }

    /// Handles the report of a duplicate. Returns whether it shows that the probe was not needed.
    pub(super) fn on_duplicate(&mut self, tsn: u64) -> bool {
        if let Some(episode) = &mut self.episode
            && episode.resent.remove(&tsn)
        {
            episode.spurious += 1;
            self.widen();
        }
        self.probe
            .is_some_and(|probe| probe.again.is_some_and(|(again, _)| again == tsn))
    }

    /// Widens the reordering window by a step, once in an episode (RFC 8985, section 6.2, step 4).
    fn widen(&mut self) {
        if !self.widened {
            self.widened = true;
            self.reordering_seen = true;
            self.steps = (self.steps + 1).min(MAX_STEPS);
            self.persistence = PERSISTENCE;
        }
    }

    /// Returns how long after its round trip a packet may arrive.
    pub(super) fn reordering_window(&self, rtt: &Rtt) -> Duration {
        let quarter = rtt.min().unwrap_or_default() / 4;
        (quarter * self.steps).min(rtt.smoothed().unwrap_or_default())
    }

    /// Returns when the chunk was first sent that the probe carried again as `tsn` in `packet`.
    pub(super) fn probed_at(&self, tsn: u64, packet: u64) -> Option<Instant> {
        let probe = self.probe.filter(|probe| probe.packet == packet)?;
        probe
            .again
            .filter(|(again, _)| *again == tsn)
            .map(|(_, sent_at)| sent_at)
    }

    /// Records a probe that was sent: a chunk again, or new data.
    pub(super) fn probed(&mut self, again: Option<(u64, Instant)>, packet: u64) {
        self.probe = Some(Probe { again, packet });
    }

    /// Begins an episode, or adds `marked` chunks to the one that `packet` belongs to. Returns whether
    /// it is a new one.
    pub(super) fn mark(&mut self, packet: u64, marked: usize, next_packet: u64) -> bool {
        match &mut self.episode {
            Some(episode) if packet < episode.end => {
                episode.marked += marked;
                false
            }
            _ => {
                self.episode = Some(Episode {
                    end: next_packet,
                    marked,
                    spurious: 0,
                    resent: BTreeSet::new(),
                    undone: false,
                });
                self.widened = false;
                self.persistence = self.persistence.saturating_sub(1);
                if self.persistence == 0 {
                    self.steps = 1;
                }
                true
            }
        }
    }

    /// Returns whether nothing that led to the last reduction was lost, once for each.
    pub(super) fn take_spurious(&mut self) -> bool {
        let Some(episode) = &mut self.episode else {
            return false;
        };
        let is_spurious =
            !episode.undone && episode.marked > 0 && episode.spurious >= episode.marked;
        episode.undone |= is_spurious;
        is_spurious
    }
}
