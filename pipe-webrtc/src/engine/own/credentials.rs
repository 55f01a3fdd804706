use std::fmt;

use pipe_core::{Error, ErrorKind, Result};

/// Least and greatest lengths of a user fragment and a password, in bytes (RFC 8839, section 5.4).
///
/// The RFC admits fragments of up to 256 bytes. A check carries both sides' fragments in a USERNAME,
/// which the ICE agent takes up to 128 bytes.
const UFRAG: std::ops::RangeInclusive<usize> = 4..=96;
const PWD: std::ops::RangeInclusive<usize> = 22..=256;

/// Lengths of those of this side, in characters of 6 random bits each.
const OWN_UFRAG: usize = 8;
const OWN_PWD: usize = 24;

/// The characters of both (RFC 8839, section 5.1).
const ICE_CHARS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The user fragment and the password of one side, for the connectivity checks that the other sends it
/// (RFC 8445, section 5.3). Its debug output leaves the password out.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    ufrag: String,
    pwd: String,
}

impl Credentials {
    /// Makes credentials that cannot be guessed.
    ///
    /// # Errors
    ///
    /// [`Io`](ErrorKind::Io) when the system gives no random bytes.
    pub(crate) fn generate() -> Result<Self> {
        let mut random = [0; OWN_UFRAG + OWN_PWD];
        getrandom::fill(&mut random).map_err(|error| {
            let why = format!("the system gives no random bytes: {error}");
            Error::with_source(ErrorKind::Io, why, error)
        })?;
        let text = |bytes: &[u8]| {
            let chars = bytes.iter().map(|byte| ICE_CHARS[usize::from(byte % 64)]);
            chars.map(char::from).collect()
        };
        let (ufrag, pwd) = random.split_at(OWN_UFRAG);
        Ok(Self {
            ufrag: text(ufrag),
            pwd: text(pwd),
        })
    }

    /// Returns the credentials of a peer, or why they are none.
    pub(crate) fn new(ufrag: &str, pwd: &str) -> std::result::Result<Self, String> {
        for (name, value, lengths) in [("ice-ufrag", ufrag, UFRAG), ("ice-pwd", pwd, PWD)] {
            if !lengths.contains(&value.len()) {
                return Err(format!(
                    "{name} has {} characters, but has to have from {} to {}",
                    value.len(),
                    lengths.start(),
                    lengths.end()
                ));
            }
            // Some stacks write base64url or padding.
            let known = |byte: u8| byte.is_ascii_alphanumeric() || b"+/-_=".contains(&byte);
            if !value.bytes().all(known) {
                return Err(format!(
                    "{name} has a character that is neither a letter, a digit, '+' nor '/'"
                ));
            }
        }
        Ok(Self {
            ufrag: ufrag.to_owned(),
            pwd: pwd.to_owned(),
        })
    }

    /// Returns the user fragment.
    pub(crate) fn ufrag(&self) -> &str {
        &self.ufrag
    }

    /// Returns the password.
    pub(crate) fn pwd(&self) -> &str {
        &self.pwd
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("ufrag", &self.ufrag)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_credentials_are_valid_and_differ() {
        let [a, b] = [(); 2].map(|()| Credentials::generate().unwrap());
        assert_ne!(a, b);
        for own in [a, b] {
            assert_eq!(Credentials::new(own.ufrag(), own.pwd()), Ok(own));
        }
    }

    #[test]
    fn lengths_and_characters_are_bounded() {
        let pwd = "p".repeat(22);
        assert!(Credentials::new("abc", &pwd).is_err());
        assert!(Credentials::new(&"a".repeat(97), &pwd).is_err());
        assert!(Credentials::new("abcd", &pwd[1..]).is_err());
        assert!(Credentials::new("abcd", &"p".repeat(257)).is_err());
        for bad in ["ab:cd", "ab cd", "ab\"cd", "abcdé"] {
            assert!(Credentials::new(bad, &pwd).is_err(), "{bad}");
        }
        assert!(Credentials::new("a-_=", &"p".repeat(256)).is_ok());
    }

    #[test]
    fn the_debug_output_shows_no_password() {
        let own = Credentials::generate().unwrap();
        assert!(!format!("{own:?}").contains(own.pwd()));
    }
}
