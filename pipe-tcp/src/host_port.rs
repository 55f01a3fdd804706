use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use pipe_core::{Addr, Error, ErrorKind, Result};
use pipe_mux::Wire;

/// What an address of TCP says, whatever is spoken over it.
#[derive(Debug, PartialEq)]
pub(crate) struct HostPort {
    /// A name or an IP address, without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) wire: Wire,
}

impl HostPort {
    /// Reads an address of this scheme, with these options.
    pub(crate) fn of(addr: &Addr, scheme: &str, options: &[&str]) -> Result<Self> {
        if addr.scheme() != scheme {
            let why = format!("{addr} is no {scheme}:// address");
            return Err(Error::new(ErrorKind::AddrUnsupported, why));
        }
        let Some(host) = addr.host() else {
            return Err(addr.invalid("the host is missing"));
        };
        let Some(port) = addr.port() else {
            return Err(addr.invalid("the port is missing"));
        };
        if !matches!(addr.path(), "" | "/") {
            return Err(addr.invalid("there is no path"));
        }
        let url = addr.as_url();
        if !url.username().is_empty() || url.password().is_some() {
            return Err(addr.invalid("there is no user"));
        }
        addr.check_params(options)?;
        let wire = Wire::from_addr(addr)?;
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        Ok(Self { host, port, wire })
    }
}

/// The address of a socket, as it can be dialed from this host.
pub(crate) fn to_addr(scheme: &str, socket: SocketAddr, wire: Wire) -> Result<Addr> {
    // An IPv4 client of a socket of both families is told as what it is.
    let ip = match socket.ip().to_canonical() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    let addr = Addr::parse(&format!(
        "{scheme}://{}",
        SocketAddr::new(ip, socket.port())
    ))?;
    Ok(if wire == Wire::Raw {
        addr.with_param("wire", "raw")
    } else {
        addr
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<HostPort> {
        HostPort::of(&Addr::parse(text)?, "tcp", &["wire"])
    }

    #[test]
    fn an_address_is_a_host_a_port_and_a_wire() {
        let read = |text| read(text).unwrap();
        let of = |host: &str, port, wire| HostPort {
            host: host.into(),
            port,
            wire,
        };
        assert_eq!(
            read("tcp://example.org:80"),
            of("example.org", 80, Wire::Pipe)
        );
        assert_eq!(read("tcp://[::1]:0?wire=raw"), of("::1", 0, Wire::Raw));
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
            ("tcp://a", ErrorKind::AddrInvalid, "the port is missing"),
            ("tcp://a:1/b", ErrorKind::AddrInvalid, "there is no path"),
            ("tcp://me@a:1", ErrorKind::AddrInvalid, "there is no user"),
            (
                "tcp://a:1?wire=mud",
                ErrorKind::AddrInvalid,
                "there are pipe and raw",
            ),
            (
                "tcp://a:1?wier=raw",
                ErrorKind::AddrInvalid,
                "the option \"wier\" is unknown",
            ),
            (
                "tcp://a:1?wire=raw&wire=pipe",
                ErrorKind::AddrInvalid,
                "the option \"wire\" is given twice",
            ),
        ] {
            let error = read(text).unwrap_err();
            assert_eq!(error.kind(), kind, "{text}");
            assert!(error.to_string().contains(why), "{error}");
        }
    }

    #[test]
    fn an_unspecified_address_is_told_as_loopback() {
        let addr = |socket: &str| {
            to_addr("tcp", socket.parse().unwrap(), Wire::Pipe)
                .unwrap()
                .to_string()
        };
        assert_eq!(addr("0.0.0.0:7"), "tcp://127.0.0.1:7");
        assert_eq!(addr("[::]:7"), "tcp://[::1]:7");
        assert_eq!(addr("192.0.2.1:7"), "tcp://192.0.2.1:7");
        assert_eq!(addr("[::ffff:192.0.2.1]:7"), "tcp://192.0.2.1:7");
    }
}
