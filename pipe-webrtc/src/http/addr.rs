use std::net::IpAddr;

use pipe_core::{Addr, Result};
use pipe_net::{HostPort, addr_of};
use pipe_tls::{CertSha256, PeerParams};
use url::Url;

use crate::addr::{Target, wire_of};
use crate::wire::Wire;

pub(crate) const PLAIN: &str = "webrtc+http";
pub(crate) const SECURE: &str = "webrtc+https";

/// The parts of a `webrtc+http://` or `webrtc+https://` address.
#[derive(Clone, Debug)]
pub(crate) struct HttpAddr {
    pub(crate) is_secure: bool,
    pub(crate) at: HostPort,
    pub(crate) params: PeerParams,
    wire: Wire,
    /// Where offers are posted to.
    url: Url,
}

impl HttpAddr {
    /// Reads an address.
    pub(crate) fn of(addr: &Addr) -> Result<Self> {
        let is_secure = addr.scheme() == SECURE;
        let (scheme, port, known) = if is_secure {
            let known = &["wire", "ping", "cert-sha256", "server-name"][..];
            (SECURE, 443, known)
        } else {
            (PLAIN, 80, &["wire", "ping"][..])
        };
        let at = HostPort::before_path(addr, scheme, Some(port))?;
        addr.check_params(known)?;
        let inner = if is_secure { "https" } else { "http" };
        let url = format!("{inner}://{at}{}", addr.path());
        Ok(Self {
            is_secure,
            params: PeerParams::without_alpn(addr)?,
            wire: wire_of(addr, Wire::Pipe)?,
            url: Url::parse(&url).map_err(|error| addr.invalid(error))?,
            at,
        })
    }

    /// Returns where offers are posted to.
    pub(crate) fn url(&self) -> &Url {
        &self.url
    }

    /// Returns the path where offers are posted to.
    pub(crate) fn path(&self) -> &str {
        self.url.path()
    }

    /// Returns the path below which the resources are, without a slash at its end.
    pub(crate) fn base(&self) -> &str {
        self.path().trim_end_matches('/')
    }

    /// Returns the parameters of a connection whose signalling is at this host.
    pub(crate) fn target(&self, peer: Option<&str>) -> Target {
        Target {
            name: None,
            wire: self.wire,
            local: peer.is_some_and(is_local),
        }
    }

    /// Returns the address of the listener of a connection like this one, which can be dialed.
    pub(crate) fn listener(
        &self,
        at: impl Into<HostPort>,
        pin: Option<CertSha256>,
    ) -> Result<Addr> {
        let root = self.root(at)?;
        let text = format!("{}{}", root.as_str().trim_end_matches('/'), self.path());
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
        let addr = self.params.add_to(addr, pin);
        match self.wire {
            Wire::Raw { ping: false } => addr.with_param("ping", "off"),
            _ => addr,
        }
    }
}

/// Returns whether a host is this machine.
fn is_local(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(ip) => {
            let ip = ip.to_canonical();
            ip.is_loopback() || ip.is_unspecified()
        }
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use pipe_core::ErrorKind;

    use super::*;

    fn read(text: &str) -> Result<HttpAddr> {
        HttpAddr::of(&Addr::parse(text)?)
    }

    #[test]
    fn an_address_is_that_of_a_resource() {
        for (text, url, is_local) in [
            ("webrtc+http://a.example", "http://a.example/", false),
            ("webrtc+http://localhost:80/", "http://localhost/", true),
            ("webrtc+https://[::1]/b/c", "https://[::1]/b/c", true),
            ("webrtc+https://a:1/b?wire=raw", "https://a:1/b", false),
        ] {
            let addr = read(text).unwrap();
            assert_eq!(addr.url().as_str(), url);
            assert_eq!(addr.target(Some(&addr.at.host)).local, is_local, "{text}");
        }
    }

    #[test]
    fn the_address_of_a_listener_is_read_as_it_is_written() {
        let pin = CertSha256::of(b"a certificate");
        let pinned = format!("webrtc+https://127.0.0.1:7/x?wire=raw&cert-sha256={pin}&ping=off");
        for (text, pin, listener, dialer) in [
            (
                "webrtc+http://localhost:0/a/b",
                None,
                "webrtc+http://127.0.0.1:7/a/b",
                "webrtc+http://127.0.0.1:7",
            ),
            (
                "webrtc+https://localhost:0/x?wire=raw&ping=off",
                Some(pin),
                &pinned,
                "webrtc+https://127.0.0.1:7?wire=raw&ping=off",
            ),
        ] {
            let on = read(text).unwrap();
            let socket: SocketAddr = "0.0.0.0:7".parse().unwrap();
            let addr = on.listener(socket, pin).unwrap();
            assert_eq!(addr.as_str(), listener);
            let again = HttpAddr::of(&addr).unwrap();
            assert_eq!(again.listener(socket, pin).unwrap(), addr);
            assert_eq!(on.dialer(socket).unwrap().as_str(), dialer);
        }
    }

    #[test]
    fn an_option_that_makes_no_sense_is_named() {
        for (text, why) in [
            ("webrtc+http://a?wire=mud", "there are pipe and raw"),
            ("webrtc+http://a?ping=off", "ping=off needs wire=raw"),
            (
                "webrtc+http://a?cert-sha256=00",
                "\"cert-sha256\" is unknown",
            ),
            ("webrtc+https://a?cert-sha256=00", "64 hex digits"),
            ("webrtc+http://me@a:1", "there is no user"),
        ] {
            let error = read(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AddrInvalid, "{text}");
            assert!(error.to_string().contains(why), "{error}");
        }
        let error = read("webrtc+tcp://a:1").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrUnsupported);
    }
}
