use std::fmt;

use data_encoding::HEXLOWER;
use rtc::ice::url::{ProtoType, SchemeType, Url};

/// Suffixes of the names that stand for servers over TCP, and over TLS. The domain is reserved (RFC
/// 6761, section 6.4), so that none of them exists.
const TCP: &str = ".tcp.turn.invalid";
const TLS: &str = ".tls.turn.invalid";

/// A TURN server over TCP or TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) tls: bool,
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "turns" } else { "turn" };
        match &*self.host {
            host if host.contains(':') => write!(f, "{scheme}:[{host}]")?,
            host => write!(f, "{scheme}:{host}")?,
        }
        write!(f, ":{}?transport=tcp", self.port)
    }
}

impl Server {
    /// Returns the server at this URL, if it is spoken to over TCP or TLS.
    fn of(url: &str) -> Option<Self> {
        let url = Url::parse_url(url).ok()?;
        let tls = match (url.scheme, url.proto) {
            (SchemeType::Turn, ProtoType::Tcp) => false,
            (SchemeType::Turns, ProtoType::Tcp) => true,
            _ => return None,
        };
        Some(Self {
            host: url.host,
            port: url.port,
            tls,
        })
    }

    /// Returns the name that stands for it, with its port.
    pub(super) fn name(&self) -> String {
        let end = if self.tls { TLS } else { TCP };
        // Letters and digits are a name whatever the host is.
        let host = HEXLOWER.encode(self.host.as_bytes());
        format!("x{host}{end}:{}", self.port)
    }

    /// Returns the server that a name stands for, if it is one of these.
    pub(super) fn named(name: &str) -> Option<Self> {
        let (name, port) = name.rsplit_once(':')?;
        let (host, tls) = match name.strip_suffix(TLS) {
            Some(host) => (host, true),
            None => (name.strip_suffix(TCP)?, false),
        };
        let host = HEXLOWER.decode(host.strip_prefix('x')?.as_bytes()).ok()?;
        Some(Self {
            host: String::from_utf8(host).ok()?,
            port: port.parse().ok()?,
            tls,
        })
    }
}

/// Returns the URL that the engine is given for this one.
pub(super) fn engine_url(url: &str) -> String {
    Server::of(url).map_or_else(
        || url.to_owned(),
        |server| format!("turn:{}", server.name()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stands_for_its_server() {
        for (url, text) in [
            (
                "turn:example.org?transport=tcp",
                "turn:example.org:3478?transport=tcp",
            ),
            ("turn:[::1]:7?transport=tcp", "turn:[::1]:7?transport=tcp"),
            ("turns:example.org", "turns:example.org:5349?transport=tcp"),
            (
                "turns:10.0.0.1:443?transport=tcp",
                "turns:10.0.0.1:443?transport=tcp",
            ),
        ] {
            let server = Server::of(url).unwrap();
            assert_eq!(server.to_string(), text);
            let name = engine_url(url);
            let parsed = Url::parse_url(&name).unwrap();
            assert!(
                !parsed.is_secure() && parsed.proto == ProtoType::Udp,
                "{name}"
            );
            let name = format!("{}:{}", parsed.host, parsed.port);
            assert_eq!(Server::named(&name), Some(server));
        }
        for url in [
            "turn:example.org",
            "turn:h?transport=udp",
            "stun:h",
            "turns:h?transport=udp",
        ] {
            assert_eq!(engine_url(url), url);
        }
        for name in [
            "example.org:1",
            "xzz.tcp.turn.invalid:1",
            "x00.tcp.turn.invalid:x",
        ] {
            assert_eq!(Server::named(name), None);
        }
    }
}
