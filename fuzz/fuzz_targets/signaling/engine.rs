//! The engine of a connection, as far as its negotiation goes, without sockets.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pipe_core::{Error, ErrorKind, Result};

/// The bounds of the crate: candidates of one description, their length, and offers in a row.
const MAX_CANDIDATES: usize = 64;
const MAX_LEN: usize = 512;
const MAX_OFFERS: u64 = 16;

const DESCRIPTION: &str = "v=0\r\na=mid:0\r\na=candidate:1 1 udp 1 127.0.0.1 9 typ host\r\n";

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) candidate: String,
    pub(crate) mid: Option<String>,
    pub(crate) line: Option<u16>,
}

/// Counts what it is asked for.
pub(crate) struct Peer {
    can_restart: bool,
    /// Every third call fails.
    fails: bool,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    calls: usize,
    /// Descriptions of the peer, and candidates since the last.
    descriptions: u64,
    candidates: usize,
    restarts: usize,
}

impl Peer {
    pub(crate) fn new(can_restart: bool, fails: bool) -> Self {
        Self {
            can_restart,
            fails,
            seen: Mutex::default(),
        }
    }

    fn with<R>(&self, act: impl FnOnce(&mut Seen) -> R) -> R {
        act(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn call(&self) -> Result<()> {
        let calls = self.with(|seen| {
            seen.calls += 1;
            seen.calls
        });
        if self.fails && calls.is_multiple_of(3) {
            return Err(Error::new(ErrorKind::Protocol, "the engine refuses it"));
        }
        Ok(())
    }

    fn describe(&self, description: &str) {
        let lines = description.lines();
        let candidates = lines.filter(|line| line.starts_with("a=candidate:"));
        self.with(|seen| {
            seen.descriptions += 1;
            seen.candidates = candidates.count();
        });
    }

    pub(crate) fn sockets(&self) -> usize {
        1
    }

    #[allow(clippy::unused_self)]
    pub(crate) fn set_connecting(&self, _: bool) {}

    pub(crate) async fn offer(&self) -> Result<String> {
        self.call()?;
        Ok(DESCRIPTION.to_owned())
    }

    pub(crate) async fn offer_restart(&self) -> Result<String> {
        self.with(|seen| seen.restarts += 1);
        self.call()?;
        Ok(DESCRIPTION.to_owned())
    }

    pub(crate) async fn answer(&self, offer: String) -> Result<String> {
        self.describe(&offer);
        self.call()?;
        Ok(DESCRIPTION.to_owned())
    }

    pub(crate) async fn accept_answer(&self, answer: String) -> Result<()> {
        if !self.can_restart && self.with(|seen| seen.restarts) > 0 {
            return Err(Error::new(ErrorKind::Unsupported, "no restart"));
        }
        self.describe(&answer);
        self.call()
    }

    pub(crate) async fn add_candidate(&self, candidate: Candidate) -> Result<()> {
        assert!(candidate.candidate.len() <= MAX_LEN, "a long candidate");
        let mid = candidate.mid.map_or(0, |mid| mid.len());
        assert!(mid <= MAX_LEN, "a candidate with a name of {mid} bytes");
        self.with(|seen| {
            assert!(seen.descriptions > 0, "a candidate before a description");
            seen.candidates += 1;
        });
        self.call()
    }

    /// How many offers for a restart were asked for.
    pub(crate) fn restarts(&self) -> usize {
        self.with(|seen| seen.restarts)
    }

    /// Checks what was asked for since the start.
    pub(crate) fn check(&self, elapsed: Duration) {
        self.with(|seen| {
            let candidates = seen.candidates;
            assert!(candidates <= MAX_CANDIDATES, "{candidates} candidates");
            // Those of this side count as well, and are the application's to bound.
            let limit = MAX_OFFERS + elapsed.as_secs() + 1 + seen.restarts as u64;
            let descriptions = seen.descriptions;
            assert!(descriptions <= limit, "{descriptions} in {elapsed:?}");
        });
    }
}
