use std::fmt;

use pipe_core::Result;

use crate::candidates::add_candidates;
use crate::error::protocol;
use crate::signaling::IceCandidate;

/// Lengths of a fragment of a user name and of a password (RFC 8839, section 5.4), in bytes.
const UFRAG: std::ops::RangeInclusive<usize> = 4..=256;
const PWD: std::ops::RangeInclusive<usize> = 22..=256;

/// Maximum number of candidates of a fragment.
const MAX_CANDIDATES: usize = 256;

/// What a description says of ICE, as a text of the type `application/trickle-ice-sdpfrag` (RFC 8840, section 9).
///
/// Of several sections, as those of a page that sends video as well, the credentials are those of the first, which BUNDLE
/// makes the ones of all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fragment {
    pub(crate) ufrag: String,
    pub(crate) pwd: String,
    /// The first section: the value of its `m=` line, and its name.
    media: Option<String>,
    mid: Option<String>,
    /// The candidates, each from `candidate:` on, and the name of its section.
    candidates: Vec<(String, Option<String>)>,
    /// Whether no more candidates follow.
    pub(crate) is_complete: bool,
}

impl Fragment {
    /// Reads a fragment, or a description.
    ///
    /// # Errors
    ///
    /// [`Protocol`](pipe_core::ErrorKind::Protocol) for a text without credentials, or with some that cannot be.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let (mut ufrag, mut pwd, mut media) = (None, None, None);
        let (mut mid, mut section): (Option<String>, Option<String>) = (None, None);
        let mut candidates = Vec::new();
        let mut is_complete = false;
        for line in text.lines() {
            let line = line.trim_end();
            if let Some(value) = line.strip_prefix("m=") {
                check(value)?;
                media = media.or_else(|| Some(value.to_owned()));
                section = None;
            }
            let Some(line) = line.strip_prefix("a=") else {
                continue;
            };
            if let Some(value) = line.strip_prefix("ice-ufrag:") {
                ufrag = ufrag.or_else(|| Some(value.to_owned()));
            } else if let Some(value) = line.strip_prefix("ice-pwd:") {
                pwd = pwd.or_else(|| Some(value.to_owned()));
            } else if let Some(value) = line.strip_prefix("mid:") {
                check(value)?;
                section = Some(value.to_owned());
                mid = mid.or_else(|| section.clone());
            } else if line.starts_with("candidate:") {
                check(line)?;
                if candidates.len() == MAX_CANDIDATES {
                    let why = format_args!("more than {MAX_CANDIDATES} candidates at once");
                    return Err(protocol(why));
                }
                candidates.push((line.to_owned(), section.clone()));
            } else if line == "end-of-candidates" {
                is_complete = true;
            }
        }
        Ok(Self {
            ufrag: credential("ice-ufrag", ufrag, UFRAG)?,
            pwd: credential("ice-pwd", pwd, PWD)?,
            media,
            mid,
            candidates,
            is_complete,
        })
    }

    /// Returns the same with these candidates instead of its own.
    pub(crate) fn with_candidates(
        &self,
        candidates: impl IntoIterator<Item = String>,
        is_complete: bool,
    ) -> Self {
        let candidates = candidates.into_iter();
        Self {
            candidates: candidates
                .map(|candidate| (candidate, self.mid.clone()))
                .collect(),
            is_complete,
            ..self.clone()
        }
    }

    /// Returns whether the credentials are those of the other one.
    pub(crate) fn is_of(&self, other: &Self) -> bool {
        self.ufrag == other.ufrag && self.pwd == other.pwd
    }

    /// Returns the candidates.
    pub(crate) fn candidates(&self) -> impl Iterator<Item = IceCandidate> {
        self.candidates.iter().map(|(text, mid)| IceCandidate {
            candidate: text.clone(),
            mid: mid.clone().or_else(|| self.mid.clone()),
            line: None,
        })
    }

    /// Returns the description with the credentials and candidates of this fragment in place of its own.
    pub(crate) fn apply(&self, description: &str) -> String {
        let mut text = String::with_capacity(description.len());
        for line in description.lines() {
            let line = line.trim_end();
            let (name, value) = match line {
                _ if line.starts_with("a=candidate:") || line == "a=end-of-candidates" => continue,
                _ if line.starts_with("a=ice-ufrag:") => ("a=ice-ufrag:", self.ufrag.as_str()),
                _ if line.starts_with("a=ice-pwd:") => ("a=ice-pwd:", self.pwd.as_str()),
                _ => (line, ""),
            };
            for part in [name, value, "\r\n"] {
                text.push_str(part);
            }
        }
        let candidates = self.candidates.iter().map(|(text, _)| text.as_str());
        add_candidates(&text, candidates, self.is_complete)
    }
}

fn credential(
    name: &str,
    value: Option<String>,
    lengths: std::ops::RangeInclusive<usize>,
) -> Result<String> {
    let Some(value) = value else {
        return Err(protocol(format_args!("there is no {name}")));
    };
    let is_ice_char =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_');
    if !lengths.contains(&value.len()) || !value.bytes().all(is_ice_char) {
        return Err(protocol(format_args!("the {name} is none")));
    }
    Ok(value)
}

/// Checks that a value can stand in a line.
fn check(value: &str) -> Result<()> {
    if value.chars().any(char::is_control) {
        return Err(protocol("a control character within a line"));
    }
    Ok(())
}

impl fmt::Display for Fragment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ufrag, pwd, .. } = self;
        write!(f, "a=ice-ufrag:{ufrag}\r\na=ice-pwd:{pwd}\r\n")?;
        if let Some(media) = &self.media {
            write!(f, "m={media}\r\n")?;
        }
        if let Some(mid) = &self.mid {
            write!(f, "a=mid:{mid}\r\n")?;
        }
        for (candidate, _) in &self.candidates {
            write!(f, "a={candidate}\r\n")?;
        }
        if self.is_complete {
            f.write_str("a=end-of-candidates\r\n")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use pipe_core::ErrorKind;

    use super::*;

    const OFFER: &str = "v=0\r\ns=-\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:0\r\n\
        a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\na=candidate:1 old\r\n";
    const OTHER: &str = "m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:1\r\n";
    const FRAGMENT: &str = "a=ice-ufrag:efgh\r\na=ice-pwd:9876543210987654321098\r\n\
        m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:0\r\na=candidate:2 new\r\n\
        a=end-of-candidates\r\n";

    #[test]
    fn a_fragment_is_read_as_it_is_written() {
        let fragment = Fragment::parse(FRAGMENT).unwrap();
        assert_eq!(fragment.to_string(), FRAGMENT);
        assert!(fragment.is_complete);
        let candidates: Vec<_> = fragment.candidates().collect();
        assert_eq!(candidates.len(), 1);
        assert_eq!(candidates[0].candidate, "candidate:2 new");
        assert_eq!(candidates[0].mid.as_deref(), Some("0"));
    }

    #[test]
    fn a_fragment_replaces_what_a_description_says_of_ice() {
        let offer = format!("{OFFER}{OTHER}");
        let old = Fragment::parse(&offer).unwrap();
        let new = Fragment::parse(FRAGMENT).unwrap();
        assert!(!old.is_of(&new));
        let applied = new.apply(&offer);
        let again = Fragment::parse(&applied).unwrap();
        assert!(again.is_of(&new));
        assert!(
            !applied.contains("old") && !applied.contains("abcd"),
            "{applied}"
        );
        let first = applied.find("a=candidate:2 new").unwrap();
        assert!(first < applied.find("m=video").unwrap());
        assert_eq!(again, new);
    }

    #[test]
    fn a_fragment_may_have_other_candidates() {
        let fragment = Fragment::parse(OFFER).unwrap();
        let with = fragment.with_candidates(["candidate:5 z".to_owned()], false);
        assert!(with.to_string().ends_with("a=mid:0\r\na=candidate:5 z\r\n"));
    }

    #[test]
    fn what_is_no_fragment_is_refused() {
        let many = format!("{FRAGMENT}{}", "a=candidate:1\r\n".repeat(300));
        for text in [
            "",
            "a=ice-ufrag:abcd\r\n",
            "a=ice-pwd:0123456789012345678901\r\n",
            "a=ice-ufrag:a\r\na=ice-pwd:0123456789012345678901\r\n",
            "a=ice-ufrag:ab d\r\na=ice-pwd:0123456789012345678901\r\n",
            "a=ice-ufrag:abcd\r\na=ice-pwd:short\r\n",
            "a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\na=candidate:1\rb=x\r\n",
            &many,
        ] {
            let error = Fragment::parse(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Protocol, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(
            lines in proptest::collection::vec(
                "(a=ice-ufrag:|a=ice-pwd:|a=candidate:|a=mid:|m=|a=end-of-candidates|)[ -~é\\r]{0,30}",
                0..12,
            ),
            description in "[ -~é\\r\\n]{0,100}",
        ) {
            let text = lines.join("\n");
            if let Ok(fragment) = Fragment::parse(&text) {
                let again = Fragment::parse(&fragment.to_string()).unwrap();
                assert!(again.is_of(&fragment));
                assert_eq!(again.candidates().count(), fragment.candidates().count());
                fragment.apply(&description);
            }
            let _ = Fragment::parse(&format!("{FRAGMENT}{text}")).map(|own| own.apply(OFFER));
        }
    }
}
