use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use pipe_core::{Addr, Error, ErrorKind, Result};
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// How long one attempt runs by itself before the next one joins it (RFC 8305, section 5).
const DELAY: Duration = Duration::from_millis(250);

/// Connects to the first of the host's addresses that answers: they are tried in turn of their
/// families, each a little after the one before.
pub(crate) async fn connect(addr: &Addr, host: &str, port: u16) -> Result<TcpStream> {
    let found = lookup_host((host, port)).await.map_err(|error| {
        let why = format!("the name {host:?} of {addr} could not be resolved: {error}");
        Error::with_source(ErrorKind::Unreachable, why, error)
    })?;
    let mut rest = in_turn(found.collect());
    if rest.is_empty() {
        let why = format!("the name {host:?} of {addr} has no address");
        return Err(Error::new(ErrorKind::Unreachable, why));
    }
    let mut running = JoinSet::new();
    let mut failed = None;
    loop {
        if let Some(next) = rest.pop_front() {
            running.spawn(TcpStream::connect(next));
        }
        tokio::select! {
            done = running.join_next() => match done {
                Some(Ok(Ok(socket))) => return Ok(socket),
                Some(Ok(Err(error))) => failed = Some(worse(failed, error)),
                Some(Err(error)) => failed = Some(worse(failed, io::Error::other(error))),
                None if rest.is_empty() => break,
                None => {}
            },
            () = sleep(DELAY), if !rest.is_empty() => {}
        }
    }
    let error = failed.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into());
    let (kind, what) = match error.kind() {
        io::ErrorKind::ConnectionRefused => (ErrorKind::Refused, "nobody listens there"),
        io::ErrorKind::TimedOut => (ErrorKind::TimedOut, "it did not answer"),
        _ => (ErrorKind::Unreachable, "it cannot be reached"),
    };
    Err(Error::with_source(
        kind,
        format!("could not connect to {addr}: {what}"),
        error,
    ))
}

/// Addresses of the two families by turns, beginning with the one that the resolver put first.
fn in_turn(found: Vec<SocketAddr>) -> VecDeque<SocketAddr> {
    let first_is_v6 = found.first().is_some_and(SocketAddr::is_ipv6);
    let (mut a, mut b): (VecDeque<_>, VecDeque<_>) = found
        .into_iter()
        .partition(|addr| addr.is_ipv6() == first_is_v6);
    let mut turns = VecDeque::new();
    while !a.is_empty() || !b.is_empty() {
        turns.extend(a.pop_front());
        turns.extend(b.pop_front());
    }
    turns
}

/// The error to tell of two: that somebody was there and refused says more than that nobody was.
fn worse(before: Option<io::Error>, now: io::Error) -> io::Error {
    match before {
        Some(before) if before.kind() == io::ErrorKind::ConnectionRefused => before,
        _ => now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns() {
        let addrs = |list: &[&str]| list.iter().map(|a| a.parse().unwrap()).collect::<Vec<_>>();
        let found = addrs(&["[::1]:1", "[::2]:1", "[::3]:1", "127.0.0.1:1"]);
        let turns = addrs(&["[::1]:1", "127.0.0.1:1", "[::2]:1", "[::3]:1"]);
        assert_eq!(in_turn(found), turns);
        assert!(in_turn(Vec::new()).is_empty());
    }
}
