/// The text has more addresses than are allowed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooMany;

/// Splits the text of a list where a comma is followed by a scheme and `://`. Text without such a comma is one part.
///
/// White space after the comma is no part of the scheme, but a list that has some is to be refused for that, and not for
/// a port that is no number.
pub(super) fn split(text: &str, limit: usize) -> Result<Vec<&str>, TooMany> {
    let mut parts = Vec::new();
    let mut rest = text;
    let mut searched = 0;
    while let Some(found) = rest[searched..].find(',') {
        let comma = searched + found;
        let next = &rest[comma + 1..];
        if begins_with_scheme(next) {
            parts.push(&rest[..comma]);
            if parts.len() == limit {
                return Err(TooMany);
            }
            rest = next;
            searched = 0;
        } else {
            searched = comma + 1;
        }
    }
    parts.push(rest);
    Ok(parts)
}

/// Returns whether text begins with a scheme (RFC 3986, section 3.1) and `://`.
fn begins_with_scheme(text: &str) -> bool {
    let text = text.trim_start_matches(' ');
    let is_of_scheme = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    let rest = text.trim_start_matches(is_of_scheme);
    text.starts_with(|c: char| c.is_ascii_alphabetic()) && rest.starts_with("://")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comma_splits_only_before_a_scheme() {
        for (text, parts) in [
            ("", &[""][..]),
            ("tcp://a", &["tcp://a"]),
            ("tcp://a,tls://b", &["tcp://a", "tls://b"]),
            (
                "tcp://a,TLS://b,webrtc+x-y.z2://c",
                &["tcp://a", "TLS://b", "webrtc+x-y.z2://c"],
            ),
            ("unix:///a,b", &["unix:///a,b"]),
            ("unix:///a,b,c,unix:///d,", &["unix:///a,b,c", "unix:///d,"]),
            ("tcp://a,2tcp://b", &["tcp://a,2tcp://b"]),
            ("tcp://a,://b", &["tcp://a,://b"]),
            ("tcp://a,tcp:/b", &["tcp://a,tcp:/b"]),
            ("tcp://a%2Ctcp://b", &["tcp://a%2Ctcp://b"]),
            ("tcp://a,,tcp://b", &["tcp://a,", "tcp://b"]),
            (",tcp://b", &["", "tcp://b"]),
            ("tcp://a, tcp://b", &["tcp://a", " tcp://b"]),
            ("tcp://ä,tcp://ö", &["tcp://ä", "tcp://ö"]),
        ] {
            assert_eq!(split(text, 4).as_deref(), Ok(parts), "{text}");
        }
    }

    #[test]
    fn no_more_is_split_than_allowed() {
        let list = |count| vec!["a://b"; count].join(",");
        assert_eq!(split(&list(4), 4).unwrap().len(), 4);
        assert_eq!(split(&list(5), 4), Err(TooMany));
        assert_eq!(split(&list(1_000_000), 4), Err(TooMany));
    }
}
