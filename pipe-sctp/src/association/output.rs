//! Builds packets: control chunks first, then data (RFC 9260, section 6.10).

use super::Association;
use crate::{
    chunk::{self, kind},
    event::State,
    packet::{self, Header},
    timers::Timer,
    wire::Put,
};
use std::time::Instant;

/// Most packets that answer others and wait to be sent; more are not answered.
const MAX_REPLIES: usize = 8;

impl Association {
    fn header(&self, tag: u32) -> Header {
        Header {
            source_port: self.config.local_port,
            destination_port: self.config.remote_port,
            tag,
        }
    }

    /// Queues a packet of one chunk that answers another.
    pub(super) fn reply(&mut self, tag: u32, kind: u8, flags: u8, body: &[u8]) {
        if self.due.replies.len() < MAX_REPLIES {
            let mut buf = Vec::with_capacity(packet::HEADER + chunk::HEADER + body.len() + 3);
            packet::put_header(&mut buf, self.header(tag));
            chunk::put(&mut buf, kind, flags, body);
            packet::seal(&mut buf);
            self.due.replies.push_back(buf);
        }
    }

    /// Appends the next packet to `buf`. Returns `false`, with nothing appended, if there is none.
    pub(super) fn transmit(&mut self, now: Instant, buf: &mut Vec<u8>) -> bool {
        let start = buf.len();
        if let Some(reply) = self.due.replies.pop_front() {
            buf.put(&reply);
            return true;
        }
        if self.due.ended {
            return false;
        }
        if self.due.init {
            self.due.init = false;
            packet::put_header(buf, self.header(0));
            self.own_init().put(buf, false);
            packet::seal(&mut buf[start..]);
            return true;
        }
        let Some(peer) = &self.peer else {
            return false;
        };
        if self.state == State::Closed || self.state == State::CookieWait {
            return false;
        }
        let zero = peer.features.zero_checksum && self.config.zero_checksum;
        if self.due.check_resets && self.sends_data() {
            self.check_resets();
        }
        if !self.has_output() {
            return false;
        }
        buf.reserve(self.config.mtu);
        packet::put_header(buf, self.header(peer_tag(self)));
        let sealed = self.put_chunks(now, buf, start);
        if buf.len() == start + packet::HEADER {
            buf.truncate(start);
            return false;
        }
        if sealed || !zero {
            packet::seal(&mut buf[start..]);
        }
        true
    }

    /// Returns whether there may be something to send.
    fn has_output(&self) -> bool {
        let due = &self.due;
        due.cookie_echo
            || due.cookie_ack
            || due.shutdown
            || due.shutdown_ack
            || due.heartbeat
            || !due.heartbeats.is_empty()
            || !due.errors.is_empty()
            || self.receiver.acks.is_due()
            || self.receiver.acks.has_kept()
            || self.resets.is_due()
            || !self.sender.is_drained()
    }

    /// Appends chunks. Returns whether the packet needs a checksum in any case.
    fn put_chunks(&mut self, now: Instant, buf: &mut Vec<u8>, start: usize) -> bool {
        let cookie_echo = self.due.cookie_echo;
        if cookie_echo {
            self.due.cookie_echo = false;
            if let Some(cookie) = &self.cookie {
                chunk::put(buf, kind::COOKIE_ECHO, 0, cookie);
            }
        }
        if self.state == State::CookieEchoed {
            // Until the COOKIE ACK nothing else is sent (RFC 9260, section 5.1, C).
            if cookie_echo {
                self.put_errors(buf, start);
                self.put_early_data(now, buf, start);
            }
            return true;
        }
        if std::mem::take(&mut self.due.cookie_ack) {
            chunk::put(buf, kind::COOKIE_ACK, 0, &[]);
        }
        if let Some(sack) = self.receiver.acks.take_kept() {
            // One of several that were kept: a peer counts packets, so that it has its own.
            buf.put(&sack);
            return false;
        }
        let sack = self.put_sack(buf, start);
        self.put_resets(now, buf, start);
        self.put_heartbeats(now, buf, start);
        self.put_errors(buf, start);
        self.put_shutdown(buf);
        let before = buf.len();
        self.put_data(now, buf, start);
        if let Some(sack_start) = sack {
            if before == sack_start.end && buf.len() == before && !self.receiver.acks.is_due() {
                // Only data takes a SACK along that could wait.
                buf.truncate(sack_start.start);
            } else {
                self.receiver.acks.sent();
                self.timers.stop(Timer::Sack);
            }
        }
        false
    }

    fn room(&self, buf: &[u8], start: usize) -> usize {
        (start + self.config.mtu).saturating_sub(buf.len())
    }

    fn put_sack(&mut self, buf: &mut Vec<u8>, start: usize) -> Option<std::ops::Range<usize>> {
        if !self.receiver.acks.is_pending() {
            return None;
        }
        if !self.receiver.acks.is_due() && self.sender.is_drained() {
            return None;
        }
        let at = buf.len();
        let room = self.room(buf, start);
        self.receiver.put_sack(buf, room);
        Some(at..buf.len())
    }

    fn put_resets(&mut self, now: Instant, buf: &mut Vec<u8>, start: usize) {
        let room = self.room(buf, start);
        if self.resets.put(buf, room) {
            let attempts = self.resets.pending().map_or(0, |request| request.attempts);
            let wait = self.sender.rtt.rto() * (1 << attempts.saturating_sub(1).min(6));
            let wait = wait.min(self.config.rto_max.max(self.sender.rtt.rto()));
            self.timers.set(Timer::Reconfig, now + wait);
        }
    }

    fn put_heartbeats(&mut self, now: Instant, buf: &mut Vec<u8>, start: usize) {
        while let Some(info) = self.due.heartbeats.front() {
            if info.len() + chunk::HEADER > self.config.mtu - packet::HEADER {
                // No packet of ours holds the answer.
                self.due.heartbeats.pop_front();
                continue;
            }
            if info.len() + chunk::HEADER > self.room(buf, start) {
                break;
            }
            chunk::put(buf, kind::HEARTBEAT_ACK, 0, info);
            self.due.heartbeats.pop_front();
        }
        if self.due.heartbeat && self.room(buf, start) >= 16 {
            self.due.heartbeat = false;
            if let Some((nonce, sent)) = &mut self.heartbeat {
                *sent = now;
                let mut info = Vec::with_capacity(12);
                // Heartbeat Info (RFC 9260, section 3.3.5).
                info.put_u16(1);
                info.put_u16(12);
                info.put_u64(*nonce);
                chunk::put(buf, kind::HEARTBEAT, 0, &info);
            }
        }
    }

    fn put_errors(&mut self, buf: &mut Vec<u8>, start: usize) {
        let len = self.due.errors.len();
        if len > 0 && len + chunk::HEADER <= self.room(buf, start) {
            let errors = std::mem::take(&mut self.due.errors);
            chunk::put(buf, kind::ERROR, 0, &errors);
        }
    }

    fn put_shutdown(&mut self, buf: &mut Vec<u8>) {
        if std::mem::take(&mut self.due.shutdown) {
            let cumulative = self.receiver.cumulative() as u32;
            chunk::put(buf, kind::SHUTDOWN, 0, &cumulative.to_be_bytes());
        }
        if std::mem::take(&mut self.due.shutdown_ack) {
            chunk::put(buf, kind::SHUTDOWN_ACK, 0, &[]);
        }
    }

    fn put_data(&mut self, now: Instant, buf: &mut Vec<u8>, start: usize) {
        if !self.sends_data() {
            return;
        }
        let room = self.room(buf, start);
        self.sender.put_forward(now, buf, room);
        self.sender
            .fill(now, buf, start, &mut self.timers, &mut self.stats);
        if self.sender.has_resettable() {
            self.due.check_resets = true;
        }
        if self.sender.is_forward_due() {
            // Filling the packet gave messages up.
            let room = self.room(buf, start);
            self.sender.put_forward(now, buf, room);
        }
    }

    /// Bundles data with a COOKIE ECHO, for a peer of this implementation.
    fn put_early_data(&mut self, now: Instant, buf: &mut Vec<u8>, start: usize) {
        let own = self
            .peer
            .as_ref()
            .is_some_and(|peer| peer.features.ack_delay.is_some());
        if own && self.attempts == 0 {
            self.sender
                .fill(now, buf, start, &mut self.timers, &mut self.stats);
        }
    }
}

fn peer_tag(association: &Association) -> u32 {
    association.peer.as_ref().map_or(0, |peer| peer.tag)
}
