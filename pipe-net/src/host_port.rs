use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use pipe_core::{Addr, Result};

/// The host and the port of an address that says nothing else before its options: `tcp://host:port`.
///
/// [`Display`](fmt::Display) writes it as an address does, `host:port`, with brackets around an IPv6 address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// A name or an IP address, without brackets.
    pub host: String,
    /// The port; 0 lets a listener have any.
    pub port: u16,
}

impl HostPort {
    /// Creates one of a name or an IP address, with or without brackets, and a port.
    pub fn new(host: &str, port: u16) -> Self {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        Self {
            host: host.to_owned(),
            port,
        }
    }

    /// Reads an address of this scheme.
    ///
    /// # Errors
    ///
    /// [`AddrUnsupported`](pipe_core::ErrorKind::AddrUnsupported) for another scheme;
    /// [`AddrInvalid`](pipe_core::ErrorKind::AddrInvalid) where the host or the port is missing, or where
    /// there is a path or a user.
    pub fn of(addr: &Addr, scheme: &str) -> Result<Self> {
        let at = Self::before_path(addr, scheme, None)?;
        if !matches!(addr.path(), "" | "/") {
            return Err(addr.invalid("there is no path"));
        }
        Ok(at)
    }

    /// Reads the host and the port of an address of this scheme that may have a path. An address without a port
    /// has the one of the scheme, if there is one.
    ///
    /// # Errors
    ///
    /// Those of [`of`](Self::of), but for the path.
    pub fn before_path(addr: &Addr, scheme: &str, default_port: Option<u16>) -> Result<Self> {
        addr.check_scheme(scheme)?;
        let Some(host) = addr.host() else {
            return Err(addr.invalid("the host is missing"));
        };
        let Some(port) = addr.port().or(default_port) else {
            return Err(addr.invalid("the port is missing"));
        };
        if addr.has_user() {
            return Err(addr.invalid("there is no user"));
        }
        Ok(Self::new(host, port))
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') {
            write!(f, "[{host}]:{port}")
        } else {
            write!(f, "{host}:{port}")
        }
    }
}

/// Of a socket, as it can be dialed from this host: see [`addr_of`].
impl From<SocketAddr> for HostPort {
    fn from(socket: SocketAddr) -> Self {
        let socket = SocketAddr::new(socket.ip().to_canonical(), socket.port());
        let socket = dialable(socket);
        Self {
            host: socket.ip().to_string(),
            port: socket.port(),
        }
    }
}

/// Returns the address of a host and a port, or of a socket, as it can be dialed from this host.
///
/// Of a socket, an unspecified IP address becomes the loopback address of its family. An IPv4 address mapped into IPv6, as
/// a socket of both families reports its clients over IPv4, becomes an IPv4 address.
///
/// # Errors
///
/// [`AddrInvalid`](pipe_core::ErrorKind::AddrInvalid) for a scheme or a host that no address can have.
pub fn addr_of(scheme: &str, at: impl Into<HostPort>) -> Result<Addr> {
    Addr::parse(&format!("{scheme}://{}", at.into()))
}

/// Returns the address to dial: of an unspecified one, the loopback address of its family.
pub(crate) fn dialable(mut socket: SocketAddr) -> SocketAddr {
    match socket.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => socket.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => socket.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    socket
}

#[cfg(test)]
mod tests {
    use pipe_core::ErrorKind;

    use super::*;

    fn read(text: &str) -> Result<HostPort> {
        HostPort::of(&Addr::parse(text)?, "tcp")
    }

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for (text, host, port) in [
            ("tcp://example.org:80", "example.org", 80),
            ("tcp://[::1]:0?wire=raw", "::1", 0),
            ("tcp://192.0.2.1:65535/", "192.0.2.1", 65535),
        ] {
            let host = host.to_owned();
            assert_eq!(read(text).unwrap(), HostPort { host, port });
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_the_reason() {
        for (text, kind, why) in [
            (
                "quic://a:1",
                ErrorKind::AddrUnsupported,
                "is no tcp:// address",
            ),
            ("tcp://:80", ErrorKind::AddrInvalid, "empty host"),
            ("tcp://", ErrorKind::AddrInvalid, "the host is missing"),
            ("tcp://a", ErrorKind::AddrInvalid, "the port is missing"),
            ("tcp://a:1/b", ErrorKind::AddrInvalid, "there is no path"),
            ("tcp://me@a:1", ErrorKind::AddrInvalid, "there is no user"),
        ] {
            let error = read(text).unwrap_err();
            assert_eq!(error.kind(), kind, "{text}");
            assert!(error.to_string().contains(why), "{error}");
        }
    }

    #[test]
    fn a_path_may_follow_and_a_scheme_may_have_a_port() {
        for (text, default, port) in [
            ("tcp://a:1/b/c", None, 1),
            ("tcp://a/b", Some(80), 80),
            ("tcp://a:1", Some(80), 1),
        ] {
            let addr = Addr::parse(text).unwrap();
            let at = HostPort::before_path(&addr, "tcp", default).unwrap();
            assert_eq!((at.host.as_str(), at.port), ("a", port));
        }
        let addr = Addr::parse("tcp://me@a:1/b").unwrap();
        let error = HostPort::before_path(&addr, "tcp", None).unwrap_err();
        assert!(error.to_string().contains("there is no user"), "{error}");
    }

    #[test]
    fn the_address_of_a_socket_can_be_dialed() {
        for (socket, addr) in [
            ("0.0.0.0:7", "tcp://127.0.0.1:7"),
            ("[::]:7", "tcp://[::1]:7"),
            ("192.0.2.1:7", "tcp://192.0.2.1:7"),
            ("[::ffff:192.0.2.1]:7", "tcp://192.0.2.1:7"),
            ("[::ffff:0.0.0.0]:7", "tcp://127.0.0.1:7"),
            ("[fe80::1%3]:7", "tcp://[fe80::1]:7"),
        ] {
            let socket: SocketAddr = socket.parse().unwrap();
            assert_eq!(addr_of("tcp", socket).unwrap().as_str(), addr);
        }
    }
}
