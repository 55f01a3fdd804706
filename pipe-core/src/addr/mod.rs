mod split;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use url::Url;

use crate::addr::split::{TooMany, split};
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
/// # Lists
///
/// Addresses with commas between them, `quic://a:1,tls://a:2,wss://a/pipe`, are one address too: a list of up to
/// [`MAX_LIST`](Self::MAX_LIST) alternatives, the preferred one first. [`Registry`](crate::Registry) dials and listens on it as
/// a whole. A comma parts two addresses where a scheme and `://` follow it; any other comma belongs to its address, and
/// `%2C` always does. [`alternatives`](Self::alternatives) returns the single addresses.
///
/// A list has no host, port, path or options of its own, and its [`scheme`](Self::scheme) is a comma, which is that of no
/// transport: a transport that is handed a list refuses it.
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
pub struct Addr(Repr);

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Repr {
    One(Url),
    /// Two parts at least, which are no lists.
    List(Arc<List>),
}

#[derive(PartialEq, Eq, Hash, PartialOrd, Ord)]
struct List {
    text: String,
    parts: Vec<Addr>,
}

impl Addr {
    /// Maximum number of addresses in a list.
    pub const MAX_LIST: usize = 16;

    /// The scheme of a list.
    const LIST_SCHEME: &str = ",";

    /// Parses an address, or a [list](Self#lists) of them.
    ///
    /// # Errors
    ///
    /// [`AddrInvalid`](ErrorKind::AddrInvalid), which quotes the text and says what is wrong with it. Of a list, it quotes the
    /// address that is wrong. An empty address in a list is an error, and so are more than
    /// [`MAX_LIST`](Self::MAX_LIST).
    pub fn parse(text: &str) -> Result<Self> {
        let invalid = |text: &str, why: &str| {
            let why = format!("invalid address {text:?}: {why}");
            Error::new(ErrorKind::AddrInvalid, why)
        };
        let parts = split(text, Self::MAX_LIST)
            .map_err(|TooMany| invalid(text, &too_many(Self::MAX_LIST)))?;
        if let [_] = parts[..] {
            return Self::parse_one(text).map_err(|why| invalid(text, &why));
        }
        let count = parts.len();
        let parts = parts.into_iter().enumerate().map(|(at, part)| {
            let parsed = match part {
                "" => Err("it is empty".to_owned()),
                _ if part.ends_with(',') => Err(COMMA_AT_END.to_owned()),
                _ => Self::parse_one(part),
            };
            let why = match parsed {
                Ok(addr) => return Ok(addr),
                Err(why) => why,
            };
            let place = format!("number {} of the {count} in a list: {why}", at + 1);
            Err(invalid(part, &place))
        });
        Self::of_parts(parts.collect::<Result<_>>()?)
    }

    /// Makes a list of addresses, the preferred one first. The addresses of a list among them stand in its place, and one
    /// address by itself remains what it is.
    ///
    /// # Errors
    ///
    /// [`AddrInvalid`](ErrorKind::AddrInvalid) for no address, for more than [`MAX_LIST`](Self::MAX_LIST), for an address
    /// that ends in a comma, and for what [`parse`](Self::parse) refuses.
    ///
    /// ```
    /// use pipe_core::Addr;
    ///
    /// let list = Addr::list(["quic://example.org:443", "tls://example.org:443"])?;
    /// assert_eq!(list.to_string(), "quic://example.org:443,tls://example.org:443");
    /// assert_eq!(list.alternatives()[1].scheme(), "tls");
    /// # Ok::<(), pipe_core::Error>(())
    /// ```
    pub fn list<A>(addrs: impl IntoIterator<Item = A>) -> Result<Self>
    where
        A: TryInto<Self>,
        A::Error: Into<Error>,
    {
        let mut parts = Vec::new();
        for addr in addrs {
            let addr: Self = addr.try_into().map_err(Into::into)?;
            parts.extend_from_slice(addr.alternatives());
            if parts.len() > Self::MAX_LIST {
                let why = too_many(Self::MAX_LIST);
                return Err(Error::new(ErrorKind::AddrInvalid, why));
            }
        }
        Self::of_parts(parts)
    }

    /// Makes a list of single addresses.
    fn of_parts(mut parts: Vec<Self>) -> Result<Self> {
        let why = "a list needs an address";
        let last = parts
            .pop()
            .ok_or_else(|| Error::new(ErrorKind::AddrInvalid, why))?;
        if parts.is_empty() {
            return Ok(last);
        }
        parts.push(last);
        if let Some(part) = parts.iter().find(|part| part.as_str().ends_with(',')) {
            return Err(part.invalid(COMMA_AT_END));
        }
        Ok(Self(Repr::List(Arc::new(List::new(parts)))))
    }

    /// Parses a single address. The error says what is wrong with it.
    fn parse_one(text: &str) -> Result<Self, String> {
        let invalid = str::to_owned;
        let Some((scheme, _)) = text.split_once("://") else {
            return Err(invalid("expected the form scheme://…"));
        };
        if scheme.is_empty() {
            return Err(invalid("the scheme is missing"));
        }
        if text.trim() != text || text.contains(['\t', '\n', '\r']) {
            return Err(invalid("it has white space in it"));
        }
        let url = Url::parse(text).map_err(|e| e.to_string())?;
        if !url.scheme().eq_ignore_ascii_case(scheme) {
            return Err(invalid("expected the form scheme://…"));
        }
        if url.fragment().is_some() {
            return Err(invalid("an address has no fragment (#…)"));
        }
        // The rules for URLs of files and of the web parse some inputs as something else: a host
        // before a drive letter is lost, say.
        let is_one = matches!(split(url.as_str(), 1), Ok(parts) if parts.len() == 1);
        if !is_one || Url::parse(url.as_str()).as_ref() != Ok(&url) {
            return Err(invalid("it would be another one once it is written down"));
        }
        Ok(Self(Repr::One(url)))
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

    /// Returns the single addresses that this one stands for: those of a [list](Self#lists) in their order, or the
    /// address itself.
    pub fn alternatives(&self) -> &[Self] {
        match &self.0 {
            Repr::One(_) => std::slice::from_ref(self),
            Repr::List(list) => &list.parts,
        }
    }

    /// Returns the URL of a single address.
    fn url(&self) -> Option<&Url> {
        match &self.0 {
            Repr::One(url) => Some(url),
            Repr::List(_) => None,
        }
    }

    /// Returns the scheme, in lower case; it selects the transport. That of a list is `","`.
    pub fn scheme(&self) -> &str {
        self.url().map_or(Self::LIST_SCHEME, Url::scheme)
    }

    /// Returns the host: a name, or an IP address (IPv6 in brackets). None when it is empty, and for a list.
    pub fn host(&self) -> Option<&str> {
        self.url()?.host_str().filter(|host| !host.is_empty())
    }

    /// Returns the port, if there is one. None for a list.
    pub fn port(&self) -> Option<u16> {
        self.url()?.port()
    }

    /// Returns the part between the host and the query, with its leading slash; it may be empty, and that of a list
    /// is.
    pub fn path(&self) -> &str {
        self.url().map_or("", Url::path)
    }

    /// Returns the value of the first option of this name in the query, decoded. A list has none.
    pub fn param(&self, name: &str) -> Option<String> {
        self.params()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value)
    }

    /// Returns the options in the query in their order, decoded. A list has none.
    pub fn params(&self) -> impl Iterator<Item = (String, String)> + '_ {
        self.url()
            .into_iter()
            .flat_map(Url::query_pairs)
            .map(|(key, value)| (key.into_owned(), value.into_owned()))
    }

    /// Refuses an address of another scheme, and a list.
    ///
    /// # Errors
    ///
    /// [`AddrUnsupported`](ErrorKind::AddrUnsupported), which quotes the address and names the scheme.
    pub fn check_scheme(&self, scheme: &str) -> Result<()> {
        if self.scheme() == scheme {
            return Ok(());
        }
        let also = match &self.0 {
            Repr::One(_) => "",
            Repr::List(_) => "a list of addresses, and ",
        };
        let why = format!("{self} is {also}no {scheme}:// address");
        Err(Error::new(ErrorKind::AddrUnsupported, why))
    }

    /// Returns whether the address names a user, or has a password. Of a list, whether one of its addresses does.
    pub fn has_user(&self) -> bool {
        match &self.0 {
            Repr::One(url) => !url.username().is_empty() || url.password().is_some(),
            Repr::List(list) => list.parts.iter().any(Self::has_user),
        }
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

    /// Returns the same address with this option added at the end of the query. Each address of a list gets it.
    #[must_use]
    pub fn with_param(mut self, name: &str, value: &str) -> Self {
        match &mut self.0 {
            Repr::One(url) => {
                url.query_pairs_mut().append_pair(name, value);
            }
            Repr::List(list) => {
                let parts = list.parts.iter().cloned();
                let parts = parts.map(|part| part.with_param(name, value));
                *list = Arc::new(List::new(parts.collect()));
            }
        }
        self
    }

    /// Returns the address as text.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Repr::One(url) => url.as_str(),
            Repr::List(list) => &list.text,
        }
    }

    /// Returns the address as a [`Url`], and that of the first address of a list: see the feature `native`.
    #[cfg(feature = "native")]
    pub fn as_url(&self) -> &Url {
        match &self.0 {
            Repr::One(url) => url,
            Repr::List(list) => list.parts[0].as_url(),
        }
    }
}

impl List {
    fn new(parts: Vec<Addr>) -> Self {
        let texts: Vec<_> = parts.iter().map(Addr::as_str).collect();
        let text = texts.join(",");
        Self { text, parts }
    }
}

/// Otherwise it would look like an empty address once it is written down.
const COMMA_AT_END: &str = "in a list, an address that ends in a comma has %2C for it";

fn too_many(limit: usize) -> String {
    format!("a list has at most {limit} addresses")
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
