//! Takes packets apart and hands chunks on (RFC 9260, sections 8.4 and 8.5).

use super::Association;
use crate::{
    chunk::{
        Chunk, Chunks, TAG_REFLECTED,
        data::DataHeader,
        error::{Cause, code},
        forward, kind,
        reconfig::{Outcome, Reconfig},
        sack::Sack,
    },
    event::{State, Violation},
    packet::{self, Checksum},
    timers::Timer,
    wire::{Reader, Tlvs},
};
use bytes::Bytes;
use std::time::Instant;

/// Most parameters of a RE-CONFIG chunk (RFC 6525, section 3.1).
const MAX_RECONFIG: usize = 2;

/// Whether the chunks behind one are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Go,
    Stop,
}

impl Association {
    /// Handles a packet. Returns whether it belongs to the association.
    pub(super) fn handle(&mut self, now: Instant, packet: &Bytes) -> Result<bool, Violation> {
        let Some(header) = packet::read_header(packet) else {
            return Ok(false);
        };
        if header.source_port != self.config.remote_port
            || header.destination_port != self.config.local_port
        {
            return Ok(false);
        }
        let Some(first) = Chunks::new(packet).next() else {
            return Ok(false);
        };
        let setup = matches!(first.kind, kind::INIT | kind::COOKIE_ECHO);
        let zero = self.config.zero_checksum && !setup;
        match packet::check(packet, zero) {
            Checksum::Valid => {}
            Checksum::Zero if zero => {}
            Checksum::Zero | Checksum::Invalid => return Ok(false),
        }
        if !self.is_tag_right(header.tag, &first) {
            self.on_stray(header.tag, packet);
            return Ok(false);
        }
        match first.kind {
            kind::INIT => {
                // It is alone in its packet.
                self.on_init(now, first.body);
                return Ok(true);
            }
            kind::COOKIE_ECHO if !self.on_cookie_echo(now, header.tag, first.body)? => {
                return Ok(false);
            }
            _ => {}
        }
        self.heard = now;
        for chunk in Chunks::new(packet) {
            if self.on_chunk(now, header.tag, packet, &chunk)? == Next::Stop {
                break;
            }
        }
        self.end_packet(now);
        Ok(true)
    }

    /// Returns whether a packet with `tag` is one of the association (RFC 9260, section 8.5).
    fn is_tag_right(&self, tag: u32, first: &Chunk<'_>) -> bool {
        match first.kind {
            kind::INIT => tag == 0,
            kind::COOKIE_ECHO => true,
            kind::ABORT | kind::SHUTDOWN_COMPLETE if first.flags & TAG_REFLECTED != 0 => {
                self.peer.as_ref().is_some_and(|peer| peer.tag == tag)
            }
            _ => tag == self.local_tag && !self.due.ended,
        }
    }

    /// Handles a packet that is out of the blue (RFC 9260, section 8.4).
    fn on_stray(&mut self, tag: u32, packet: &Bytes) {
        let mut chunks = Chunks::new(packet);
        let mut answer = true;
        let mut shutdown_ack = false;
        for chunk in chunks.by_ref() {
            match chunk.kind {
                kind::ABORT | kind::SHUTDOWN_COMPLETE | kind::COOKIE_ACK | kind::INIT => {
                    answer = false;
                }
                kind::ERROR => answer = false,
                kind::SHUTDOWN_ACK => shutdown_ack = true,
                _ => {}
            }
        }
        if !answer || tag == 0 {
            return;
        }
        if shutdown_ack {
            self.on_shutdown_ack(tag);
        } else if self.due.ended {
            // The peer learns that this end has no association any more.
            self.reply(tag, kind::ABORT, TAG_REFLECTED, &[]);
        }
    }

    fn on_chunk(
        &mut self,
        now: Instant,
        tag: u32,
        packet: &Bytes,
        chunk: &Chunk<'_>,
    ) -> Result<Next, Violation> {
        match chunk.kind {
            kind::DATA | kind::I_DATA => self.on_data(packet, chunk)?,
            kind::SACK => self.on_sack(now, chunk.body)?,
            kind::COOKIE_ECHO | kind::PAD => {}
            kind::COOKIE_ACK => self.on_cookie_ack(now),
            kind::INIT_ACK => {
                self.on_init_ack(now, chunk.body)?;
                return Ok(Next::Stop);
            }
            kind::HEARTBEAT => {
                if self.state != State::Closed && self.state != State::CookieWait {
                    self.due.answer_heartbeat(chunk.body);
                }
            }
            kind::HEARTBEAT_ACK => self.on_heartbeat_ack(now, chunk.body),
            kind::ABORT => {
                if self.state != State::Closed {
                    self.close(Cause::read(chunk.body).into());
                }
                return Ok(Next::Stop);
            }
            kind::ERROR => self.on_error(now, chunk.body),
            kind::SHUTDOWN => self.on_shutdown(now, chunk.body)?,
            kind::SHUTDOWN_ACK => {
                self.on_shutdown_ack(tag);
                return Ok(Next::Stop);
            }
            kind::SHUTDOWN_COMPLETE => {
                self.on_shutdown_complete();
                return Ok(Next::Stop);
            }
            kind::RE_CONFIG => self.on_reconfig(chunk.body),
            kind::FORWARD_TSN => self.on_forward(chunk.body, false),
            kind::I_FORWARD_TSN => self.on_forward(chunk.body, true),
            // An INIT is alone in its packet (RFC 9260, section 6.10).
            kind::INIT => return Ok(Next::Stop),
            unknown => return Ok(self.on_unknown(unknown, chunk.raw)),
        }
        Ok(Next::Go)
    }

    /// Handles a chunk of unknown type by its top bits (RFC 9260, section 3.2).
    fn on_unknown(&mut self, unknown: u8, raw: &[u8]) -> Next {
        if unknown & 0x40 != 0 && self.peer.is_some() {
            self.due
                .report(code::UNRECOGNIZED_CHUNK, &raw[..raw.len().min(64)]);
        }
        if unknown & 0x80 != 0 {
            Next::Go
        } else {
            Next::Stop
        }
    }

    fn on_data(&mut self, packet: &Bytes, chunk: &Chunk<'_>) -> Result<(), Violation> {
        if !self.takes_data() {
            return Ok(());
        }
        if (chunk.kind == kind::I_DATA) != self.is_interleaved() {
            return Err(Violation::protocol(
                "a data chunk of the kind that was not agreed on",
            ));
        }
        let Some((header, payload)) = DataHeader::read(chunk) else {
            return Err(Violation::protocol("a data chunk is too short"));
        };
        if payload.is_empty() {
            let violation = Violation::new(code::NO_USER_DATA, "a data chunk without data");
            return Err(Violation {
                value: Some(header.tsn),
                ..violation
            });
        }
        let start = chunk.offset + chunk.body.len() - payload.len();
        let len = payload.len();
        let bytes = || {
            if len * 2 < packet.len() {
                // A small message does not keep a large packet.
                Bytes::copy_from_slice(payload)
            } else {
                packet.slice(start..start + len)
            }
        };
        if !self
            .receiver
            .on_data(&header, bytes, len, &mut self.stats)?
        {
            let [high, low] = header.stream.to_be_bytes();
            self.due.report(code::INVALID_STREAM, &[high, low, 0, 0]);
        }
        Ok(())
    }

    fn is_interleaved(&self) -> bool {
        self.config.interleaving
            && self
                .peer
                .as_ref()
                .is_some_and(|peer| peer.features.interleaving)
    }

    fn on_sack(&mut self, now: Instant, body: &[u8]) -> Result<(), Violation> {
        if !self.sends_data() {
            return Ok(());
        }
        let Some(sack) = Sack::read(body) else {
            return Ok(());
        };
        self.sender
            .on_sack(now, &sack, &mut self.timers, &mut self.stats)?;
        self.due.check_resets |= self.sender.has_resettable();
        Ok(())
    }

    fn on_forward(&mut self, body: &[u8], interleaved: bool) {
        if !self.takes_data() || interleaved != self.is_interleaved() {
            return;
        }
        if let Some((tsn, skips)) = forward::read(body, interleaved) {
            self.receiver.on_forward(tsn, skips, &mut self.stats);
        }
    }

    fn on_heartbeat_ack(&mut self, now: Instant, body: &[u8]) {
        let mut reader = Reader::new(body);
        if let (Some(1), Some(12), Some(nonce)) = (reader.u16(), reader.u16(), reader.u64())
            && let Some((expected, sent)) = self.heartbeat
            && expected == nonce
        {
            self.heartbeat = None;
            self.sender.rtt.update(now.saturating_duration_since(sent));
        }
    }

    fn on_reconfig(&mut self, body: &[u8]) {
        if !self.takes_data() && !self.sends_data() {
            return;
        }
        for parameter in Tlvs::new(body).take(MAX_RECONFIG) {
            match Reconfig::read(&parameter) {
                Some(Reconfig::Outgoing {
                    request,
                    last_tsn,
                    streams,
                }) => {
                    if streams.iter().any(|id| !self.receiver.has_stream(id)) {
                        self.resets.on_other(request, Outcome::WrongStream);
                        continue;
                    }
                    let cumulative = self.receiver.cumulative();
                    let performs = self.receiver.may_reset();
                    self.resets
                        .on_request(request, last_tsn, streams.iter(), cumulative, performs);
                }
                Some(Reconfig::Refused { request }) => {
                    self.resets.on_other(request, Outcome::Denied);
                }
                Some(Reconfig::AddOutgoing { request, count }) => {
                    // Every stream that this end allows is there from the start.
                    let peer = self.peer.as_ref().map_or(0, |peer| peer.outbound_streams);
                    let total = u32::from(peer) + u32::from(count);
                    let allowed = total <= u32::from(self.config.inbound_streams);
                    let outcome = if allowed {
                        Outcome::Performed
                    } else {
                        Outcome::Denied
                    };
                    self.resets.on_other(request, outcome);
                }
                Some(Reconfig::Response { request, outcome }) => {
                    if let Some((ended, performed)) = self.resets.on_response(request, outcome) {
                        self.timers.stop(Timer::Reconfig);
                        self.end_resets(&ended.streams, performed);
                        self.due.check_resets = true;
                    }
                }
                None => {}
            }
        }
    }

    fn end_packet(&mut self, now: Instant) {
        if self.due.ended || !self.receiver.acks.in_packet() {
            return;
        }
        // A peer of this implementation finds losses by time.
        let own = self
            .peer
            .as_ref()
            .is_some_and(|peer| peer.features.ack_delay.is_some());
        self.receiver.end_packet(!own);
        self.on_data_in_shutdown(now);
    }
}
