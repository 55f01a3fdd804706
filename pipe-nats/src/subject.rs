//! Names of subjects and of connections.

use data_encoding::{BASE32_NOPAD, HEXLOWER};
use pipe_core::{Error, ErrorKind, Result};

/// Maximum length of a subject, in bytes.
const MAX_SUBJECT: usize = 255;

/// Checks that a listener can have this subject: parts of ASCII letters, digits, dashes and underscores with dots between
/// them, so that it is written in a URL as it is. The error says what is wrong with it.
pub(crate) fn check_subject(subject: &str) -> Result<(), String> {
    let is_part = |part: &str| {
        let mut bytes = part.bytes();
        !part.is_empty() && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    if subject.len() > MAX_SUBJECT {
        return Err(format!(
            "is no subject: it has more than {MAX_SUBJECT} bytes"
        ));
    }
    if !subject.split('.').all(is_part) {
        let why = "is no subject: it has letters, digits, dashes and underscores, with dots between its parts";
        return Err(why.into());
    }
    Ok(())
}

/// Returns whether messages can be published to this subject, which another client has chosen.
pub(crate) fn is_inbox(subject: &str) -> bool {
    let is_part = |part: &str| {
        let mut bytes = part.bytes();
        !part.is_empty() && bytes.all(|b| b.is_ascii_graphic() && !matches!(b, b'*' | b'>'))
    };
    subject.len() <= MAX_SUBJECT && !subject.starts_with('$') && subject.split('.').all(is_part)
}

/// Returns a fresh subject below this prefix that no other client can guess: it has 128 random bits.
pub(crate) fn fresh_inbox(prefix: &str) -> Result<String> {
    Ok(format!(
        "{prefix}.{}",
        BASE32_NOPAD.encode(&random::<16>()?)
    ))
}

/// Returns a fresh name for the addresses of a dialer's end.
pub(crate) fn fresh_name() -> Result<String> {
    Ok(HEXLOWER.encode(&random::<8>()?))
}

fn random<const LEN: usize>() -> Result<[u8; LEN]> {
    let mut bytes = [0; LEN];
    getrandom::fill(&mut bytes).map_err(|error| {
        Error::with_source(ErrorKind::Io, "the system gives no random bytes", error)
    })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_of_another_client_is_one_that_can_be_published_to() {
        for subject in ["_INBOX.a.b", "_R_.x", "jobs"] {
            assert!(is_inbox(subject), "{subject}");
        }
        let long = "a".repeat(MAX_SUBJECT + 1);
        for subject in [
            "", ".a", "a..b", "a.*", ">", "a b", "a\r\n", "$SYS.x", &long,
        ] {
            assert!(!is_inbox(subject), "{subject}");
        }
    }

    #[test]
    fn inboxes_differ_and_can_be_published_to() {
        let (one, other) = (
            fresh_inbox("_INBOX").unwrap(),
            fresh_inbox("_INBOX").unwrap(),
        );
        assert_ne!(one, other);
        assert!(is_inbox(&one), "{one}");
        assert_eq!(one.len(), "_INBOX.".len() + 26);
    }
}
