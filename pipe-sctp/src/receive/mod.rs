//! The receiving half: which TSNs arrived, reassembly, order by stream, and acknowledgements.

mod acks;
mod cost;
mod fragments;
mod resets;
mod stream;
mod tracker;

use crate::{
    chunk::{
        data::{DataHeader, flag},
        forward::Skip,
    },
    config::Config,
    event::{Message, Violation},
    stats::Stats,
    tsn,
};
use acks::Acks;
use bytes::Bytes;
use cost::{OVERHEAD, PARTIAL};
use fragments::{Fragments, Run, TOO_LARGE, Whose};
use resets::Unreported;
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::VecDeque;
use stream::InStream;
use tracker::{Arrival, Tracker};

/// The receiving half of an association.
#[derive(Debug)]
pub(crate) struct Receiver {
    tracker: Tracker,
    pub(crate) acks: Acks,
    streams: FxHashMap<u16, InStream>,
    /// Fragments of DATA chunks by TSN.
    fragments: Fragments,
    /// Messages that wait to be taken.
    messages: VecDeque<Message>,
    /// How many messages were ever put into the queue, and taken.
    queued: u64,
    taken: u64,
    resets: Unreported,
    /// Bytes of everything that is stored, with overhead.
    used: usize,
    limit: usize,
    max_message_size: usize,
    mtu: usize,
    inbound: u16,
    interleaved: bool,
    /// Window of the last SACK.
    announced: usize,
}

impl Receiver {
    pub(crate) fn new(config: &Config, peer_initial_tsn: u32) -> Self {
        Self {
            tracker: Tracker::new(tsn::first(peer_initial_tsn)),
            acks: Acks::default(),
            streams: FxHashMap::default(),
            fragments: Fragments::default(),
            messages: VecDeque::new(),
            queued: 0,
            taken: 0,
            resets: Unreported::default(),
            used: 0,
            limit: config.receive_buffer,
            max_message_size: config.max_message_size,
            mtu: config.mtu,
            inbound: config.inbound_streams,
            interleaved: false,
            announced: config.receive_buffer,
        }
    }

    /// Starts over with a peer that began anew. Messages that are complete stay.
    pub(crate) fn restart(&mut self, peer_initial_tsn: u32, interleaved: bool, inbound: u16) {
        self.tracker = Tracker::new(tsn::first(peer_initial_tsn));
        self.acks = Acks::default();
        self.streams = FxHashMap::default();
        self.fragments = Fragments::default();
        self.resets.forget_stored();
        self.used = self
            .messages
            .iter()
            .map(|message| message.payload.len() + OVERHEAD)
            .sum();
        self.interleaved = interleaved;
        self.inbound = inbound;
    }

    /// Returns the cumulative TSN.
    pub(crate) fn cumulative(&self) -> u64 {
        self.tracker.cumulative()
    }

    /// Handles a DATA or I-DATA chunk. Returns `false` if it is on a stream that was not agreed on: it is acknowledged and
    /// dropped (RFC 9260, section 6.5).
    pub(crate) fn on_data(
        &mut self,
        header: &DataHeader,
        payload: impl FnOnce() -> Bytes,
        len: usize,
        stats: &mut Stats,
    ) -> Result<bool, Violation> {
        let number = self.tracker.expand(header.tsn);
        match self.tracker.look(number) {
            Arrival::New => {}
            Arrival::Duplicate => {
                stats.chunks_duplicated += 1;
                self.acks.on_duplicate(header.tsn);
                return Ok(true);
            }
            Arrival::TooFar => {
                self.acks.now = true;
                return Ok(true);
            }
        }
        if !self.has_room(len)? {
            self.acks.now = true;
            return Ok(true);
        }
        self.tracker.record(number);
        self.acks.on_data(header.flags & flag::IMMEDIATE != 0);
        if !self.has_stream(header.stream) {
            return Ok(false);
        }
        if self.interleaved {
            self.on_interleaved(header, payload(), stats)?;
        } else {
            self.on_plain(number, header, payload(), stats)?;
        }
        Ok(true)
    }

    /// Returns whether the peer may send on a stream.
    pub(crate) fn has_stream(&self, id: u16) -> bool {
        id < self.inbound
    }

    /// Returns whether a chunk may be stored. A peer sees a window without our overhead, and may pass
    /// it; what is dropped is sent again. Chunks of messages that are not complete are taken beyond the
    /// limit as long as the application has nothing to take, for nothing else would free the buffer.
    fn has_room(&self, len: usize) -> Result<bool, Violation> {
        let used = self.used() + len + OVERHEAD;
        if used <= self.limit + self.mtu {
            return Ok(true);
        }
        if !self.messages.is_empty() {
            return Ok(false);
        }
        if used > self.limit * 2 {
            return Err(Violation::resource(
                "incomplete messages fill the receive buffer",
            ));
        }
        Ok(true)
    }

    fn on_plain(
        &mut self,
        number: u64,
        header: &DataHeader,
        payload: Bytes,
        stats: &mut Stats,
    ) -> Result<(), Violation> {
        const WHOLE: u8 = flag::BEGIN | flag::END;
        let unordered = header.flags & flag::UNORDERED != 0;
        if header.flags & WHOLE == WHOLE && self.fragments.is_empty() {
            if payload.len() > self.max_message_size {
                return Err(TOO_LARGE);
            }
            self.used += payload.len() + OVERHEAD;
            return self.on_message(
                header.stream,
                unordered,
                header.mid,
                header.ppid,
                payload,
                stats,
            );
        }
        let whose = Whose {
            stream: header.stream,
            unordered,
            mid: header.mid,
        };
        let max = self.max_message_size;
        let used = &mut self.used;
        let complete = self
            .fragments
            .insert(number, header, whose, payload, max, used)?;
        if let Some(run) = complete {
            let Whose {
                stream,
                unordered,
                mid,
            } = run.whose;
            let ppid = run.ppid;
            let payload = self.assemble(run);
            self.on_message(stream, unordered, mid, ppid, payload, stats)?;
        }
        Ok(())
    }

    fn on_interleaved(
        &mut self,
        header: &DataHeader,
        payload: Bytes,
        stats: &mut Stats,
    ) -> Result<(), Violation> {
        let unordered = header.flags & flag::UNORDERED != 0;
        let begins = header.flags & flag::BEGIN != 0;
        if !begins && header.fsn == 0 {
            return Err(Violation::protocol(
                "a fragment without number is not the first",
            ));
        }
        let stream = self.streams.entry(header.stream).or_default();
        if !unordered && stream.is_past(header.mid, true) {
            // A late fragment of a message that the peer gave up.
            return Ok(());
        }
        if begins && header.flags & flag::END != 0 {
            if payload.len() > self.max_message_size {
                return Err(TOO_LARGE);
            }
            self.used += payload.len() + OVERHEAD;
            return self.on_message(
                header.stream,
                unordered,
                header.mid,
                header.ppid,
                payload,
                stats,
            );
        }
        let whose = Whose {
            stream: header.stream,
            unordered,
            mid: header.mid,
        };
        let max = self.max_message_size;
        let fragments = stream.fragments(unordered, header.mid);
        if fragments.is_empty() {
            self.used += PARTIAL;
        }
        let used = &mut self.used;
        let number = header.fsn.into();
        if let Some(run) = fragments.insert(number, header, whose, payload, max, used)? {
            if !fragments.is_empty() {
                return Err(Violation::protocol("fragments follow the end of a message"));
            }
            stream.remove_fragments(unordered, header.mid);
            self.used -= PARTIAL;
            let ppid = run.ppid;
            let payload = self.assemble(run);
            self.on_message(header.stream, unordered, header.mid, ppid, payload, stats)?;
        }
        Ok(())
    }

    /// Joins the fragments of a message.
    fn assemble(&mut self, run: Run) -> Bytes {
        self.used -= run.stored();
        let payload = run.join();
        self.used += payload.len() + OVERHEAD;
        payload
    }

    /// Handles a complete message, which is counted in `used`.
    fn on_message(
        &mut self,
        id: u16,
        unordered: bool,
        mid: u32,
        ppid: u32,
        payload: Bytes,
        stats: &mut Stats,
    ) -> Result<(), Violation> {
        let stream = self.streams.entry(id).or_default();
        let message = Message {
            stream: id,
            ppid,
            payload,
            unordered,
        };
        if unordered {
            self.deliver(message, stats);
            return Ok(());
        }
        if stream.is_past(mid, self.interleaved) {
            self.used -= message.payload.len() + OVERHEAD;
            return Ok(());
        }
        let Some(message) = stream.arrange(mid, self.interleaved, message)? else {
            return Ok(());
        };
        self.deliver(message, stats);
        self.deliver_ready(id, stats);
        Ok(())
    }

    fn deliver(&mut self, message: Message, stats: &mut Stats) {
        stats.messages_received += 1;
        self.queued += 1;
        self.messages.push_back(message);
    }

    /// Delivers messages of a stream that waited for an earlier one.
    fn deliver_ready(&mut self, id: u16, stats: &mut Stats) {
        while let Some(message) = self.streams.get_mut(&id).and_then(InStream::take_ready) {
            self.deliver(message, stats);
        }
    }

    /// Handles a FORWARD-TSN or I-FORWARD-TSN chunk: the work is bounded by its length and by what is
    /// stored.
    pub(crate) fn on_forward(
        &mut self,
        tsn: u32,
        skips: impl Iterator<Item = Skip>,
        stats: &mut Stats,
    ) {
        let number = self.tracker.expand(tsn);
        self.acks.now = true;
        // No peer has so much in flight that it skips what is too far ahead to be taken.
        if !self.tracker.is_ahead(number) {
            return;
        }
        self.tracker.forward(number);
        self.used -= self.fragments.drop_to(number);
        for skip in skips {
            if self.has_stream(skip.stream) {
                self.skip(skip, stats);
            }
        }
    }

    fn skip(&mut self, skip: Skip, stats: &mut Stats) {
        let interleaved = self.interleaved;
        let stream = self.streams.entry(skip.stream).or_default();
        self.used -= stream.drop_fragments(skip.unordered, skip.mid);
        if skip.unordered {
            return;
        }
        for message in stream.skip(skip.mid, interleaved) {
            self.deliver(message, stats);
        }
        self.deliver_ready(skip.stream, stats);
    }

    /// Returns whether another reset may be performed. There is room again once those that were are reported.
    pub(crate) fn may_reset(&self) -> bool {
        self.resets.has_room()
    }

    /// Performs the reset of streams by the peer.
    pub(crate) fn reset(&mut self, ids: &[u16]) {
        for id in ids {
            let stream = self.streams.remove(id);
            self.resets.push(self.queued, *id, stream.is_some());
            if let Some(stream) = stream {
                self.used -= stream.stored();
            }
        }
        if self.streams.is_empty() && self.streams.capacity() > 64 {
            self.streams = FxHashMap::default();
        }
    }

    /// Performs the reset of all streams by the peer. `sent` are those that this end has sent on.
    pub(crate) fn reset_all(&mut self, sent: FxHashSet<u16>) {
        let received = std::mem::take(&mut self.streams);
        self.resets.push_all(self.queued, sent, received);
    }

    /// Returns the stream of the next reset whose messages were all taken.
    pub(crate) fn take_reset(&mut self) -> Option<u16> {
        let (id, stream) = self.resets.take(self.taken)?;
        if let Some(stream) = stream {
            self.used -= stream.stored();
        }
        Some(id)
    }

    /// Takes the next message, unless a reset before it is to be reported first.
    pub(crate) fn take_message(&mut self) -> Option<Message> {
        if self.resets.is_due(self.taken) {
            return None;
        }
        let message = self.messages.pop_front()?;
        self.taken += 1;
        self.used -= message.payload.len() + OVERHEAD;
        if self.messages.is_empty() && self.messages.capacity() > 256 {
            self.messages = VecDeque::new();
        }
        // The peer learns of room again once it is worth a packet (RFC 9260, section 6.2).
        if self.announced < self.limit / 2 && self.window() >= self.announced + self.limit / 4 {
            self.acks.now = true;
        }
        Some(message)
    }

    /// Raises the limit of what is stored. It never falls, since the peer may count on it.
    pub(crate) fn raise_limit(&mut self, limit: usize) {
        self.limit = self.limit.max(limit);
    }

    /// Returns what is stored, with what it takes beyond payload.
    fn used(&self) -> usize {
        self.used + self.tracker.stored()
    }

    /// Returns the window to announce. A window below one packet counts as closed.
    pub(crate) fn window(&self) -> usize {
        let used = self.used();
        let free = self.limit.saturating_sub(used);
        if self.messages.is_empty() && used < self.limit * 2 {
            return free.max(4 * self.mtu);
        }
        if free < self.mtu { 0 } else { free }
    }

    /// Appends a SACK chunk of at most `room` bytes.
    pub(crate) fn put_sack(&mut self, buf: &mut Vec<u8>, room: usize) {
        self.announced = self.window();
        let window = u32::try_from(self.announced).unwrap_or(u32::MAX);
        self.tracker
            .put_sack(buf, window, self.acks.duplicates(), room);
    }

    /// Ends a packet that had data. With `each` a SACK of every packet is kept while there are gaps, for
    /// a peer that counts them (RFC 9260, section 7.2.4).
    pub(crate) fn end_packet(&mut self, each: bool) {
        self.acks.end_packet(self.tracker.has_gaps());
        if each && self.tracker.has_gaps() && self.acks.may_keep() {
            let mut sack = Vec::new();
            self.put_sack(&mut sack, self.mtu - crate::packet::HEADER);
            self.acks.keep(sack);
        }
    }
}
