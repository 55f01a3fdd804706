use std::fmt;
use std::str::FromStr;

use pipe_core::{Error, ErrorKind, Result};
use ring::digest::{SHA256, digest};

/// The SHA-256 hash of a certificate in DER: the certificate's fingerprint, as in
/// `tls://host:port?cert-sha256=…`.
///
/// It is written as 64 hex digits in lower case, and read in either case, with or without a `:`
/// between the bytes, as other programs print it.
///
/// ```
/// use pipe_tls::CertSha256;
///
/// let hash: CertSha256 = "E3:B0:C4:42:98:FC:1C:14:9A:FB:F4:C8:99:6F:B9:24:\
///                         27:AE:41:E4:64:9B:93:4C:A4:95:99:1B:78:52:B8:55".parse()?;
/// assert_eq!(hash, CertSha256::of(b""));
/// assert!(hash.to_string().starts_with("e3b0c44298fc1c14"));
/// # Ok::<(), pipe_core::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CertSha256([u8; 32]);

impl CertSha256 {
    /// Returns the hash of this certificate in DER.
    pub fn of(der: &[u8]) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, der).as_ref());
        Self(hash)
    }

    /// Returns the hash itself.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for CertSha256 {
    fn from(hash: [u8; 32]) -> Self {
        Self(hash)
    }
}

/// Fails with [`AddrInvalid`](ErrorKind::AddrInvalid), since addresses are where a hash is read from.
impl FromStr for CertSha256 {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let invalid = |why: String| {
            let why = format!("the SHA-256 hash of a certificate has 64 hex digits, but {why}");
            Error::new(ErrorKind::AddrInvalid, why)
        };
        let parts: Vec<_> = text.split(':').collect();
        if parts.len() > 1 && parts.iter().any(|part| part.len() != 2) {
            return Err(invalid(format!("{text:?} is not divided into bytes by :")));
        }
        let digits = parts.concat();
        if let Some(other) = digits.chars().find(|c| !c.is_ascii_hexdigit()) {
            return Err(invalid(format!("{text:?} has {other:?} in it")));
        }
        if digits.len() != 64 {
            return Err(invalid(format!("{text:?} has {}", digits.len())));
        }
        let digit = |at: usize| {
            let digit = char::from(digits.as_bytes()[at]).to_digit(16);
            digit.unwrap_or_default() as u8
        };
        Ok(Self(std::array::from_fn(|byte| {
            digit(2 * byte) << 4 | digit(2 * byte + 1)
        })))
    }
}

impl fmt::Display for CertSha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for CertSha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CertSha256({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_write_a_hash_is_read() {
        let hash = CertSha256::of(b"a certificate");
        let text = hash.to_string();
        assert_eq!(text.len(), 64);
        let bytes: Vec<_> = (0..32).map(|i| &text[2 * i..2 * i + 2]).collect();
        for form in [text.clone(), text.to_uppercase(), bytes.join(":")] {
            assert_eq!(form.parse::<CertSha256>().unwrap(), hash, "{form}");
        }
        assert_eq!(CertSha256::from(*hash.as_bytes()), hash);
    }

    #[test]
    fn what_is_no_hash_is_refused_with_the_reason() {
        let good = CertSha256::of(b"").to_string();
        for (text, why) in [
            (String::new(), "has 0"),
            ("00ff".into(), "has 4"),
            (format!("{good}00"), "has 66"),
            (good.replace("e3", "g3"), "has 'g' in it"),
            (good.replace("e3", "é3"), "has 'é' in it"),
            (format!("{}:{}", &good[..3], &good[3..]), "is not divided"),
            (format!("{good}:"), "is not divided"),
        ] {
            let error = text.parse::<CertSha256>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AddrInvalid);
            assert!(error.to_string().contains(why), "{error}");
        }
    }
}
