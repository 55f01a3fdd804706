use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use pipe_core::{Addr, Error, ErrorKind, Result};
use pipe_tls::CertSha256;

/// The scheme of this transport.
pub(crate) const SCHEME: &str = "quic";

/// The protocol (ALPN) of the wire between two ends of pipewerks.
const PIPE: &str = "pipe/1";

/// The options that an address may have, each once.
const OPTIONS: [&str; 5] = ["wire", "alpn", "cert-sha256", "server-name", "zero-rtt"];

/// What is spoken over the QUIC connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Wire {
    /// `pipe/1` over QUIC: both ends are pipewerks, and the contract holds.
    #[default]
    Pipe,
    /// Plain bidirectional streams, for a peer of another make (`?wire=raw&alpn=…`). What the peer does
    /// not say does not arrive:
    ///
    /// - a stream is visible to the peer with its first byte, not when it is opened;
    /// - a stream holds its slot until it is over at this side; beyond that, the peer's own limit
    ///   counts;
    /// - a dial is over before the listener has judged this side's certificate: a refusal ends the
    ///   connection a little later;
    /// - [`ping`](pipe_core::Conn::ping) is [`Unsupported`](ErrorKind::Unsupported). The peer's QUIC is
    ///   asked for signs of life, which says nothing of its program;
    /// - [`drain`](pipe_core::Conn::drain) does not keep the peer from opening streams. It waits for
    ///   those that are open here and, for what this side has sent, until the peer's QUIC has it;
    /// - a [`close`](pipe_core::Conn::close) while much data is under way may not reach the peer, which
    ///   then finds out by QUIC's idle timeout: quinn (0.11) does not send it while data waits for the
    ///   congestion window. Between two ends of pipewerks it goes another way first;
    /// - codes of the peer above `u32::MAX` are reported as `u32::MAX`;
    /// - streams in one direction, which the peer may want to open, are not allowed.
    Raw,
}

/// What a `quic://` address says.
#[derive(Debug)]
pub(crate) struct QuicAddr {
    given: Addr,
    /// A name or an IP address, without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) wire: Wire,
    /// The protocol that both sides have to agree on, if any (RFC 7301).
    pub(crate) alpn: Option<String>,
    /// The hash of the listener's certificate.
    pub(crate) pin: Option<CertSha256>,
    /// The name that the listener's certificate has to be for, if it is not the host.
    server_name: Option<String>,
    /// Whether early data is sent or taken, if it says so.
    pub(crate) zero_rtt: Option<bool>,
}

impl QuicAddr {
    /// Reads an address.
    pub(crate) fn of(addr: &Addr) -> Result<Self> {
        if addr.scheme() != SCHEME {
            let why = format!("{addr} is no {SCHEME}:// address");
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
        addr.check_params(&OPTIONS)?;
        let wire = match addr.param("wire").as_deref() {
            None | Some("pipe") => Wire::Pipe,
            Some("raw") => Wire::Raw,
            Some(other) => {
                let why = format!("the wire {other:?} is unknown; there are pipe and raw");
                return Err(addr.invalid(why));
            }
        };
        let alpn = match (addr.param("alpn"), wire) {
            (None, Wire::Pipe) => Some(PIPE.into()),
            (Some(_), Wire::Pipe) => {
                let why = format!("alpn needs wire=raw, since the other wire is {PIPE}");
                return Err(addr.invalid(why));
            }
            (Some(name), Wire::Raw) if !(1..=255).contains(&name.len()) => {
                return Err(addr.invalid("alpn has from 1 to 255 bytes"));
            }
            (alpn, Wire::Raw) => alpn,
        };
        let pin = match addr.param("cert-sha256") {
            None => None,
            Some(text) => {
                let pin = text.parse::<CertSha256>();
                Some(pin.map_err(|error| addr.invalid(format!("cert-sha256: {error}")))?)
            }
        };
        let zero_rtt = match (addr.param("zero-rtt").as_deref(), wire) {
            (None, _) => None,
            (Some("false"), _) => Some(false),
            (Some("true"), Wire::Pipe) => Some(true),
            (Some("true"), Wire::Raw) => {
                return Err(addr.invalid("zero-rtt=true needs wire=pipe"));
            }
            (Some(other), _) => {
                let why = format!("zero-rtt is true or false, not {other:?}");
                return Err(addr.invalid(why));
            }
        };
        Ok(Self {
            given: addr.clone(),
            host: host
                .trim_start_matches('[')
                .trim_end_matches(']')
                .to_owned(),
            port,
            wire,
            alpn,
            pin,
            server_name: addr.param("server-name"),
            zero_rtt,
        })
    }

    /// The name that the listener's certificate has to be for.
    pub(crate) fn server_name(&self, addr: &Addr) -> Result<String> {
        let name = self.server_name.as_ref().unwrap_or(&self.host);
        match pipe_tls::server_name(name) {
            Ok(_) => Ok(name.clone()),
            Err(error) => Err(addr.invalid(error)),
        }
    }

    /// The protocols to offer.
    pub(crate) fn protocols(&self) -> Vec<&[u8]> {
        self.alpn.iter().map(String::as_bytes).collect()
    }

    /// How the ends of a connection like this one are written.
    pub(crate) fn form(&self) -> AddrForm {
        AddrForm {
            given: self.given.clone(),
            wire: self.wire,
            alpn: self.alpn.clone(),
        }
    }
}

/// How the addresses of the ends of connections of one address are written.
#[derive(Clone, Debug)]
pub(crate) struct AddrForm {
    /// The address that was dialed or listened on.
    given: Addr,
    wire: Wire,
    alpn: Option<String>,
}

impl AddrForm {
    /// The address of an end: of a listener with the hash of its certificate, so that it can be dialed,
    /// and of a dialer without.
    pub(crate) fn end(&self, socket: SocketAddr, pin: Option<CertSha256>) -> Addr {
        let ip = match socket.ip().to_canonical() {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            ip => ip,
        };
        let socket = SocketAddr::new(ip, socket.port());
        // A socket's address makes a URL. Did it not, the one that was given would be as near as can be.
        let Ok(mut addr) = Addr::parse(&format!("{SCHEME}://{socket}")) else {
            return self.given.clone();
        };
        if self.wire == Wire::Raw {
            addr = addr.with_param("wire", "raw");
            if let Some(alpn) = &self.alpn {
                addr = addr.with_param("alpn", alpn);
            }
        }
        if let Some(pin) = pin {
            addr = addr.with_param("cert-sha256", &pin.to_string());
        }
        addr
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<QuicAddr> {
        QuicAddr::of(&Addr::parse(text)?)
    }

    #[test]
    fn the_options_are_read() {
        let plain = read("quic://example.org:443").unwrap();
        assert_eq!(plain.protocols(), [b"pipe/1"]);
        assert_eq!((plain.pin, plain.wire), (None, Wire::Pipe));
        let addr = Addr::parse("quic://[::1]:1?server-name=example.org").unwrap();
        let named = QuicAddr::of(&addr).unwrap();
        assert_eq!(named.host, "::1");
        assert_eq!(named.server_name(&addr).unwrap(), "example.org");
        let raw = read("quic://a:1?alpn=h3&wire=raw").unwrap();
        assert_eq!((raw.protocols(), raw.wire), (vec![&b"h3"[..]], Wire::Raw));
        assert!(read("quic://a:1?wire=raw").unwrap().protocols().is_empty());
        for (text, zero_rtt) in [
            ("quic://a:1", None),
            ("quic://a:1?zero-rtt=true", Some(true)),
            ("quic://a:1?zero-rtt=false&wire=raw", Some(false)),
        ] {
            assert_eq!(read(text).unwrap().zero_rtt, zero_rtt);
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_the_reason() {
        for (text, kind, why) in [
            (
                "tls://a:1",
                ErrorKind::AddrUnsupported,
                "is no quic:// address",
            ),
            ("quic://a", ErrorKind::AddrInvalid, "the port is missing"),
            ("quic://a:1/b", ErrorKind::AddrInvalid, "there is no path"),
            ("quic://me@a:1", ErrorKind::AddrInvalid, "there is no user"),
            (
                "quic://a:1?wire=mud",
                ErrorKind::AddrInvalid,
                "there are pipe and raw",
            ),
            (
                "quic://a:1?wier=raw",
                ErrorKind::AddrInvalid,
                "the option \"wier\" is unknown",
            ),
            (
                "quic://a:1?alpn=h3",
                ErrorKind::AddrInvalid,
                "alpn needs wire=raw",
            ),
            (
                "quic://a:1?alpn=&wire=raw",
                ErrorKind::AddrInvalid,
                "from 1 to 255",
            ),
            (
                "quic://a:1?zero-rtt=1",
                ErrorKind::AddrInvalid,
                "zero-rtt is true or false, not \"1\"",
            ),
            (
                "quic://a:1?zero-rtt=true&wire=raw",
                ErrorKind::AddrInvalid,
                "zero-rtt=true needs wire=pipe",
            ),
            (
                "quic://a:1?wire=raw&wire=raw",
                ErrorKind::AddrInvalid,
                "given twice",
            ),
            (
                "quic://a:1?cert-sha256=00",
                ErrorKind::AddrInvalid,
                "64 hex digits",
            ),
        ] {
            let error = read(text).unwrap_err();
            assert_eq!(error.kind(), kind, "{text}");
            assert!(error.to_string().contains(why), "{error}");
        }
        let addr = Addr::parse("quic://a:1?server-name=a..b").unwrap();
        let error = QuicAddr::of(&addr).unwrap().server_name(&addr).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInvalid);
    }

    #[test]
    fn the_address_of_an_end_says_all_that_a_dial_needs() {
        let pin = CertSha256::of(b"a certificate");
        let socket = "0.0.0.0:7".parse().unwrap();
        for (text, end) in [
            (
                "quic://localhost:0",
                format!("quic://127.0.0.1:7?cert-sha256={pin}"),
            ),
            (
                "quic://localhost:0?alpn=h3&wire=raw",
                format!("quic://127.0.0.1:7?wire=raw&alpn=h3&cert-sha256={pin}"),
            ),
        ] {
            let form = read(text).unwrap().form();
            let addr = form.end(socket, Some(pin));
            assert_eq!(addr.as_str(), end);
            assert_eq!(QuicAddr::of(&addr).unwrap().pin, Some(pin));
        }
        let form = read("quic://localhost:1").unwrap().form();
        let mapped = "[::ffff:192.0.2.1]:7".parse().unwrap();
        let addr = form.end(mapped, None);
        assert_eq!(addr.as_str(), "quic://192.0.2.1:7");
    }
}
