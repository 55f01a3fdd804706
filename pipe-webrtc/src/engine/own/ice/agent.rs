use std::collections::HashSet;
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use is::stun::{StunMessage, StunPacket};
use is::{Candidate, IceAgent, IceAgentEvent, IceCreds, Protocol};

use crate::engine::own::credentials::Credentials;

/// Maximum number of pairs that are checked (RFC 8445, section 6.1.2.5).
const MAX_PAIRS: usize = 100;

/// Maximum number of sources of checks.
pub(super) const MAX_SOURCES: usize = 64;

/// Least time from one check to the next (RFC 8445, section 14.2).
const PACE: Duration = Duration::from_millis(5);

/// Maximum number of checks at once: those that something has triggered do not wait for a timer.
const BURST: u32 = 50;

/// The path of a connection: an address of this side and one of the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine::own) struct Path {
    pub(in crate::engine::own) local: SocketAddr,
    pub(in crate::engine::own) remote: SocketAddr,
}

/// An agent of one pair of credentials.
pub(super) struct Agent {
    pub(super) inner: IceAgent,
    pub(super) credentials: Credentials,
    pub(super) remotes: usize,
    /// Addresses of authenticated checks.
    pub(super) sources: HashSet<SocketAddr>,
    pub(super) path: Option<Path>,
    /// Checks that may go at once, and the time of that number.
    tokens: u32,
    since: Instant,
    pub(super) is_started: bool,
}

impl Agent {
    pub(super) fn new(controlling: bool, credentials: Credentials, now: Instant) -> Self {
        let mut inner = IceAgent::new(creds(&credentials));
        inner.set_controlling(controlling);
        inner.set_timing_advance(PACE);
        inner.set_max_candidate_pairs(MAX_PAIRS);
        Self {
            inner,
            credentials,
            remotes: 0,
            sources: HashSet::new(),
            path: None,
            tokens: BURST,
            since: now,
            is_started: false,
        }
    }

    pub(super) fn add_local(&mut self, candidate: Candidate, now: Instant) -> Option<Candidate> {
        let told = self.inner.add_local_candidate(candidate)?.clone();
        if self.is_started {
            self.trigger(now);
        }
        Some(told)
    }

    pub(super) fn handle(
        &mut self,
        now: Instant,
        local: SocketAddr,
        from: SocketAddr,
        message: StunMessage<'_>,
    ) -> bool {
        if message.is_binding_request() && !self.sources.contains(&from) {
            // Each address that checks come from becomes a pair.
            if self.sources.len() >= MAX_SOURCES || !self.inner.accepts_message(&message) {
                return false;
            }
            self.sources.insert(from);
        }
        let accepted = self.inner.handle_packet(
            now,
            StunPacket {
                proto: Protocol::Udp,
                source: from,
                destination: local,
                message,
            },
        );
        if accepted && self.is_started {
            self.trigger(now);
        }
        accepted
    }

    /// Makes the next check at once, as far as the pace allows (RFC 8445, section 7.3.1.4).
    pub(super) fn trigger(&mut self, now: Instant) {
        let earned = now.saturating_duration_since(self.since).as_millis() / PACE.as_millis();
        if earned > 0 {
            let earned = u32::try_from(earned).unwrap_or(u32::MAX);
            self.tokens = self.tokens.saturating_add(earned).min(BURST);
            self.since = now;
        }
        if self.tokens > 0 {
            let before = self.inner.stats().bind_request_sent;
            self.inner.handle_timeout(now);
            if self.inner.stats().bind_request_sent != before {
                self.tokens -= 1;
            }
            self.take_events();
        }
    }

    pub(super) fn drive(&mut self, now: Instant) {
        if !self.is_started {
            return;
        }
        if self.inner.poll_timeout().is_some_and(|at| at <= now) {
            self.inner.handle_timeout(now);
        }
        self.take_events();
    }

    fn take_events(&mut self) {
        while let Some(event) = self.inner.poll_event() {
            if let IceAgentEvent::NominatedSend {
                source,
                destination,
                ..
            } = event
            {
                self.path = Some(Path {
                    local: source,
                    remote: destination,
                });
            }
        }
    }

    pub(super) fn deadline(&mut self) -> Option<Instant> {
        self.is_started.then(|| self.inner.poll_timeout()).flatten()
    }
}

impl fmt::Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agent")
            .field("state", &self.inner.state())
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

pub(super) fn creds(credentials: &Credentials) -> IceCreds {
    IceCreds {
        ufrag: credentials.ufrag().to_owned(),
        pass: credentials.pwd().to_owned(),
    }
}
