use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use stun_types::message::TransactionId;

use super::inbox::Inbox;
use super::peek::{Peeked, peek, request};

/// Maximum number of addresses of the peer of one connection. The one that was proved the longest ago goes for
/// one more.
const MAX_ADDRS: usize = 64;

/// Maximum number of requests of one connection whose responses are let through. The oldest goes for one more.
const MAX_REQUESTS: usize = 256;

/// The number of a connection.
pub(super) type Id = u64;

/// Tells which connection a datagram to a socket is for, without I/O.
///
/// A request of ICE is for the author of the user fragment in it, a response for the author of the request, and
/// everything else for the connection whose peer was proved to be at the source of the datagram.
#[derive(Debug, Default)]
pub(super) struct Table {
    members: HashMap<Id, Member>,
    ufrags: HashMap<Vec<u8>, Id>,
    addrs: HashMap<SocketAddr, Id>,
    /// Requests that were sent, and where to.
    requests: HashMap<TransactionId, (Id, SocketAddr)>,
}

#[derive(Debug)]
struct Member {
    inbox: Arc<Inbox>,
    /// The number of the socket at the connection.
    socket: usize,
    ufrags: Vec<Vec<u8>>,
    /// Addresses of the peer; the one that was proved last is at the back.
    addrs: VecDeque<SocketAddr>,
    requests: VecDeque<TransactionId>,
}

/// How it was shown that a peer is at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine::own) enum Proof {
    /// An authentic request has come from there, which can be done with a forged source.
    Request,
    /// A request that was sent there has come back with an authentic response.
    Response,
}

impl Table {
    /// Adds a connection, whose socket has this number there.
    pub(super) fn join(&mut self, id: Id, inbox: Arc<Inbox>, socket: usize) {
        let member = Member {
            inbox,
            socket,
            ufrags: Vec::new(),
            addrs: VecDeque::new(),
            requests: VecDeque::new(),
        };
        self.members.insert(id, member);
    }

    /// Removes a connection with all that leads to it.
    pub(super) fn leave(&mut self, id: Id) {
        let Some(member) = self.members.remove(&id) else {
            return;
        };
        for ufrag in &member.ufrags {
            self.ufrags.remove(ufrag);
        }
        for addr in &member.addrs {
            self.addrs.remove(addr);
        }
        for request in &member.requests {
            self.requests.remove(request);
        }
    }

    /// Sets the user fragments of a connection. Returns whether none of them is one of another.
    pub(super) fn set_ufrags(&mut self, id: Id, ufrags: &[&str]) -> bool {
        let Some(member) = self.members.get_mut(&id) else {
            return true;
        };
        let is_taken = |ufrag: &&str| {
            let owner = self.ufrags.get(ufrag.as_bytes());
            owner.is_some_and(|owner| *owner != id)
        };
        if ufrags.iter().any(is_taken) {
            return false;
        }
        for before in std::mem::take(&mut member.ufrags) {
            self.ufrags.remove(&before);
        }
        for ufrag in ufrags {
            let ufrag = ufrag.as_bytes().to_vec();
            self.ufrags.insert(ufrag.clone(), id);
            member.ufrags.push(ufrag);
        }
        true
    }

    /// Notes that the peer of a connection is at an address. One that leads to another connection goes over to
    /// this one only if the peer receives what is sent there.
    pub(super) fn claim(&mut self, id: Id, addr: SocketAddr, proof: Proof) {
        if !self.members.contains_key(&id) {
            return;
        }
        match self.addrs.get(&addr) {
            Some(owner) if *owner != id && proof == Proof::Request => return,
            Some(owner) => {
                if let Some(owner) = self.members.get_mut(owner) {
                    owner.addrs.retain(|one| *one != addr);
                }
            }
            None => {}
        }
        self.addrs.insert(addr, id);
        if let Some(member) = self.members.get_mut(&id) {
            member.addrs.push_back(addr);
            if member.addrs.len() > MAX_ADDRS
                && let Some(oldest) = member.addrs.pop_front()
            {
                self.addrs.remove(&oldest);
            }
        }
    }

    /// Notes a datagram that a connection sends: if it is a request of STUN, its response is let through.
    pub(super) fn note_sent(&mut self, id: Id, to: SocketAddr, datagram: &[u8]) {
        let Some(request) = request(datagram) else {
            return;
        };
        if self.addrs.get(&to) == Some(&id) {
            // What comes from there comes to this connection anyway.
            return;
        }
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        if self.requests.contains_key(&request) {
            return;
        }
        self.requests.insert(request, (id, to));
        member.requests.push_back(request);
        if member.requests.len() > MAX_REQUESTS
            && let Some(oldest) = member.requests.pop_front()
        {
            self.requests.remove(&oldest);
        }
    }

    /// Returns the inbox of the connection that a datagram is for, and the number of the socket there.
    pub(super) fn route(&self, from: SocketAddr, datagram: &[u8]) -> Option<(&Arc<Inbox>, usize)> {
        let by_addr = || self.addrs.get(&from);
        // The first byte tells the protocols apart (RFC 7983, section 7).
        let id = match datagram.first()? {
            0..=3 => match peek(datagram)? {
                Peeked::Request { ufrag } => self.ufrags.get(ufrag),
                Peeked::Response(request) => match self.requests.get(&request) {
                    Some((id, to)) if *to == from => Some(id),
                    _ => by_addr(),
                },
                Peeked::Indication => by_addr(),
            },
            20..=63 => by_addr(),
            _ => None,
        };
        let member = self.members.get(id?)?;
        Some((&member.inbox, member.socket))
    }

    pub(super) fn len(&self) -> usize {
        self.members.len()
    }
}

#[cfg(test)]
mod tests;
