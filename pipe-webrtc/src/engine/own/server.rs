use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use pipe_net::HostPort;

/// How a server is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ServerTransport {
    Udp,
    Tcp,
    Tls,
}

/// The address of a STUN or TURN server, from its URL (RFC 7064 and 7065).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ServerAddr {
    /// Whether it relays.
    pub(crate) turn: bool,
    pub(crate) transport: ServerTransport,
    /// A name or an IP address, without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl ServerAddr {
    /// Returns the host and the port.
    pub(crate) fn host_port(&self) -> HostPort {
        HostPort::new(&self.host, self.port)
    }

    /// Returns the scheme of its URL, by which proxies are chosen.
    pub(crate) fn scheme(&self) -> &'static str {
        match (self.turn, self.transport) {
            (true, ServerTransport::Tls) => "turns",
            (true, _) => "turn",
            (false, _) => "stun",
        }
    }
}

impl FromStr for ServerAddr {
    type Err = String;

    /// Parses a URL of the schemes `stun`, `turn` and `turns`. A query of a STUN server, which has none, is
    /// accepted where it asks for UDP.
    fn from_str(url: &str) -> Result<Self, String> {
        let (scheme, rest) = url.split_once(':').ok_or("it has no scheme")?;
        let (authority, query) = match rest.split_once('?') {
            Some((authority, query)) => (authority, Some(query)),
            None => (rest, None),
        };
        let (turn, secure) = match &*scheme.to_ascii_lowercase() {
            "stun" => (false, false),
            "stuns" => (false, true),
            "turn" => (true, false),
            "turns" => (true, true),
            _ => return Err(format!("{scheme:?} is not one of stun, turn and turns")),
        };
        let transport = match (query, secure) {
            (None, false) | (Some("transport=udp"), false) => ServerTransport::Udp,
            (Some("transport=tcp"), false) if turn => ServerTransport::Tcp,
            (None | Some("transport=tcp"), true) => ServerTransport::Tls,
            (Some("transport=udp"), true) => return Err("TURN is not spoken over DTLS".to_owned()),
            (Some(query), _) => return Err(format!("its query is {query:?}")),
        };
        if secure && !turn {
            return Err("STUN is spoken over UDP only".to_owned());
        }
        let (host, port) = parse_authority(authority)?;
        let port = port.unwrap_or(if secure { 5349 } else { 3478 });
        Ok(Self {
            turn,
            transport,
            host,
            port,
        })
    }
}

/// Returns whether a text is a name of a host, or an IP address without brackets.
pub(super) fn is_host(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
    !text.is_empty() && text.len() <= 255 && text.bytes().all(plain)
}

fn parse_authority(authority: &str) -> Result<(String, Option<u16>), String> {
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or("a bracket is not closed")?;
        if host.parse::<Ipv6Addr>().is_err() {
            return Err(format!("{host:?} is no IPv6 address"));
        }
        match rest {
            "" => (host, None),
            _ => (
                host,
                Some(rest.strip_prefix(':').ok_or("no port follows its host")?),
            ),
        }
    } else {
        match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        }
    };
    if !is_host(host) {
        return Err(format!("{host:?} is no name of a host"));
    }
    let port = match port {
        None => None,
        Some(port) => match port.parse() {
            Ok(port) if port > 0 => Some(port),
            _ => return Err(format!("{port:?} is no port, from 1 to 65535")),
        },
    };
    Ok((host.to_owned(), port))
}

impl fmt::Display for ServerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match (self.turn, self.transport) {
            (false, _) => "stun",
            (true, ServerTransport::Tls) => "turns",
            (true, _) => "turn",
        };
        match &*self.host {
            host if host.contains(':') => write!(f, "{scheme}:[{host}]:{}", self.port)?,
            host => write!(f, "{scheme}:{host}:{}", self.port)?,
        }
        match self.transport {
            ServerTransport::Udp => Ok(()),
            ServerTransport::Tcp | ServerTransport::Tls => f.write_str("?transport=tcp"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_servers_are_parsed_and_shown_with_their_ports() {
        for (url, shown) in [
            ("stun:stun.example.org", "stun:stun.example.org:3478"),
            ("stun:h:7?transport=udp", "stun:h:7"),
            ("turn:[::1]:9", "turn:[::1]:9"),
            ("turn:10.0.0.1", "turn:10.0.0.1:3478"),
            ("turn:h?transport=udp", "turn:h:3478"),
            ("TURN:h:1?transport=tcp", "turn:h:1?transport=tcp"),
            ("turns:h", "turns:h:5349?transport=tcp"),
            (
                "turns:[2001:db8::1]?transport=tcp",
                "turns:[2001:db8::1]:5349?transport=tcp",
            ),
        ] {
            let server: ServerAddr = url.parse().unwrap();
            assert_eq!(server.to_string(), shown);
            assert_eq!(shown.parse(), Ok(server));
        }
    }

    #[test]
    fn other_urls_are_refused() {
        for url in [
            "",
            "stun",
            "stun:",
            "http://h",
            "turn:h:0",
            "turn:h:70000",
            "turn:h:x",
            "turn:[::1",
            "turn:[h]",
            "turn:[::1]9",
            "turn:h?transport=sctp",
            "stun:h?transport=tcp",
            "stuns:h",
            "turns:h?transport=udp",
            "turn:a b",
            "turn:user@h",
        ] {
            assert!(url.parse::<ServerAddr>().is_err(), "{url}");
        }
    }
}
