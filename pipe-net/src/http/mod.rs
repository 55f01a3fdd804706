//! What dialers and listeners over HTTP share.

mod headers;
mod request;
mod target;

use pipe_core::ErrorKind;

pub use headers::HttpHeaders;
pub use request::{HttpRequest, HttpVerdict, Origins};
pub use target::HttpTarget;

/// Returns the kind of the error of a handshake that was answered by an error of HTTP.
pub fn kind_of_status(code: u16) -> ErrorKind {
    match code {
        401 | 403 | 407 => ErrorKind::Unauthenticated,
        // There is none, or it is not reached by what answers in its place.
        404 | 410 | 502..=504 => ErrorKind::Refused,
        429 => ErrorKind::LimitReached,
        _ => ErrorKind::Handshake,
    }
}

/// Returns whether a text is a token (RFC 9110, section 5.6.2).
pub(super) fn is_token(text: &str) -> bool {
    let is_in = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_in)
}
