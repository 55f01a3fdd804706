use std::collections::VecDeque;
use std::future::{Future, pending};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use pipe_core::{Addr, Error, ErrorKind, Result};
use tokio::net::{UdpSocket, lookup_host};
use tokio::time::sleep;

/// How long one attempt runs by itself before the next one joins it (RFC 8305, section 5).
const DELAY: Duration = Duration::from_millis(250);

/// The addresses of a host, those of the two families by turns. An unspecified one is this host, as for
/// TCP's sockets.
pub(crate) async fn resolve(addr: &Addr, host: &str, port: u16) -> Result<VecDeque<SocketAddr>> {
    let found = lookup_host((host, port)).await.map_err(|error| {
        let why = format!("the name {host:?} of {addr} could not be resolved: {error}");
        Error::with_source(ErrorKind::Unreachable, why, error)
    })?;
    let turns = in_turn(found.map(dialable).collect());
    if turns.is_empty() {
        let why = format!("the name {host:?} of {addr} has no address");
        return Err(Error::new(ErrorKind::Unreachable, why));
    }
    Ok(turns)
}

/// The first attempt that succeeds: they start one after another, each a little after the one before,
/// or at once when that has failed.
pub(crate) async fn race<T, F: Future<Output = Result<T>>>(
    mut rest: VecDeque<SocketAddr>,
    attempt: impl Fn(SocketAddr) -> F,
) -> Result<T> {
    let mut running = FuturesUnordered::new();
    let mut failed: Option<Error> = None;
    loop {
        if let Some(next) = rest.pop_front() {
            running.push(attempt(next));
        }
        tokio::select! {
            done = running.next() => match done {
                Some(Ok(made)) => return Ok(made),
                Some(Err(error)) => failed = Some(plainer(failed, error)),
                None if rest.is_empty() => break,
                None => {}
            },
            () = sleep(DELAY), if !rest.is_empty() => {}
        }
    }
    Err(failed.unwrap_or_else(|| Error::new(ErrorKind::Unreachable, "there is no address")))
}

/// The error to tell of two: that somebody was there says more than that nobody was.
fn plainer(before: Option<Error>, now: Error) -> Error {
    match before {
        Some(before) if now.kind() == ErrorKind::Unreachable => before,
        _ => now,
    }
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

/// The address to dial: quinn knows no unspecified ones.
fn dialable(found: SocketAddr) -> SocketAddr {
    let ip = match found.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        _ => return found,
    };
    SocketAddr::new(ip, found.port())
}

/// Any address of the family of this one, with any port.
pub(crate) fn any_like(addr: SocketAddr) -> SocketAddr {
    if addr.is_ipv4() {
        (Ipv4Addr::UNSPECIFIED, 0).into()
    } else {
        (Ipv6Addr::UNSPECIFIED, 0).into()
    }
}

/// Waits until the network says that nobody takes datagrams at this address, which it need not say.
///
/// The socket of a QUIC endpoint has many peers, and so is not told (by ICMP) that one of them is not
/// there. This one has a single peer: it sends it one byte, which no QUIC endpoint answers.
pub(crate) async fn nobody_there(to: SocketAddr) -> io::Error {
    match probe(to).await {
        Ok(()) => pending().await,
        Err(error) => error,
    }
}

/// The error of a dial to where nobody is.
pub(crate) fn unreached(context: &str, error: io::Error) -> Error {
    let (kind, what) = match error.kind() {
        io::ErrorKind::ConnectionRefused => (ErrorKind::Refused, "nobody listens there"),
        _ => (ErrorKind::Unreachable, "it cannot be reached"),
    };
    Error::with_source(kind, format!("{context}: {what}"), error)
}

async fn probe(to: SocketAddr) -> io::Result<()> {
    let socket = UdpSocket::bind(any_like(to)).await?;
    socket.connect(to).await?;
    socket.send(&[0]).await?;
    let mut buf = [0];
    loop {
        match socket.recv(&mut buf).await {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addrs(list: &[&str]) -> Vec<SocketAddr> {
        list.iter().map(|a| a.parse().unwrap()).collect()
    }

    #[test]
    fn families_take_turns() {
        let found = addrs(&["[::1]:1", "[::2]:1", "[::3]:1", "127.0.0.1:1"]);
        let turns = addrs(&["[::1]:1", "127.0.0.1:1", "[::2]:1", "[::3]:1"]);
        assert_eq!(in_turn(found), turns);
        assert!(in_turn(Vec::new()).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_attempt_joins_one_that_hangs_or_fails() {
        let list: VecDeque<_> = addrs(&["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"]).into();
        let started = tokio::time::Instant::now();
        let won = race(list.clone(), async |addr| match addr.port() {
            1 => Err(Error::new(ErrorKind::Refused, "nobody")),
            2 => pending().await,
            port => Ok(port),
        });
        assert_eq!(won.await.unwrap(), 3);
        assert_eq!(started.elapsed(), DELAY);

        let lost = race(list, async |addr| -> Result<()> {
            let kind = match addr.port() {
                2 => ErrorKind::Refused,
                _ => ErrorKind::Unreachable,
            };
            Err(Error::new(kind, "no"))
        });
        assert_eq!(lost.await.unwrap_err().kind(), ErrorKind::Refused);
    }
}
