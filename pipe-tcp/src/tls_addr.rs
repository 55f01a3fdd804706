use std::net::SocketAddr;

use pipe_core::{Addr, Result};
use pipe_mux::Wire;
use pipe_tls::CertSha256;
use pipe_tls::rustls::pki_types::ServerName;
use pipe_tls::server_name;

use crate::host_port::{HostPort, to_addr};

pub(crate) const SCHEME: &str = "tls";

/// The protocol (ALPN) of this wire.
const PIPE: &str = "pipe/1";

/// What a `tls://` address says.
#[derive(Debug)]
pub(crate) struct TlsAddr {
    pub(crate) at: HostPort,
    /// The protocol that both sides have to agree on, if any (RFC 7301).
    pub(crate) alpn: Option<String>,
    /// The hash of the listener's certificate.
    pub(crate) pin: Option<CertSha256>,
    /// The name that the listener's certificate has to be for, if it is not the host.
    server_name: Option<String>,
}

impl TlsAddr {
    /// Reads an address.
    pub(crate) fn of(addr: &Addr) -> Result<Self> {
        let options = ["wire", "alpn", "cert-sha256", "server-name"];
        let at = HostPort::of(addr, SCHEME, &options)?;
        let alpn = match (addr.param("alpn"), at.wire) {
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
        let pin = match addr.param("cert-sha256").map(|text| text.parse()) {
            Some(Err(error)) => {
                let error: pipe_core::Error = error;
                return Err(addr.invalid(format!("cert-sha256: {error}")));
            }
            pin => pin.transpose()?,
        };
        let server_name = addr.param("server-name");
        Ok(Self {
            at,
            alpn,
            pin,
            server_name,
        })
    }

    /// The name that the listener's certificate has to be for.
    pub(crate) fn server_name(&self, addr: &Addr) -> Result<ServerName<'static>> {
        let name = self.server_name.as_ref().unwrap_or(&self.at.host);
        server_name(name).map_err(|error| addr.invalid(error))
    }

    /// The address of an end of a connection like this one: of a listener with the hash of its
    /// certificate, so that it can be dialed, and of a dialer without.
    pub(crate) fn end(&self, socket: SocketAddr, pin: Option<CertSha256>) -> Result<Addr> {
        let mut addr = to_addr(SCHEME, socket, self.at.wire)?;
        if let (Wire::Raw, Some(alpn)) = (self.at.wire, &self.alpn) {
            addr = addr.with_param("alpn", alpn);
        }
        if let Some(pin) = pin {
            addr = addr.with_param("cert-sha256", &pin.to_string());
        }
        Ok(addr)
    }

    /// The protocols to offer.
    pub(crate) fn protocols(&self) -> Vec<&[u8]> {
        self.alpn.iter().map(String::as_bytes).collect()
    }
}

#[cfg(test)]
mod tests {
    use pipe_core::ErrorKind;

    use super::*;

    fn read(text: &str) -> Result<TlsAddr> {
        TlsAddr::of(&Addr::parse(text)?)
    }

    #[test]
    fn the_options_are_read() {
        let plain = read("tls://example.org:443").unwrap();
        assert_eq!(plain.protocols(), [b"pipe/1"]);
        assert_eq!(plain.pin, None);
        let addr = Addr::parse("tls://[::1]:1?server-name=example.org").unwrap();
        let named = TlsAddr::of(&addr).unwrap();
        assert_eq!(named.at.host, "::1");
        assert_eq!(named.server_name(&addr).unwrap().to_str(), "example.org");
        let addr = Addr::parse("tls://[::1]:1?wire=raw").unwrap();
        let raw = TlsAddr::of(&addr).unwrap();
        assert!(raw.protocols().is_empty());
        assert_eq!(raw.server_name(&addr).unwrap().to_str(), "::1");
        let raw = read("tls://a:1?alpn=%2Fyamux%2F1.0.0&wire=raw").unwrap();
        assert_eq!(raw.protocols(), [b"/yamux/1.0.0"]);
    }

    #[test]
    fn the_address_of_an_end_says_all_that_a_dial_needs() {
        let pin = CertSha256::of(b"a certificate");
        let socket = "0.0.0.0:7".parse().unwrap();
        for (text, end) in [
            (
                "tls://localhost:0",
                format!("tls://127.0.0.1:7?cert-sha256={pin}"),
            ),
            (
                "tls://localhost:0?alpn=a/b&server-name=c&wire=raw",
                format!("tls://127.0.0.1:7?wire=raw&alpn=a%2Fb&cert-sha256={pin}"),
            ),
        ] {
            let addr = read(text).unwrap().end(socket, Some(pin)).unwrap();
            assert_eq!(addr.as_str(), end);
            let again = TlsAddr::of(&addr).unwrap();
            assert_eq!(again.pin, Some(pin));
            assert_eq!(again.end(socket, Some(pin)).unwrap(), addr);
        }
        let dialer = read("tls://localhost:1").unwrap().end(socket, None);
        assert_eq!(dialer.unwrap().as_str(), "tls://127.0.0.1:7");
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_the_reason() {
        let long = format!("tls://a:1?wire=raw&alpn={}", "a".repeat(256));
        for (text, why) in [
            (
                "tls://a:1?cert-sha256=00ff",
                "64 hex digits, but \"00ff\" has 4",
            ),
            ("tls://a:1?alpn=x", "alpn needs wire=raw"),
            ("tls://a:1?wire=raw&alpn=", "from 1 to 255 bytes"),
            (&long, "from 1 to 255 bytes"),
            (
                "tls://a:1?server-name=a&server-name=b",
                "\"server-name\" is given twice",
            ),
            (
                "tls://a:1?pin=x",
                "the option \"pin\" is unknown; there are wire, alpn, cert-sha256, server-name",
            ),
        ] {
            let error = read(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AddrInvalid, "{text}");
            let shown = error.to_string();
            assert!(
                shown.starts_with(&format!("invalid address {text}: ")),
                "{shown}"
            );
            assert!(shown.contains(why), "{shown}");
        }
        let addr = Addr::parse("tls://a:1?server-name=a%20b").unwrap();
        let error = TlsAddr::of(&addr).unwrap().server_name(&addr).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInvalid);
        assert!(error.to_string().contains("\"a b\" is neither"), "{error}");
        assert_eq!(
            read("tcp://a:1").unwrap_err().kind(),
            ErrorKind::AddrUnsupported
        );
    }
}
