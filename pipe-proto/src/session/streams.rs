//! The streams of a session.

use std::time::{Duration, Instant};

use super::{ANNOUNCE_AFTER, CLOSING_FACTOR, Session, StreamHandle};
use crate::event::{Event, OpenError};
use crate::recv::RecvHalf;
use crate::stream::{Ends, Reaction, Stream};
use crate::timers::Timer;
use crate::violation::Violation;

impl<S: StreamHandle, P> Session<S, P> {
    /// Returns whether this side may open streams.
    ///
    /// # Errors
    ///
    /// The reason why not.
    pub fn check_open(&self) -> Result<(), OpenError> {
        if self.ended.is_some() {
            return Err(OpenError::Ended);
        }
        if self.drain.is_local() {
            return Err(OpenError::Draining);
        }
        if self.drain.is_by_peer() {
            return Err(OpenError::DrainedByPeer);
        }
        Ok(())
    }

    /// Takes in a stream that this side opens. After the end of the connection the stream ends at once. Returns whether
    /// the next [deadline](Self::poll_timeout) may have moved forward.
    pub fn open(&mut self, stream: &S, now: Instant) -> bool {
        if self.ended.is_some() {
            stream.with(Stream::on_conn_end);
            return false;
        }
        self.counts.opened += 1;
        let id = self.adopt(stream);
        self.streams.insert(id, stream.clone());
        if self.carrier.opens_by_frame {
            self.update(stream);
            return false;
        }
        let is_first = !self.timers.is_set(Timer::Announce);
        if is_first {
            self.timers.set(Timer::Announce, now + ANNOUNCE_AFTER);
        }
        is_first
    }

    /// Tells a stream what the carrier says by itself. Returns its number.
    fn adopt(&self, stream: &S) -> u64 {
        stream.with(|stream| {
            if self.carrier.ends_natively {
                let is_shared = self.peer.is_some_and(|peer| peer.connection_window > 0);
                stream.ends = if is_shared {
                    Ends::NativeShared
                } else {
                    Ends::Native
                };
            }
            stream.id()
        })
    }

    /// Returns whether the peer may open another stream. Only a plain peer, which does not know the limit, is to be
    /// asked about: any other breaks the rules beyond it.
    pub fn has_room(&self) -> bool {
        let limit = self.config.hello.max_streams as usize;
        self.counts.remote_in_use < limit && self.counts.remote < self.closing_limit()
    }

    /// Returns how many streams of the peer may be in the table. Where the ends of streams are native, a stream is over
    /// at the peer as soon as DONE has come, and its last CREDIT may be under way while the peer opens the next ones.
    pub(super) fn closing_limit(&self) -> usize {
        let limit = CLOSING_FACTOR.saturating_mul(self.config.hello.max_streams as usize);
        if self.carrier.ends_natively {
            limit.saturating_mul(CLOSING_FACTOR)
        } else {
            limit
        }
    }

    /// Takes in a stream that the peer opened, and what it said about it before.
    ///
    /// # Errors
    ///
    /// A violation: too many streams, or a number that is not the peer's to give or that came before.
    pub fn accept(&mut self, stream: &S) -> Result<(), Violation> {
        if self.ended.is_some() {
            stream.with(Stream::on_conn_end);
            return Ok(());
        }
        if self.peer.is_none() {
            return Err(Violation::handshake("a stream before its hello"));
        }
        let id = self.adopt(stream);
        if !self.has_room() {
            let limit = self.config.hello.max_streams;
            return Err(Violation::new(format_args!(
                "more than {limit} streams at once"
            )));
        }
        if self.is_local(id) {
            return Err(Violation::new(format_args!(
                "stream {id} was opened, whose number is not the peer's"
            )));
        }
        let is_old = self.counts.newest_remote.is_some_and(|newest| id <= newest);
        // What is in the table is old.
        if is_old && (self.carrier.has_orphans || self.streams.contains_key(&id)) {
            return Err(Violation::new(format_args!(
                "stream {id} was opened after a later one: numbers rise"
            )));
        }
        self.counts.newest_remote = self.counts.newest_remote.max(Some(id));
        self.counts.remote += 1;
        self.counts.remote_in_use += 1;
        self.counts.seen += 1;
        self.streams.insert(id, stream.clone());
        for frame in self.orphans.take(id) {
            self.on_stream_frame(id, frame)?;
        }
        if self.drain.is_local() {
            self.events.push_back(Event::Idle);
        }
        Ok(())
    }

    /// Notes that the application took a stream of the peer.
    pub fn on_accepted(&mut self, stream: &S) {
        self.counts.accepted += 1;
        stream.with(Stream::accept);
        self.update(stream);
    }

    /// Returns the stream of a number.
    pub fn stream(&self, id: u64) -> Option<&S> {
        self.streams.get(&id)
    }

    /// Returns all streams that are not over.
    pub fn streams(&self) -> impl Iterator<Item = &S> {
        self.streams.values()
    }

    /// Returns whether this side opens streams of this number.
    pub fn is_local(&self, id: u64) -> bool {
        id & 1 == self.carrier.local_bit
    }

    /// Returns whether a stream of this number is one that the peer may still open.
    pub fn may_come(&self, id: u64) -> bool {
        !self.is_local(id) && self.counts.newest_remote.is_none_or(|newest| id > newest)
    }

    /// Looks at a stream after a change: queues its frames, counts that the application is done, and forgets it when
    /// it is over.
    pub fn update(&mut self, stream: &S) {
        struct Outcome {
            is_local: bool,
            is_done: bool,
            is_queued: bool,
            frees_slot: bool,
            freed: u32,
            is_over: bool,
        }
        let outcome = stream.with(|stream| {
            if stream.retired {
                return None;
            }
            let is_done = !stream.counted_done && stream.is_done();
            if is_done {
                stream.counted_done = true;
                stream.on_done();
            }
            if !stream.recv().takes_bytes() {
                self.windows.release(&mut stream.growth);
            }
            let has_frames = stream.has_frames();
            let frees_slot = stream.frees_slot();
            stream.slot_freed |= frees_slot;
            let freed = stream.free_cut();
            Some(Outcome {
                is_local: stream.is_local(),
                is_done,
                is_queued: has_frames && !std::mem::replace(&mut stream.queued, true),
                frees_slot,
                freed,
                is_over: stream.is_over(),
            })
        });
        let Some(outcome) = outcome else { return };
        if outcome.is_done && !outcome.is_local && self.ended.is_none() {
            self.counts.remote_in_use -= 1;
        }
        if outcome.is_queued {
            self.queue.push_back(stream.clone());
        }
        self.free(outcome.freed);
        if outcome.frees_slot {
            self.events.push_back(Event::SlotFreed(stream.clone()));
        }
        if outcome.is_over {
            self.retire(stream);
        }
    }

    /// Tunes the window of a stream, of which `due` read bytes are about to be returned to the peer: as the
    /// [growth](Stream::window_growth) then has it, more than these are to be returned, or fewer. Now and then it needs the
    /// round trip: where `measured` gives none, it sends a ping.
    pub fn tune_window(
        &mut self,
        stream: &S,
        due: u32,
        now: Instant,
        measured: impl FnOnce() -> Option<Duration>,
    ) {
        let peer_takes = |stream: &Stream| {
            stream.is_window_native() || self.peer.is_some_and(|peer| peer.takes_growth)
        };
        if self.ended.is_some() || !self.windows.may_grow() {
            return;
        }
        let windows = &mut self.windows;
        let needs_ping = stream.with(|stream| {
            if stream.recv() != RecvHalf::Open || !peer_takes(stream) {
                return false;
            }
            let is_due = windows.take_measurement(now);
            let measured = if is_due { measured() } else { None };
            if let Some(round_trip) = measured {
                windows.on_round_trip(round_trip);
            }
            let read = stream.bytes_read();
            windows.tune(&mut stream.growth, read, due, now);
            is_due && measured.is_none()
        });
        if needs_ping {
            self.events.push_back(Event::KeepAlive);
        }
    }

    /// Returns by how many bytes all windows have grown.
    pub fn window_growth(&self) -> u64 {
        self.windows.growth()
    }

    fn retire(&mut self, stream: &S) {
        let (id, is_local, freed) = stream.with(|stream| {
            self.counts.sent += stream.bytes_sent();
            self.counts.read += stream.bytes_read();
            self.windows.release(&mut stream.growth);
            (stream.id(), stream.is_local(), stream.retire())
        });
        if self.streams.remove(&id).is_none() {
            return;
        }
        self.counts.remote -= usize::from(!is_local);
        self.free(freed);
        self.events.push_back(Event::Retired(stream.clone()));
        if self.streams.is_empty() {
            self.events.push_back(Event::Idle);
        }
        if is_local {
            self.answer_drain();
        }
    }

    pub(super) fn free(&mut self, bytes: u32) {
        if bytes > 0 {
            self.events.push_back(Event::Room(bytes.into()));
        }
    }

    pub(super) fn react(&mut self, stream: &S, reaction: Reaction) {
        self.free(reaction.freed);
        if reaction.wakes_reader || reaction.wakes_writer {
            self.events.push_back(Event::Wake {
                stream: stream.clone(),
                reader: reaction.wakes_reader,
                writer: reaction.wakes_writer,
            });
        }
    }
}
