use std::fmt;

use pipe_core::{Error, ErrorKind, Result};

use crate::http::is_token;

/// Headers that a handshake itself sets, and others that say how a connection is used.
const TAKEN: [&str; 8] = [
    "host",
    "upgrade",
    "connection",
    "content-length",
    "transfer-encoding",
    "te",
    "wt-available-protocols",
    "wt-protocol",
];

/// Headers that a dialer adds to its request.
#[derive(Clone, Default)]
pub struct HttpHeaders(Vec<(String, String)>);

impl HttpHeaders {
    /// Adds a header.
    ///
    /// # Errors
    ///
    /// [`ConfigInvalid`](ErrorKind::ConfigInvalid) for a name or a value that no header can have, and for a header that the
    /// handshake itself sets.
    pub fn add(&mut self, name: &str, value: &str) -> Result<()> {
        if !is_token(name) {
            return Err(invalid(format!("{name:?} cannot name a header")));
        }
        let lower = name.to_ascii_lowercase();
        if TAKEN.contains(&lower.as_str()) || lower.starts_with("sec-web") {
            let why = format!("the handshake itself sets the header {name}");
            return Err(invalid(why));
        }
        // The value may be a secret.
        if value.trim() != value || !value.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            let why = format!(
                "the value of the header {name} is not printable ASCII without space at its ends"
            );
            return Err(invalid(why));
        }
        self.0.push((name.to_owned(), value.to_owned()));
        Ok(())
    }

    /// Returns the names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl fmt::Debug for HttpHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The values may be secrets.
        f.debug_list()
            .entries(self.0.iter().map(|(name, _)| name))
            .finish()
    }
}

fn invalid(why: String) -> Error {
    Error::new(ErrorKind::ConfigInvalid, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_kept_and_their_values_not_shown() {
        let mut headers = HttpHeaders::default();
        headers.add("Authorization", "Bearer secret").unwrap();
        headers.add("X-Room", "a b").unwrap();
        let all: Vec<_> = headers.iter().collect();
        assert_eq!(all, [("Authorization", "Bearer secret"), ("X-Room", "a b")]);
        assert_eq!(format!("{headers:?}"), r#"["Authorization", "X-Room"]"#);
    }

    #[test]
    fn a_header_that_would_break_the_request_is_refused() {
        for (name, value, why) in [
            ("", "a", "cannot name a header"),
            ("a b", "a", "cannot name a header"),
            ("Host", "a", "itself sets"),
            ("sec-websocket-KEY", "a", "itself sets"),
            ("X", "a\r\nY: b", "printable ASCII"),
            ("X", " a", "printable ASCII"),
            ("X", "ä", "printable ASCII"),
        ] {
            let error = HttpHeaders::default().add(name, value).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
            assert!(error.to_string().contains(why), "{error}");
        }
    }
}
