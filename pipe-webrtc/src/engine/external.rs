use std::net::IpAddr;
use std::sync::Arc;

/// How a line of a description begins that is a candidate (RFC 8839, section 5.1).
const LINE: &str = "a=candidate:";

/// The addresses that stand for those of this machine in what the peer hears.
#[derive(Clone, Debug, Default)]
pub(super) struct External(pub(super) Arc<[IpAddr]>);

impl External {
    /// What is said instead of a candidate: a host candidate once with each address of its family, if there
    /// are any.
    pub(super) fn candidates(&self, text: &str) -> Vec<String> {
        let mut words: Vec<_> = text.split(' ').collect();
        let host = words.get(6..8) == Some(&["typ", "host"]);
        let own = words.get(4).and_then(|word| word.parse::<IpAddr>().ok());
        let outside: Vec<_> = match own {
            Some(own) if host => {
                let alike = self.0.iter().filter(|addr| addr.is_ipv4() == own.is_ipv4());
                alike.map(IpAddr::to_string).collect()
            }
            _ => Vec::new(),
        };
        if outside.is_empty() {
            return vec![text.to_owned()];
        }
        let said = outside.iter().map(|addr| {
            words[4] = addr;
            words.join(" ")
        });
        said.collect()
    }

    /// What is said instead of a description: the engine puts the candidates that it knows into that of a
    /// restart.
    pub(super) fn description(&self, sdp: String) -> String {
        if self.0.is_empty() {
            return sdp;
        }
        let mut said = String::with_capacity(sdp.len());
        for line in sdp.split_inclusive('\n') {
            match line.strip_prefix(LINE) {
                Some(rest) => {
                    let (candidate, ending) = rest.split_at(rest.trim_end().len());
                    for candidate in self.candidates(candidate) {
                        said.extend([LINE, &candidate, ending]);
                    }
                }
                None => said.push_str(line),
            }
        }
        said
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn external(addrs: &[&str]) -> External {
        External(addrs.iter().map(|addr| addr.parse().unwrap()).collect())
    }

    #[test]
    fn host_candidates_alone_are_said_with_the_addresses_of_their_family() {
        let external = external(&["198.51.100.1", "2001:db8::1", "198.51.100.2"]);
        let host = |addr| format!("candidate:1 1 udp 2130706431 {addr} 4711 typ host");
        assert_eq!(
            external.candidates(&host("10.0.0.1")),
            [host("198.51.100.1"), host("198.51.100.2")]
        );
        assert_eq!(external.candidates(&host("fd00::1")), [host("2001:db8::1")]);
        for other in [
            "candidate:1 1 udp 1694498815 192.0.2.1 4711 typ srflx raddr 10.0.0.1 rport 4711",
            "candidate:1 1 udp 2130706431 name.local 4711 typ host",
            "candidate:1 1 udp",
            "",
        ] {
            assert_eq!(external.candidates(other), [other]);
        }
    }

    #[test]
    fn descriptions_are_changed_in_their_candidates_only() {
        let sdp = "v=0\r\nc=IN IP4 10.0.0.1\r\n\
                   a=candidate:1 1 udp 1 10.0.0.1 4711 typ host\r\na=mid:0\r\n";
        let said = external(&["198.51.100.1"]).description(sdp.to_owned());
        let expected = sdp.replace("1 10.0.0.1 4711", "1 198.51.100.1 4711");
        assert_eq!(said, expected);
        assert_eq!(external(&[]).description(sdp.to_owned()), sdp);
    }
}
