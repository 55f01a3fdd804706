use pipe_core::{Addr, Error, ErrorKind, Result, Wire};
use rustls_pki_types::ServerName;

use crate::{CertPins, Identity, TlsOptions, server_name};

/// The protocol (ALPN) of [`Wire::Pipe`].
const PIPE: &str = "pipe/1";

/// The options of an address for a connection over TLS: `wire`, `alpn`, `cert-sha256`,
/// `server-name`.
#[derive(Clone, Debug)]
pub struct PeerParams {
    /// Protocol of the connection.
    pub wire: Wire,
    /// The protocol that both sides have to agree on, if any (RFC 7301).
    pub alpn: Option<String>,
    /// The hashes of the listener's certificate and of the next one, if the address has them.
    pub pins: CertPins,
    /// The name that the listener's certificate has to be for, if it is not the host.
    server_name: Option<String>,
}

impl PeerParams {
    /// The names of the options.
    pub const NAMES: [&str; 4] = ["wire", "alpn", "cert-sha256", "server-name"];

    /// Reads the options of an address. Others than these are not looked at: see [`Addr::check_params`].
    ///
    /// # Errors
    ///
    /// [`AddrInvalid`](ErrorKind::AddrInvalid), which names the option.
    pub fn of(addr: &Addr) -> Result<Self> {
        let wire = Wire::from_addr(addr)?;
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
        let params = Self::without_alpn(addr)?;
        Ok(Self { alpn, ..params })
    }

    /// Reads the options of an address whose protocol (ALPN) its transport sets: all but `alpn`.
    ///
    /// # Errors
    ///
    /// As in [`of`](Self::of).
    pub fn without_alpn(addr: &Addr) -> Result<Self> {
        let pins = addr.param("cert-sha256").map(|text| {
            let pins = text.parse::<CertPins>();
            pins.map_err(|error| addr.invalid(format!("cert-sha256: {error}")))
        });
        Ok(Self {
            wire: Wire::from_addr(addr)?,
            alpn: None,
            pins: pins.transpose()?.unwrap_or_default(),
            server_name: addr.param("server-name"),
        })
    }

    /// Adds the options to the address of an end of a connection like this one: of a listener with the hash
    /// of its certificate, so that it can be dialed, and of a dialer without.
    #[must_use]
    pub fn add_to(&self, addr: Addr, pins: impl Into<CertPins>) -> Addr {
        let mut addr = self.wire.add_to(addr);
        if let (Wire::Raw, Some(alpn)) = (self.wire, &self.alpn) {
            addr = addr.with_param("alpn", alpn);
        }
        let pins = pins.into();
        if !pins.is_empty() {
            addr = addr.with_param("cert-sha256", &pins.to_string());
        }
        addr
    }

    /// Returns the name that the listener's certificate has to be for: that of the option, or else the host.
    ///
    /// # Errors
    ///
    /// [`AddrInvalid`](ErrorKind::AddrInvalid) for one that is neither a name nor an IP address.
    pub fn server_name(&self, addr: &Addr, host: &str) -> Result<ServerName<'static>> {
        let name = self.server_name.as_deref().unwrap_or(host);
        server_name(name).map_err(|error| addr.invalid(error))
    }

    /// Returns the protocols to offer.
    pub fn protocols(&self) -> Vec<&[u8]> {
        self.alpn.iter().map(String::as_bytes).collect()
    }

    /// Checks that the peer has agreed on the protocol. rustls refuses two that differ, but not that one side
    /// has none.
    ///
    /// # Errors
    ///
    /// [`Handshake`](ErrorKind::Handshake), which begins with the context.
    pub fn check_protocol(&self, context: &str, agreed: Option<&[u8]>) -> Result<()> {
        match &self.alpn {
            Some(name) if agreed != Some(name.as_bytes()) => {
                let why = format!("{context}: the peer did not negotiate {name} (ALPN)");
                Err(Error::new(ErrorKind::Handshake, why))
            }
            _ => Ok(()),
        }
    }

    /// Returns the identity of a listener on this host; see [`TlsOptions::listener_identity`].
    ///
    /// # Errors
    ///
    /// Those of [`TlsOptions::listener_identity`]; those of the address quote it.
    pub fn listener_identity(
        &self,
        addr: &Addr,
        host: &str,
        options: &TlsOptions,
    ) -> Result<Identity> {
        blamed(addr, options.listener_identity(host, self.pins))
    }

    /// Returns the identity of a listener that browsers dial; see [`TlsOptions::listener_identity_for_browsers`].
    ///
    /// # Errors
    ///
    /// As in [`listener_identity`](Self::listener_identity).
    pub fn listener_identity_for_browsers(
        &self,
        addr: &Addr,
        host: &str,
        options: &TlsOptions,
    ) -> Result<Identity> {
        blamed(
            addr,
            options.listener_identity_for_browsers(host, self.pins),
        )
    }
}

/// Quotes an address that asks for another certificate.
fn blamed(addr: &Addr, identity: Result<Identity>) -> Result<Identity> {
    identity.map_err(|error| match error.kind() {
        ErrorKind::AddrInvalid => addr.invalid(error),
        _ => error,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CertSha256;

    fn read(text: &str) -> Result<PeerParams> {
        PeerParams::of(&Addr::parse(text)?)
    }

    #[test]
    fn the_options_are_read() {
        let plain = read("tls://example.org:443").unwrap();
        assert_eq!(plain.protocols(), [b"pipe/1"]);
        assert_eq!((plain.pins, plain.wire), (CertPins::default(), Wire::Pipe));
        let addr = Addr::parse("tls://[::1]:1?server-name=example.org").unwrap();
        let named = PeerParams::of(&addr).unwrap();
        let name = named.server_name(&addr, "::1").unwrap();
        assert_eq!(name.to_str(), "example.org");
        let addr = Addr::parse("tls://[::1]:1?wire=raw").unwrap();
        let raw = PeerParams::of(&addr).unwrap();
        assert!(raw.protocols().is_empty());
        let name = raw.server_name(&addr, "::1").unwrap();
        assert_eq!(name.to_str(), "::1");
        let raw = read("tls://a:1?alpn=%2Fyamux%2F1.0.0&wire=raw").unwrap();
        assert_eq!(raw.protocols(), [b"/yamux/1.0.0"]);
    }

    #[test]
    fn the_address_of_an_end_has_all_that_a_dial_needs() {
        let pin = CertSha256::of(b"a certificate");
        let end = || Addr::parse("tls://127.0.0.1:7").unwrap();
        for (text, listener) in [
            (
                "tls://localhost:0",
                format!("tls://127.0.0.1:7?cert-sha256={pin}"),
            ),
            (
                "tls://localhost:0?alpn=a/b&server-name=c&wire=raw",
                format!("tls://127.0.0.1:7?wire=raw&alpn=a%2Fb&cert-sha256={pin}"),
            ),
        ] {
            let addr = read(text).unwrap().add_to(end(), Some(pin));
            assert_eq!(addr.as_str(), listener);
            let again = PeerParams::of(&addr).unwrap();
            assert_eq!(again.pins, pin.into());
            assert_eq!(again.add_to(end(), Some(pin)), addr);
        }
        assert_eq!(read("tls://a:1").unwrap().add_to(end(), None), end());
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_the_reason() {
        let long = format!("tls://a:1?wire=raw&alpn={}", "a".repeat(256));
        for (text, why) in [
            (
                "tls://a:1?cert-sha256=00ff",
                "64 hex digits, but \"00ff\" has 4",
            ),
            ("tls://a:1?wire=mud", "there are pipe and raw"),
            ("tls://a:1?alpn=x", "alpn needs wire=raw"),
            ("tls://a:1?wire=raw&alpn=", "from 1 to 255 bytes"),
            (&long, "from 1 to 255 bytes"),
        ] {
            let error = read(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AddrInvalid, "{text}");
            let shown = error.to_string();
            let begin = format!("invalid address {text}: ");
            assert!(shown.starts_with(&begin), "{shown}");
            assert!(shown.contains(why), "{shown}");
        }
        for name in ["a%20b", "a..b"] {
            let addr = Addr::parse(&format!("tls://a:1?server-name={name}")).unwrap();
            let params = PeerParams::of(&addr).unwrap();
            let error = params.server_name(&addr, "a").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AddrInvalid);
            assert!(error.to_string().contains("is neither"), "{error}");
        }
    }

    #[test]
    fn a_peer_that_agrees_on_no_protocol_is_refused_where_one_is_needed() {
        let pipe = read("tls://a:1").unwrap();
        pipe.check_protocol("x", Some(b"pipe/1")).unwrap();
        for agreed in [None, Some(&b"h2"[..])] {
            let error = pipe.check_protocol("refused a", agreed).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Handshake);
            assert_eq!(
                error.to_string(),
                "refused a: the peer did not negotiate pipe/1 (ALPN)"
            );
        }
        let none = read("tls://a:1?wire=raw").unwrap();
        none.check_protocol("x", None).unwrap();
    }
}
