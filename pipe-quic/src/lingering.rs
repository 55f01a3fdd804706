use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use tokio::time::Instant;

/// Time for which quinn keeps a connection whose handshake has failed, rounded up: three probe timeouts (RFC 9000,
/// section 10.2) of a path whose round trip was not measured (RFC 9002, section 6.2.2).
const KEPT: Duration = Duration::from_millis(3200);

/// Number of failed handshakes whose connections are kept, before the networks with the most have to wait.
pub(crate) const MOST: usize = 1024;

/// The same for all networks together, with no regard to their shares.
pub(crate) const MOST_OF_ALL: usize = 2 * MOST;

/// Counts the connections that quinn keeps of handshakes that have failed.
///
/// A client can begin handshakes and give them up at once, as fast as it sends packets, and none of them holds one of
/// the places of handshakes under way; each leaves some 50 KB.
#[derive(Debug, Default)]
pub(crate) struct Lingering {
    failed: VecDeque<(Instant, IpAddr)>,
    by_network: HashMap<IpAddr, usize>,
}

impl Lingering {
    /// Notes that a handshake with a client at this address has failed.
    pub(crate) fn add(&mut self, ip: IpAddr, now: Instant) {
        let network = network(ip);
        self.failed.push_back((now, network));
        *self.by_network.entry(network).or_default() += 1;
    }

    /// Returns whether a client at this address has to come again later: there are many, and its network has no less
    /// than an equal share of them, or there are too many of all.
    pub(crate) fn are_too_many(&mut self, ip: IpAddr, now: Instant) -> bool {
        self.expire(now);
        let all = self.failed.len();
        if all < MOST {
            return false;
        }
        let own = self.by_network.get(&network(ip)).copied().unwrap_or(0);
        all >= MOST_OF_ALL || own * self.by_network.len() >= all
    }

    fn expire(&mut self, now: Instant) {
        while let Some((failed, network)) = self.failed.front()
            && *failed + KEPT <= now
        {
            if let Some(count) = self.by_network.get_mut(network) {
                *count -= 1;
                if *count == 0 {
                    self.by_network.remove(network);
                }
            }
            self.failed.pop_front();
        }
    }
}

/// Returns the smallest network that one user is given (RFC 6177), by its first address.
fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_with_many_waits_and_another_does_not() {
        let mut lingering = Lingering::default();
        let now = Instant::now();
        let (crowd, other) = (ip("2001:db8::1"), ip("2001:db8:0:1::1"));
        for n in 0..MOST {
            assert!(!lingering.are_too_many(crowd, now), "{n}");
            lingering.add(crowd, now);
        }
        assert!(lingering.are_too_many(crowd, now));
        assert!(lingering.are_too_many(ip("2001:db8::2"), now));
        assert!(!lingering.are_too_many(other, now));
        lingering.add(other, now);
        assert!(!lingering.are_too_many(other, now));
        assert!(lingering.are_too_many(crowd, now));
    }

    #[test]
    fn there_is_a_limit_for_all_networks_together() {
        let mut lingering = Lingering::default();
        let now = Instant::now();
        let client = |n: usize| IpAddr::from((n as u32).to_be_bytes());
        let let_in = (1..10_000).filter(|n| {
            let is_let_in = !lingering.are_too_many(client(*n), now);
            if is_let_in {
                lingering.add(client(*n), now);
            }
            is_let_in
        });
        assert_eq!(let_in.count(), MOST_OF_ALL);
    }

    #[test]
    fn what_is_over_counts_no_more() {
        let mut lingering = Lingering::default();
        let now = Instant::now();
        for n in 0..MOST as u32 {
            lingering.add(ip("192.0.2.1"), now + Duration::from_millis(n.into()));
        }
        let first = now + KEPT;
        assert!(lingering.are_too_many(ip("::ffff:192.0.2.1"), first - Duration::from_millis(1)));
        assert!(!lingering.are_too_many(ip("192.0.2.1"), first));
        assert!(!lingering.are_too_many(ip("192.0.2.1"), first + 2 * KEPT));
        assert!(lingering.failed.is_empty() && lingering.by_network.is_empty());
    }
}
