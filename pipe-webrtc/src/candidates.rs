//! Bounds on the candidates of a peer: each one is an address that packets are sent to before
//! anything is proved (RFC 8445, section 19.5.1).

use pipe_core::Result;
use tokio::time::{Duration, Instant};

use crate::engine::Candidate;
use crate::error::protocol;

/// Approximate maximum number of pairs of candidates (RFC 8445, section 6.1.2.5).
const MAX_PAIRS: usize = 100;

/// Number of candidates of the peer that are used in any case, and at most.
const FEWEST: usize = 10;
const MOST: usize = 64;

/// Maximum length of a candidate, in bytes.
const MAX_LEN: usize = 512;

/// Maximum number of candidates of the peer for one description, used or not.
const MAX_NAMED: usize = 1024;

/// Maximum number of consecutive offers and requests for one, and the time until one more is
/// admitted.
const MAX_OFFERS: u32 = 16;
const OFFER_EVERY: Duration = Duration::from_secs(1);

/// Counts the candidates and the offers of a peer.
#[derive(Debug)]
pub(crate) struct CandidateLimit {
    /// Maximum number of used candidates of the current description.
    most: usize,
    used: usize,
    named: usize,
    /// Number of admitted offers, and the time of that number.
    offers: u32,
    since: Instant,
}

impl CandidateLimit {
    /// Creates a limit for a side that has bound so many sockets, of which each makes a pair with
    /// each candidate.
    pub(crate) fn new(sockets: usize) -> Self {
        Self {
            most: (MAX_PAIRS / sockets.max(1)).clamp(FEWEST, MOST),
            used: 0,
            named: 0,
            offers: MAX_OFFERS,
            since: Instant::now(),
        }
    }

    /// Counts a candidate that came in a message of its own. Returns whether it is to be used. The name of its
    /// section is as long as its peer likes, and counts with it.
    pub(crate) fn admit_candidate(&mut self, candidate: &Candidate) -> Result<bool> {
        let mid = candidate.mid.as_ref().map_or(0, String::len);
        self.count(candidate.candidate.len() + mid)
    }

    /// Counts a candidate. Returns whether it is to be used.
    fn admit(&mut self, candidate: &str) -> Result<bool> {
        self.count(candidate.len())
    }

    fn count(&mut self, length: usize) -> Result<bool> {
        self.named += 1;
        if self.named > MAX_NAMED {
            return Err(protocol(format_args!("more than {MAX_NAMED} candidates")));
        }
        if length > MAX_LEN || self.used >= self.most {
            tracing::debug!(
                length,
                used = self.used,
                "a candidate of the peer is left out"
            );
            return Ok(false);
        }
        self.used += 1;
        Ok(true)
    }

    /// Counts an offer or a request for one. The count of candidates restarts with the description
    /// that follows.
    ///
    /// # Errors
    ///
    /// The time at which the next one is admitted.
    pub(crate) fn admit_offer(&mut self) -> std::result::Result<(), Instant> {
        let earned = self.since.elapsed().as_millis() / OFFER_EVERY.as_millis();
        if earned > 0 {
            self.since = Instant::now();
            let earned = u32::try_from(earned).unwrap_or(u32::MAX);
            self.offers = self.offers.saturating_add(earned).min(MAX_OFFERS);
        }
        let Some(left) = self.offers.checked_sub(1) else {
            return Err(self.since + OFFER_EVERY);
        };
        self.offers = left;
        Ok(())
    }

    /// Takes the candidates of a description that are too many, or too long, out of it. Those that came
    /// before belonged to another.
    pub(crate) fn begin(&mut self, sdp: &str) -> Result<String> {
        (self.used, self.named) = (0, 0);
        let mut limited = String::with_capacity(sdp.len());
        for line in sdp.lines() {
            let candidate = line.strip_prefix("a=candidate:");
            if candidate.is_some() && !self.admit(line.trim_end())? {
                continue;
            }
            limited.push_str(line.trim_end());
            limited.push_str("\r\n");
        }
        Ok(limited)
    }

    /// Returns how many candidates may wait for their description.
    pub(crate) fn most(&self) -> usize {
        self.most
    }
}

/// Returns the name of the first section of a description, which candidates without one are of.
pub(crate) fn first_mid(sdp: &str) -> Option<&str> {
    sdp.lines()
        .find_map(|line| line.trim_end().strip_prefix("a=mid:"))
}

/// Returns a description with these candidates at the end of its first section.
pub(crate) fn add_candidates<'a>(
    description: &str,
    candidates: impl IntoIterator<Item = &'a str>,
    is_complete: bool,
) -> String {
    let end = end_of_first_section(description);
    let (before, after) = description.split_at(end);
    let mut text = String::with_capacity(description.len() + 512);
    text.push_str(before);
    for candidate in candidates {
        for part in ["a=", candidate, "\r\n"] {
            text.push_str(part);
        }
    }
    if is_complete && !before.contains("a=end-of-candidates") {
        text.push_str("a=end-of-candidates\r\n");
    }
    text.push_str(after);
    text
}

/// Returns where the second section begins, or the end.
fn end_of_first_section(description: &str) -> usize {
    let mut sections = description.match_indices("m=").map(|(at, _)| at);
    let mut begins = sections
        .by_ref()
        .filter(|at| *at == 0 || description.as_bytes()[at - 1] == b'\n');
    begins.nth(1).unwrap_or(description.len())
}

#[cfg(test)]
mod tests {
    use pipe_core::ErrorKind;

    use super::*;

    fn candidate(n: usize) -> String {
        format!("candidate:{n} 1 udp 2130706431 192.0.2.1 {n} typ host")
    }

    #[test]
    fn candidates_are_used_up_to_a_number_of_pairs() {
        for (sockets, most) in [(0, 64), (1, 64), (2, 50), (4, 25), (8, 12), (50, 10)] {
            let mut limit = CandidateLimit::new(sockets);
            let used = (0..200)
                .filter(|n| limit.admit(&candidate(*n)).unwrap())
                .count();
            assert_eq!(used, most, "{sockets} sockets");
        }
    }

    #[test]
    fn a_flood_of_candidates_is_an_error() {
        let mut limit = CandidateLimit::new(1);
        let error = (0..2000)
            .find_map(|n| limit.admit(&candidate(n)).err())
            .unwrap();
        assert_eq!(error.kind(), ErrorKind::Protocol);
    }

    #[test]
    fn a_candidate_that_is_too_long_is_left_out() {
        let mut limit = CandidateLimit::new(1);
        assert!(!limit.admit(&"candidate:1 ".repeat(100)).unwrap());
        assert!(limit.admit(&candidate(1)).unwrap());
        for (mid, is_used) in [(None, true), (Some(16), true), (Some(60_000), false)] {
            let candidate = Candidate {
                candidate: candidate(1),
                mid: mid.map(|length| "x".repeat(length)),
                line: Some(0),
            };
            assert_eq!(limit.admit_candidate(&candidate).unwrap(), is_used);
        }
    }

    #[test]
    fn the_candidates_of_a_description_count() {
        let mut sdp = "v=0\r\na=mid:data\r\n".to_owned();
        for n in 0..100 {
            sdp.push_str(&format!("a={}\r\n", candidate(n)));
        }
        sdp.push_str("a=end-of-candidates\r\n");
        let mut limit = CandidateLimit::new(1);
        let limited = limit.begin(&sdp).unwrap();
        assert_eq!(limited.matches("a=candidate:").count(), MOST);
        assert!(limited.ends_with("a=end-of-candidates\r\n"));
        assert!(!limit.admit(&candidate(1)).unwrap());
        assert_eq!(first_mid(&limited), Some("data"));
        // A description without candidates begins anew.
        assert_eq!(limit.begin("v=0\r\n").unwrap(), "v=0\r\n");
        assert!(limit.admit(&candidate(1)).unwrap());
    }

    #[test]
    fn candidates_are_added_to_the_first_section() {
        let (first, second) = (
            "v=0\r\nm=application 9\r\na=mid:0\r\n",
            "m=video 9\r\na=mid:1\r\n",
        );
        let description = format!("{first}{second}");
        let text = add_candidates(&description, ["candidate:3 x", "candidate:4 y"], true);
        let added = "a=candidate:3 x\r\na=candidate:4 y\r\na=end-of-candidates\r\n";
        assert_eq!(text, format!("{first}{added}{second}"));
        assert_eq!(add_candidates(&text, [], true), text);
        assert_eq!(
            add_candidates(first, ["candidate:1"], false),
            format!("{first}a=candidate:1\r\n")
        );
    }

    #[tokio::test(start_paused = true)]
    async fn offers_come_now_and_then() {
        let mut limit = CandidateLimit::new(1);
        let in_a_row = (0..100).take_while(|_| limit.admit_offer().is_ok()).count();
        assert_eq!(in_a_row, MAX_OFFERS as usize);
        tokio::time::advance(Duration::from_secs(3)).await;
        let in_a_row = (0..100).take_while(|_| limit.admit_offer().is_ok()).count();
        assert_eq!(in_a_row, 3);
        let due = limit.admit_offer().unwrap_err();
        tokio::time::sleep_until(due).await;
        assert!(limit.admit_offer().is_ok());
    }
}
