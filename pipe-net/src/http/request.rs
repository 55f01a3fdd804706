use std::fmt;
use std::net::SocketAddr;

/// The request with which a peer asks for a connection over HTTP.
#[derive(Clone)]
pub struct HttpRequest {
    path: String,
    query: Option<String>,
    /// The names are in lower case.
    headers: Vec<(String, Vec<u8>)>,
    remote: Option<SocketAddr>,
}

/// The decision about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HttpVerdict {
    /// Makes the connection.
    Accept,
    /// Answers with 401 Unauthorized: there is no proof of who the peer is, or a wrong one.
    Unauthorized,
    /// Answers with 403 Forbidden.
    Forbidden,
    /// Answers with 404 Not Found.
    NotFound,
}

/// The pages that may ask for a connection. What is no browser names none.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Origins {
    /// Those of the host that the request is for.
    #[default]
    Same,
    /// Those of these origins (`https://example.org`).
    Listed(Vec<String>),
    /// All.
    Any,
}

impl HttpVerdict {
    /// Returns the status of the answer, and what it says; `None` where the connection is made.
    pub fn refusal(self) -> Option<(u16, &'static str)> {
        match self {
            Self::Accept => None,
            Self::Unauthorized => Some((401, "the request needs another authorization")),
            Self::Forbidden => Some((403, "the request is not allowed")),
            Self::NotFound => Some((404, "there is no listener at this path")),
        }
    }
}

impl HttpRequest {
    /// Creates a request for a target in origin form (RFC 9112, section 3.2.1): a path, and a query. The names of the
    /// headers are in lower case. `None` where the target does not begin with a slash.
    pub fn new(
        target: &str,
        headers: Vec<(String, Vec<u8>)>,
        remote: Option<SocketAddr>,
    ) -> Option<Self> {
        if !target.starts_with('/') {
            return None;
        }
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (target, None),
        };
        Some(Self {
            path: path.to_owned(),
            query,
            headers,
            remote,
        })
    }

    /// Returns the path, as it was sent: it begins with a slash, and its escapes (`%20`) are not resolved.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns what follows the `?`, as it was sent.
    pub fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }

    /// Returns the value of the first header of this name, in any case. `None` where it is missing, or not ASCII.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .and_then(|(_, value)| ascii(value))
    }

    /// Returns the names and values of all headers. The names are in lower case.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_slice()))
    }

    /// Returns the page that a browser asks for: `https://example.org`.
    pub fn origin(&self) -> Option<&str> {
        self.header("origin")
    }

    /// Returns the token of the header `Authorization: Bearer …` (RFC 6750, section 2.1).
    ///
    /// Compare it in a time that does not depend on where it differs.
    pub fn bearer_token(&self) -> Option<&str> {
        let (scheme, token) = self.header("authorization")?.split_once(' ')?;
        let is_bearer = scheme.eq_ignore_ascii_case("bearer");
        is_bearer.then(|| token.trim())
    }

    /// Returns the address that the peer comes from, where it is known.
    pub fn remote(&self) -> Option<SocketAddr> {
        self.remote
    }

    /// Returns the values of all headers of this name, in lower case, that are ASCII.
    pub fn values(&self, name: &'static str) -> impl Iterator<Item = &str> {
        self.headers
            .iter()
            .filter(move |(known, _)| known == name)
            .filter_map(|(_, value)| ascii(value))
    }

    /// Returns whether the list in the headers of this name has an element, in any case.
    pub fn lists(&self, name: &'static str, element: &str) -> bool {
        self.elements(name)
            .any(|listed| listed.eq_ignore_ascii_case(element))
    }

    /// Returns the elements of the list in the headers of this name.
    pub fn elements(&self, name: &'static str) -> impl Iterator<Item = &str> {
        self.values(name)
            .flat_map(|value| value.split(','))
            .map(str::trim)
    }
}

impl Origins {
    /// Returns whether pages may ask for a connection, as far as the headers of a request say where they are from.
    /// `host` is what the request is for.
    pub fn allow(&self, request: &HttpRequest, host: &str) -> bool {
        let named = request.headers().filter(|(name, _)| *name == "origin");
        match named.count() {
            0 => true,
            1 => request
                .origin()
                .is_some_and(|origin| self.have(origin, host)),
            _ => false,
        }
    }

    fn have(&self, origin: &str, host: &str) -> bool {
        match self {
            Self::Same => {
                let own = origin.split_once("://").map(|(_, own)| own);
                own.is_some_and(|own| own.eq_ignore_ascii_case(host))
            }
            Self::Listed(list) => list.iter().any(|known| known.eq_ignore_ascii_case(origin)),
            Self::Any => true,
        }
    }
}

fn ascii(value: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(value).ok()?;
    text.is_ascii().then_some(text)
}

impl fmt::Debug for HttpRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The values of headers and the query may be secrets.
        let names: Vec<_> = self.headers.iter().map(|(name, _)| name).collect();
        f.debug_struct("HttpRequest")
            .field("path", &self.path)
            .field("headers", &names)
            .field("remote", &self.remote)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(target: &str, headers: &[(&str, &str)]) -> HttpRequest {
        let headers = headers.iter();
        let headers = headers.map(|&(name, value)| (name.to_owned(), value.as_bytes().to_vec()));
        HttpRequest::new(target, headers.collect(), None).unwrap()
    }

    #[test]
    fn the_parts_of_a_request_are_found() {
        let headers = [
            ("connection", "keep-alive, Upgrade"),
            ("authorization", "bearer secret"),
            ("origin", "https://a"),
            ("bad", "\u{e9}"),
        ];
        let request = request("/a/b?c=d", &headers);
        assert_eq!((request.path(), request.query()), ("/a/b", Some("c=d")));
        assert_eq!(request.header("ORIGIN"), request.origin());
        assert_eq!(request.header("bad"), None);
        assert!(request.lists("connection", "upgrade"));
        assert_eq!(request.bearer_token(), Some("secret"));
        assert_eq!(request.headers().count(), 4);
        let shown = format!("{request:?}");
        assert!(!shown.contains("secret"), "{shown}");
        assert!(HttpRequest::new("a/b", Vec::new(), None).is_none());
    }

    #[test]
    fn a_page_needs_an_origin_that_is_allowed() {
        let from = |origin| request("/", &[("origin", origin)]);
        let same = Origins::Same;
        assert!(same.allow(&from("http://A:1"), "a:1"));
        assert!(!same.allow(&from("https://a"), "a:1"));
        assert!(!same.allow(&from("null"), "a:1"));
        let twice = [("origin", "http://a:1"), ("origin", "http://a:1")];
        assert!(!same.allow(&request("/", &twice), "a:1"));
        let listed = Origins::Listed(vec!["https://b".to_owned()]);
        assert!(listed.allow(&from("https://b"), "a:1"));
        assert!(!listed.allow(&from("http://a:1"), "a:1"));
        assert!(listed.allow(&request("/", &[]), "a:1"));
        assert!(Origins::Any.allow(&from("null"), "a:1"));
    }
}
