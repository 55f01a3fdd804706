use std::net::{IpAddr, SocketAddr};

use is::{Candidate, CandidateKind, Protocol};
use pipe_core::Result;

use super::sdp::MAX_CANDIDATE_LEN;
use crate::error::protocol;

/// Largest foundation, in bytes (RFC 8839, section 5.1). Some stacks go over its 32.
const MAX_FOUNDATION: usize = 64;

/// Largest name, in bytes (RFC 1035, section 2.3.4).
const MAX_NAME: usize = 255;

/// A candidate of a peer (RFC 8839, section 5.1).
#[derive(Clone, Debug)]
pub(crate) enum RemoteCandidate {
    /// One over UDP with an address.
    Addr(Candidate),
    /// One over UDP whose address a browser hides behind a name of multicast DNS.
    Name(NamedCandidate),
    /// The end of candidates, which some send as an empty one (RFC 8840, section 8.2).
    End,
    /// One that this side has no use for, and why.
    Unused(&'static str),
}

/// A candidate with a name of multicast DNS in place of its address
/// (draft-ietf-mmusic-mdns-ice-candidates).
#[derive(Clone, Debug)]
pub(crate) struct NamedCandidate {
    name: String,
    parts: Parts,
}

impl NamedCandidate {
    /// Returns the name, in lower case.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Returns the candidate with the address that the name stands for, or why it is not used.
    pub(crate) fn resolved(self, ip: IpAddr) -> RemoteCandidate {
        self.parts.at(ip)
    }
}

/// A candidate without its IP address.
#[derive(Clone, Debug)]
struct Parts {
    foundation: String,
    priority: u32,
    port: u16,
    kind: CandidateKind,
    related: Option<SocketAddr>,
    ufrag: Option<String>,
}

impl Parts {
    fn at(self, ip: IpAddr) -> RemoteCandidate {
        // One within IPv6 is reached over IPv4.
        let ip = ip.to_canonical();
        let is_broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
        if ip.is_unspecified() || ip.is_multicast() || is_broadcast {
            return RemoteCandidate::Unused("its address is not that of one machine");
        }
        if matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local()) {
            return RemoteCandidate::Unused("its address is of one link, and does not name it");
        }
        RemoteCandidate::Addr(Candidate::from_parts(
            self.foundation,
            1,
            Protocol::Udp,
            self.priority,
            SocketAddr::new(ip, self.port),
            self.kind,
            self.related,
            None,
            self.ufrag,
        ))
    }
}

impl RemoteCandidate {
    /// Parses a candidate, with `a=` before it or not. Extensions that are not known are skipped.
    ///
    /// # Errors
    ///
    /// [`Protocol`](pipe_core::ErrorKind::Protocol) for a text that is no candidate.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let bad = |why: &str| protocol(format_args!("a bad candidate: {why}"));
        if text.len() > MAX_CANDIDATE_LEN {
            return Err(bad("it is too long"));
        }
        let text = text.trim();
        let text = text.strip_prefix("a=").unwrap_or(text);
        let text = text.strip_prefix("candidate:").unwrap_or(text);
        if text.is_empty() {
            return Ok(Self::End);
        }
        let mut words = text.split_ascii_whitespace();
        let mut word = |name: &str| {
            let missing = || protocol(format_args!("a bad candidate: it has no {name}"));
            words.next().ok_or_else(missing)
        };

        let foundation = word("foundation")?;
        if foundation.len() > MAX_FOUNDATION || !foundation.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(bad("its foundation"));
        }
        let component: u16 = word("component")?
            .parse()
            .map_err(|_| bad("its component"))?;
        let transport = word("transport")?;
        let priority: u32 = word("priority")?.parse().map_err(|_| bad("its priority"))?;
        let addr = word("address")?;
        let port: u16 = word("port")?.parse().map_err(|_| bad("its port"))?;
        if word("type")? != "typ" {
            return Err(bad("its type"));
        }
        let kind = match word("type")? {
            "host" => CandidateKind::Host,
            "srflx" => CandidateKind::ServerReflexive,
            "prflx" => CandidateKind::PeerReflexive,
            "relay" => CandidateKind::Relayed,
            _ => return Ok(Self::Unused("its type is not known")),
        };
        let (mut related_ip, mut related_port, mut ufrag) = (None, None, None);
        while let Some(name) = words.next() {
            let Some(value) = words.next() else {
                return Err(bad("an extension has no value"));
            };
            match name {
                // Neither is needed, and browsers hide them.
                "raddr" => related_ip = value.parse::<IpAddr>().ok(),
                "rport" => related_port = value.parse().ok(),
                "ufrag" => ufrag = Some(value.to_owned()),
                _ => {}
            }
        }

        if component != 1 {
            return Ok(Self::Unused("it is of another component than the first"));
        }
        if !transport.eq_ignore_ascii_case("udp") {
            return Ok(Self::Unused("it is not one over UDP"));
        }
        if port == 0 {
            return Ok(Self::Unused("it has no port"));
        }
        let parts = Parts {
            foundation: foundation.to_owned(),
            // RFC 8445, section 5.1.2.1.
            priority: priority.clamp(1, i32::MAX as u32),
            port,
            kind,
            related: related_ip
                .zip(related_port)
                .map(|(ip, port)| SocketAddr::new(ip, port)),
            ufrag,
        };
        if let Ok(ip) = addr.parse() {
            return Ok(parts.at(ip));
        }
        Ok(match local_name(addr) {
            Some(name) => Self::Name(NamedCandidate { name, parts }),
            None => Self::Unused("its address is a name outside of multicast DNS"),
        })
    }
}

/// Returns a name of multicast DNS (RFC 6762, section 3) in lower case: one label before ".local", as
/// browsers make them.
pub(super) fn local_name(name: &str) -> Option<String> {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let label = name.strip_suffix(".local")?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let usable = (1..=63).contains(&label.len()) && label.bytes().all(plain);
    (usable && name.len() <= MAX_NAME).then_some(name)
}

/// Returns the texts that stand for a candidate of this side, for its peer (RFC 8839, section 5.1).
///
/// A host candidate is sent once with each of the `external` addresses of its family instead, if there
/// are any, and else with `name` in place of its address.
pub(crate) fn announced(
    candidate: &Candidate,
    external: &[IpAddr],
    name: Option<&str>,
) -> Vec<String> {
    // RFC 8839, section 5.1, has this port where the related address is hidden.
    let text = candidate
        .to_sdp_string()
        .replacen(" rport 0", " rport 9", 1);
    if candidate.kind() != CandidateKind::Host {
        return vec![text];
    }
    let is_ipv4 = candidate.addr().is_ipv4();
    let alike = external.iter().filter(|addr| addr.is_ipv4() == is_ipv4);
    let mut instead: Vec<_> = alike.map(IpAddr::to_string).collect();
    if instead.is_empty() {
        instead.extend(name.map(str::to_owned));
    }
    if instead.is_empty() {
        return vec![text];
    }
    let with = |addr: &String| {
        let words = text.split(' ').enumerate();
        let words = words.map(|(at, word)| if at == 4 { &**addr } else { word });
        words.collect::<Vec<_>>().join(" ")
    };
    instead.iter().map(with).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn addr(text: &str) -> Candidate {
        match RemoteCandidate::parse(text) {
            Ok(RemoteCandidate::Addr(candidate)) => candidate,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn candidates_of_every_kind_over_udp_are_used() {
        for (text, kind, at) in [
            (
                "candidate:842163049 1 udp 1677729535 203.0.113.4 46154 typ srflx raddr 0.0.0.0 rport 9 \
                 generation 0 ufrag Xo4x network-cost 999",
                CandidateKind::ServerReflexive,
                "203.0.113.4:46154",
            ),
            (
                "a=candidate:0 1 UDP 2122252543 192.168.1.20 47321 typ host",
                CandidateKind::Host,
                "192.168.1.20:47321",
            ),
            (
                "1 1 udp 5 2001:db8::2 9 typ relay raddr 10.0.0.1 rport 7",
                CandidateKind::Relayed,
                "[2001:db8::2]:9",
            ),
            (
                "candidate:H/a+ 1 udp 4294967295 ::ffff:192.0.2.1 1 typ prflx raddr x.local rport 9",
                CandidateKind::PeerReflexive,
                "192.0.2.1:1",
            ),
        ] {
            let candidate = addr(text);
            assert_eq!(
                (candidate.kind(), candidate.addr().to_string()),
                (kind, at.to_owned())
            );
            assert!(candidate.prio() <= i32::MAX as u32);
            let again = addr(&candidate.to_sdp_string());
            assert_eq!(again, candidate);
        }
        let with = addr("candidate:1 1 udp 9 192.0.2.1 9 typ host ufrag abcd");
        assert_eq!(with.ufrag(), Some("abcd"));
    }

    #[test]
    fn names_of_multicast_dns_wait_for_their_address() {
        let text = "candidate:0 1 UDP 2122252543 9B36eaac-bb2e-49bb-bb78-21c41c499900.local 47321 typ host";
        let Ok(RemoteCandidate::Name(named)) = RemoteCandidate::parse(text) else {
            panic!("a name");
        };
        assert_eq!(named.name(), "9b36eaac-bb2e-49bb-bb78-21c41c499900.local");
        let multicast = named.clone().resolved("224.0.0.1".parse().unwrap());
        assert!(matches!(multicast, RemoteCandidate::Unused(_)));
        match named.resolved("192.168.1.20".parse().unwrap()) {
            RemoteCandidate::Addr(candidate) => {
                assert_eq!(candidate.addr().to_string(), "192.168.1.20:47321");
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_cannot_be_used_is_skipped_and_nonsense_refused() {
        for unused in [
            "candidate:1 1 tcp 2105524479 192.0.2.1 9 typ host tcptype active",
            "candidate:1 2 udp 1 192.0.2.1 9 typ host",
            "candidate:1 1 udp 1 192.0.2.1 0 typ host",
            "candidate:1 1 udp 1 0.0.0.0 9 typ host",
            "candidate:1 1 udp 1 255.255.255.255 9 typ host",
            "candidate:1 1 udp 1 ff02::fb 9 typ host",
            "candidate:1 1 udp 1 fe80::1 9 typ host",
            "candidate:1 1 udp 1 fe80::1%eth0 9 typ host",
            "candidate:1 1 udp 1 example.org 9 typ host",
            "candidate:1 1 udp 1 a.b.local 9 typ host",
            "candidate:1 1 udp 1 .local 9 typ host",
            "candidate:1 1 udp 1 192.0.2.1 9 typ other",
        ] {
            let parsed = RemoteCandidate::parse(unused).unwrap();
            assert!(matches!(parsed, RemoteCandidate::Unused(_)), "{unused}");
        }
        for end in ["", "candidate:", "a=candidate:\r\n"] {
            let parsed = RemoteCandidate::parse(end).unwrap();
            assert!(matches!(parsed, RemoteCandidate::End), "{end}");
        }
        for bad in [
            "candidate:1",
            "candidate:1 1 udp 1 192.0.2.1",
            "candidate:1 x udp 1 192.0.2.1 9 typ host",
            "candidate:1 1 udp -1 192.0.2.1 9 typ host",
            "candidate:1 1 udp 1 192.0.2.1 70000 typ host",
            "candidate:1 1 udp 1 192.0.2.1 9 type host",
            "candidate:1 1 udp 1 192.0.2.1 9 typ host raddr",
            &format!("candidate:{} 1 udp 1 192.0.2.1 9 typ host", "1".repeat(65)),
            &format!("candidate:{}", "1".repeat(MAX_CANDIDATE_LEN)),
        ] {
            assert!(RemoteCandidate::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn host_candidates_are_announced_with_what_stands_for_them() {
        let host = Candidate::host("10.0.0.1:4711".parse().unwrap(), "udp").unwrap();
        let external: Vec<IpAddr> = ["198.51.100.1", "2001:db8::1", "198.51.100.2"]
            .map(|addr| addr.parse().unwrap())
            .to_vec();
        let name = "1f0e.local";
        let at = |texts: Vec<String>| -> Vec<String> {
            let word = |text: &String| text.split(' ').nth(4).unwrap().to_owned();
            texts.iter().map(word).collect()
        };
        assert_eq!(at(announced(&host, &[], None)), ["10.0.0.1"]);
        assert_eq!(at(announced(&host, &[], Some(name))), [name]);
        assert_eq!(
            at(announced(&host, &external, Some(name))),
            ["198.51.100.1", "198.51.100.2"]
        );
        let [mapped, base] = ["203.0.113.1:9", "10.0.0.1:9"].map(|addr| addr.parse().unwrap());
        let reflexive = Candidate::server_reflexive(mapped, base, "udp").unwrap();
        let text = announced(&reflexive, &external, Some(name));
        assert_eq!(at(text.clone()), ["203.0.113.1"]);
        // The address behind it is not sent.
        assert!(!text[0].contains("10.0.0.1"), "{text:?}");
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in "(a=)?(candidate:)?[ -~é]{0,200}") {
            let _ = RemoteCandidate::parse(&text);
        }

        #[test]
        fn well_formed_candidates_keep_their_address(
            ip in any::<[u8; 16]>(), v4 in any::<bool>(), port in 1..=u16::MAX, priority in any::<u32>(),
        ) {
            let ip = if v4 {
                IpAddr::from([ip[0], ip[1], ip[2], ip[3]])
            } else {
                IpAddr::from(ip)
            };
            let text = format!("candidate:f 1 udp {priority} {ip} {port} typ host");
            if let RemoteCandidate::Addr(candidate) = RemoteCandidate::parse(&text).unwrap() {
                prop_assert_eq!(candidate.addr(), SocketAddr::new(ip.to_canonical(), port));
            }
        }
    }
}
