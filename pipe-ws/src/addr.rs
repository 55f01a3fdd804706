use pipe_core::{Addr, Result};
use pipe_net::{HostPort, HttpTarget, addr_of};
use pipe_tls::{CertSha256, PeerParams};

pub(crate) const PLAIN: &str = "ws";
pub(crate) const SECURE: &str = "wss";

/// The parts of a `ws://` or `wss://` address.
#[derive(Clone, Debug)]
pub(crate) struct WsAddr {
    pub(crate) is_secure: bool,
    pub(crate) at: HostPort,
    pub(crate) target: HttpTarget,
    pub(crate) params: PeerParams,
}

impl WsAddr {
    /// Reads an address.
    pub(crate) fn of(addr: &Addr) -> Result<Self> {
        let is_secure = addr.scheme() == SECURE;
        let (scheme, port, known) = if is_secure {
            let known = &["wire", "subprotocol", "cert-sha256", "server-name"][..];
            (SECURE, 443, known)
        } else {
            (PLAIN, 80, &["wire", "subprotocol"][..])
        };
        let at = HostPort::before_path(addr, scheme, Some(port))?;
        addr.check_params(known)?;
        let params = PeerParams::without_alpn(addr)?;
        let target = HttpTarget::of(addr, params.wire)?;
        Ok(Self {
            is_secure,
            at,
            target,
            params,
        })
    }

    /// Returns the address of the listener of a connection like this one, which can be dialed.
    pub(crate) fn listener(
        &self,
        at: impl Into<HostPort>,
        pin: Option<CertSha256>,
    ) -> Result<Addr> {
        let root = self.root(at)?;
        let text = format!(
            "{}{}",
            root.as_str().trim_end_matches('/'),
            self.target.path
        );
        Ok(self.with_params(Addr::parse(&text)?, pin))
    }

    /// Returns the address of the dialer of a connection like this one.
    pub(crate) fn dialer(&self, at: impl Into<HostPort>) -> Result<Addr> {
        Ok(self.with_params(self.root(at)?, None))
    }

    fn root(&self, at: impl Into<HostPort>) -> Result<Addr> {
        addr_of(if self.is_secure { SECURE } else { PLAIN }, at)
    }

    fn with_params(&self, addr: Addr, pin: Option<CertSha256>) -> Addr {
        self.target.add_to(self.params.add_to(addr, pin))
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use pipe_core::ErrorKind;

    use super::*;

    fn read(text: &str) -> Result<WsAddr> {
        WsAddr::of(&Addr::parse(text)?)
    }

    #[test]
    fn an_address_is_a_host_a_port_and_a_path() {
        for (text, host, port, path) in [
            ("ws://a", "a", 80, "/"),
            ("ws://a:80/", "a", 80, "/"),
            ("wss://[::1]/b/c", "::1", 443, "/b/c"),
            ("wss://a:1/b%20c", "a", 1, "/b%20c"),
        ] {
            let addr = read(text).unwrap();
            assert_eq!((addr.at.host.as_str(), addr.at.port), (host, port));
            assert_eq!(addr.target.path, path);
            assert_eq!(addr.target.subprotocol.as_deref(), Some("pipe.1"));
        }
    }

    #[test]
    fn the_address_of_a_listener_is_read_as_it_is_written() {
        let pin = CertSha256::of(b"a certificate");
        let pinned = format!("wss://127.0.0.1:7/x?wire=raw&cert-sha256={pin}&subprotocol=y.1");
        for (text, pin, listener, dialer) in [
            (
                "ws://localhost:0/a/b",
                None,
                "ws://127.0.0.1:7/a/b",
                "ws://127.0.0.1:7/",
            ),
            (
                "wss://localhost:0/x?subprotocol=y.1&wire=raw",
                Some(pin),
                &pinned,
                "wss://127.0.0.1:7/?wire=raw&subprotocol=y.1",
            ),
        ] {
            let on = read(text).unwrap();
            let socket: SocketAddr = "0.0.0.0:7".parse().unwrap();
            let addr = on.listener(socket, pin).unwrap();
            assert_eq!(addr.as_str(), listener);
            let again = WsAddr::of(&addr).unwrap();
            assert_eq!(again.listener(socket, pin).unwrap(), addr);
            assert_eq!(on.dialer(socket).unwrap().as_str(), dialer);
        }
    }

    #[test]
    fn an_option_that_makes_no_sense_is_named() {
        for (text, why) in [
            ("ws://a:1?wire=mud", "there are pipe and raw"),
            ("ws://a:1?subprotocol=x", "subprotocol needs wire=raw"),
            (
                "ws://a:1?wire=raw&subprotocol=a%20b",
                "\"a b\" cannot name a subprotocol",
            ),
            (
                "ws://a:1?cert-sha256=00",
                "\"cert-sha256\" is unknown; there are wire, subprotocol",
            ),
            ("wss://a:1?cert-sha256=00", "64 hex digits"),
            ("ws://me@a:1", "there is no user"),
        ] {
            let error = read(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AddrInvalid, "{text}");
            assert!(error.to_string().contains(why), "{error}");
        }
        let error = read("tcp://a:1").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrUnsupported);
    }
}
