//! What both sides of the signalling over HTTP name alike.

/// The types of the bodies (RFC 9725, section 4.2; RFC 8840, section 9).
pub(crate) const SDP: &str = "application/sdp";
pub(crate) const FRAGMENT: &str = "application/trickle-ice-sdpfrag";

/// The protocol under TLS (ALPN).
pub(crate) const HTTP: &[u8] = b"http/1.1";

/// Maximum length of the head of a message, in bytes, and number of its headers.
pub(crate) const MAX_HEAD: usize = 16 * 1024;
pub(crate) const MAX_HEADERS: usize = 64;
