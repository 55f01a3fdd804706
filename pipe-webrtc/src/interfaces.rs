//! The addresses of this machine that a connection binds.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use crate::filter::{AddrFilter, InterfaceFilter};

/// An address of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Interface {
    pub(crate) name: String,
    pub(crate) index: Option<u32>,
    pub(crate) ip: IpAddr,
    pub(crate) standing: Standing,
}

/// How well an address serves (RFC 4862, section 5.5, and RFC 8981).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Stable,
    /// It is replaced every day, and lasts for connections that are shorter.
    Temporary,
    /// It is not bound yet, taken by another machine, or on its way out.
    Unusable,
}

/// Returns the addresses of this machine.
///
/// # Errors
///
/// When the system does not list them.
pub(crate) fn interfaces() -> io::Result<Vec<Interface>> {
    // Linux alone lists how its addresses stand.
    let flags = std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    let standings = parse_standings(&flags);
    let found = if_addrs::get_if_addrs()?;
    let interfaces = found.into_iter().map(|interface| {
        let ip = interface.ip();
        let standing = match ip {
            IpAddr::V6(ip) => standings.get(&ip).copied(),
            IpAddr::V4(_) => None,
        };
        Interface {
            name: interface.name,
            index: interface.index,
            ip,
            standing: standing.unwrap_or(Standing::Stable),
        }
    });
    Ok(interfaces.collect())
}

/// Parses Linux' list of the addresses of IPv6: each with an interface, a length, a scope and flags in
/// hexadecimal, and a name.
fn parse_standings(list: &str) -> HashMap<Ipv6Addr, Standing> {
    const TEMPORARY: u8 = 0x01;
    /// A duplicate was found, it is deprecated, or duplicates are still looked for.
    const UNUSABLE: u8 = 0x08 | 0x20 | 0x40;
    let entry = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let ip = u128::from_str_radix(words.next()?, 16).ok()?;
        let flags = u8::from_str_radix(words.nth(3)?, 16).ok()?;
        let standing = match flags {
            flags if flags & UNUSABLE != 0 => Standing::Unusable,
            flags if flags & TEMPORARY != 0 => Standing::Temporary,
            _ => Standing::Stable,
        };
        Some((Ipv6Addr::from(ip), standing))
    };
    list.lines().filter_map(entry).collect()
}

/// Returns the addresses of this machine that packets to the peer, or out of this machine, are sent
/// from.
pub(crate) fn routed(peer: Option<IpAddr>) -> Vec<IpAddr> {
    /// Any address outside, which nothing is sent to.
    const OUTSIDE: [IpAddr; 2] = [
        IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
    ];
    let from = |to: IpAddr| {
        let any: IpAddr = match to {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        // Connecting sends nothing; it queries the route.
        let socket = UdpSocket::bind((any, 0)).ok()?;
        socket.connect((to, 9)).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    let peer = peer.filter(|peer| !peer.is_unspecified());
    peer.into_iter().chain(OUTSIDE).filter_map(from).collect()
}

/// What decides which addresses of interfaces are bound.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules<'a> {
    /// Whether those of loopback are.
    pub(crate) loopback: bool,
    pub(crate) interfaces: &'a InterfaceFilter,
    pub(crate) addrs: &'a AddrFilter,
    /// The addresses that packets are sent from, the best first.
    pub(crate) routed: &'a [IpAddr],
}

impl Rules<'_> {
    /// Chooses the addresses to bind, ordered so that the first few reach as much as possible: those of a route
    /// come first, then loopback, and bridges last; among equal ones the first of each interface comes before
    /// further ones, and the families take turns.
    ///
    /// Addresses of one link are left out, and temporary ones where the interface has others: their candidates
    /// would reach the same, for a shorter time.
    pub(crate) fn choose(&self, interfaces: &[Interface]) -> Vec<IpAddr> {
        let usable: Vec<_> = interfaces.iter().filter(|one| self.admits(one)).collect();
        let has_stable: HashSet<_> = usable
            .iter()
            .filter(|one| one.standing == Standing::Stable)
            .map(|one| (one.name.as_str(), one.ip.is_ipv6()))
            .collect();
        // A route may be one of a temporary address; its interface is the same.
        let route_of = |one: &Interface| {
            self.routed.iter().position(|routed| {
                let is_beside = |other: &&Interface| {
                    other.ip == *routed
                        && other.standing == Standing::Temporary
                        && other.name == one.name
                        && other.ip.is_ipv6() == one.ip.is_ipv6()
                };
                one.ip == *routed || usable.iter().copied().any(|other| is_beside(&other))
            })
        };
        let kept = usable.iter().filter(|one| {
            one.standing == Standing::Stable
                || !has_stable.contains(&(one.name.as_str(), one.ip.is_ipv6()))
        });
        let kept = kept.map(|one| (one.name.as_str(), one.ip, route_of(one)));
        by_preference(kept)
    }

    fn admits(&self, one: &Interface) -> bool {
        let is_link_local = match one.ip {
            IpAddr::V4(ip) => ip.is_link_local(),
            IpAddr::V6(ip) => ip.is_unicast_link_local(),
        };
        one.standing != Standing::Unusable
            && !is_link_local
            && !one.ip.is_unspecified()
            && (self.loopback || !one.ip.is_loopback())
            && self.interfaces.passes(&one.name)
            && self.addrs.passes(one.ip)
    }
}

/// Orders addresses, each with its interface and the place of its route.
fn by_preference<'a>(addrs: impl Iterator<Item = (&'a str, IpAddr, Option<usize>)>) -> Vec<IpAddr> {
    /// Prefixes of the names of interfaces of containers and virtual machines.
    const BRIDGES: [&str; 6] = ["docker", "br-", "veth", "virbr", "cni", "lxc"];
    let mut before = HashMap::new();
    let mut ranked: Vec<_> = addrs
        .map(|(name, addr, route)| {
            let nth = before.entry((name, addr.is_ipv6())).or_insert(0_u32);
            *nth += 1;
            let class = match route {
                Some(place) => place,
                None if addr.is_loopback() => usize::MAX - 2,
                None if BRIDGES.iter().any(|bridge| name.starts_with(bridge)) => usize::MAX,
                None => usize::MAX - 1,
            };
            ((class, *nth, name), addr)
        })
        .collect();
    ranked.sort_unstable();
    // The place of each within its class and family, which lets the families take turns.
    let mut placed = HashMap::new();
    let mut ordered: Vec<_> = ranked
        .into_iter()
        .map(|((class, ..), addr)| {
            let place = placed.entry((class, addr.is_ipv6())).or_insert(0_u32);
            *place += 1;
            ((class, *place, addr.is_ipv6()), addr)
        })
        .collect();
    ordered.sort_unstable();
    ordered.into_iter().map(|(_, addr)| addr).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn interface(name: &str, addr: &str) -> Interface {
        Interface {
            name: name.to_owned(),
            index: None,
            ip: ip(addr),
            standing: Standing::Stable,
        }
    }

    /// Chooses without filters.
    fn chosen(interfaces: &[Interface], loopback: bool, routed: &[&str]) -> Vec<String> {
        let routed: Vec<_> = routed.iter().map(|addr| ip(addr)).collect();
        let rules = Rules {
            loopback,
            interfaces: &InterfaceFilter::default(),
            addrs: &AddrFilter::default(),
            routed: &routed,
        };
        rules
            .choose(interfaces)
            .iter()
            .map(IpAddr::to_string)
            .collect()
    }

    #[test]
    fn the_way_out_comes_first_bridges_last_and_families_take_turns() {
        let interfaces = [
            ("br-1a", "172.18.0.1"),
            ("docker0", "172.17.0.1"),
            ("eth0", "10.0.0.5"),
            ("eth0", "10.0.0.6"),
            ("eth0", "2001:db8::5"),
            ("eth1", "10.1.0.5"),
            ("eth2", "10.2.0.5"),
            ("lo", "127.0.0.1"),
            ("lo", "::1"),
            ("veth7", "fd00::7"),
        ]
        .map(|(name, addr)| interface(name, addr));
        assert_eq!(
            chosen(&interfaces, true, &["10.2.0.5", "10.1.0.5"]),
            [
                "10.2.0.5",
                "10.1.0.5",
                "127.0.0.1",
                "::1",
                "10.0.0.5",
                "2001:db8::5",
                "10.0.0.6",
                "172.18.0.1",
                "fd00::7",
                "172.17.0.1",
            ]
        );
        let without = chosen(&interfaces, false, &[]);
        assert!(
            !without
                .iter()
                .any(|addr| addr == "127.0.0.1" || addr == "::1")
        );
    }

    #[test]
    fn addresses_of_a_link_and_temporary_ones_are_left_out() {
        let mut interfaces = [
            ("eth0", "fe80::1"),
            ("eth0", "169.254.3.4"),
            ("eth0", "10.0.0.5"),
            ("eth0", "2001:db8::5"),
            ("eth0", "2001:db8::aaaa"),
            ("eth1", "2001:db8:1::bbbb"),
            ("eth2", "2001:db8:2::cccc"),
        ]
        .map(|(name, addr)| interface(name, addr))
        .to_vec();
        for (at, standing) in [
            (4, Standing::Temporary),
            (5, Standing::Temporary),
            (6, Standing::Unusable),
        ] {
            interfaces[at].standing = standing;
        }
        // The route of a temporary address is that of its interface; a lone one is used.
        assert_eq!(
            chosen(&interfaces, false, &["2001:db8::aaaa"]),
            ["2001:db8::5", "10.0.0.5", "2001:db8:1::bbbb"]
        );
    }

    #[test]
    fn filters_leave_interfaces_and_networks_out() {
        let interfaces = [
            ("eth0", "10.0.0.5"),
            ("eth0", "192.168.0.5"),
            ("wg0", "10.9.0.1"),
        ]
        .map(|(name, addr)| interface(name, addr));
        let rules = Rules {
            loopback: false,
            interfaces: &InterfaceFilter::default().with_deny(vec!["wg".to_owned()]),
            addrs: &AddrFilter::default().with_allow(vec!["10.0.0.0/8".parse().unwrap()]),
            routed: &[],
        };
        assert_eq!(rules.choose(&interfaces), [ip("10.0.0.5")]);
    }

    #[test]
    fn of_240_addresses_the_first_reach_every_kind() {
        let mut interfaces = Vec::new();
        for n in 0..120_u8 {
            let name = format!("eth{n}");
            interfaces.push(interface(&name, &format!("10.{n}.0.1")));
            interfaces.push(interface(&name, &format!("2001:db8:{n}::1")));
        }
        let chosen = chosen(&interfaces, false, &["10.77.0.1", "2001:db8:88::1"]);
        assert_eq!(chosen.len(), 240);
        assert_eq!(chosen[..2], ["10.77.0.1", "2001:db8:88::1"]);
        let first = chosen[2..8].iter().map(|addr| addr.contains(':'));
        assert_eq!(
            first.collect::<Vec<_>>(),
            [false, true, false, true, false, true]
        );
    }

    #[test]
    fn standings_of_linux_are_read() {
        let list = "20010db8000000000000000000000005 02 40 00 80     eth0\n\
                    20010db800000000000000000000aaaa 02 40 00 01     eth0\n\
                    20010db800000000000000000000bbbb 02 40 00 21     eth0\n\
                    20010db800000000000000000000cccc 02 40 00 c0     eth0\n\
                    nonsense\n";
        let standings = parse_standings(list);
        assert_eq!(standings.len(), 4);
        for (addr, standing) in [
            ("2001:db8::5", Standing::Stable),
            ("2001:db8::aaaa", Standing::Temporary),
            ("2001:db8::bbbb", Standing::Unusable),
            ("2001:db8::cccc", Standing::Unusable),
        ] {
            assert_eq!(standings[&addr.parse().unwrap()], standing, "{addr}");
        }
    }

    #[test]
    fn a_peer_on_this_machine_is_reached_from_it() {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        assert_eq!(routed(Some(loopback)).first(), Some(&loopback));
        let listed = interfaces().unwrap();
        assert!(listed.iter().any(|one| one.ip == loopback), "{listed:?}");
    }
}
