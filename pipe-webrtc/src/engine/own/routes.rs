use std::net::SocketAddr;
use std::time::Instant;

use super::outgoing::Outgoing;
use super::port::{Membership, Proof};
use super::relays::Relays;
use crate::engine::faults::Faults;
use pipe_core::Result;

/// The number of the route through the first relay; those of sockets are smaller.
const RELAYS: usize = 1 << 16;

/// The ways on which datagrams leave this side: its sockets, and its relays beyond them. Each has a number.
#[derive(Debug)]
pub(super) struct Routes {
    /// The addresses of the sockets, first of those that are candidates.
    addrs: Vec<SocketAddr>,
    /// Number of sockets that are candidates. Others are for relays alone.
    hosts: usize,
    pub(super) relays: Relays,
    /// Where those that are candidates belong to a port with other connections.
    membership: Option<Membership>,
}

impl Routes {
    pub(super) fn new(
        addrs: Vec<SocketAddr>,
        relays: Relays,
        membership: Option<Membership>,
    ) -> Self {
        Self {
            hosts: addrs.len(),
            addrs,
            relays,
            membership,
        }
    }

    /// Returns the addresses of the sockets that are candidates.
    pub(super) fn hosts(&self) -> &[SocketAddr] {
        &self.addrs[..self.hosts]
    }

    /// Returns whether a socket is a candidate.
    pub(super) fn is_host(&self, socket: usize) -> bool {
        socket < self.hosts
    }

    /// Returns the address of a socket.
    pub(super) fn addr(&self, socket: usize) -> Option<SocketAddr> {
        self.addrs.get(socket).copied()
    }

    /// Returns the sockets that ask TURN servers for relays. A server tells its clients apart by their
    /// addresses (RFC 8656, section 3.2), so that the sockets of a shared port are none of them.
    pub(super) fn for_relays(&self) -> impl Iterator<Item = (usize, SocketAddr)> + use<> {
        let first = if self.membership.is_some() {
            self.hosts
        } else {
            0
        };
        let sockets: Vec<_> = self.addrs.iter().copied().enumerate().skip(first).collect();
        sockets.into_iter()
    }

    /// Returns the addresses to bind for relays, as long as there is no socket for them: the first one of each
    /// family, and the first that is not of loopback.
    pub(super) fn missing_for_relays(&self) -> Vec<SocketAddr> {
        if self.membership.is_none() || self.hosts < self.addrs.len() {
            return Vec::new();
        }
        let hosts = self.hosts();
        let is_first = |at: usize, addr: &SocketAddr| {
            let before = || {
                hosts[..at]
                    .iter()
                    .filter(|one| one.is_ipv4() == addr.is_ipv4())
            };
            before().count() == 0
                || !addr.ip().is_loopback() && before().all(|one| one.ip().is_loopback())
        };
        let chosen = hosts.iter().enumerate();
        chosen
            .filter(|(at, addr)| is_first(*at, addr))
            .map(|(_, addr)| SocketAddr::new(addr.ip(), 0))
            .collect()
    }

    /// Adds a socket for relays.
    pub(super) fn add_for_relays(&mut self, addr: SocketAddr) {
        self.addrs.push(addr);
    }

    /// Lets requests with these user fragments of this side through.
    ///
    /// # Errors
    ///
    /// [`Failed`](pipe_core::ErrorKind::Failed) if another connection of the same port has one of them.
    pub(super) fn set_ufrags(&self, ufrags: &[&str]) -> Result<()> {
        match &self.membership {
            Some(membership) => membership.set_ufrags(ufrags),
            None => Ok(()),
        }
    }

    /// Notes that the peer was proved to be at an address, on this route.
    pub(super) fn claim(&self, route: usize, addr: SocketAddr, proof: Proof) {
        if self.is_host(route)
            && let Some(membership) = &self.membership
        {
            membership.claim(route, addr, proof);
        }
    }

    /// Leaves the sockets that are shared: nothing comes from them any more.
    pub(super) fn leave(&mut self) {
        self.membership = None;
    }

    /// Returns the route from an address of this side.
    pub(super) fn from(&self, local: SocketAddr) -> Option<usize> {
        let socket = self.addrs.iter().position(|addr| *addr == local);
        let relay = || Some(self.of_relay(self.relays.at(local)?));
        socket.or_else(relay)
    }

    /// Returns the route through a relay.
    pub(super) fn of_relay(&self, relay: usize) -> usize {
        RELAYS + relay
    }

    /// Queues a datagram.
    pub(super) fn send(
        &mut self,
        now: Instant,
        (route, to): (usize, SocketAddr),
        datagram: &[u8],
        out: &mut Outgoing,
        faults: Option<&Faults>,
    ) {
        if let Some(relay) = route.checked_sub(RELAYS) {
            return self.relays.send(now, relay, to, datagram, out, faults);
        }
        if self.is_host(route)
            && let Some(membership) = &self.membership
        {
            membership.note_sent(route, to, datagram);
        }
        if !faults.is_some_and(|faults| faults.loses_one(datagram.first())) {
            out.push(route, to, datagram);
        }
    }
}
