use pipe_core::{Addr, Result, Wire};

use crate::http::is_token;

/// The subprotocol of [`Wire::Pipe`].
const PIPE: &str = "pipe.1";

/// What the address of a listener over HTTP says besides its host and its port: a path, and a subprotocol.
#[derive(Clone, Debug)]
pub struct HttpTarget {
    /// The path, which begins with a slash.
    pub path: String,
    /// The subprotocol that both sides have to agree on, if any.
    pub subprotocol: Option<String>,
    named: Option<String>,
}

impl HttpTarget {
    /// Reads the path and the option `subprotocol`.
    ///
    /// # Errors
    ///
    /// [`AddrInvalid`](pipe_core::ErrorKind::AddrInvalid) for a subprotocol that cannot be one, or that needs another wire.
    pub fn of(addr: &Addr, wire: Wire) -> Result<Self> {
        let named = addr.param("subprotocol");
        let subprotocol = match (wire, &named) {
            (Wire::Pipe, None) => Some(PIPE.to_owned()),
            (Wire::Pipe, Some(_)) => {
                let why = format!("subprotocol needs wire=raw, since the other wire is {PIPE}");
                return Err(addr.invalid(why));
            }
            (Wire::Raw, Some(name)) if !is_token(name) => {
                return Err(addr.invalid(format!("{name:?} cannot name a subprotocol")));
            }
            (Wire::Raw, named) => named.clone(),
        };
        Ok(Self {
            path: match addr.path() {
                "" => "/".to_owned(),
                path => path.to_owned(),
            },
            subprotocol,
            named,
        })
    }

    /// Adds the option to an address.
    #[must_use]
    pub fn add_to(&self, addr: Addr) -> Addr {
        match &self.named {
            Some(name) => addr.with_param("subprotocol", name),
            None => addr,
        }
    }

    /// Returns whether a listener at this address serves a path: its own, and those below.
    pub fn serves(&self, path: &str) -> bool {
        let own = self.path.trim_end_matches('/');
        match path.strip_prefix(own) {
            Some(rest) => rest.is_empty() || rest.starts_with('/'),
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<HttpTarget> {
        let addr = Addr::parse(text)?;
        HttpTarget::of(&addr, Wire::from_addr(&addr)?)
    }

    #[test]
    fn a_listener_serves_its_path_and_those_below() {
        for (own, path, serves) in [
            ("/", "/", true),
            ("/", "/any/path", true),
            ("/a", "/a", true),
            ("/a", "/a/b", true),
            ("/a/", "/a", true),
            ("/a", "/ab", false),
            ("/a", "/", false),
        ] {
            let target = read(&format!("ws://a:1{own}")).unwrap();
            assert_eq!(target.serves(path), serves, "{path} at {own}");
        }
    }

    #[test]
    fn a_plain_peer_may_have_a_subprotocol_of_its_own() {
        let pipe = read("ws://a").unwrap();
        assert_eq!(
            (pipe.path.as_str(), pipe.subprotocol.as_deref()),
            ("/", Some("pipe.1"))
        );
        let raw = read("ws://a/b?wire=raw&subprotocol=x.1").unwrap();
        assert_eq!(raw.subprotocol.as_deref(), Some("x.1"));
        let addr = Addr::parse("ws://a/b").unwrap();
        assert_eq!(raw.add_to(addr).as_str(), "ws://a/b?subprotocol=x.1");
        assert_eq!(read("ws://a?wire=raw").unwrap().subprotocol, None);
        for text in ["ws://a?subprotocol=x", "ws://a?wire=raw&subprotocol=a%20b"] {
            let error = read(text).unwrap_err();
            assert!(error.to_string().contains("subprotocol"), "{error}");
        }
    }
}
