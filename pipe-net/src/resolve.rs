use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;

use pipe_core::{Addr, Error, ErrorKind, Result};
use tokio::net::lookup_host;

use crate::error::{bind_error, listen_error};
use crate::host_port::{HostPort, dialable};

/// Finds the addresses of a host, in the order in which a dial tries them: those of the two families by turns,
/// beginning with the one that the resolver put first (RFC 8305, section 4). An unspecified address stands
/// for the loopback address of its family. `of` is what has the name, for errors: the address being dialed.
///
/// # Errors
///
/// [`Unreachable`](ErrorKind::Unreachable), which names the host, when it has no address.
///
/// # Cancel safety
///
/// Dropping the future leaves nothing behind.
pub async fn resolve(of: impl fmt::Display, at: &HostPort) -> Result<Vec<SocketAddr>> {
    let found = lookup(at).await.map_err(|unknown| {
        let why = format!("the name {:?} of {of} {}", at.host, unknown.why());
        unknown.error(why)
    })?;
    Ok(by_turns(found.into_iter().map(dialable).collect()))
}

/// Binds the first of a host's addresses that can be, in the order of the resolver.
///
/// # Errors
///
/// [`AddrInUse`](ErrorKind::AddrInUse); [`Unreachable`](ErrorKind::Unreachable) for a name without addresses
/// and for an address of another host; [`Io`](ErrorKind::Io) for other errors of the operating system.
/// Where several addresses fail, the error is that of the last one.
///
/// # Cancel safety
///
/// As that of `bind`.
pub async fn bind<T, F>(addr: &Addr, at: &HostPort, bind: impl Fn(SocketAddr) -> F) -> Result<T>
where
    F: Future<Output = io::Result<T>>,
{
    let found = lookup(at).await.map_err(|unknown| {
        let why = format!("the name {:?} {}", at.host, unknown.why());
        listen_error(addr, ErrorKind::Unreachable, why, unknown.0)
    })?;
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for socket in found {
        match bind(socket).await {
            Ok(bound) => return Ok(bound),
            Err(error) => last = error,
        }
    }
    Err(bind_error(addr, last))
}

/// A name without addresses, with the error of the resolver, if there is one.
struct Unknown(Option<io::Error>);

impl Unknown {
    fn why(&self) -> String {
        match &self.0 {
            Some(error) => format!("could not be resolved: {error}"),
            None => "has no address".to_owned(),
        }
    }

    fn error(self, why: String) -> Error {
        match self.0 {
            Some(error) => Error::with_source(ErrorKind::Unreachable, why, error),
            None => Error::new(ErrorKind::Unreachable, why),
        }
    }
}

/// Returns the addresses of a host, at least one.
async fn lookup(at: &HostPort) -> Result<Vec<SocketAddr>, Unknown> {
    let found = lookup_host((at.host.as_str(), at.port)).await;
    let found: Vec<_> = found.map_err(|error| Unknown(Some(error)))?.collect();
    if found.is_empty() {
        return Err(Unknown(None));
    }
    Ok(found)
}

/// Returns addresses of the two families by turns, beginning with the first one.
fn by_turns(found: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = found.first().is_some_and(SocketAddr::is_ipv6);
    let (mut a, mut b): (VecDeque<_>, VecDeque<_>) = found
        .into_iter()
        .partition(|addr| addr.is_ipv6() == first_is_v6);
    let mut turns = Vec::with_capacity(a.len() + b.len());
    while !a.is_empty() || !b.is_empty() {
        turns.extend(a.pop_front());
        turns.extend(b.pop_front());
    }
    turns
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::future::ready;

    use super::*;

    fn addrs(list: &[&str]) -> Vec<SocketAddr> {
        list.iter().map(|a| a.parse().unwrap()).collect()
    }

    fn at(host: &str) -> (Addr, HostPort) {
        let addr = Addr::parse(&format!("tcp://{host}:1")).unwrap();
        let at = HostPort::of(&addr, "tcp").unwrap();
        (addr, at)
    }

    #[test]
    fn families_take_turns() {
        for (found, turns) in [
            (
                &["[::1]:1", "[::2]:1", "[::3]:1", "127.0.0.1:1"][..],
                &["[::1]:1", "127.0.0.1:1", "[::2]:1", "[::3]:1"][..],
            ),
            (
                &["127.0.0.1:1", "127.0.0.2:1", "[::1]:1"],
                &["127.0.0.1:1", "[::1]:1", "127.0.0.2:1"],
            ),
            (&[], &[]),
        ] {
            assert_eq!(by_turns(addrs(found)), addrs(turns));
        }
    }

    #[tokio::test]
    async fn an_unspecified_address_is_dialed_at_loopback_and_bound_as_it_is() {
        for (host, dialed, bound) in [
            ("0.0.0.0", "127.0.0.1:1", "0.0.0.0:1"),
            ("[::]", "[::1]:1", "[::]:1"),
        ] {
            let (addr, at) = at(host);
            assert_eq!(resolve(&addr, &at).await.unwrap(), addrs(&[dialed]));
            let socket = bind(&addr, &at, |socket| ready(Ok(socket))).await;
            assert_eq!(vec![socket.unwrap()], addrs(&[bound]));
        }
    }

    #[tokio::test]
    async fn a_name_that_cannot_be_resolved_is_named() {
        // A label of DNS has at most 63 bytes, so nothing is asked of the network.
        let (addr, at) = at(&format!("{}.invalid", "x".repeat(64)));
        let dialed = resolve(&addr, &at).await.unwrap_err();
        let bound = bind(&addr, &at, |_| ready(Ok(()))).await.unwrap_err();
        for error in [&dialed, &bound] {
            assert_eq!(error.kind(), ErrorKind::Unreachable);
            let shown = error.to_string();
            assert!(
                shown.contains(&format!("the name {:?}", at.host)),
                "{shown}"
            );
            assert!(shown.contains("could not be resolved"), "{shown}");
            assert!(shown.contains(addr.as_str()), "{shown}");
        }
        assert!(bound.to_string().starts_with("cannot listen on"), "{bound}");
    }

    #[tokio::test]
    async fn the_error_of_a_bind_is_that_of_the_last_address() {
        let (addr, at) = at("127.0.0.1");
        let tried = RefCell::new(Vec::new());
        let bound = bind(&addr, &at, |socket| {
            tried.borrow_mut().push(socket);
            ready(io::Result::<()>::Err(io::ErrorKind::AddrInUse.into()))
        });
        assert_eq!(bound.await.unwrap_err().kind(), ErrorKind::AddrInUse);
        assert_eq!(tried.into_inner(), addrs(&["127.0.0.1:1"]));
    }
}
