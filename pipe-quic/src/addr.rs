use std::net::SocketAddr;

use pipe_core::{Addr, Error, ErrorKind, Result, Wire};
use pipe_net::{HostPort, HttpTarget, addr_of};
use pipe_tls::{CertPins, PeerParams};

use crate::profile::UseOfQuic;

/// The scheme of this transport.
pub(crate) const SCHEME: &str = "quic";

/// That of WebTransport.
pub(crate) const WEB_SCHEME: &str = "wt";

/// The protocol (ALPN) under WebTransport.
const HTTP: &[u8] = b"h3";

/// The parts of a `quic://` or `wt://` address.
#[derive(Debug)]
pub(crate) struct QuicAddr {
    given: Addr,
    pub(crate) at: HostPort,
    pub(crate) params: PeerParams,
    /// Whether early data is sent or accepted, if the address has the option.
    pub(crate) zero_rtt: Option<bool>,
    /// What is asked for over HTTP/3, if it is WebTransport.
    pub(crate) web: Option<HttpTarget>,
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
            web: None,
        })
    }

    /// Reads an address of WebTransport.
    pub(crate) fn of_web(addr: &Addr) -> Result<Self> {
        let at = HostPort::before_path(addr, WEB_SCHEME, Some(443))?;
        addr.check_params(&["wire", "subprotocol", "cert-sha256", "server-name"])?;
        let params = PeerParams::without_alpn(addr)?;
        let web = HttpTarget::of(addr, params.wire)?;
        Ok(Self {
            given: addr.clone(),
            at,
            params,
            zero_rtt: Some(false),
            web: Some(web),
        })
    }

    /// Returns the protocols (ALPN) to offer.
    pub(crate) fn protocols(&self) -> Vec<&[u8]> {
        match self.web {
            Some(_) => vec![HTTP],
            None => self.params.protocols(),
        }
    }

    /// Returns what the connections are used for.
    pub(crate) fn use_of_quic(&self) -> UseOfQuic {
        UseOfQuic {
            wire: self.params.wire,
            is_web: self.web.is_some(),
        }
    }

    /// Checks that the peer has agreed on the protocol.
    pub(crate) fn check_protocol(&self, context: &str, agreed: Option<&[u8]>) -> Result<()> {
        if self.web.is_some() && agreed != Some(HTTP) {
            let why = format!("{context}: the peer does not speak HTTP/3");
            return Err(Error::new(ErrorKind::Handshake, why));
        }
        self.params.check_protocol(context, agreed)
    }

    /// Returns how the ends of a connection like this one are written.
    pub(crate) fn form(&self) -> AddrForm {
        AddrForm {
            given: self.given.clone(),
            params: self.params.clone(),
            web: self.web.clone(),
        }
    }
}

/// The format of the local and remote addresses of connections.
#[derive(Clone, Debug)]
pub(crate) struct AddrForm {
    /// The address that was dialed or listened on.
    given: Addr,
    params: PeerParams,
    web: Option<HttpTarget>,
}

impl AddrForm {
    /// Returns the address of an end: of a listener with the hash of its certificate, so that it can be
    /// dialed, and of a dialer without.
    pub(crate) fn end(&self, socket: SocketAddr, pins: CertPins) -> Addr {
        // A `SocketAddr` always formats as a valid URL; the configured address is the fallback.
        self.write(socket, pins)
            .unwrap_or_else(|_| self.given.clone())
    }

    fn write(&self, socket: SocketAddr, pins: CertPins) -> Result<Addr> {
        let Some(web) = &self.web else {
            return Ok(self.params.add_to(addr_of(SCHEME, socket)?, pins));
        };
        let root = addr_of(WEB_SCHEME, socket)?;
        // The path is the listener's.
        let path = if pins.is_empty() { "" } else { &web.path };
        let text = format!("{}{path}", root.as_str().trim_end_matches('/'));
        Ok(web.add_to(self.params.add_to(Addr::parse(&text)?, pins)))
    }
}

#[cfg(test)]
mod tests {
    use pipe_tls::CertSha256;

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
        let addr = form.end("0.0.0.0:7".parse().unwrap(), pin.into());
        let text = format!("quic://127.0.0.1:7?wire=raw&alpn=h3&cert-sha256={pin}");
        assert_eq!(addr.as_str(), text);
        assert_eq!(QuicAddr::of(&addr).unwrap().params.pins, pin.into());
        let form = read("quic://localhost:1").unwrap().form();
        let mapped = "[::ffff:192.0.2.1]:7".parse().unwrap();
        assert_eq!(
            form.end(mapped, CertPins::default()).as_str(),
            "quic://192.0.2.1:7"
        );
    }

    #[test]
    fn an_address_of_webtransport_has_a_path_and_the_port_of_https() {
        let read = |text: &str| QuicAddr::of_web(&Addr::parse(text)?);
        let addr = read("wt://a/b/c").unwrap();
        assert_eq!((addr.at.host.as_str(), addr.at.port), ("a", 443));
        assert_eq!(addr.protocols(), [b"h3"]);
        let pin = CertSha256::of(b"a certificate");
        let form = read("wt://localhost:0/b?wire=raw&subprotocol=x")
            .unwrap()
            .form();
        let socket = "0.0.0.0:7".parse().unwrap();
        let listener = form.end(socket, pin.into());
        let text = format!("wt://127.0.0.1:7/b?wire=raw&cert-sha256={pin}&subprotocol=x");
        assert_eq!(listener.as_str(), text);
        assert_eq!(
            read(&text).unwrap().form().end(socket, pin.into()),
            listener
        );
        let dialer = form.end(socket, CertPins::default());
        assert_eq!(dialer.as_str(), "wt://127.0.0.1:7?wire=raw&subprotocol=x");
        for (text, why) in [
            ("wt://a?alpn=h3", "the option \"alpn\" is unknown"),
            ("wt://a?zero-rtt=true", "the option \"zero-rtt\" is unknown"),
            ("quic://a:1", "is no wt:// address"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
        }
    }
}
