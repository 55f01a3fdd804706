use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use bytes::Bytes;
use pipe_net::TcpDialer;
use pipe_tls::TlsOptions;
use tokio::sync::mpsc;

use super::outgoing::Outgoing;
use super::server::ServerAddr;
use super::turn::{
    Connecting, Referral, Relayed, StreamInput, TurnClient, TurnConfig, TurnEvent, TurnInput,
    TurnStream,
};
use crate::engine::faults::Faults;

/// Maximum number of relays of a connection, over all its restarts.
const MAX_RELAYS: usize = 64;

/// Maximum number of messages of streams that wait to be taken.
pub(super) const STREAM_QUEUE: usize = 256;

/// Messages of the streams to servers, with the relay that each is of.
pub(super) type StreamMessages = mpsc::Receiver<(usize, StreamInput)>;

/// The relays of a connection at TURN servers.
#[derive(Debug)]
pub(super) struct Relays {
    all: Vec<Relay>,
    tls: TlsOptions,
    dialer: TcpDialer,
    received: mpsc::Sender<(usize, StreamInput)>,
    buffer: Vec<u8>,
}

/// The address of a server and the credentials for it.
#[derive(Clone, Debug)]
pub(super) struct TurnServer {
    pub(super) addr: ServerAddr,
    pub(super) username: String,
    pub(super) password: String,
}

#[derive(Debug)]
struct Relay {
    client: TurnClient,
    server: TurnServer,
    base: SocketAddr,
    link: Link,
    is_pending: bool,
    is_over: bool,
}

/// How a server is reached.
#[derive(Debug)]
enum Link {
    /// From a socket, by its index.
    Udp {
        socket: usize,
        to: SocketAddr,
    },
    Stream(TurnStream),
}

/// What has happened to a relay.
#[derive(Debug)]
pub(super) enum RelayEvent {
    /// It is there: a candidate with this base.
    Allocated {
        base: SocketAddr,
        relayed: Relayed,
        is_udp: bool,
    },
    /// It is not, or no more, and why.
    Failed {
        relayed: Option<SocketAddr>,
        why: String,
    },
}

impl Relays {
    pub(super) fn new(tls: TlsOptions, dialer: TcpDialer) -> (Self, StreamMessages) {
        let (received, messages) = mpsc::channel(STREAM_QUEUE);
        let relays = Self {
            all: Vec::new(),
            tls,
            dialer,
            received,
            buffer: Vec::new(),
        };
        (relays, messages)
    }

    fn has(&self, server: &ServerAddr, base: SocketAddr) -> bool {
        let same = |one: &&Relay| one.server.addr == *server && one.base == base && !one.is_over;
        self.all.len() >= MAX_RELAYS || self.all.iter().any(|one| same(&one))
    }

    /// Asks a server for a relay from a socket.
    pub(super) fn add_udp(
        &mut self,
        now: Instant,
        server: &TurnServer,
        (socket, base): (usize, SocketAddr),
        to: SocketAddr,
    ) {
        if !self.has(&server.addr, base) {
            self.push(now, server, base, Link::Udp { socket, to });
        }
    }

    /// Asks a server for a relay over a stream.
    pub(super) fn add_stream(&mut self, now: Instant, server: &TurnServer, base: SocketAddr) {
        if !self.has(&server.addr, base) {
            let link = self.connect(server.addr.clone(), base, None);
            self.push(now, server, base, link);
        }
    }

    /// Connects to a server for the next relay, at this address if its name is not to be looked up.
    fn connect(&self, server: ServerAddr, base: SocketAddr, at: Option<SocketAddr>) -> Link {
        let how = Connecting {
            from: base.ip(),
            server,
            at,
            tls: self.tls.clone(),
            dialer: self.dialer.clone(),
        };
        let received = self.received.clone();
        Link::Stream(TurnStream::connect(how, self.all.len(), received))
    }

    fn push(&mut self, now: Instant, server: &TurnServer, base: SocketAddr, link: Link) {
        let config = TurnConfig {
            name: server.addr.to_string(),
            username: server.username.clone(),
            password: server.password.clone(),
            is_stream: matches!(link, Link::Stream(_)),
            ipv6: false,
            is_alternate: false,
            realm: None,
        };
        self.push_client(TurnClient::new(now, config), server, base, link);
    }

    fn push_client(
        &mut self,
        client: TurnClient,
        server: &TurnServer,
        base: SocketAddr,
        link: Link,
    ) {
        self.all.push(Relay {
            client,
            server: server.clone(),
            base,
            link,
            is_pending: true,
            is_over: false,
        });
    }

    /// Asks the server that the one of a relay refers to, with the same credentials and over the same transport.
    /// That relay is over.
    ///
    /// # Errors
    ///
    /// The server cannot be asked, and why.
    fn follow(&mut self, now: Instant, relay: usize, referral: &Referral) -> Result<(), String> {
        let room = self.all.len() < MAX_RELAYS;
        let Some(relay) = self.all.get_mut(relay) else {
            return Ok(());
        };
        (relay.is_pending, relay.is_over) = (false, true);
        let (server, base) = (relay.server.clone(), relay.base);
        let Referral {
            addr,
            domain,
            realm,
        } = referral;
        let addr = *addr;
        let refers = format!("the TURN server {} refers to {addr} (300)", server.addr);
        let socket = match &relay.link {
            Link::Udp { socket, to } => Some((*socket, *to)),
            Link::Stream(_) => None,
        };
        referral
            .check(base, socket.map(|(_, to)| to))
            .map_err(|why| format!("{refers}, {why}"))?;
        let is_asked = |one: &Relay| match one.link {
            Link::Udp { socket: own, to } => {
                !one.is_over && to == addr && socket.is_some_and(|(socket, _)| socket == own)
            }
            Link::Stream(_) => false,
        };
        if self.all.iter().any(is_asked) {
            return Err(format!("{refers}, which is asked already"));
        }
        if !room {
            return Err(format!("{refers}, and there are {MAX_RELAYS} relays"));
        }
        let link = match socket {
            Some((socket, _)) => Link::Udp { socket, to: addr },
            None => {
                let mut of = server.addr.clone();
                if let Some(domain) = domain {
                    of.host.clone_from(domain);
                }
                self.connect(of, base, Some(addr))
            }
        };
        let config = TurnConfig {
            name: format!("{addr}, which {} refers to", server.addr),
            username: server.username.clone(),
            password: server.password.clone(),
            is_stream: socket.is_none(),
            ipv6: false,
            is_alternate: true,
            realm: realm.clone(),
        };
        self.push_client(TurnClient::new(now, config), &server, base, link);
        Ok(())
    }

    /// Returns whether no answer of a server is waited for.
    pub(super) fn are_settled(&self) -> bool {
        self.all.iter().all(|one| !one.is_pending)
    }

    /// Returns the relay that has this address.
    pub(super) fn at(&self, relayed: SocketAddr) -> Option<usize> {
        self.all
            .iter()
            .position(|one| one.client.relayed() == Some(relayed))
    }

    /// Returns the address of a relay.
    pub(super) fn addr(&self, relay: usize) -> Option<SocketAddr> {
        self.all.get(relay)?.client.relayed()
    }

    /// Returns the relay that datagrams from this address to this socket are of.
    pub(super) fn of(&self, socket: usize, from: SocketAddr) -> Option<usize> {
        let is = |one: &Relay| match one.link {
            Link::Udp { socket: own, to } => own == socket && to == from && !one.is_over,
            Link::Stream(_) => false,
        };
        self.all.iter().position(is)
    }

    /// Takes a message of a server. [`TurnInput::Data`] is a datagram of a peer.
    pub(super) fn handle(&mut self, now: Instant, relay: usize, message: &[u8]) -> TurnInput {
        match self.all.get_mut(relay) {
            Some(relay) => relay.client.handle_packet(now, message),
            None => TurnInput::Unknown,
        }
    }

    /// The stream to a server is over.
    pub(super) fn fail(&mut self, relay: usize, why: &std::io::Error) {
        if let Some(relay) = self.all.get_mut(relay) {
            relay.client.fail(why);
        }
    }

    /// Lets an address of the peer send to the relays.
    pub(super) fn permit(&mut self, now: Instant, ip: IpAddr) {
        for relay in &mut self.all {
            if relay
                .client
                .relayed()
                .is_some_and(|own| own.is_ipv4() == ip.is_ipv4())
            {
                relay.client.permit(now, ip);
            }
        }
    }

    /// Sends a datagram to a peer through a relay.
    pub(super) fn send(
        &mut self,
        now: Instant,
        relay: usize,
        to: SocketAddr,
        datagram: &[u8],
        out: &mut Outgoing,
        faults: Option<&Faults>,
    ) {
        let Some(relay) = self.all.get_mut(relay) else {
            return;
        };
        self.buffer.clear();
        relay.client.send(now, to, datagram, &mut self.buffer);
        if !self.buffer.is_empty() {
            relay.link.send(&self.buffer, out, faults);
        }
    }

    /// Sends what the relays have for their servers.
    pub(super) fn transmit(&mut self, out: &mut Outgoing, faults: Option<&Faults>) {
        for relay in &mut self.all {
            while let Some(message) = relay.client.poll_transmit() {
                relay.link.send(&message, out, faults);
            }
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        for relay in &mut self.all {
            if relay.client.poll_timeout().is_some_and(|at| at <= now) {
                relay.client.handle_timeout(now);
            }
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.all
            .iter()
            .filter_map(|one| one.client.poll_timeout())
            .min()
    }

    /// Returns the next event.
    pub(super) fn poll_event(&mut self, now: Instant) -> Option<RelayEvent> {
        let mut at = 0;
        // A referral adds one.
        while let Some(relay) = self.all.get_mut(at) {
            let relayed = relay.client.relayed();
            let Some(event) = relay.client.poll_event() else {
                at += 1;
                continue;
            };
            match event {
                TurnEvent::Allocated(relayed) => {
                    relay.is_pending = false;
                    return Some(RelayEvent::Allocated {
                        base: relay.base,
                        relayed,
                        is_udp: matches!(relay.link, Link::Udp { .. }),
                    });
                }
                TurnEvent::Failed(error) => {
                    (relay.is_pending, relay.is_over) = (false, true);
                    return Some(RelayEvent::Failed {
                        relayed,
                        why: error.to_string(),
                    });
                }
                TurnEvent::PeerRefused(ip, error) => {
                    tracing::debug!(%error, %ip, "a TURN server does not relay to a peer");
                }
                TurnEvent::Referred(referral) => {
                    tracing::debug!(?referral, "a TURN server refers to another one");
                    if let Err(why) = self.follow(now, at, &referral) {
                        return Some(RelayEvent::Failed { relayed, why });
                    }
                }
                TurnEvent::Closed => (relay.is_pending, relay.is_over) = (false, true),
            }
        }
        None
    }

    /// Ends the relays at their servers.
    pub(super) fn close(&mut self, now: Instant) {
        for relay in &mut self.all {
            relay.client.close(now);
        }
    }
}

impl Link {
    fn send(&self, message: &[u8], out: &mut Outgoing, faults: Option<&Faults>) {
        if faults.is_some_and(|faults| faults.loses_one(message.first())) {
            return;
        }
        match self {
            Self::Udp { socket, to } => out.push(*socket, *to, message),
            Self::Stream(stream) => stream.send(Bytes::copy_from_slice(message)),
        }
    }
}

#[cfg(test)]
mod tests;
