use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use pipe_core::{Error, ErrorKind, Result};

use super::socket::{Drops, PortSocket};
use crate::engine::stats::UdpPortStats;

/// Maximum number of attempts to find a port that is free on all addresses.
const MAX_TRIES: u32 = 32;

/// A UDP port that connections share. Its sockets, one for each address, live as long as the port, and that as
/// long as a listener or a connection has it.
#[derive(Debug)]
pub(crate) struct SharedPort {
    /// The number that was asked for: 0 is any.
    asked: u16,
    /// Length of the buffers of each socket, in bytes.
    buffer: u32,
    drops: Arc<Drops>,
    bound: Mutex<Bound>,
}

#[derive(Debug, Default)]
struct Bound {
    /// The number of the port, once a socket is bound.
    port: Option<u16>,
    sockets: HashMap<IpAddr, Arc<PortSocket>>,
}

/// The sockets of a port for one connection, which keep the port.
#[derive(Clone, Debug)]
pub(crate) struct PortSockets {
    _port: Arc<SharedPort>,
    pub(in crate::engine::own) sockets: Vec<Arc<PortSocket>>,
}

impl SharedPort {
    /// Binds nothing yet. `buffer` is the length of the buffers of each socket, in bytes.
    pub(crate) fn new(port: u16, buffer: u32) -> Arc<Self> {
        Arc::new(Self {
            asked: port,
            buffer,
            drops: Arc::default(),
            bound: Mutex::default(),
        })
    }

    /// Returns the sockets at these addresses, and binds those that are not bound yet. An address that this
    /// machine does not have any more is left out.
    ///
    /// # Errors
    ///
    /// [`AddrInUse`](ErrorKind::AddrInUse) if the port is taken on one of the first addresses that are bound;
    /// [`Io`](ErrorKind::Io) if none can be bound.
    pub(crate) fn open(self: &Arc<Self>, addrs: &[IpAddr]) -> Result<PortSockets> {
        let mut bound = self.bound.lock();
        // Those of a runtime that has ended receive nothing any more.
        bound.sockets.retain(|_, socket| !socket.is_over());
        let mut tries = 0;
        loop {
            tries += 1;
            match self.bind(&mut bound, addrs) {
                // Another program has the port, where any would do, on another address.
                Err(error)
                    if error.kind() == ErrorKind::AddrInUse
                        && self.asked == 0
                        && tries < MAX_TRIES => {}
                Err(error) => return Err(error),
                Ok(()) => break,
            }
        }
        let found = |addr| bound.sockets.get(addr).cloned();
        Ok(PortSockets {
            sockets: addrs.iter().filter_map(found).collect(),
            _port: self.clone(),
        })
    }

    fn bind(&self, bound: &mut Bound, addrs: &[IpAddr]) -> Result<()> {
        let is_first = bound.sockets.is_empty();
        let mut port = match self.asked {
            0 if is_first => 0,
            0 => bound.port.unwrap_or_default(),
            asked => asked,
        };
        let mut new: Vec<(IpAddr, PortSocket)> = Vec::new();
        let mut failed = None;
        for ip in addrs {
            if bound.sockets.contains_key(ip) || new.iter().any(|(one, _)| one == ip) {
                continue;
            }
            let addr = SocketAddr::new(*ip, port);
            match PortSocket::bind(addr, self.buffer, self.drops.clone()) {
                Ok(socket) => {
                    port = socket.addr().port();
                    new.push((*ip, socket));
                }
                Err(error) if is_first && error.kind() == io::ErrorKind::AddrInUse => {
                    return Err(unbound(addr, error));
                }
                Err(error) => {
                    tracing::debug!(%error, %addr, "an address of a shared port is left out");
                    failed = Some((addr, error));
                }
            }
        }
        let is_any = !new.is_empty() || addrs.iter().any(|ip| bound.sockets.contains_key(ip));
        match failed {
            Some((addr, error)) if !is_any => return Err(unbound(addr, error)),
            _ => {}
        }
        bound.port = Some(port);
        let new = new.into_iter().map(|(ip, socket)| (ip, Arc::new(socket)));
        bound.sockets.extend(new);
        Ok(())
    }

    /// Returns the addresses of the sockets, in their order.
    pub(crate) fn addrs(&self) -> Vec<SocketAddr> {
        let bound = self.bound.lock();
        let mut addrs: Vec<_> = bound.sockets.values().map(|socket| socket.addr()).collect();
        addrs.sort();
        addrs
    }

    pub(crate) fn stats(&self) -> UdpPortStats {
        let bound = self.bound.lock();
        let connections = bound.sockets.values().map(|one| one.table().lock().len());
        UdpPortStats {
            connections: connections.max().unwrap_or_default(),
            strangers: self.drops.strangers.load(Ordering::Relaxed),
            overflowed: self.drops.overflowed.load(Ordering::Relaxed),
        }
    }
}

fn unbound(addr: SocketAddr, error: io::Error) -> Error {
    let (ip, port) = (addr.ip(), addr.port());
    if error.kind() == io::ErrorKind::AddrInUse {
        let why = format!("udp_port: the UDP port {port} of {ip} is taken");
        return Error::with_source(ErrorKind::AddrInUse, why, error);
    }
    let why = format!("udp_port: the UDP port {port} of {ip} cannot be bound: {error}");
    Error::with_source(ErrorKind::Io, why, error)
}

#[cfg(test)]
mod tests;
