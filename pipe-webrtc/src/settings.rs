use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::time::Duration;

use pipe_core::{Config, Error, ErrorKind, Result};
use pipe_net::TcpDialer;
use pipe_tls::TlsOptions;

use crate::engine::Certificate;
use crate::error::invalid;
use crate::filter::{AddrFilter, InterfaceFilter};
use crate::ice_server::IceServer;
use crate::interfaces::{Rules, interfaces, routed};

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
    /// The engine under the connections.
    pub engine: Engine,
    /// The STUN and TURN servers. None by default: then a connection needs a path without help.
    pub ice_servers: Vec<IceServer>,
    /// Whether packets go through a TURN server only, so that the peer does not learn the addresses
    /// of this machine. Not by default.
    pub relay_only: bool,
    /// Trust in the certificates of TURN servers over TLS, and the certificate of this side for
    /// them. The system's roots by default, and none.
    pub turn_tls: TlsOptions,
    /// How TURN servers over TCP and TLS are dialed: through a proxy, for one. Directly by default. The local address is that
    /// of the candidate. Not on the engine of the crate `webrtc`, which dials directly.
    pub turn_dialer: TcpDialer,
    /// The addresses to bind, of those that [`addrs`](Self::addrs) lets through. Empty by default, which
    /// stands for the addresses of this machine's interfaces, as both filters and
    /// [`loopback`](Self::loopback) let them through: the one that leads to the peer or out of this machine
    /// first, those of bridges and containers last, those of different interfaces before others, and both
    /// families by turns. The first 8 are used.
    pub bind_addrs: Vec<IpAddr>,
    /// The ports to bind, one for each address of a connection. Any by default.
    pub port_range: Option<RangeInclusive<u16>>,
    /// One UDP port for all connections that this transport answers: those of its listeners, of
    /// [`answer_over`](crate::WebRtcTransport::answer_over) and of
    /// [`answer_by_hand`](crate::WebRtcTransport::answer_by_hand). Each address has one socket, whatever the
    /// number of connections, and a firewall has to let in one port. 0 is any free one, which
    /// [`WebRtcListener::udp_addrs`](crate::WebRtcListener::udp_addrs) tells. By default, `None`, each
    /// connection has ports of its own.
    ///
    /// The port is bound by the transport, with its clones, from [`listen`](pipe_core::Transport::listen)
    /// or the first connection on, until the listeners and the connections have ended; it is
    /// [`AddrInUse`](ErrorKind::AddrInUse) if something else has it. Connections that the transport dials have
    /// ports of their own, since two of them to one peer could not be told apart, and so have relays of TURN
    /// servers over UDP. Excludes [`port_range`](Self::port_range), and takes the engine of this crate.
    pub udp_port: Option<u16>,
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
    /// socket of each connection, and reaches peers in the same network. Names of a peer are looked up in any
    /// case, unless [`relay_only`](Self::relay_only) is set; the engine of the crate `webrtc` does so only if
    /// this is set, and takes a default route.
    pub mdns: bool,
    /// Time limit of the search for candidates with the help of STUN and TURN servers. Later ones
    /// are used too, but do not delay the connection. 5 s by default.
    pub gather_timeout: Duration,
    /// Receive buffer of SCTP, in bytes, which bounds the bytes of the peer in flight to this side.
    /// 1 MiB by default; from 128 KiB to 64 MiB. It grows with the streams' windows, by four
    /// thirds of that.
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
            engine: Engine::default(),
            ice_servers: Vec::new(),
            relay_only: false,
            turn_tls: TlsOptions::new(),
            turn_dialer: TcpDialer::new(),
            bind_addrs: Vec::new(),
            port_range: None,
            udp_port: None,
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

/// The engine under a connection: ICE, DTLS and SCTP. Either one speaks to the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Engine {
    /// The engine of this crate.
    #[default]
    Own,
    /// The crate `webrtc`, for programs that use its `PeerConnection`: see `WebRtcConn::inner`.
    #[cfg(feature = "webrtc")]
    WebRtcCrate,
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
        with_engine, engine: Engine;
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

    /// Sets [`turn_dialer`](Self::turn_dialer).
    #[must_use]
    pub fn with_turn_dialer(mut self, dialer: TcpDialer) -> Self {
        self.turn_dialer = dialer;
        self
    }

    /// Sets [`port_range`](Self::port_range).
    #[must_use]
    pub fn with_port_range(mut self, ports: RangeInclusive<u16>) -> Self {
        self.port_range = Some(ports);
        self
    }

    /// Sets [`udp_port`](Self::udp_port).
    #[must_use]
    pub fn with_udp_port(mut self, port: u16) -> Self {
        self.udp_port = Some(port);
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
        self.validate_udp_port()?;
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

    fn validate_udp_port(&self) -> Result<()> {
        let Some(port) = self.udp_port else {
            return Ok(());
        };
        if let Some(ports) = &self.port_range {
            return Err(invalid(format!(
                "udp_port is {port} and port_range is {ports:?}, but connections have either one port together or ports of their own"
            )));
        }
        match self.engine {
            Engine::Own => Ok(()),
            #[cfg(feature = "webrtc")]
            Engine::WebRtcCrate => {
                let why = format!(
                    "udp_port is {port}, but the engine of the crate webrtc binds ports for each connection"
                );
                Err(Error::new(ErrorKind::Unsupported, why))
            }
        }
    }

    fn has_turn(&self) -> bool {
        let turn = |url: &String| url.starts_with("turn:") || url.starts_with("turns:");
        self.ice_servers.iter().any(|s| s.urls.iter().any(turn))
    }

    /// Returns the addresses of this side for one connection. `local` is whether the peer is on this
    /// machine, and `peer` is the address of its signalling, if that is known.
    pub(crate) fn local_ips(&self, local: bool, peer: Option<IpAddr>) -> Result<Vec<IpAddr>> {
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
        Ok(addrs)
    }

    /// Returns the addresses to bind for one connection, of those that [`local_ips`](Self::local_ips) gives.
    pub(crate) fn socket_addrs(
        &self,
        local: bool,
        peer: Option<IpAddr>,
    ) -> Result<Vec<SocketAddr>> {
        let mut bound = Vec::new();
        let mut failed = None;
        for addr in self.local_ips(local, peer)? {
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
        let rules = Rules {
            loopback: self.loopback.unwrap_or(local),
            interfaces: &self.interfaces,
            addrs: &self.addrs,
            routed: &routed(peer),
        };
        let addrs = rules.choose(&interfaces()?);
        let unfiltered =
            self.interfaces == InterfaceFilter::default() && self.addrs == AddrFilter::default();
        if addrs.is_empty() && unfiltered && self.loopback != Some(false) {
            // A machine without a network can still reach itself.
            return Ok(vec![IpAddr::V4(Ipv4Addr::LOCALHOST)]);
        }
        Ok(addrs)
    }
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
