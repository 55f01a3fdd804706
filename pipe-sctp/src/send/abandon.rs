//! Gives messages up that reached their limit, and tells the peer (RFC 3758).

use super::{
    Sender,
    outstanding::{Sent, Status},
};
use crate::{
    chunk::{
        data::{DataHeader, flag},
        forward::{self, Skip},
    },
    stats::Stats,
};
use bytes::Bytes;
use std::{collections::BTreeMap, time::Instant};

impl Sender {
    /// Returns whether a chunk belongs to a message that is not sent again.
    pub(super) fn is_exceeded(&mut self, tsn: u64, now: Instant) -> bool {
        let Some(sent) = self.outstanding.get(tsn) else {
            return false;
        };
        let transmissions = sent.transmissions;
        sent.limited
            .and_then(|limited| self.limits.get_mut(limited))
            .is_some_and(|limited| limited.is_exceeded(now, transmissions))
    }

    /// Gives up the message that a chunk is part of.
    pub(super) fn abandon(&mut self, tsn: u64, now: Instant, stats: &mut Stats) {
        let Some(index) = self.outstanding.get(tsn).and_then(|sent| sent.limited) else {
            return;
        };
        let Some(limited) = self.limits.get_mut(index) else {
            return;
        };
        limited.abandoned = true;
        let id = limited.stream;
        let tsns = std::mem::take(&mut limited.tsns);
        for tsn in tsns {
            let Some(sent) = self.outstanding.get(tsn) else {
                continue;
            };
            let len = sent.payload.len();
            if matches!(sent.status, Status::InFlight | Status::Lost) {
                self.outstanding.set_status(tsn, Status::Abandoned);
                if let Some(sent) = self.outstanding.get_mut(tsn) {
                    sent.payload = Bytes::new();
                }
                self.unbuffer(id, len);
            }
        }
        self.abandon_rest(now, id, index);
        self.limits.finish(index);
        stats.messages_abandoned += 1;
        self.advance();
    }

    /// Drops the part of a message that was not sent. A TSN is assigned to it: all that was sent may
    /// arrive, and the peer has to learn nevertheless that nothing follows.
    fn abandon_rest(&mut self, now: Instant, id: u16, index: u32) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let Some(begun) = stream.begun.filter(|begun| begun.limited == Some(index)) else {
            return;
        };
        stream.begun = None;
        let Some(message) = stream.queue.pop_front() else {
            return;
        };
        let tsn = self.outstanding.next();
        let unordered = if message.unordered {
            flag::UNORDERED
        } else {
            0
        };
        self.limits.sent(index, tsn, true);
        stream.settled_at = tsn;
        self.outstanding.push_abandoned(Sent {
            payload: Bytes::new(),
            header: DataHeader {
                flags: flag::END | unordered,
                tsn: tsn as u32,
                stream: id,
                mid: begun.mid,
                ppid: message.ppid,
                fsn: begun.fsn,
            },
            status: Status::Abandoned,
            transmissions: 0,
            limited: Some(index),
            packet: self.next_packet,
            sent_at: now,
        });
        let rest = message.payload.len() - begun.offset;
        self.begun -= rest;
        self.scheduler.unlock(id);
        self.unbuffer(id, rest);
    }

    /// Moves the point up to which the peer need not wait, over chunks that were given up or arrived
    /// (RFC 3758, section 3.5, C2).
    pub(super) fn advance(&mut self) {
        let cumulative = self.outstanding.cumulative();
        self.scanned = self.scanned.max(cumulative);
        self.advanced = self.advanced.max(cumulative);
        while let Some(sent) = self.outstanding.get(self.scanned + 1) {
            match sent.status {
                Status::Abandoned => {
                    self.scanned += 1;
                    self.advanced = self.scanned;
                    self.forward_due = true;
                }
                Status::Acked => self.scanned += 1,
                Status::InFlight | Status::Lost => break,
            }
        }
        if self.advanced == cumulative {
            self.forward_due = false;
        }
    }

    /// Sends FORWARD-TSN again if the peer did not get there within a round trip.
    pub(super) fn check_forward(&mut self, now: Instant) {
        let round_trip = self.rtt.smoothed().unwrap_or_default();
        if self.advanced > self.outstanding.cumulative()
            && self
                .forward_sent
                .is_none_or(|sent| sent + round_trip <= now)
        {
            self.forward_due = true;
        }
    }

    pub(crate) fn is_forward_due(&self) -> bool {
        self.forward_due
    }

    /// Appends a FORWARD-TSN or I-FORWARD-TSN chunk of at most `room` bytes, if one is due. Returns whether
    /// it was.
    pub(crate) fn put_forward(&mut self, now: Instant, buf: &mut Vec<u8>, room: usize) -> bool {
        let entry = forward::skip_len(self.interleaved);
        if !self.forward_due || room < forward::LEN + entry {
            return false;
        }
        let most = (room - forward::LEN) / entry;
        let mut skips = BTreeMap::new();
        let mut reached = self.outstanding.cumulative();
        while reached < self.advanced {
            let Some(sent) = self.outstanding.get(reached + 1) else {
                break;
            };
            let unordered = sent.header.flags & flag::UNORDERED != 0;
            if sent.status == Status::Abandoned && (self.interleaved || !unordered) {
                let key = (sent.header.stream, unordered);
                if skips.len() == most && !skips.contains_key(&key) {
                    break;
                }
                // Messages of a stream have ascending numbers, also in the order of TSNs.
                skips.insert(key, sent.header.mid);
            }
            reached += 1;
        }
        for (stream, _) in skips.keys() {
            self.settle_at(*stream, reached);
        }
        let skips: Vec<Skip> = skips
            .into_iter()
            .map(|((stream, unordered), mid)| Skip {
                stream,
                unordered,
                mid,
            })
            .collect();
        forward::put(buf, self.interleaved, reached as u32, &skips);
        self.forward_due = false;
        self.forward_sent = Some(now);
        true
    }
}
