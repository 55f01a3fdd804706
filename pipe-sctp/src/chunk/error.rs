//! Error causes in ABORT and ERROR chunks (RFC 9260, section 3.3.10).

use crate::wire::{Tlvs, put_tlv};

/// Codes of error causes.
pub(crate) mod code {
    pub(crate) const INVALID_STREAM: u16 = 1;
    pub(crate) const STALE_COOKIE: u16 = 3;
    pub(crate) const OUT_OF_RESOURCE: u16 = 4;
    pub(crate) const UNRESOLVABLE_ADDRESS: u16 = 5;
    pub(crate) const UNRECOGNIZED_CHUNK: u16 = 6;
    pub(crate) const INVALID_PARAMETER: u16 = 7;
    pub(crate) const UNRECOGNIZED_PARAMETERS: u16 = 8;
    pub(crate) const NO_USER_DATA: u16 = 9;
    pub(crate) const COOKIE_WHILE_SHUTTING_DOWN: u16 = 10;
    pub(crate) const USER_INITIATED: u16 = 12;
    pub(crate) const PROTOCOL_VIOLATION: u16 = 13;
}

/// Longest text of a cause that is kept or sent, in bytes.
pub(crate) const MAX_TEXT: usize = 256;

/// The first cause of an ABORT.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cause {
    /// 0 if the chunk has none.
    pub(crate) code: u16,
    pub(crate) text: String,
}

impl Cause {
    /// Reads the first cause of a chunk. A malformed list counts as none.
    pub(crate) fn read(body: &[u8]) -> Self {
        let Some(cause) = Tlvs::new(body).next() else {
            return Self::default();
        };
        let text = match cause.kind {
            code::USER_INITIATED | code::PROTOCOL_VIOLATION => {
                let end = cause.value.len().min(MAX_TEXT);
                String::from_utf8_lossy(&cause.value[..end]).into_owned()
            }
            other => describe(other).to_owned(),
        };
        Self {
            code: cause.kind,
            text,
        }
    }
}

/// Returns whether a list of causes has one with `code`.
pub(crate) fn contains(body: &[u8], code: u16) -> bool {
    Tlvs::new(body).any(|cause| cause.kind == code)
}

/// Appends a cause with a text.
pub(crate) fn put_text(buf: &mut Vec<u8>, code: u16, text: &str) {
    let mut end = text.len().min(MAX_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    put_tlv(buf, code, &text.as_bytes()[..end]);
}

fn describe(code: u16) -> &'static str {
    match code {
        1 => "invalid stream identifier",
        2 => "missing mandatory parameter",
        code::STALE_COOKIE => "stale cookie",
        code::OUT_OF_RESOURCE => "out of resource",
        code::UNRESOLVABLE_ADDRESS => "unresolvable address",
        code::UNRECOGNIZED_CHUNK => "unrecognized chunk type",
        code::INVALID_PARAMETER => "invalid mandatory parameter",
        code::UNRECOGNIZED_PARAMETERS => "unrecognized parameters",
        code::NO_USER_DATA => "no user data",
        code::COOKIE_WHILE_SHUTTING_DOWN => "cookie received while shutting down",
        11 => "restart with new addresses",
        _ => "unknown cause",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_read_as_written_and_cut() {
        let mut buf = Vec::new();
        put_text(&mut buf, code::USER_INITIATED, "bye");
        let cause = Cause::read(&buf);
        assert_eq!(
            cause,
            Cause {
                code: 12,
                text: "bye".into()
            }
        );
        buf.clear();
        put_text(
            &mut buf,
            code::PROTOCOL_VIOLATION,
            &"\u{e9}".repeat(MAX_TEXT),
        );
        assert_eq!(Cause::read(&buf).text, "\u{e9}".repeat(MAX_TEXT / 2));
    }

    #[test]
    fn malformed_causes_are_none() {
        for body in [&[][..], &[0, 12], &[0, 12, 0, 3], &[0, 12, 0, 9, 1]] {
            assert_eq!(Cause::read(body), Cause::default());
            assert!(!contains(body, code::STALE_COOKIE));
        }
    }
}
