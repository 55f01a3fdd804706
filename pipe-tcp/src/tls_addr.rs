use pipe_core::{Addr, Result};
use pipe_net::{HostPort, addr_of};
use pipe_tls::{CertSha256, PeerParams};

pub(crate) const SCHEME: &str = "tls";

/// The parts of a `tls://` address.
#[derive(Debug)]
pub(crate) struct TlsAddr {
    pub(crate) at: HostPort,
    pub(crate) params: PeerParams,
}

impl TlsAddr {
    /// Reads an address.
    pub(crate) fn of(addr: &Addr) -> Result<Self> {
        let at = HostPort::of(addr, SCHEME)?;
        addr.check_params(&PeerParams::NAMES)?;
        let params = PeerParams::of(addr)?;
        Ok(Self { at, params })
    }

    /// Returns the address of an end of a connection like this one: of a listener with the hash of its
    /// certificate, so that it can be dialed, and of a dialer without.
    pub(crate) fn end(&self, at: impl Into<HostPort>, pin: Option<CertSha256>) -> Result<Addr> {
        addr_of(SCHEME, at).map(|addr| self.params.add_to(addr, pin))
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use pipe_core::ErrorKind;

    use super::*;

    fn read(text: &str) -> Result<TlsAddr> {
        TlsAddr::of(&Addr::parse(text)?)
    }

    #[test]
    fn the_address_of_a_listener_is_read_as_it_is_written() {
        let pin = CertSha256::of(b"a certificate");
        let listener = read("tls://localhost:0?wire=raw&alpn=a/b&server-name=c").unwrap();
        let socket: SocketAddr = "0.0.0.0:7".parse().unwrap();
        let addr = listener.end(socket, Some(pin));
        let addr = addr.unwrap();
        let text = format!("tls://127.0.0.1:7?wire=raw&alpn=a%2Fb&cert-sha256={pin}");
        assert_eq!(addr.as_str(), text);
        let again = TlsAddr::of(&addr).unwrap();
        assert_eq!(again.params.pins, pin.into());
        assert_eq!(again.at.host, "127.0.0.1");
    }

    #[test]
    fn an_option_that_makes_no_sense_is_named() {
        for (text, why) in [
            ("tls://a:1?cert-sha256=00ff", "64 hex digits"),
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
            assert!(error.to_string().contains(why), "{error}");
        }
        let error = read("tcp://a:1").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrUnsupported);
    }
}
