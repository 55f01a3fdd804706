use std::net::SocketAddr;

use pipe_core::{Addr, Result, Wire};
use pipe_net::{HostPort, addr_of};
use pipe_tls::{CertSha256, PeerParams};

/// The scheme of this transport.
pub(crate) const SCHEME: &str = "quic";

/// The parts of a `quic://` address.
#[derive(Debug)]
pub(crate) struct QuicAddr {
    given: Addr,
    pub(crate) at: HostPort,
    pub(crate) params: PeerParams,
    /// Whether early data is sent or accepted, if the address has the option.
    pub(crate) zero_rtt: Option<bool>,
}

impl QuicAddr {
    /// Reads an address.
    pub(crate) fn of(addr: &Addr) -> Result<Self> {
        let at = HostPort::of(addr, SCHEME)?;
        let [wire, alpn, pin, name] = PeerParams::NAMES;
        addr.check_params(&[wire, alpn, pin, name, "zero-rtt"])?;
        let params = PeerParams::of(addr)?;
        let zero_rtt = match (addr.param("zero-rtt").as_deref(), params.wire) {
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
            at,
            params,
            zero_rtt,
        })
    }

    /// Returns how the ends of a connection like this one are written.
    pub(crate) fn form(&self) -> AddrForm {
        AddrForm {
            given: self.given.clone(),
            params: self.params.clone(),
        }
    }
}

/// The format of the local and remote addresses of connections.
#[derive(Clone, Debug)]
pub(crate) struct AddrForm {
    /// The address that was dialed or listened on.
    given: Addr,
    params: PeerParams,
}

impl AddrForm {
    /// Returns the address of an end: of a listener with the hash of its certificate, so that it can be
    /// dialed, and of a dialer without.
    pub(crate) fn end(&self, socket: SocketAddr, pin: Option<CertSha256>) -> Addr {
        // A `SocketAddr` always formats as a valid URL; the configured address is the fallback.
        addr_of(SCHEME, socket)
            .map_or_else(|_| self.given.clone(), |addr| self.params.add_to(addr, pin))
    }
}

#[cfg(test)]
mod tests {
    use pipe_core::ErrorKind;

    use super::*;

    fn read(text: &str) -> Result<QuicAddr> {
        QuicAddr::of(&Addr::parse(text)?)
    }

    #[test]
    fn early_data_is_an_option() {
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
            (
                "quic://a:1?wier=raw",
                ErrorKind::AddrInvalid,
                "the option \"wier\" is unknown; there are wire, alpn, cert-sha256, server-name, \
                 zero-rtt",
            ),
            (
                "quic://a:1?alpn=h3",
                ErrorKind::AddrInvalid,
                "alpn needs wire=raw",
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
                "quic://a:1?zero-rtt=true&zero-rtt=true",
                ErrorKind::AddrInvalid,
                "given twice",
            ),
        ] {
            let error = read(text).unwrap_err();
            assert_eq!(error.kind(), kind, "{text}");
            assert!(error.to_string().contains(why), "{error}");
        }
    }

    #[test]
    fn the_address_of_an_end_is_read_as_it_is_written() {
        let pin = CertSha256::of(b"a certificate");
        let form = read("quic://localhost:0?alpn=h3&wire=raw").unwrap().form();
        let addr = form.end("0.0.0.0:7".parse().unwrap(), Some(pin));
        let text = format!("quic://127.0.0.1:7?wire=raw&alpn=h3&cert-sha256={pin}");
        assert_eq!(addr.as_str(), text);
        assert_eq!(QuicAddr::of(&addr).unwrap().params.pin, Some(pin));
        let form = read("quic://localhost:1").unwrap().form();
        let mapped = "[::ffff:192.0.2.1]:7".parse().unwrap();
        assert_eq!(form.end(mapped, None).as_str(), "quic://192.0.2.1:7");
    }
}
