mod agent;

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use is::Candidate;
use is::stun::StunMessage;
use pipe_core::Result;

use super::candidate::{NamedCandidate, RemoteCandidate};
use super::credentials::Credentials;
use crate::error::protocol;
use agent::{Agent, creds};

pub(super) use agent::Path;

/// Maximum number of candidates of the peer.
const MAX_REMOTES: usize = 64;

/// Time until an unanswered check is sent again at first, which doubles.
const FIRST_RETRY: Duration = Duration::from_millis(200);

/// The longest time between two checks of a pair where nothing comes from the peer.
const SILENT_RETRY: Duration = Duration::from_millis(500);

/// The longest time between two checks of a pair while there was no path.
const FIRST_SEARCH: Duration = Duration::from_secs(2);

/// Maximum number of unanswered checks of a pair while a path is in use, and otherwise. The crate shifts the
/// first time by that many bits.
const FEW_RETRIES: usize = 9;
const MANY_RETRIES: u32 = 100;

/// The times of an [`Ice`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// The longest time between two checks of the path in use.
    pub(super) keep_alive: Duration,
    /// Time after which a pair that does not answer is given up.
    pub(super) failed_after: Duration,
}

/// ICE of a connection, with its restarts: an agent for the path in use, and one that looks for the next.
#[derive(Debug)]
pub(super) struct Ice {
    times: Times,
    controlling: bool,
    locals: Vec<Candidate>,
    current: Agent,
    /// Of a restart, until it has chosen a path: the path and the credentials of before stay in use.
    next: Option<Agent>,
    path: Option<Path>,
    is_silent: bool,
}

/// What a candidate of the peer was.
#[derive(Debug)]
pub(super) enum Added {
    /// One with this address.
    Ip(IpAddr),
    /// One whose name is to be looked up.
    Name(NamedCandidate),
    /// One of no use.
    Nothing,
}

/// A datagram of ICE to send.
pub(super) struct Check {
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) bytes: Vec<u8>,
}

impl Ice {
    /// Creates ICE with new credentials.
    ///
    /// # Errors
    ///
    /// [`Io`](pipe_core::ErrorKind::Io) when the system gives no random bytes.
    pub(super) fn new(controlling: bool, times: Times, now: Instant) -> Result<Self> {
        let mut ice = Self {
            times,
            controlling,
            locals: Vec::new(),
            current: Agent::new(controlling, Credentials::generate()?, now),
            next: None,
            path: None,
            is_silent: true,
        };
        ice.set_times();
        Ok(ice)
    }

    /// Adds a candidate of this side. Returns it for the peer, unless it is known.
    pub(super) fn add_local(&mut self, candidate: Candidate, now: Instant) -> Option<Candidate> {
        let told = match self.latest().add_local(candidate.clone(), now) {
            Some(told) => told,
            None if self.is_shown(&candidate) => candidate.clone(),
            None => return None,
        };
        self.locals.push(candidate);
        Some(told)
    }

    /// Returns whether checks have shown the address of a server-reflexive candidate before the server has. It
    /// adds nothing to the agent then (RFC 8445, section 5.1.3), but the peer does not know it.
    fn is_shown(&self, candidate: &Candidate) -> bool {
        // A NAT gives an address to one socket at a time.
        let same = |one: &Candidate| one.addr() == candidate.addr();
        let agent = self.next.as_ref().unwrap_or(&self.current);
        candidate.kind() == is::CandidateKind::ServerReflexive
            && !self.locals.iter().any(same)
            && agent.inner.local_candidates().any(|one| same(&one))
    }

    /// Returns this side's candidates, with the newest credentials.
    pub(super) fn locals(&self) -> Vec<Candidate> {
        let agent = self.next.as_ref().unwrap_or(&self.current);
        agent.inner.local_candidates().filter(is_told).collect()
    }

    /// Returns the newest credentials of this side.
    pub(super) fn credentials(&self) -> &Credentials {
        let agent = self.next.as_ref().unwrap_or(&self.current);
        &agent.credentials
    }

    /// Returns the user fragments of this side that requests may be for.
    pub(super) fn ufrags(&self) -> Vec<&str> {
        let agents = std::iter::once(&self.current).chain(&self.next);
        agents.map(|agent| agent.credentials.ufrag()).collect()
    }

    /// Takes the peer's credentials, so that checks begin.
    pub(super) fn set_remote(&mut self, credentials: &Credentials, now: Instant) {
        let agent = self.latest();
        agent.inner.set_remote_credentials(creds(credentials));
        agent.is_started = true;
        // A check of the peer may have come before, which is answered in a turn of its own.
        agent.trigger(now);
        agent.trigger(now);
    }

    /// Adds a candidate of the peer.
    ///
    /// # Errors
    ///
    /// [`Protocol`](pipe_core::ErrorKind::Protocol) for a text that is none, and for too many.
    pub(super) fn add_remote(&mut self, text: &str, now: Instant) -> Result<Added> {
        match RemoteCandidate::parse(text)? {
            RemoteCandidate::Addr(candidate) => self.add_candidate(candidate, now),
            RemoteCandidate::Name(named) => Ok(Added::Name(named)),
            RemoteCandidate::End => Ok(Added::Nothing),
            RemoteCandidate::Unused(why) => {
                tracing::debug!(text, why, "a candidate of the peer is of no use");
                Ok(Added::Nothing)
            }
        }
    }

    /// Adds a candidate of the peer that has its address.
    ///
    /// # Errors
    ///
    /// [`Protocol`](pipe_core::ErrorKind::Protocol) for too many.
    pub(super) fn add_candidate(&mut self, candidate: Candidate, now: Instant) -> Result<Added> {
        let agent = self.latest();
        if agent.remotes >= MAX_REMOTES {
            return Err(protocol(format_args!("more than {MAX_REMOTES} candidates")));
        }
        agent.remotes += 1;
        let ip = candidate.addr().ip();
        agent.inner.add_remote_candidate(candidate);
        if agent.is_started {
            agent.trigger(now);
        }
        Ok(Added::Ip(ip))
    }

    /// Returns the addresses of the peer's candidates.
    pub(super) fn remote_ips(&self) -> Vec<IpAddr> {
        let agent = self.next.as_ref().unwrap_or(&self.current);
        agent
            .inner
            .remote_candidates()
            .map(|one| one.addr().ip())
            .collect()
    }

    /// Removes the candidate of a relay that is over.
    pub(super) fn remove_local(&mut self, addr: SocketAddr) {
        self.locals.retain(|one| one.addr() != addr);
        for agent in std::iter::once(&mut self.current).chain(&mut self.next) {
            let over = agent
                .inner
                .local_candidates()
                .find(|one| one.addr() == addr);
            if let Some(over) = over {
                agent.inner.invalidate_candidate(&over);
            }
        }
    }

    /// Begins a restart with other credentials, which [`credentials`](Self::credentials) gives from now on.
    /// The path in use stays until another one is chosen.
    pub(super) fn restart(&mut self, now: Instant) -> Result<()> {
        let mut agent = Agent::new(self.controlling, Credentials::generate()?, now);
        for candidate in &self.locals {
            let _ = agent.add_local(candidate.clone(), now);
        }
        self.next = Some(agent);
        self.set_times();
        Ok(())
    }

    /// Gives a restart up.
    pub(super) fn cancel_restart(&mut self) {
        self.next = None;
    }

    /// Returns the path that packets take.
    pub(super) fn path(&self) -> Option<Path> {
        self.path
    }

    /// Returns the candidates of the path, this side's first, and its last round trip.
    pub(super) fn pair(&self) -> Option<(String, String, Option<Duration>)> {
        let path = self.path?;
        let agent = &self.current;
        let local = agent
            .inner
            .local_candidates()
            .find(|one| one.addr() == path.local);
        let mut remotes = agent.inner.remote_candidates();
        let remote = remotes.find(|one| one.addr() == path.remote);
        Some((
            local?.to_sdp_string(),
            remote?.to_sdp_string(),
            agent.inner.nominated_pair_rtt(),
        ))
    }

    /// Returns whether an authenticated check has come from this address, or a check of this side was answered.
    pub(super) fn knows(&self, addr: SocketAddr) -> bool {
        let known = |agent: &Agent| {
            agent.sources.contains(&addr) || agent.inner.has_viable_remote_candidate(addr)
        };
        self.path.is_some_and(|path| path.remote == addr)
            || known(&self.current)
            || self.next.as_ref().is_some_and(known)
    }

    /// Takes a datagram of STUN. Returns whether it is authentic.
    pub(super) fn handle_datagram(
        &mut self,
        now: Instant,
        local: SocketAddr,
        from: SocketAddr,
        datagram: &[u8],
    ) -> bool {
        let agents = std::iter::once(&mut self.current).chain(&mut self.next);
        for agent in agents {
            // It is parsed anew for each agent, of which there is one nearly always.
            let Ok(message) = StunMessage::parse(datagram) else {
                return false;
            };
            if agent.handle(now, local, from, message) {
                return true;
            }
        }
        false
    }

    /// Notes whether nothing has come from the peer for a while: checks are more frequent then.
    pub(super) fn set_silent(&mut self, is_silent: bool, now: Instant) {
        if std::mem::replace(&mut self.is_silent, is_silent) == is_silent {
            return;
        }
        self.set_times();
        if is_silent {
            self.current.trigger(now);
        }
    }

    fn set_times(&mut self) {
        let (keep_alive, failed_after) = (self.times.keep_alive, self.times.failed_after);
        // A pair may come back as long as the connection is not given up.
        let least = failed_after / (MANY_RETRIES - 10);
        let slowest = match (self.path, self.is_silent) {
            (None, _) => FIRST_SEARCH.max(least),
            (Some(_), true) => keep_alive.min(SILENT_RETRY).max(least),
            (Some(_), false) => keep_alive,
        };
        let few = !self.is_silent && self.path.is_some() && self.next.is_none();
        for agent in std::iter::once(&mut self.current).chain(&mut self.next) {
            agent.inner.set_initial_stun_rto(FIRST_RETRY.min(slowest));
            agent.inner.set_max_stun_rto(slowest);
            agent.inner.set_max_stun_retransmits(if few {
                FEW_RETRIES
            } else {
                MANY_RETRIES as usize
            });
        }
    }

    /// Does what is due. Returns whether another path was chosen.
    pub(super) fn drive(&mut self, now: Instant) -> bool {
        let mut is_new = false;
        self.current.drive(now);
        if self.current.path != self.path && self.current.path.is_some() {
            self.path = self.current.path;
            is_new = true;
        }
        if let Some(next) = &mut self.next {
            next.drive(now);
            if next.path.is_some()
                && let Some(next) = self.next.take()
            {
                self.path = next.path;
                self.current = next;
                is_new = true;
            }
        }
        if is_new {
            self.set_times();
        }
        is_new
    }

    /// Returns the next datagram to send.
    pub(super) fn poll_transmit(&mut self) -> Option<Check> {
        let transmit = match self.current.inner.poll_transmit() {
            Some(transmit) => transmit,
            None => self.next.as_mut()?.inner.poll_transmit()?,
        };
        Some(Check {
            from: transmit.source,
            to: transmit.destination,
            bytes: transmit.contents.into(),
        })
    }

    /// Returns when to call [`drive`](Self::drive).
    pub(super) fn deadline(&mut self) -> Option<Instant> {
        let current = self.current.deadline();
        let next = self.next.as_mut().and_then(Agent::deadline);
        current.into_iter().chain(next).min()
    }

    fn latest(&mut self) -> &mut Agent {
        self.next.as_mut().unwrap_or(&mut self.current)
    }
}

/// Returns whether the peer is told of a candidate: those that checks have shown are of no use to it.
fn is_told(candidate: &Candidate) -> bool {
    candidate.kind() != is::CandidateKind::PeerReflexive
}

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;
