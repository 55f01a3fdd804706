//! Behaviour and error texts that several transports share.

use std::fmt;
use std::future::Future;
use std::io::IoSlice;
use std::time::Duration;

use pipe_proto::{PING_LEN, PingBytes};
use tokio::time::{Instant, timeout_at};

use crate::{Addr, Conn, Error, ErrorKind, Result};

/// Waits for a dial of an address, for so long at most.
///
/// # Errors
///
/// That of the dial, or [`TimedOut`](ErrorKind::TimedOut), which names the address and the limit.
///
/// # Cancel safety
///
/// Dropping the future drops the dial.
pub async fn dial_within<T>(
    addr: &Addr,
    limit: Duration,
    dial: impl Future<Output = Result<T>>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    match timeout_at(deadline, dial).await {
        Ok(Ok(conn)) => Ok(conn),
        // The listener gives up after the same time, and may be noticed first.
        Ok(Err(error)) if Instant::now() < deadline => Err(error),
        _ => {
            let why = format!("{addr} made no connection within {limit:?}");
            Err(Error::new(ErrorKind::TimedOut, why))
        }
    }
}

/// Returns the first `count` bytes of the buffers of a vectored write, piece by piece.
pub fn first_bytes<'a>(
    bufs: &'a [IoSlice<'_>],
    mut count: usize,
) -> impl Iterator<Item = &'a [u8]> {
    bufs.iter().map(move |buf| {
        let piece = &buf[..buf.len().min(count)];
        count -= piece.len();
        piece
    })
}

/// Formats a connection for [`Debug`](fmt::Debug): its addresses and its state.
///
/// # Errors
///
/// That of the formatter.
pub fn fmt_conn(name: &str, conn: &impl Conn, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.debug_struct(name)
        .field("local_addr", &conn.local_addr())
        .field("remote_addr", &conn.remote_addr())
        .field("state", &*conn.state().borrow())
        .finish_non_exhaustive()
}

/// Creates the error of a peer that broke the protocol, by what it did.
pub fn protocol(what: impl fmt::Display) -> Error {
    let why = format!("the peer broke the protocol: {what}");
    Error::new(ErrorKind::Protocol, why)
}

/// Returns the time as a session takes it. It stands still where tokio's does.
pub fn now() -> std::time::Instant {
    Instant::now().into_std()
}

/// Makes the bytes of a new ping.
///
/// # Errors
///
/// [`Io`](ErrorKind::Io) if the system gives no random bytes.
pub fn random_ping() -> Result<PingBytes> {
    let mut bytes = [0; PING_LEN];
    getrandom::fill(&mut bytes).map_err(|error| {
        Error::with_source(ErrorKind::Io, "the system gives no random bytes", error)
    })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_dial_that_takes_too_long_names_its_address_and_the_limit() {
        let addr: Addr = "inproc://nowhere".parse().unwrap();
        let limit = Duration::from_secs(3);
        let error = dial_within(&addr, limit, pending::<Result<()>>()).await;
        let error = error.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(error.to_string().contains("inproc://nowhere"), "{error}");
        assert!(error.to_string().contains("3s"), "{error}");
        assert_eq!(dial_within(&addr, limit, ready(Ok(5))).await.unwrap(), 5);
        let refused = || Err::<(), _>(Error::new(ErrorKind::Refused, "no"));
        let error = dial_within(&addr, limit, ready(refused())).await;
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Refused);
        // The other side gave up at the same moment.
        let late = async {
            sleep(limit).await;
            refused()
        };
        let error = dial_within(&addr, limit, late).await;
        assert_eq!(error.unwrap_err().kind(), ErrorKind::TimedOut);
    }

    #[test]
    fn the_first_bytes_of_a_vectored_write_end_within_a_buffer() {
        let bufs = [b"one".as_slice(), b"", b"two", b"three"].map(IoSlice::new);
        let first = |count| first_bytes(&bufs, count).collect::<Vec<_>>().concat();
        assert_eq!(first(0), b"");
        assert_eq!(first(3), b"one");
        assert_eq!(first(5), b"onetw");
        assert_eq!(first(100), b"onetwothree");
    }
}
