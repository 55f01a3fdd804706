use std::fmt;

use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};

/// A hash function of a fingerprint, the weakest first (RFC 8122, section 5). MD5 and SHA-1 prove
/// nothing any more and are no part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum HashFunction {
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

impl HashFunction {
    const ALL: [Self; 4] = [Self::Sha224, Self::Sha256, Self::Sha384, Self::Sha512];

    const fn name(self) -> &'static str {
        match self {
            Self::Sha224 => "sha-224",
            Self::Sha256 => "sha-256",
            Self::Sha384 => "sha-384",
            Self::Sha512 => "sha-512",
        }
    }

    /// Length of a hash, in bytes.
    const fn len(self) -> usize {
        match self {
            Self::Sha224 => 28,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    fn hash(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha224 => Sha224::digest(bytes).to_vec(),
            Self::Sha256 => Sha256::digest(bytes).to_vec(),
            Self::Sha384 => Sha384::digest(bytes).to_vec(),
            Self::Sha512 => Sha512::digest(bytes).to_vec(),
        }
    }
}

/// The hash of a certificate in DER, as in a session description (RFC 8122, section 5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fingerprint {
    function: HashFunction,
    hash: Vec<u8>,
}

impl Fingerprint {
    /// Returns the SHA-256 of a certificate in DER.
    pub(crate) fn sha256(certificate: &[u8]) -> Self {
        Self {
            function: HashFunction::Sha256,
            hash: HashFunction::Sha256.hash(certificate),
        }
    }

    /// Parses the value of an attribute: `None` if its function is not among the accepted ones.
    ///
    /// # Errors
    ///
    /// Why the value is no fingerprint.
    pub(crate) fn parse(value: &str) -> Result<Option<Self>, String> {
        let mut words = value.split_ascii_whitespace();
        let (Some(name), Some(digits), None) = (words.next(), words.next(), words.next()) else {
            return Err("a fingerprint is a hash function and a hash".to_owned());
        };
        let known = |function: &HashFunction| function.name().eq_ignore_ascii_case(name);
        let Some(function) = HashFunction::ALL.into_iter().find(known) else {
            return Ok(None);
        };
        let hash = parse_hash(digits, function.len()).ok_or_else(|| {
            format!(
                "the fingerprint is not {} bytes of {name} in hexadecimal with colons between them",
                function.len()
            )
        })?;
        Ok(Some(Self { function, hash }))
    }

    /// Returns whether it is that of a certificate in DER.
    pub(crate) fn matches(&self, certificate: &[u8]) -> bool {
        self.function.hash(certificate) == self.hash
    }
}

fn parse_hash(digits: &str, len: usize) -> Option<Vec<u8>> {
    if digits.len() != len * 3 - 1 || !digits.is_ascii() {
        return None;
    }
    digits
        .split(':')
        .map(|pair| {
            let digits = pair.len() == 2 && pair.bytes().all(|byte| byte.is_ascii_hexdigit());
            digits.then(|| u8::from_str_radix(pair, 16).ok()).flatten()
        })
        .collect()
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.function.name())?;
        for (i, byte) in self.hash.iter().enumerate() {
            let colon = if i == 0 { "" } else { ":" };
            write!(f, "{colon}{byte:02X}")?;
        }
        Ok(())
    }
}

/// Returns whether a certificate in DER is the one that a peer has announced: it has to match one
/// fingerprint of the strongest function among them (RFC 8122, section 5).
pub(crate) fn is_announced(fingerprints: &[Fingerprint], certificate: &[u8]) -> bool {
    let Some(strongest) = fingerprints.iter().map(|one| one.function).max() else {
        return false;
    };
    let mut alike = fingerprints.iter().filter(|one| one.function == strongest);
    alike.any(|one| one.matches(certificate))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SHA-256 of "abc" (FIPS 180-2, appendix B.1).
    const ABC: &str = "BA:78:16:BF:8F:01:CF:EA:41:41:40:DE:5D:AE:22:23:\
                       B0:03:61:A3:96:17:7A:9C:B4:10:FF:61:F2:00:15:AD";

    fn parsed(value: &str) -> Fingerprint {
        Fingerprint::parse(value).unwrap().unwrap()
    }

    #[test]
    fn text_and_fingerprint_are_the_same() {
        let text = format!("sha-256 {ABC}");
        assert_eq!(Fingerprint::sha256(b"abc").to_string(), text);
        let lower = format!("SHA-256 {}", ABC.to_lowercase());
        assert_eq!(parsed(&lower), parsed(&text));
        assert!(parsed(&text).matches(b"abc") && !parsed(&text).matches(b"abd"));
        for function in HashFunction::ALL {
            let one = Fingerprint {
                function,
                hash: function.hash(b"x"),
            };
            assert_eq!(one.hash.len(), function.len());
            assert_eq!(parsed(&one.to_string()), one);
        }
    }

    #[test]
    fn other_functions_are_left_out_and_bad_values_refused() {
        for other in ["md5 00:11", "sha-1 AA:BB", "sha-3 xx"] {
            assert_eq!(Fingerprint::parse(other), Ok(None), "{other}");
        }
        for bad in [
            "",
            "sha-256",
            &format!("sha-256 {}", &ABC[3..]),
            &format!("sha-256 {ABC} more"),
            &format!("sha-256 {}", ABC.replace("BA:", "+A:")),
            &format!("sha-256 {}", ABC.replace("BA:7", "BA7:")),
            &format!("sha-384 {ABC}"),
        ] {
            assert!(Fingerprint::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_certificate_has_to_match_the_strongest_function() {
        let of = |function: HashFunction, bytes: &[u8]| Fingerprint {
            function,
            hash: function.hash(bytes),
        };
        let (weak, strong) = (HashFunction::Sha224, HashFunction::Sha512);
        assert!(!is_announced(&[], b"abc"));
        let both = [of(weak, b"abc"), of(strong, b"other")];
        assert!(!is_announced(&both, b"abc"));
        assert!(is_announced(&both, b"other"));
        // Of two certificates, either serves.
        let two = [of(strong, b"abc"), of(strong, b"other")];
        assert!(is_announced(&two, b"abc") && is_announced(&two, b"other"));
    }
}
