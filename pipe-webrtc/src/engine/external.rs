use std::net::IpAddr;
use std::sync::Arc;

/// Prefix of the lines of a description that are candidates (RFC 8839, section 5.1).
const LINE: &str = "a=candidate:";

/// The candidates that the peer receives instead of this machine's addresses.
#[derive(Clone, Debug, Default)]
pub(super) struct External {
    /// The addresses that stand for them.
    pub(super) addrs: Arc<[IpAddr]>,
    /// Whether a relayed address is sent without the one behind it.
    pub(super) relay_only: bool,
}

impl External {
    /// Returns the replacements of a candidate: a host candidate once with each address of its
    /// family, if there are any.
    pub(super) fn candidates(&self, text: &str) -> Vec<String> {
        let mut words: Vec<_> = text.split(' ').collect();
        let host = words.get(6..8) == Some(&["typ", "host"]);
        let own = words.get(4).and_then(|word| word.parse::<IpAddr>().ok());
        if self.relay_only
            && let Some(related) = words.iter().position(|word| *word == "raddr")
            && let [_, addr, _, port, ..] = &mut words[related..]
        {
            // RFC 8839, section 5.1, requires it for sides that hide their addresses.
            *addr = if addr.contains(':') { "::" } else { "0.0.0.0" };
            *port = "9";
        }
        let outside: Vec<_> = match own {
            Some(own) if host => {
                let alike = self
                    .addrs
                    .iter()
                    .filter(|addr| addr.is_ipv4() == own.is_ipv4());
                alike.map(IpAddr::to_string).collect()
            }
            _ => Vec::new(),
        };
        if outside.is_empty() {
            return vec![words.join(" ")];
        }
        let said = outside.iter().map(|addr| {
            words[4] = addr;
            words.join(" ")
        });
        said.collect()
    }

    /// Returns the replacement of a description: the engine puts its candidates into that of a
    /// restart.
    pub(super) fn description(&self, sdp: String) -> String {
        if self.addrs.is_empty() && !self.relay_only {
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
        External {
            addrs: addrs.iter().map(|addr| addr.parse().unwrap()).collect(),
            relay_only: false,
        }
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
    fn what_is_behind_a_relay_is_not_said_where_there_is_no_other_way() {
        let relay = |behind| format!("candidate:1 1 udp 1 192.0.2.1 50000 typ relay {behind}");
        let external = External {
            relay_only: true,
            ..external(&[])
        };
        for (own, said) in [
            ("raddr 10.0.0.1 rport 4711", "raddr 0.0.0.0 rport 9"),
            (
                "raddr fd00::1 rport 4711 ufrag x",
                "raddr :: rport 9 ufrag x",
            ),
            ("raddr", "raddr"),
        ] {
            assert_eq!(external.candidates(&relay(own)), [relay(said)]);
        }
        let line = |behind| format!("a={}\r\n", relay(behind));
        let sdp = external.description(line("raddr 10.0.0.1 rport 4711"));
        assert_eq!(sdp, line("raddr 0.0.0.0 rport 9"));
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
