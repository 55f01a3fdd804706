use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;
use std::{fmt, io};

use pipe_core::{Config, Error, ErrorKind, Result};
use pipe_tls::TlsOptions;
use rtc::ice::url::{ProtoType, SchemeType, Url};

use crate::engine::Certificate;
use crate::error::invalid;

/// Maximum number of sockets of a connection: one for each address of this side.
const MAX_SOCKETS: usize = 8;

/// Settings of a connection over WebRTC, besides the [`Config`] of every transport.
///
/// ```
/// use pipe_webrtc::{IceServer, WebRtcSettings};
///
/// let settings = WebRtcSettings::default()
///     .with_ice_servers([IceServer::stun("stun.example.org:3478")])
///     .with_port_range(50_000..=50_999);
/// settings.validate()?;
/// # Ok::<(), pipe_core::Error>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WebRtcSettings {
    /// The STUN and TURN servers. None by default: then a connection needs a path without help.
    pub ice_servers: Vec<IceServer>,
    /// Whether packets go through a TURN server only, so that the peer does not learn the addresses
    /// of this machine. Not by default.
    pub relay_only: bool,
    /// Trust in the certificates of TURN servers over TLS, and the certificate of this side for
    /// them. The system's roots by default, and none.
    pub turn_tls: TlsOptions,
    /// The addresses to bind, of those that [`addrs`](Self::addrs) lets through. Empty by default, which
    /// stands for the addresses of this machine's interfaces, as both filters and
    /// [`loopback`](Self::loopback) let them through: the one that leads to the peer or out of this machine
    /// first, those of bridges and containers last, those of different interfaces before others, and both
    /// families by turns. The first 8 are used.
    pub bind_addrs: Vec<IpAddr>,
    /// The ports to bind, one for each address of a connection. Any by default.
    pub port_range: Option<RangeInclusive<u16>>,
    /// Whether to bind the loopback addresses of interfaces: by default, `None`, if the signalling
    /// address is one of this machine.
    pub loopback: Option<bool>,
    /// Interfaces to use.
    pub interfaces: InterfaceFilter,
    /// Addresses of these interfaces to use.
    pub addrs: AddrFilter,
    /// External addresses of this side, where a NAT maps them one to one and keeps the ports. Each
    /// of them is sent to the peer instead of the bound addresses of its family.
    pub external_addrs: Vec<IpAddr>,
    /// Whether names of multicast DNS replace this side's addresses. Off by default: it takes a
    /// socket of each connection, and a default route.
    pub mdns: bool,
    /// Time limit of the search for candidates with the help of STUN and TURN servers. Later ones
    /// are used too, but do not delay the connection. 5 s by default.
    pub gather_timeout: Duration,
    /// Receive buffer of SCTP, in bytes, which bounds the bytes of the peer in flight to this side.
    /// 1 MiB by default; from 128 KiB to 64 MiB.
    pub receive_buffer: u32,
    /// The largest message that this side takes, in bytes. 256 KiB by default, and at most; at least
    /// 16 KiB.
    pub max_message: u32,
    /// The largest packet of SCTP, in bytes: the engine's choice (1,191) by default; from 576 to
    /// 16,384.
    pub mtu: Option<u32>,
    /// Buffers of each socket, in bytes. 4 MiB by default, or as much as the system grants.
    pub socket_buffer: u32,
    /// The certificate of this side. By default each transport makes one.
    pub certificate: Option<Certificate>,
}

impl Default for WebRtcSettings {
    fn default() -> Self {
        Self {
            ice_servers: Vec::new(),
            relay_only: false,
            turn_tls: TlsOptions::new(),
            bind_addrs: Vec::new(),
            port_range: None,
            loopback: None,
            interfaces: InterfaceFilter::default(),
            addrs: AddrFilter::default(),
            external_addrs: Vec::new(),
            mdns: false,
            gather_timeout: Duration::from_secs(5),
            receive_buffer: 1024 * 1024,
            max_message: 256 * 1024,
            mtu: None,
            socket_buffer: 4 * 1024 * 1024,
            certificate: None,
        }
    }
}

/// Returns the configuration of a [`WebRtcTransport`](crate::WebRtcTransport) that is given none:
/// the peer is pinged after 2 s of silence, disconnected after 5 s, so that another path is looked
/// for early, and given up after 30 s. The rest are the defaults of [`Config`].
///
/// ```
/// # use pipe_core::Config;
/// # use std::time::Duration;
/// // More streams at once, and the timings that suit WebRTC.
/// let config = pipe_webrtc::default_config().with_max_streams(1000);
/// assert_eq!(config.disconnected_after, Duration::from_secs(5));
/// assert_eq!(config.stream_window, Config::default().stream_window);
/// ```
pub fn default_config() -> Config {
    Config::default()
        .with_keep_alive(Duration::from_secs(2))
        .with_disconnected_after(Duration::from_secs(5))
        .with_failed_after(Duration::from_secs(30))
}

/// A STUN or TURN server. Its debug output leaves the password out.
#[derive(Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct IceServer {
    /// Addresses of the server (RFC 7064 and 7065): `stun:host:port` and `turn:host:port` over UDP,
    /// `turn:host:port?transport=tcp` over TCP, and `turns:host:port` over TLS, for networks that
    /// block everything else. Without a port it is 3478, and 5349 over TLS.
    ///
    /// A relay over TCP works, but a packet lost on the way to it delays all later ones. `stuns:`
    /// is [`Unsupported`](ErrorKind::Unsupported), since it would report the external address of
    /// TCP, and so is `turns:…?transport=udp`, which is DTLS.
    pub urls: Vec<String>,
    /// The user name, for TURN.
    pub username: String,
    /// The password, for TURN.
    pub credential: String,
}

impl fmt::Debug for IceServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let credential = if self.credential.is_empty() {
            ""
        } else {
            "***"
        };
        f.debug_struct("IceServer")
            .field("urls", &self.urls)
            .field("username", &self.username)
            .field("credential", &credential)
            .finish()
    }
}

impl IceServer {
    /// Returns the STUN server at `host:port`.
    pub fn stun(host: &str) -> Self {
        Self {
            urls: vec![format!("stun:{host}")],
            ..Self::default()
        }
    }

    /// Creates a TURN server from its URL, such as `turn:host:port`, `turn:[::1]:port` or
    /// `turns:host`.
    ///
    /// The allocation names no family, so the relay is one of IPv4, over IPv6 too (RFC 8656,
    /// section 7.2), unless the server is configured otherwise, as coturn is with
    /// `--allocation-default-address-family=keep`. A server without IPv4 refuses with 440.
    pub fn turn(url: &str, username: &str, credential: &str) -> Self {
        Self {
            urls: vec![url.to_owned()],
            username: username.to_owned(),
            credential: credential.to_owned(),
        }
    }

    fn validate(&self) -> Result<()> {
        if self.urls.is_empty() {
            return Err(invalid("ice_servers: a server has no URL"));
        }
        for text in &self.urls {
            let bad = |why: &dyn fmt::Display| {
                invalid(format!(
                    "ice_servers: {text:?} is not of the form stun:host:port, turn:host:port or turns:host:port: {why}"
                ))
            };
            // The engine's own parser, which would silently drop URLs that it rejects. It looks for
            // no query where there is to be none, since many write one.
            let plain = match text.split_once('?') {
                Some((plain, "transport=udp")) if text.starts_with("stun:") => plain,
                _ => text,
            };
            let url = Url::parse_url(plain).map_err(|error| bad(&error))?;
            if url.host.is_empty() || url.port == 0 {
                return Err(bad(&"it has no host, or port 0"));
            }
            let unsupported = match (url.scheme, url.proto) {
                (SchemeType::Stuns, _) => Some("STUN is spoken over UDP only"),
                (SchemeType::Turns, ProtoType::Udp) => Some("TURN is not spoken over DTLS"),
                _ => None,
            };
            if let Some(why) = unsupported {
                let why = format!("ice_servers: {text:?}: {why}");
                return Err(Error::new(ErrorKind::Unsupported, why));
            }
            if matches!(url.scheme, SchemeType::Turn | SchemeType::Turns)
                && (self.username.is_empty() || self.credential.is_empty())
            {
                return Err(invalid(format!(
                    "ice_servers: {text:?} needs a user name and a credential"
                )));
            }
        }
        Ok(())
    }
}

/// Selects interfaces by the prefixes of their names. A denied one stays denied when it is allowed
/// too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct InterfaceFilter {
    /// The beginnings of the names to use; all, if there are none here.
    pub allow: Vec<String>,
    /// The beginnings of the names not to use.
    pub deny: Vec<String>,
}

impl InterfaceFilter {
    /// Sets [`allow`](Self::allow).
    #[must_use]
    pub fn with_allow(mut self, allow: Vec<String>) -> Self {
        self.allow = allow;
        self
    }

    /// Sets [`deny`](Self::deny).
    #[must_use]
    pub fn with_deny(mut self, deny: Vec<String>) -> Self {
        self.deny = deny;
        self
    }

    pub(crate) fn passes(&self, name: &str) -> bool {
        let any = |prefixes: &[String]| prefixes.iter().any(|p| name.starts_with(p.as_str()));
        (self.allow.is_empty() || any(&self.allow)) && !any(&self.deny)
    }
}

/// Selects addresses by their networks. A denied one stays denied when it is allowed too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AddrFilter {
    /// The networks to use; all, if there are none here.
    pub allow: Vec<Network>,
    /// The networks not to use.
    pub deny: Vec<Network>,
}

impl AddrFilter {
    /// Sets [`allow`](Self::allow).
    #[must_use]
    pub fn with_allow(mut self, allow: Vec<Network>) -> Self {
        self.allow = allow;
        self
    }

    /// Sets [`deny`](Self::deny).
    #[must_use]
    pub fn with_deny(mut self, deny: Vec<Network>) -> Self {
        self.deny = deny;
        self
    }

    pub(crate) fn passes(&self, addr: IpAddr) -> bool {
        let any = |networks: &[Network]| networks.iter().any(|n| n.contains(addr));
        (self.allow.is_empty() || any(&self.allow)) && !any(&self.deny)
    }
}

/// A range of IP addresses, written like `10.0.0.0/8` (CIDR, RFC 4632).
///
/// ```
/// use pipe_webrtc::Network;
///
/// let network: Network = "10.0.0.0/8".parse()?;
/// assert!(network.contains("10.1.2.3".parse().unwrap()));
/// # Ok::<(), pipe_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network {
    addr: IpAddr,
    bits: u8,
}

impl Network {
    /// Returns whether the address belongs to it.
    pub fn contains(&self, addr: IpAddr) -> bool {
        fn alike(a: u128, b: u128, width: u32, bits: u8) -> bool {
            bits == 0 || (a ^ b) >> (width - u32::from(bits)) == 0
        }
        match (self.addr, addr) {
            (IpAddr::V4(a), IpAddr::V4(b)) => alike(
                u128::from(a.to_bits()),
                u128::from(b.to_bits()),
                32,
                self.bits,
            ),
            (IpAddr::V6(a), IpAddr::V6(b)) => alike(a.to_bits(), b.to_bits(), 128, self.bits),
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || invalid(format!("{text:?} is no network of the form 10.0.0.0/8"));
        let (addr, bits) = text.split_once('/').ok_or_else(bad)?;
        let addr: IpAddr = addr.parse().map_err(|_| bad())?;
        let bits: u8 = bits.parse().map_err(|_| bad())?;
        if bits > if addr.is_ipv4() { 32 } else { 128 } {
            return Err(bad());
        }
        Ok(Self { addr, bits })
    }
}

macro_rules! setters {
    ($($setter:ident, $field:ident: $type:ty;)*) => {
        $(
            #[doc = concat!("Sets [`", stringify!($field), "`](Self::", stringify!($field), ").")]
            #[must_use]
            pub fn $setter(mut self, $field: $type) -> Self {
                self.$field = $field;
                self
            }
        )*
    };
}

impl WebRtcSettings {
    setters! {
        with_relay_only, relay_only: bool;
        with_bind_addrs, bind_addrs: Vec<IpAddr>;
        with_interfaces, interfaces: InterfaceFilter;
        with_addrs, addrs: AddrFilter;
        with_external_addrs, external_addrs: Vec<IpAddr>;
        with_mdns, mdns: bool;
        with_gather_timeout, gather_timeout: Duration;
        with_receive_buffer, receive_buffer: u32;
        with_max_message, max_message: u32;
        with_socket_buffer, socket_buffer: u32;
    }

    /// Sets [`ice_servers`](Self::ice_servers).
    #[must_use]
    pub fn with_ice_servers(mut self, servers: impl IntoIterator<Item = IceServer>) -> Self {
        self.ice_servers = servers.into_iter().collect();
        self
    }

    /// Sets [`turn_tls`](Self::turn_tls).
    #[must_use]
    pub fn with_turn_tls(mut self, options: TlsOptions) -> Self {
        self.turn_tls = options;
        self
    }

    /// Sets [`port_range`](Self::port_range).
    #[must_use]
    pub fn with_port_range(mut self, ports: RangeInclusive<u16>) -> Self {
        self.port_range = Some(ports);
        self
    }

    /// Sets [`loopback`](Self::loopback).
    #[must_use]
    pub fn with_loopback(mut self, loopback: bool) -> Self {
        self.loopback = Some(loopback);
        self
    }

    /// Sets [`mtu`](Self::mtu).
    #[must_use]
    pub fn with_mtu(mut self, mtu: u32) -> Self {
        self.mtu = Some(mtu);
        self
    }

    /// Sets [`certificate`](Self::certificate).
    #[must_use]
    pub fn with_certificate(mut self, certificate: Certificate) -> Self {
        self.certificate = Some(certificate);
        self
    }

    /// Checks every setting against its range. A transport calls it before it uses them.
    ///
    /// # Errors
    ///
    /// [`ConfigInvalid`](ErrorKind::ConfigInvalid), which names the setting, its value and its limit;
    /// [`Unsupported`](ErrorKind::Unsupported) for servers that are reached over TCP or TLS.
    pub fn validate(&self) -> Result<()> {
        self.ice_servers.iter().try_for_each(IceServer::validate)?;
        if self.relay_only && !self.has_turn() {
            return Err(invalid(
                "relay_only is set, but no TURN server is among ice_servers",
            ));
        }
        if let Some(ports) = &self.port_range
            && (ports.is_empty() || *ports.start() == 0)
        {
            return Err(invalid(format!(
                "port_range is {ports:?}, but has to be a range of ports from 1 to 65535"
            )));
        }
        for (name, addrs) in [
            ("bind_addrs", &self.bind_addrs),
            ("external_addrs", &self.external_addrs),
        ] {
            // A candidate carries the address, so that it has to be a certain one.
            if let Some(addr) = addrs
                .iter()
                .find(|addr| addr.is_unspecified() || addr.is_multicast())
            {
                return Err(invalid(format!(
                    "{name} has {addr}, which is not the address of one machine"
                )));
            }
        }
        for (name, prefixes) in [
            ("interfaces.allow", &self.interfaces.allow),
            ("interfaces.deny", &self.interfaces.deny),
        ] {
            if prefixes.iter().any(String::is_empty) {
                return Err(invalid(format!(
                    "{name} has an empty prefix, which every interface begins with"
                )));
            }
        }
        let (min, max) = (Duration::from_millis(1), Duration::from_secs(5 * 60));
        if !(min..=max).contains(&self.gather_timeout) {
            return Err(invalid(format!(
                "gather_timeout is {:?}, but has to be from {min:?} to {max:?}",
                self.gather_timeout
            )));
        }
        in_range("receive_buffer", self.receive_buffer, 128 << 10, 64 << 20)?;
        in_range("max_message", self.max_message, 16 << 10, 256 << 10)?;
        if self.receive_buffer < self.max_message {
            return Err(invalid(format!(
                "receive_buffer is {}, but has to be at least max_message, {}: no message comes that does not fit into it",
                self.receive_buffer, self.max_message
            )));
        }
        in_range("socket_buffer", self.socket_buffer, 4 << 10, 1 << 30)?;
        if let Some(mtu) = self.mtu {
            in_range("mtu", mtu, 576, 16_384)?;
        }
        Ok(())
    }

    fn has_turn(&self) -> bool {
        let turn = |url: &String| url.starts_with("turn:") || url.starts_with("turns:");
        self.ice_servers.iter().any(|s| s.urls.iter().any(turn))
    }

    /// Returns the addresses to bind for one connection. `local` is whether the peer is on this
    /// machine, and `peer` is the address of its signalling, if that is known.
    pub(crate) fn socket_addrs(
        &self,
        local: bool,
        peer: Option<IpAddr>,
    ) -> Result<Vec<SocketAddr>> {
        let mut addrs = if self.bind_addrs.is_empty() {
            self.interface_addrs(local, peer)?
        } else {
            self.bind_addrs.clone()
        };
        addrs.retain(|addr| self.addrs.passes(*addr));
        let mut seen = HashSet::new();
        addrs.retain(|addr| seen.insert(*addr));
        if addrs.len() > MAX_SOCKETS {
            tracing::debug!(
                count = addrs.len(),
                "only the first {MAX_SOCKETS} addresses are used"
            );
            addrs.truncate(MAX_SOCKETS);
        }
        if addrs.is_empty() {
            return Err(invalid(
                "no address is left to bind: see bind_addrs, loopback, interfaces and addrs",
            ));
        }
        let mut bound = Vec::new();
        let mut failed = None;
        for addr in addrs {
            match free_port(addr, self.port_range.as_ref()) {
                Ok(free) => bound.push(free),
                Err(error) if self.bind_addrs.is_empty() => {
                    // An address may have gone since, or may not be usable yet.
                    tracing::debug!(%error, "an address of an interface is left out");
                    failed = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        match failed {
            Some(error) if bound.is_empty() => Err(error),
            _ => Ok(bound),
        }
    }

    fn interface_addrs(&self, local: bool, peer: Option<IpAddr>) -> Result<Vec<IpAddr>> {
        let loopback = self.loopback.unwrap_or(local);
        let interfaces = if_addrs::get_if_addrs()?;
        let usable = |interface: &if_addrs::Interface| {
            let addr = interface.ip();
            let link_local = match addr {
                IpAddr::V4(v4) => v4.is_link_local(),
                IpAddr::V6(v6) => v6.is_unicast_link_local(),
            };
            let wanted = if addr.is_loopback() { loopback } else { true };
            wanted && !link_local && self.interfaces.passes(&interface.name)
        };
        let usable = interfaces.iter().filter(|i| usable(i));
        let addrs = by_preference(usable.map(|i| (i.name.as_str(), i.ip())), &routed(peer));
        let unfiltered = self.interfaces == InterfaceFilter::default();
        if addrs.is_empty() && unfiltered && self.loopback != Some(false) {
            // A machine without a network can still reach itself.
            return Ok(vec![IpAddr::V4(Ipv4Addr::LOCALHOST)]);
        }
        Ok(addrs)
    }
}

/// Prefixes of the names of interfaces of containers and virtual machines.
const BRIDGES: [&str; 6] = ["docker", "br-", "veth", "virbr", "cni", "lxc"];

/// Any address outside, which nothing is sent to.
const OUTSIDE: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
];

/// Returns the addresses of this machine that packets to the peer, or out of this machine, are sent
/// from.
fn routed(peer: Option<IpAddr>) -> Vec<IpAddr> {
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

/// Orders addresses of interfaces so that the first few reach as much as possible: those of a route come
/// first, then loopback, and bridges last; among equal ones the first of each interface comes before further
/// ones, and the families take turns.
fn by_preference<'a>(
    interfaces: impl Iterator<Item = (&'a str, IpAddr)>,
    routed: &[IpAddr],
) -> Vec<IpAddr> {
    let mut before = HashMap::new();
    let mut ranked: Vec<_> = interfaces
        .map(|(name, addr)| {
            let nth = before.entry((name, addr.is_ipv6())).or_insert(0_u32);
            *nth += 1;
            let class = match routed.iter().position(|routed| *routed == addr) {
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

/// Returns a port that is free on this address, from a random one of the range on; without a range
/// the system will choose.
fn free_port(addr: IpAddr, ports: Option<&RangeInclusive<u16>>) -> Result<SocketAddr> {
    let (first, count) = match ports {
        Some(ports) => (*ports.start(), u32::from(ports.end() - ports.start()) + 1),
        None => (0, 1),
    };
    let mut random = [0; 4];
    // Without random bytes the search begins at the first port.
    let _ = getrandom::fill(&mut random);
    let start = u32::from_ne_bytes(random) % count;
    for i in 0..count {
        let free = SocketAddr::new(addr, first + ((start + i) % count) as u16);
        match UdpSocket::bind(free) {
            Ok(_) => return Ok(free),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => {
                let why = format!("bind_addrs, port_range: {free} cannot be bound: {error}");
                return Err(Error::with_source(ErrorKind::ConfigInvalid, why, error));
            }
        }
    }
    let why = match ports {
        Some(ports) => format!("no port of port_range, {ports:?}, is free on {addr}"),
        None => format!("no port is free on {addr}"),
    };
    Err(Error::new(ErrorKind::AddrInUse, why))
}

fn in_range(name: &str, value: u32, min: u32, max: u32) -> Result<()> {
    if !(min..=max).contains(&value) {
        return Err(invalid(format!(
            "{name} is {value}, but has to be from {min} to {max}"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

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
        .map(|(name, addr)| (name, addr.parse::<IpAddr>().unwrap()));
        let routed = ["10.2.0.5", "10.1.0.5"].map(|addr| addr.parse().unwrap());
        let ordered: Vec<_> = by_preference(interfaces.into_iter(), &routed)
            .into_iter()
            .map(|addr| addr.to_string())
            .collect();
        assert_eq!(
            ordered,
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
    }

    #[test]
    fn a_peer_on_this_machine_is_reached_from_it() {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        assert_eq!(routed(Some(loopback)).first(), Some(&loopback));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn of_many_addresses_the_first_are_used_in_their_order() {
        let all: Vec<IpAddr> = (1..20).map(|n| [127, 0, 0, 20 - n].into()).collect();
        let settings = WebRtcSettings::default().with_bind_addrs(all.clone());
        settings.validate().unwrap();
        let bound = settings.socket_addrs(true, None).unwrap();
        let bound: Vec<_> = bound.into_iter().map(|addr| addr.ip()).collect();
        assert_eq!(bound, all[..MAX_SOCKETS]);
    }

    #[test]
    fn the_debug_output_shows_no_password() {
        let settings = WebRtcSettings::default().with_ice_servers([IceServer::turn(
            "turn:host:3478",
            "name",
            "open sesame",
        )]);
        let text = format!("{settings:?}");
        assert!(text.contains("name") && !text.contains("sesame"), "{text}");
    }
}
