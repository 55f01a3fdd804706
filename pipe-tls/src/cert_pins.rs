use std::fmt;
use std::str::FromStr;

use pipe_core::{Error, ErrorKind, Result};

use crate::CertSha256;

/// The hashes of the certificates of a listener: of its own one, and of the one that takes its place, if that is known. None
/// where the certificate is judged in another way.
///
/// They are written one behind the other, with a dot between: `cert-sha256=00ff….e1b2…`. A comma is read as well.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct CertPins([Option<CertSha256>; 2]);

impl CertPins {
    /// Returns those of a certificate and of the next one.
    pub fn of_two(now: CertSha256, next: CertSha256) -> Self {
        Self([Some(now), Some(next)])
    }

    /// Returns the hashes.
    pub fn iter(&self) -> impl Iterator<Item = CertSha256> + '_ {
        self.0.iter().flatten().copied()
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// Returns whether this is one of them.
    pub fn contains(&self, hash: CertSha256) -> bool {
        self.iter().any(|own| own == hash)
    }
}

impl From<CertSha256> for CertPins {
    fn from(hash: CertSha256) -> Self {
        Self([Some(hash), None])
    }
}

impl From<Option<CertSha256>> for CertPins {
    fn from(hash: Option<CertSha256>) -> Self {
        Self([hash, None])
    }
}

impl FromStr for CertPins {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let hashes = text.split(['.', ',']).map(CertSha256::from_str);
        let hashes = hashes.collect::<Result<Vec<_>>>()?;
        match hashes[..] {
            [one] => Ok(one.into()),
            [now, next] => Ok(Self::of_two(now, next)),
            _ => {
                let why = format!("there are one or two hashes, not {}", hashes.len());
                Err(Error::new(ErrorKind::AddrInvalid, why))
            }
        }
    }
}

impl fmt::Display for CertPins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, hash) in self.iter().enumerate() {
            let between = if at > 0 { "." } else { "" };
            write!(f, "{between}{hash}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for CertPins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CertPins({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_or_two_hashes_are_read_as_they_are_written() {
        let (a, b) = (CertSha256::of(b"a"), CertSha256::of(b"b"));
        let two = CertPins::of_two(a, b);
        for (pins, text) in [
            (CertPins::from(a), a.to_string()),
            (two, format!("{a}.{b}")),
        ] {
            assert_eq!(pins.to_string(), text);
            assert_eq!(text.parse::<CertPins>().unwrap(), pins);
        }
        assert_eq!(format!("{a},{b}").parse::<CertPins>().unwrap(), two);
        assert!(two.contains(b) && !CertPins::from(a).contains(b));
        assert!(CertPins::default().is_empty() && !two.is_empty());
    }

    #[test]
    fn more_than_two_and_what_is_no_hash_are_refused() {
        let a = CertSha256::of(b"a");
        for (text, why) in [
            (format!("{a}.{a}.{a}"), "one or two hashes, not 3"),
            (format!("{a}."), "has 0"),
            (format!("{a}.00"), "has 2"),
        ] {
            let error = text.parse::<CertPins>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AddrInvalid);
            assert!(error.to_string().contains(why), "{error}");
        }
    }
}
