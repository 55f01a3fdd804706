//! The close of a connection without its token, for both sides.

use pipewerks::{BoxConn, CloseReason, Conn, Error};

/// The code that a connection without the token is closed with.
pub(crate) const UNAUTHORIZED: u32 = 401;

/// Why it is closed.
const MISSING: &str =
    "the token is missing or wrong; dial the whole address that the listener printed";

/// Closes a connection whose peer has not shown the token.
pub(crate) fn refuse(conn: &BoxConn) {
    conn.close(UNAUTHORIZED, MISSING);
}

/// Returns whether the peer has closed the connection for lack of its token.
pub(crate) fn is_refusal(error: &Error) -> bool {
    error.close_reason().is_some_and(is_refused)
}

/// Returns whether a connection was closed by the peer for lack of its token.
pub(crate) fn is_refused(reason: &CloseReason) -> bool {
    matches!(reason, CloseReason::Remote { code: UNAUTHORIZED, reason } if **reason == *MISSING)
}
