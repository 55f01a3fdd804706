use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};

use url::Url;

use crate::{Error, ErrorKind, Result};

/// An address: a URL whose scheme names the transport.
///
/// `inproc://name`, `tcp://host:port`, `tls://host:port`, `unix:///path`, `quic://host:port`,
/// `webrtc+tcp://host:port/name`. Options of the transport stand in the query: `?wire=raw`.
///
/// An address is parsed once, with an error that says what is wrong; what its parts mean is up to
/// the transport. Two addresses are equal when they are written alike, after the normalisation of
/// the [URL standard](https://url.spec.whatwg.org/).
///
/// ```
/// use pipe_core::Addr;
///
/// let addr: Addr = "tls://example.org:7000?cert-sha256=00ff".parse()?;
/// assert_eq!(addr.scheme(), "tls");
/// assert_eq!(addr.host(), Some("example.org"));
/// assert_eq!(addr.port(), Some(7000));
/// assert_eq!(addr.param("cert-sha256").as_deref(), Some("00ff"));
/// # Ok::<(), pipe_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Addr(Url);

impl Addr {
    /// Parses an address.
    ///
    /// # Errors
    ///
    /// [`AddrInvalid`](ErrorKind::AddrInvalid), which quotes the text and says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self> {
        let invalid = |why: &str| {
            Error::new(
                ErrorKind::AddrInvalid,
                format!("invalid address {text:?}: {why}"),
            )
        };
        let Some((scheme, _)) = text.split_once("://") else {
            return Err(invalid("expected the form scheme://…"));
        };
        if scheme.is_empty() {
            return Err(invalid("the scheme is missing"));
        }
        if text.trim() != text || text.contains(['\t', '\n', '\r']) {
            return Err(invalid("it has white space in it"));
        }
        let url = Url::parse(text).map_err(|e| invalid(&e.to_string()))?;
        if !url.scheme().eq_ignore_ascii_case(scheme) {
            return Err(invalid("expected the form scheme://…"));
        }
        if url.fragment().is_some() {
            return Err(invalid("an address has no fragment (#…)"));
        }
        // The rules for URLs of files and of the web parse some inputs as something else: a host
        // before a drive letter is lost, say.
        if Url::parse(url.as_str()).as_ref() != Ok(&url) {
            return Err(invalid("it would be another one once it is written down"));
        }
        Ok(Self(url))
    }

    /// Returns an address of this scheme that no other call in this process returns, `scheme://~1`,
    /// for an endpoint without a name.
    ///
    /// # Errors
    ///
    /// [`AddrInvalid`](ErrorKind::AddrInvalid) for a scheme that no address can have.
    pub fn opaque(scheme: &str) -> Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self::parse(&format!("{scheme}://~{number}"))
    }

    /// Returns the scheme, in lower case; it selects the transport.
    pub fn scheme(&self) -> &str {
        self.0.scheme()
    }

    /// Returns the host: a name, or an IP address (IPv6 in brackets). None when it is empty.
    pub fn host(&self) -> Option<&str> {
        self.0.host_str().filter(|host| !host.is_empty())
    }

    /// Returns the port, if there is one.
    pub fn port(&self) -> Option<u16> {
        self.0.port()
    }

    /// Returns the part between the host and the query, with its leading slash; it may be empty.
    pub fn path(&self) -> &str {
        self.0.path()
    }

    /// Returns the value of the first option of this name in the query, decoded.
    pub fn param(&self, name: &str) -> Option<String> {
        self.params()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value)
    }

    /// Returns the options in the query in their order, decoded.
    pub fn params(&self) -> impl Iterator<Item = (String, String)> + '_ {
        self.0
            .query_pairs()
            .map(|(key, value)| (key.into_owned(), value.into_owned()))
    }

    /// Refuses an address of another scheme.
    ///
    /// # Errors
    ///
    /// [`AddrUnsupported`](ErrorKind::AddrUnsupported), which quotes the address and names the scheme.
    pub fn check_scheme(&self, scheme: &str) -> Result<()> {
        if self.scheme() == scheme {
            return Ok(());
        }
        let why = format!("{self} is no {scheme}:// address");
        Err(Error::new(ErrorKind::AddrUnsupported, why))
    }

    /// Returns whether the address names a user, or has a password.
    pub fn has_user(&self) -> bool {
        !self.0.username().is_empty() || self.0.password().is_some()
    }

    /// Refuses an option in the query that is none of `known`, or that is given twice.
    ///
    /// Transports call it before they read their options, so that a misspelt option is an error
    /// instead of being ignored.
    ///
    /// # Errors
    ///
    /// [`AddrInvalid`](ErrorKind::AddrInvalid), which names the option, and the known ones.
    ///
    /// ```
    /// let addr = pipe_core::Addr::parse("tcp://host:1?wier=raw")?;
    /// let error = addr.check_params(&["wire"]).unwrap_err();
    /// assert!(error.to_string().contains("the option \"wier\" is unknown; there is only wire"));
    /// # Ok::<(), pipe_core::Error>(())
    /// ```
    pub fn check_params(&self, known: &[&str]) -> Result<()> {
        for (at, (key, _)) in self.params().enumerate() {
            if !known.contains(&key.as_str()) {
                let known = match known {
                    [] => "there are none".to_owned(),
                    [one] => format!("there is only {one}"),
                    many => format!("there are {}", many.join(", ")),
                };
                return Err(self.invalid(format!("the option {key:?} is unknown; {known}")));
            }
            if self.params().take(at).any(|(other, _)| other == key) {
                return Err(self.invalid(format!("the option {key:?} is given twice")));
            }
        }
        Ok(())
    }

    /// Returns the error of a transport that cannot use this address,
    /// [`AddrInvalid`](ErrorKind::AddrInvalid), which quotes the address and gives the reason.
    pub fn invalid(&self, why: impl fmt::Display) -> Error {
        Error::new(
            ErrorKind::AddrInvalid,
            format!("invalid address {self}: {why}"),
        )
    }

    /// Returns the same address with this option added at the end of the query.
    #[must_use]
    pub fn with_param(mut self, name: &str, value: &str) -> Self {
        self.0.query_pairs_mut().append_pair(name, value);
        self
    }

    /// Returns the address as text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Returns the address as a [`Url`].
    pub fn as_url(&self) -> &Url {
        &self.0
    }
}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl AsRef<str> for Addr {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl FromStr for Addr {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

impl TryFrom<&str> for Addr {
    type Error = Error;

    fn try_from(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

impl TryFrom<String> for Addr {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        Self::parse(&text)
    }
}

impl TryFrom<&String> for Addr {
    type Error = Error;

    fn try_from(text: &String) -> Result<Self> {
        Self::parse(text)
    }
}

impl From<&Addr> for Addr {
    fn from(addr: &Addr) -> Self {
        addr.clone()
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Addr {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for Addr {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_form_is_read_and_written_alike() {
        for text in [
            "inproc://name",
            "inproc://",
            "tcp://127.0.0.1:0",
            "tcp://[::1]:7000",
            "tls://example.org:7000?cert-sha256=00ff",
            "unix:///run/app.sock",
            "quic://example.org:443",
            "webrtc+tcp://127.0.0.1:7000/room",
        ] {
            let addr: Addr = text.parse().unwrap();
            assert_eq!(addr.to_string(), text);
            assert_eq!(Addr::try_from(text.to_owned()).unwrap(), addr);
            assert_eq!(Addr::try_from(&text.to_owned()).unwrap(), Addr::from(&addr));
        }
    }

    #[test]
    fn what_would_not_survive_being_written_is_refused() {
        let error = Addr::parse("file://=///x:/y").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInvalid);
        assert!(error.to_string().contains("another one"), "{error}");
        for text in ["file://host/y", "file:///x:/y", "unix:///x:/y"] {
            let addr = Addr::parse(text).unwrap();
            assert_eq!(Addr::parse(addr.as_str()).unwrap(), addr, "{text}");
        }
    }

    #[test]
    fn the_parts_can_be_told() {
        let addr = Addr::parse("webrtc+tcp://[::1]:7000/room?wire=raw&name=a%20b").unwrap();
        assert_eq!(addr.scheme(), "webrtc+tcp");
        assert_eq!(addr.host(), Some("[::1]"));
        assert_eq!(addr.port(), Some(7000));
        assert_eq!(addr.path(), "/room");
        assert_eq!(addr.param("wire").as_deref(), Some("raw"));
        assert_eq!(addr.param("name").as_deref(), Some("a b"));
        assert_eq!(addr.param("none"), None);
        assert_eq!(Addr::parse("unix:///run/x").unwrap().host(), None);
        assert_eq!(Addr::parse("inproc://").unwrap().host(), None);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, why) in [
            ("", "expected the form scheme://…"),
            ("localhost:80", "expected the form scheme://…"),
            ("tcp:localhost", "expected the form scheme://…"),
            ("://x", "the scheme is missing"),
            ("tcp:a://x", "expected the form scheme://…"),
            ("\0tcp://x", "expected the form scheme://…"),
            ("1tcp://x", "relative URL without a base"),
            ("tcp://host:99999", "invalid port number"),
            ("tcp://host:-1", "invalid port number"),
            ("tcp://[::1", "invalid IPv6 address"),
            ("tcp://ho st:1", "invalid international domain name"),
            ("tcp://a#b", "an address has no fragment (#…)"),
            (" tcp://a", "it has white space in it"),
            ("tcp://a\nb", "it has white space in it"),
        ] {
            let error = Addr::parse(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AddrInvalid);
            let shown = error.to_string();
            assert!(
                shown.starts_with(&format!("invalid address {text:?}: ")),
                "{shown}"
            );
            if text != "tcp://ho st:1" {
                assert!(shown.ends_with(why), "{shown}");
            }
        }
    }

    #[test]
    fn an_option_is_known_and_given_once() {
        let check = |query: &str, known: &[&str]| {
            let addr = Addr::parse(&format!("tcp://host:1{query}")).unwrap();
            addr.check_params(known)
                .map_err(|error| (error.kind(), error.to_string()))
        };
        check("", &[]).unwrap();
        check("?b=1&a=1", &["a", "b"]).unwrap();
        for (query, known, why) in [
            (
                "?a=1",
                &[][..],
                "the option \"a\" is unknown; there are none",
            ),
            ("?b", &["a"], "the option \"b\" is unknown; there is only a"),
            (
                "?c",
                &["a", "b"],
                "the option \"c\" is unknown; there are a, b",
            ),
            (
                "?a=1&b=1&a=1",
                &["a", "b"],
                "the option \"a\" is given twice",
            ),
        ] {
            let why = format!("invalid address tcp://host:1{query}: {why}");
            assert_eq!(check(query, known), Err((ErrorKind::AddrInvalid, why)));
        }
    }

    #[test]
    fn an_address_of_another_scheme_is_unsupported() {
        let addr = Addr::parse("tcp://host:1").unwrap();
        addr.check_scheme("tcp").unwrap();
        let error = addr.check_scheme("quic").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrUnsupported);
        assert_eq!(error.to_string(), "tcp://host:1 is no quic:// address");
    }

    #[test]
    fn a_user_and_a_password_are_seen() {
        for (text, has) in [
            ("tcp://host:1", false),
            ("tcp://me@host:1", true),
            ("tcp://:secret@host:1", true),
        ] {
            assert_eq!(Addr::parse(text).unwrap().has_user(), has, "{text}");
        }
    }

    #[test]
    fn an_opaque_address_is_given_once() {
        let addrs: HashSet<_> = ["unix", "mux", "unix"]
            .map(|scheme| Addr::opaque(scheme).unwrap())
            .into();
        assert_eq!(addrs.len(), 3);
        assert!(addrs.iter().all(|addr| addr.as_str().contains("://~")));
        assert!(Addr::opaque("no scheme").is_err());
    }

    #[test]
    fn equal_text_is_an_equal_address() {
        let set: HashSet<Addr> = ["TCP://host:1", "tcp://host:1"]
            .iter()
            .map(|a| Addr::parse(a).unwrap())
            .collect();
        assert_eq!(set.len(), 1);
    }

    #[cfg(feature = "serde")]
    #[test]
    fn serde_reads_what_it_writes_and_refuses_the_rest() {
        let addr = Addr::parse("tcp://host:1").unwrap();
        let json = serde_json::to_string(&addr).unwrap();
        assert_eq!(json, r#""tcp://host:1""#);
        assert_eq!(serde_json::from_str::<Addr>(&json).unwrap(), addr);
        assert!(serde_json::from_str::<Addr>(r#""tcp""#).is_err());
    }
}
