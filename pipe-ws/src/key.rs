//! The key of a handshake, and its answer (RFC 6455, section 4.2.2).

use std::io;

use data_encoding::BASE64;
use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};

use crate::mask_keys::random;

const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Creates a fresh key.
pub(crate) fn fresh_key() -> io::Result<String> {
    let mut nonce = [0; 16];
    random(&mut nonce)?;
    Ok(BASE64.encode(&nonce))
}

/// Returns whether a text is a key.
pub(crate) fn is_key(text: &str) -> bool {
    BASE64
        .decode(text.as_bytes())
        .is_ok_and(|nonce| nonce.len() == 16)
}

/// Returns the answer to a key.
pub(crate) fn answer_to(key: &str) -> String {
    let mut hash = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    hash.update(key.as_bytes());
    hash.update(GUID);
    BASE64.encode(hash.finish().as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_that_of_the_rfc() {
        // Section 1.3.
        let key = "dGhlIHNhbXBsZSBub25jZQ==";
        assert!(is_key(key));
        assert_eq!(answer_to(key), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn keys_are_told_from_other_texts() {
        assert!(is_key(&fresh_key().unwrap()));
        for text in [
            "",
            "AAAA",
            "dGhlIHNhbXBsZSBub25jZQ",
            "dGhlIHNhbXBsZSBub25jZQ= =",
        ] {
            assert!(!is_key(text), "{text}");
        }
    }
}
