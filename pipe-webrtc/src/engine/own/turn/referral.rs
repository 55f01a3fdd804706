use std::net::SocketAddr;

use crate::engine::own::server::is_host;
use crate::engine::own::stun::{ALTERNATE_DOMAIN, ALTERNATE_SERVER, Received};

/// Another server that one refers to (RFC 8489, section 10).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Referral {
    pub(crate) addr: SocketAddr,
    /// The name that its certificate has to have, where that is not the name of the server that refers to it.
    pub(crate) domain: Option<String>,
    /// The realm of the server that refers to it, if that has named one: the credentials are for no other.
    pub(crate) realm: Option<String>,
}

impl Referral {
    /// Reads where an answer refers to.
    pub(super) fn read(message: &Received<'_>, realm: Option<&str>) -> Option<Self> {
        Some(Self {
            addr: message.addr(ALTERNATE_SERVER)?,
            domain: message.text(ALTERNATE_DOMAIN).filter(|name| is_host(name)),
            realm: realm.map(str::to_owned),
        })
    }

    /// Checks that the server can be asked from a socket at `base`, and is not the one that refers to it, at `from`.
    pub(crate) fn check(
        &self,
        base: SocketAddr,
        from: Option<SocketAddr>,
    ) -> Result<(), &'static str> {
        let ip = self.addr.ip();
        if base.is_ipv4() != self.addr.is_ipv4() {
            return Err("which is of the other family");
        }
        if self.addr.port() == 0 || ip.is_unspecified() || ip.is_multicast() {
            return Err("which is no address of a server");
        }
        if ip.is_loopback() && !base.ip().is_loopback() {
            return Err("which is on this machine");
        }
        if from == Some(self.addr) {
            return Err("which is itself");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_another_server_of_the_same_family_is_asked() {
        let addr = |text: &str| text.parse::<SocketAddr>().unwrap();
        let check = |to, base, from: Option<&str>| {
            let referral = Referral {
                addr: addr(to),
                domain: None,
                realm: None,
            };
            referral.check(addr(base), from.map(addr))
        };
        let here = "192.0.2.1:5";
        assert_eq!(
            check("192.0.2.9:3478", here, Some("192.0.2.8:3478")),
            Ok(())
        );
        assert_eq!(check("192.0.2.9:3478", here, None), Ok(()));
        assert_eq!(
            check("127.0.0.1:1", "127.0.0.1:2", Some("127.0.0.1:3")),
            Ok(())
        );
        for (to, from) in [
            ("[2001:db8::1]:3478", None),
            ("192.0.2.9:0", None),
            ("0.0.0.0:3478", None),
            ("224.0.0.1:3478", None),
            ("127.0.0.1:3478", None),
            ("192.0.2.9:3478", Some("192.0.2.9:3478")),
        ] {
            assert!(check(to, here, from).is_err(), "{to}");
        }
    }
}
