//! The sending half: queues by stream, chunks in flight, loss recovery.

mod abandon;
mod limits;
mod loss;
mod outstanding;
mod queue;
mod recovery;
mod sack;
mod scheduler;
mod transmit;

use crate::{
    chunk::init::Features,
    config::Config,
    congestion::{Controller, Pacer},
    event::{SendError, SendOptions},
    rtt::Rtt,
    stats::Stats,
    timers::{Timer, Timers},
    tsn,
};
use bytes::Bytes;
use limits::Limits;
use outstanding::Outstanding;
use queue::{OutStream, Queued, Resetting};
use recovery::Recovery;
use rustc_hash::{FxHashMap, FxHashSet};
use scheduler::Scheduler;
use std::{
    collections::{BTreeSet, VecDeque},
    time::{Duration, Instant},
};

/// Most TSNs between the cumulative one and the next: a gap of a SACK reaches no further than 65,535.
const MAX_OUTSTANDING: usize = 60_000;

/// The sending half of an association.
#[derive(Debug)]
pub(crate) struct Sender {
    streams: FxHashMap<u16, OutStream>,
    /// Streams that were begun since the peer reset all.
    unreset: FxHashSet<u16>,
    scheduler: Scheduler,
    outstanding: Outstanding,
    limits: Limits,
    recovery: Recovery,
    controller: Box<dyn Controller>,
    pacer: Pacer,
    pub(crate) rtt: Rtt,
    /// Streams whose next message waits until others are complete, in the order they came.
    parked: VecDeque<u16>,
    /// Bytes that are still to be sent of messages that were begun.
    begun: usize,
    /// Streams whose reset may be requested, in the order it was asked for.
    resettable: VecDeque<u16>,
    /// Streams whose reset waits for the cumulative TSN, with the one that it waits for.
    unsettled: BTreeSet<(u64, u16)>,
    /// Bytes queued or not yet acknowledged.
    buffered: usize,
    send_buffer: usize,
    buffered_low: usize,
    above_low: bool,
    mtu: usize,
    interleaved: bool,
    partial_reliability: bool,
    /// Whether a reset is requested before the data of the stream is acknowledged.
    early_reset: bool,
    /// Streams that the peer takes messages on; ids are below it.
    outbound: u16,
    /// Window that the peer announced last.
    peer_window: usize,
    /// Number of the packet with data that is sent next.
    next_packet: u64,
    max_burst: usize,
    burst: usize,
    /// The TSN below which sending was limited by the congestion window.
    limited_until: u64,
    /// Advanced.Peer.Ack.Point of RFC 3758, section 3.5.
    advanced: u64,
    /// The TSN to which it was looked for abandoned chunks.
    scanned: u64,
    forward_due: bool,
    forward_sent: Option<Instant>,
    /// Whether one chunk may be sent although the window of the peer is closed (RFC 9260, section 6.1,
    /// rule A).
    window_probe: bool,
    /// When something was sent last.
    last_sent: Option<Instant>,
    /// When the retransmission timer was started.
    timer_base: Option<Instant>,
}

impl Sender {
    pub(crate) fn new(config: &Config, initial_tsn: u32) -> Self {
        let first = tsn::first(initial_tsn);
        Self {
            streams: FxHashMap::default(),
            unreset: FxHashSet::default(),
            scheduler: Scheduler::default(),
            outstanding: Outstanding::new(first, false),
            limits: Limits::default(),
            recovery: Recovery::default(),
            controller: config.congestion.controller(config.mtu),
            pacer: Pacer::new(config.mtu),
            rtt: Rtt::new(config.rto_initial, config.rto_min, config.rto_max),
            parked: VecDeque::new(),
            begun: 0,
            resettable: VecDeque::new(),
            unsettled: BTreeSet::new(),
            buffered: 0,
            send_buffer: config.send_buffer,
            buffered_low: config.buffered_low,
            above_low: false,
            mtu: config.mtu,
            interleaved: false,
            partial_reliability: false,
            early_reset: false,
            outbound: config.outbound_streams,
            peer_window: 0,
            next_packet: 0,
            max_burst: config.max_burst,
            burst: config.max_burst,
            limited_until: first,
            advanced: first - 1,
            scanned: first - 1,
            forward_due: false,
            forward_sent: None,
            window_probe: false,
            last_sent: None,
            timer_base: None,
        }
    }

    /// Takes what was agreed with the peer. Returns `false` if messages that wait cannot be sent under it.
    pub(crate) fn negotiate(&mut self, features: Features, outbound: u16, window: u32) -> bool {
        if self.outstanding.is_empty() {
            self.outstanding = Outstanding::new(self.outstanding.next(), features.interleaving);
        } else if self.interleaved != features.interleaving {
            // Chunks that were sent with a COOKIE ECHO have the other form.
            return false;
        }
        self.interleaved = features.interleaving;
        self.partial_reliability = features.partial_reliability;
        self.early_reset = features.ack_delay.is_some();
        self.outbound = outbound;
        self.peer_window = window as usize;
        if let Some(delay) = features.ack_delay {
            self.rtt
                .set_ack_delay(Duration::from_millis(delay.min(500).into()));
        }
        self.streams
            .iter()
            .all(|(id, stream)| *id < outbound || stream.buffered == 0)
    }

    /// Queues a message.
    pub(crate) fn send(
        &mut self,
        now: Instant,
        id: u16,
        ppid: u32,
        payload: Bytes,
        options: &SendOptions,
        stats: &mut Stats,
    ) -> Result<(), SendError> {
        if payload.is_empty() {
            return Err(SendError::Empty);
        }
        if !self.has_stream(id) {
            return Err(SendError::InvalidStream);
        }
        if self
            .streams
            .get(&id)
            .is_some_and(|stream| stream.resetting != Resetting::No)
        {
            return Err(SendError::Resetting);
        }
        if self.buffered > 0 && self.buffered + payload.len() > self.send_buffer {
            self.expire(id, now, stats);
            if self.buffered > 0 && self.buffered + payload.len() > self.send_buffer {
                return Err(SendError::Full);
            }
        }
        let stream = self.streams.entry(id).or_default();
        if !stream.is_used {
            stream.is_used = true;
            self.unreset.insert(id);
        }
        stream.buffered += payload.len();
        self.buffered += payload.len();
        self.above_low |= self.buffered > self.buffered_low;
        stream
            .queue
            .push_back(Queued::new(now, ppid, payload, options));
        if !stream.active {
            stream.active = true;
            self.scheduler.activate(id, stream.finished);
        }
        stats.messages_sent += 1;
        Ok(())
    }

    /// Drops messages at the front of a stream's queue that expired unsent.
    fn expire(&mut self, id: u16, now: Instant, stats: &mut Stats) {
        if let Some(stream) = self.streams.get_mut(&id) {
            let (count, bytes) = stream.expire(now);
            self.buffered -= bytes;
            stats.messages_abandoned += count;
        }
    }

    /// Returns whether the peer takes messages on a stream.
    pub(crate) fn has_stream(&self, id: u16) -> bool {
        id < self.outbound
    }

    pub(crate) fn set_weight(&mut self, id: u16, weight: u16) {
        if self.has_stream(id) {
            self.streams.entry(id).or_default().weight = weight.max(1);
        }
    }

    /// Asks for the reset of a stream once its queue is sent.
    pub(crate) fn reset(&mut self, id: u16) {
        let stream = self.streams.entry(id).or_default();
        if stream.resetting == Resetting::No {
            stream.resetting = Resetting::Draining;
            self.check_reset(id);
        }
    }

    /// Moves a stream whose reset was asked for to the list of those to be requested, if nothing of it
    /// waits.
    fn check_reset(&mut self, id: u16) {
        if let Some(stream) = self.streams.get_mut(&id)
            && stream.resetting == Resetting::Draining
            && stream.queue.is_empty()
            && (self.early_reset || stream.buffered == 0)
        {
            if stream.settled_at > self.outstanding.cumulative() {
                self.unsettled.insert((stream.settled_at, id));
                return;
            }
            stream.resetting = Resetting::Requested;
            self.resettable.push_back(id);
        }
    }

    /// Lets the reset of a stream wait until the peer acknowledges everything up to `tsn`: until then a FORWARD-TSN may
    /// name the stream, and one that comes after the reset would skip messages of the stream's next life.
    fn settle_at(&mut self, id: u16, tsn: u64) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.settled_at = stream.settled_at.max(tsn);
        }
    }

    /// Checks the resets that waited for the cumulative TSN.
    fn check_unsettled(&mut self) {
        let cumulative = self.outstanding.cumulative();
        while let Some((settled_at, id)) = self.unsettled.first().copied()
            && settled_at <= cumulative
        {
            self.unsettled.pop_first();
            self.check_reset(id);
        }
    }

    pub(crate) fn has_resettable(&self) -> bool {
        !self.resettable.is_empty()
    }

    /// Takes at most `most` of the streams whose reset is to be requested.
    pub(crate) fn take_resettable(&mut self, most: usize) -> Vec<u16> {
        let count = self.resettable.len().min(most);
        let streams = self.resettable.drain(..count).collect();
        if self.resettable.is_empty() {
            self.resettable = VecDeque::new();
        }
        streams
    }

    /// Ends the reset of a stream. If it was performed, its numbers start over.
    pub(crate) fn finish_reset(&mut self, id: u16, performed: bool) {
        if let Some(stream) = self.streams.get_mut(&id) {
            if performed {
                stream.restart_numbers();
            } else {
                stream.resetting = Resetting::No;
            }
            self.forget(id);
        }
    }

    /// Removes a stream that is as if it was never used.
    fn forget(&mut self, id: u16) {
        if self.streams.get(&id).is_some_and(OutStream::is_pristine) {
            self.streams.remove(&id);
            self.unreset.remove(&id);
            if self.streams.is_empty() && self.streams.capacity() > 64 {
                self.streams = FxHashMap::default();
                self.unreset = FxHashSet::default();
            }
        }
    }

    /// Takes the ids of the streams that were begun since this was called last.
    pub(crate) fn take_unreset(&mut self) -> FxHashSet<u16> {
        std::mem::take(&mut self.unreset)
    }

    /// Returns the TSN that was assigned last, as on the wire.
    pub(crate) fn last_tsn(&self) -> u32 {
        (self.outstanding.next() - 1) as u32
    }

    pub(crate) fn buffered(&self) -> usize {
        self.buffered
    }

    pub(crate) fn unsent(&self) -> usize {
        self.buffered
            .saturating_sub(self.outstanding.in_flight_payload)
    }

    pub(crate) fn buffered_on(&self, id: u16) -> usize {
        self.streams.get(&id).map_or(0, |stream| stream.buffered)
    }

    /// Returns, once, whether the buffered bytes went down to the limit.
    pub(crate) fn take_low(&mut self) -> bool {
        let low = self.above_low && self.buffered <= self.buffered_low;
        if low {
            self.above_low = false;
        }
        low
    }

    /// Returns whether nothing is queued or outstanding.
    pub(crate) fn is_drained(&self) -> bool {
        self.outstanding.is_empty() && self.scheduler.is_empty() && self.parked.is_empty()
    }

    /// Returns whether the peer has something to acknowledge.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.outstanding.is_empty()
    }

    /// Allows another burst of packets.
    pub(crate) fn refill_burst(&mut self) {
        self.burst = self.max_burst;
    }

    fn window(&self) -> usize {
        self.controller.window()
    }

    /// Subtracts the bytes of a chunk that is acknowledged or given up from what is buffered.
    fn unbuffer(&mut self, id: u16, bytes: usize) {
        self.buffered -= bytes;
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.buffered -= bytes;
            if stream.buffered == 0 {
                match stream.resetting {
                    Resetting::Draining => self.check_reset(id),
                    Resetting::No => self.forget(id),
                    Resetting::Requested => {}
                }
            }
        }
    }

    /// Sets the timers of retransmission, reordering and probe after a change.
    pub(crate) fn set_timers(&mut self, now: Instant, timers: &mut Timers) {
        let blocked = self.peer_window == 0 && !self.scheduler.is_empty() && !self.window_probe;
        let retransmission = if self.outstanding.is_empty() && !blocked {
            self.timer_base = None;
            None
        } else {
            Some(*self.timer_base.get_or_insert(now) + self.rtt.rto())
        };
        timers.set_or_stop(Timer::Retransmission, retransmission);
        timers.set_or_stop(Timer::Reordering, self.recovery.reordering_deadline);
        // The timeout is the later measure.
        let before_timeout = |probe: &Instant| retransmission.is_none_or(|at| *probe < at);
        timers.set_or_stop(Timer::Probe, self.probe_deadline().filter(before_timeout));
    }

    /// Gives memory back once everything is acknowledged.
    fn shrink(&mut self) {
        if self.outstanding.is_empty() {
            self.outstanding.shrink();
        }
    }

    pub(crate) fn add_stats(&self, stats: &mut Stats) {
        stats.smoothed_rtt = self.rtt.smoothed();
        stats.rtt_variance = self.rtt.variance();
        stats.min_rtt = self.rtt.min();
        stats.rto = self.rtt.rto();
        stats.congestion_window = self.controller.window();
        stats.slow_start_threshold = self.controller.ssthresh();
        stats.peer_window = self.peer_window;
        stats.in_flight = self.outstanding.in_flight;
        stats.mtu = self.mtu;
        stats.interleaving = self.interleaved;
        stats.partial_reliability = self.partial_reliability;
    }
}
