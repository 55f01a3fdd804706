use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

use crate::host_port::HostPort;
use crate::network::parse_network;

/// The hosts that are dialed directly although there is a proxy: a list as in the variable `NO_PROXY`.
///
/// Its entries are separated by commas or spaces:
///
/// | Entry | Hosts |
/// |---|---|
/// | `example.org`, `.example.org`, `*.example.org` | this name and all names below it |
/// | `192.0.2.1`, `::1` | an IP address |
/// | `10.0.0.0/8`, `fd00::/8` | a network |
/// | `example.org:8080`, `[::1]:8080` | only this port of them |
/// | `*` | all |
///
/// Case does not matter, nor does a dot at the end of a name. A name that is dialed is not resolved, so it is in no
/// network. What is none of these is in the list without an effect: such lists are shared by many programs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NoProxy {
    all: bool,
    entries: Vec<Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    hosts: Hosts,
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Hosts {
    Network(IpNet),
    /// A name in lower case, without dots at its ends.
    Name(String),
}

impl NoProxy {
    /// Reads a list.
    pub fn parse(text: &str) -> Self {
        let separated = |c: char| c == ',' || c.is_ascii_whitespace();
        let mut list = Self::default();
        for text in text.split(separated).filter(|text| !text.is_empty()) {
            if text == "*" {
                list.all = true;
            }
            list.entries.extend(Entry::parse(text));
        }
        list
    }

    /// Returns whether a host is in the list.
    pub fn contains(&self, at: &HostPort) -> bool {
        let ip = at.host.parse::<IpAddr>().ok().map(|ip| ip.to_canonical());
        let name = at.host.trim_end_matches('.').to_ascii_lowercase();
        self.all
            || self
                .entries
                .iter()
                .any(|entry| entry.has(&name, ip, at.port))
    }
}

impl Entry {
    fn parse(text: &str) -> Option<Self> {
        if let Some(network) = parse_network(text) {
            return Some(Self {
                hosts: Hosts::Network(network),
                port: None,
            });
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse().ok()?)),
            None => (text, None),
        };
        let hosts = match parse_network(host) {
            Some(network) => Hosts::Network(network),
            None => {
                let name = host.strip_prefix('*').unwrap_or(host);
                let name = name.trim_matches('.');
                // Nothing is below an empty name, and no name has these.
                if name.is_empty() || name.contains(['*', '/', ':', '[', ']']) {
                    return None;
                }
                Hosts::Name(name.to_ascii_lowercase())
            }
        };
        Some(Self { hosts, port })
    }

    fn has(&self, name: &str, ip: Option<IpAddr>, port: u16) -> bool {
        if self.port.is_some_and(|own| own != port) {
            return false;
        }
        match (&self.hosts, ip) {
            (Hosts::Network(network), Some(ip)) => network.contains(&ip),
            (Hosts::Name(own), None) => {
                let above = name.strip_suffix(own.as_str());
                above.is_some_and(|above| above.is_empty() || above.ends_with('.'))
            }
            _ => false,
        }
    }
}

impl FromStr for NoProxy {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self::parse(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(list: &str, host: &str, port: u16) -> bool {
        NoProxy::parse(list).contains(&HostPort::new(host, port))
    }

    #[test]
    fn names_match_themselves_and_what_is_below_them() {
        for list in [
            "example.org",
            ".example.org",
            "*.Example.ORG",
            "example.org.",
        ] {
            for host in ["example.org", "a.example.org", "A.b.EXAMPLE.org."] {
                assert!(has(list, host, 1), "{host} in {list}");
            }
            for host in ["example.com", "anexample.org", "org", "example.org.a", ""] {
                assert!(!has(list, host, 1), "{host} in {list}");
            }
        }
    }

    #[test]
    fn addresses_and_networks_match_addresses_alone() {
        for (list, host, expected) in [
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.10", false),
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("0.2.1", "192.0.2.1", false),
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.7/8", "10.0.0.1", true),
            ("0.0.0.0/0", "192.0.2.1", true),
            ("0.0.0.0/0", "::1", false),
            ("0.0.0.0/0", "example.org", false),
            ("fd00::/8", "fd12::1", true),
            ("fd00::/8", "fe80::1", false),
            ("::1", "::1", true),
            ("[::1]", "[::1]", true),
        ] {
            assert_eq!(has(list, host, 1), expected, "{host} in {list}");
        }
    }

    #[test]
    fn a_port_narrows_an_entry() {
        for (list, host, port, expected) in [
            ("example.org:80", "example.org", 80, true),
            ("example.org:80", "a.example.org", 80, true),
            ("example.org:80", "example.org", 81, false),
            ("192.0.2.1:80", "192.0.2.1", 80, true),
            ("192.0.2.1:80", "192.0.2.1", 81, false),
            ("[::1]:80", "::1", 80, true),
            ("[::1]:80", "::1", 81, false),
            ("10.0.0.0/8:80", "10.1.1.1", 80, true),
        ] {
            assert_eq!(has(list, host, port), expected, "{host}:{port} in {list}");
        }
    }

    #[test]
    fn entries_are_separated_by_commas_and_spaces_and_a_star_is_all() {
        let list = " a.example , b.example\tc.example,,d.example:7 ";
        for host in ["a.example", "b.example", "c.example", "d.example"] {
            assert!(has(list, host, 7), "{host}");
        }
        for list in ["*", "a,*", "* a"] {
            assert!(has(list, "anything", 1) && has(list, "192.0.2.1", 1));
        }
        assert!(!has("", "a", 1) && !has(" , ", "a", 1));
    }

    #[test]
    fn what_makes_no_sense_has_no_effect() {
        for list in [
            "10.*",
            "10.0.0.0/99",
            "a:b",
            "a:99999",
            "a:-1",
            ":80",
            ".",
            "*.",
            "..",
            "[",
            "]:",
            "[::1",
            "//",
            "a/b",
            "%",
            "\u{0}",
            "1.2.3.4/",
            "::1:",
            "http://a",
        ] {
            for host in ["a", "b", "10.0.0.1", "::1", "", "localhost"] {
                for port in [0, 80] {
                    assert!(!has(list, host, port), "{host}:{port} in {list}");
                }
            }
        }
        let long = "a,".repeat(100_000);
        assert!(has(&long, "a", 1));
    }
}
