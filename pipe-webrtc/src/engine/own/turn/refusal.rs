use std::fmt;

use pipe_core::ErrorKind;

use super::request::{Asked, Family};

/// Returns what an error of a server means (RFC 8489, section 14.8, and RFC 8656, section 19), for a request of a
/// relay of this family.
pub(super) fn explain(
    asked: Asked,
    family: Family,
    code: u16,
    reason: &str,
) -> (ErrorKind, String) {
    let said = Said { code, reason };
    match code {
        401 | 441 => (
            ErrorKind::Unauthenticated,
            format!("it refuses the user name or the credential ({said})"),
        ),
        403 => (ErrorKind::Refused, format!("it forbids it ({said})")),
        437 => (
            ErrorKind::Failed,
            format!("it has no allocation of this address, or one already ({said})"),
        ),
        440 if asked == Asked::Allocation => {
            let why = match family {
                Family::Default => "it has no relay of IPv4",
                // That is asked for where IPv4 is refused.
                Family::Ipv6 { is_second: true } => "it has no relay of IPv4, and none of IPv6",
                Family::Ipv6 { is_second: false } => "it has no relay of IPv6",
            };
            (ErrorKind::Unsupported, format!("{why} ({said})"))
        }
        443 => (
            ErrorKind::Unsupported,
            format!("its relay is of the other family than the peer's address ({said})"),
        ),
        420 | 440 | 442 => (
            ErrorKind::Unsupported,
            format!("it lacks what is needed ({said})"),
        ),
        486 | 508 => (ErrorKind::LimitReached, format!("it has no room ({said})")),
        _ => (ErrorKind::Failed, format!("it answers {said}")),
    }
}

/// A code, and the server's words for it.
struct Said<'a> {
    code: u16,
    reason: &'a str,
}

impl fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason {
            "" => write!(f, "{}", self.code),
            reason => write!(f, "{} {reason}", self.code),
        }
    }
}
