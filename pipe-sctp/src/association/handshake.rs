//! Setup, collisions and restarts (RFC 9260, sections 5.1 and 5.2).

use super::{Association, due::Due};
use crate::{
    chunk::{
        error::{self, code},
        init::{Features, Init},
        kind,
    },
    cookie::{self, Cookie, Peer},
    event::{Event, State, Violation},
    reset::Resets,
    send::Sender,
    timers::Timer,
    wire::put_tlv,
};
use std::time::Instant;

impl Association {
    fn own_features(&self) -> Features {
        Features {
            partial_reliability: true,
            reconfig: true,
            interleaving: self.config.interleaving,
            zero_checksum: self.config.zero_checksum,
            ack_delay: self
                .config
                .announce_sack_delay
                .then(|| self.config.sack_delay.as_millis().min(500) as u16),
        }
    }

    /// Returns the content of this end's INIT.
    pub(super) fn own_init(&self) -> Init {
        Init {
            tag: self.local_tag,
            window: u32::try_from(self.receiver.window()).unwrap_or(u32::MAX),
            outbound_streams: self.config.outbound_streams,
            inbound_streams: self.config.inbound_streams,
            initial_tsn: self.local_initial_tsn,
            features: self.own_features(),
            ..Init::default()
        }
    }

    pub(super) fn start_handshake_timer(&mut self, now: Instant) {
        let rto = self.sender.rtt.rto();
        let wait = rto * (1 << self.attempts.min(10));
        self.timers.set(
            Timer::Handshake,
            now + wait.min(self.config.rto_max.max(rto)),
        );
    }

    /// Sends what the state waits for an answer to again (T1 and T2).
    pub(super) fn on_handshake_timeout(&mut self, now: Instant) {
        self.attempts = self.attempts.saturating_add(1);
        match self.state {
            State::CookieWait => self.due.init = true,
            State::CookieEchoed => self.due.cookie_echo = true,
            State::ShutdownSent => self.due.shutdown = true,
            State::ShutdownAckSent => self.due.shutdown_ack = true,
            _ => return,
        }
        self.start_handshake_timer(now);
    }

    /// Returns whether an INIT or INIT ACK has what an association needs.
    fn is_usable(init: &Init) -> bool {
        init.tag != 0 && init.outbound_streams != 0 && init.inbound_streams != 0
    }

    /// Handles an INIT. Nothing is kept of it: all is in the cookie.
    pub(super) fn on_init(&mut self, now: Instant, body: &[u8]) {
        let Some(init) = Init::read(body).filter(Self::is_usable) else {
            return;
        };
        if init.has_host_name {
            self.reply(
                init.tag,
                kind::ABORT,
                0,
                &[0, code::UNRESOLVABLE_ADDRESS as u8, 0, 4],
            );
            return;
        }
        // A new association has its own tag and TSN, known before; one that stands offers others
        // (sections 5.2.1 and 5.2.2).
        let (local_tag, local_initial_tsn, tie_tags) = match self.state {
            State::Closed if self.due.ended => return,
            State::Closed | State::CookieWait => (self.local_tag, self.local_initial_tsn, (0, 0)),
            State::CookieEchoed => {
                let tie_tags = (self.rng.u32(1..), self.rng.u32(1..));
                (self.local_tag, self.local_initial_tsn, tie_tags)
            }
            State::ShutdownAckSent => {
                // Section 9.2: the peer lost the SHUTDOWN COMPLETE of this end.
                self.due.shutdown_ack = true;
                return;
            }
            _ => {
                let peer_tag = self.peer.as_ref().map_or(0, |peer| peer.tag);
                (
                    self.rng.u32(1..),
                    self.rng.u32(..),
                    (self.local_tag, peer_tag),
                )
            }
        };
        let cookie = Cookie {
            local_tag,
            local_initial_tsn,
            tie_tags,
            created: now.saturating_duration_since(self.epoch),
            peer: Peer::from(&init),
        };
        let answer = Init {
            tag: local_tag,
            initial_tsn: local_initial_tsn,
            cookie: Some(self.key.seal(&cookie)),
            unrecognized: init.unrecognized,
            ..self.own_init()
        };
        let mut chunk = Vec::new();
        answer.put(&mut chunk, true);
        let len = answer_len(&chunk);
        self.reply(init.tag, kind::INIT_ACK, 0, &chunk[4..len]);
    }

    /// Handles an INIT ACK (section 5.1, C).
    pub(super) fn on_init_ack(&mut self, now: Instant, body: &[u8]) -> Result<(), Violation> {
        if self.state != State::CookieWait {
            return Ok(());
        }
        let Some(init) = Init::read(body) else {
            return Ok(());
        };
        if !Self::is_usable(&init) {
            return Err(Violation::new(
                code::INVALID_PARAMETER,
                "an INIT ACK without tag or streams",
            ));
        }
        let peer = Peer::from(&init);
        let Some(cookie) = init.cookie else {
            self.peer = Some(peer);
            return Err(Violation::protocol("an INIT ACK without cookie"));
        };
        if init.has_host_name {
            self.peer = Some(peer);
            return Err(Violation::new(
                code::UNRESOLVABLE_ADDRESS,
                "an INIT ACK with a host name",
            ));
        }
        if !init.unrecognized.is_empty() {
            self.due
                .report(code::UNRECOGNIZED_PARAMETERS, &init.unrecognized);
        }
        self.cookie = Some(cookie);
        self.set_up(peer)?;
        self.set_state(State::CookieEchoed);
        self.due.init = false;
        self.due.cookie_echo = true;
        self.attempts = 0;
        self.start_handshake_timer(now);
        Ok(())
    }

    /// Takes what the peer told about itself.
    fn set_up(&mut self, peer: Peer) -> Result<(), Violation> {
        let own = self.own_features();
        let features = Features {
            partial_reliability: peer.features.partial_reliability,
            interleaving: own.interleaving && peer.features.interleaving,
            ..peer.features
        };
        let outbound = self.config.outbound_streams.min(peer.inbound_streams);
        let inbound = self.config.inbound_streams;
        self.receiver
            .restart(peer.initial_tsn, features.interleaving, inbound);
        self.resets = Resets::new(self.local_initial_tsn, peer.initial_tsn);
        let fits = self.sender.negotiate(features, outbound, peer.window);
        self.peer = Some(peer);
        if fits {
            Ok(())
        } else {
            Err(Violation::resource(
                "messages wait that cannot be sent as agreed with the peer",
            ))
        }
    }

    /// Handles a COOKIE ECHO, whose packet has the tag `tag` (sections 5.1.5 and 5.2.4). Returns whether the
    /// packet belongs to the association.
    pub(super) fn on_cookie_echo(
        &mut self,
        now: Instant,
        tag: u32,
        body: &[u8],
    ) -> Result<bool, Violation> {
        let Some(cookie) = self.key.open(body).filter(|cookie| cookie.local_tag == tag) else {
            return Ok(false);
        };
        if self.due.ended {
            return Ok(false);
        }
        let peer_tag = self.peer.as_ref().map_or(0, |peer| peer.tag);
        let same_local = cookie.local_tag == self.local_tag;
        let same_peer = cookie.peer.tag == peer_tag;
        let age = now
            .saturating_duration_since(self.epoch)
            .saturating_sub(cookie.created);
        if age > cookie::LIFETIME && !(same_local && same_peer && self.state != State::Closed) {
            let staleness = (age - cookie::LIFETIME)
                .as_micros()
                .min(u128::from(u32::MAX)) as u32;
            let mut causes = Vec::new();
            put_tlv(&mut causes, code::STALE_COOKIE, &staleness.to_be_bytes());
            self.reply(cookie.peer.tag, kind::ERROR, 0, &causes);
            return Ok(false);
        }
        match self.state {
            State::Closed if same_local => {
                self.set_up(cookie.peer)?;
                self.establish(now);
            }
            State::CookieWait if same_local => {
                // Action B: the peer's INIT crossed that of this end.
                self.set_up(cookie.peer)?;
                self.establish(now);
            }
            State::CookieEchoed if same_local && same_peer => self.establish(now),
            State::CookieEchoed if same_local => {
                self.sender.take_back();
                self.set_up(cookie.peer)?;
                self.establish(now);
            }
            State::Closed | State::CookieWait | State::CookieEchoed => return Ok(false),
            // Action D: a COOKIE ECHO again, the COOKIE ACK was lost.
            _ if same_local && same_peer => {}
            _ if !same_local
                && !same_peer
                && cookie.tie_tags == (self.local_tag, peer_tag)
                && peer_tag != 0 =>
            {
                return self.on_restart(now, cookie);
            }
            // Action B in an association that stands: only the tag of the peer is new.
            _ if same_local && cookie.tie_tags == (0, 0) && self.receiver_is_new(&cookie) => {
                self.peer = Some(cookie.peer);
            }
            _ => return Ok(false),
        }
        self.due.cookie_ack = true;
        Ok(true)
    }

    /// Returns whether a cookie is of the same first TSN as the association.
    fn receiver_is_new(&self, cookie: &Cookie) -> bool {
        self.peer.as_ref().is_some_and(|peer| {
            peer.initial_tsn == cookie.peer.initial_tsn && peer.features == cookie.peer.features
        })
    }

    /// Handles the COOKIE ECHO of a peer that began anew (action A).
    fn on_restart(&mut self, now: Instant, cookie: Cookie) -> Result<bool, Violation> {
        if self.state == State::ShutdownAckSent {
            let mut causes = Vec::new();
            put_tlv(&mut causes, code::COOKIE_WHILE_SHUTTING_DOWN, &[]);
            self.reply(cookie.peer.tag, kind::ERROR, 0, &causes);
            self.due.shutdown_ack = true;
            return Ok(false);
        }
        tracing::debug!("the peer began anew");
        self.local_tag = cookie.local_tag;
        self.local_initial_tsn = cookie.local_initial_tsn;
        self.sender = Sender::new(&self.config, self.local_initial_tsn);
        self.timers.stop_all();
        self.due = Due {
            replies: std::mem::take(&mut self.due.replies),
            ..Due::default()
        };
        self.heartbeat = None;
        self.set_up(cookie.peer)?;
        self.set_state(State::Established);
        self.events
            .retain(|event| matches!(event, Event::Connected));
        self.events.push_back(Event::Restarted);
        self.due.cookie_ack = true;
        self.heard = now;
        Ok(true)
    }

    /// Enters the state in which data flows.
    fn establish(&mut self, now: Instant) {
        self.timers.stop(Timer::Handshake);
        self.due.init = false;
        self.due.cookie_echo = false;
        self.due.check_resets = true;
        self.cookie = None;
        self.attempts = 0;
        let asked = std::mem::take(&mut self.due.shutdown_asked);
        self.set_state(if asked {
            State::ShutdownPending
        } else {
            State::Established
        });
        self.events.push_back(Event::Connected);
        self.sender.set_timers(now, &mut self.timers);
    }

    /// Handles a COOKIE ACK.
    pub(super) fn on_cookie_ack(&mut self, now: Instant) {
        if self.state == State::CookieEchoed {
            self.establish(now);
        }
    }

    /// Handles the causes of an ERROR chunk (section 3.3.10).
    pub(super) fn on_error(&mut self, now: Instant, body: &[u8]) {
        if self.state == State::CookieEchoed && error::contains(body, code::STALE_COOKIE) {
            // Section 5.2.6: a new cookie.
            self.sender.take_back();
            self.cookie = None;
            self.set_state(State::CookieWait);
            self.due.init = true;
            self.due.cookie_echo = false;
            self.start_handshake_timer(now);
        }
    }
}

/// Returns the length field of a chunk.
fn answer_len(chunk: &[u8]) -> usize {
    usize::from(u16::from_be_bytes([chunk[2], chunk[3]]))
}
