use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use is::Candidate;

use super::candidate::announced;
use super::events::EventQueue;
use super::gather::{Gathered, Gatherer};
use super::ice::Ice;
use super::names::Names;
use super::relays::{RelayEvent, TurnServer};
use super::routes::Routes;
use super::server::{ServerAddr, ServerTransport};
use super::transmit::Transmit;
use crate::engine::event::{self, PeerEvent};
use crate::engine::refusals::Refusals;

/// The search for the candidates of this side (RFC 8445, section 5.1.1): its sockets, what STUN servers see of
/// them, and relays of TURN servers.
#[derive(Debug)]
pub(super) struct Gathering {
    gatherer: Gatherer,
    /// Whether packets may go without a relay.
    is_direct: bool,
    /// Number of servers whose names are not resolved yet; none once candidates were gathered.
    resolving: Option<usize>,
    refusals: Refusals,
    /// Of the section that candidates belong to.
    mid: Option<String>,
    external: Vec<IpAddr>,
}

/// What a search works on.
pub(super) struct Search<'a> {
    pub(super) now: Instant,
    pub(super) ice: &'a mut Ice,
    pub(super) routes: &'a mut Routes,
    pub(super) names: &'a Names,
    pub(super) events: &'a mut EventQueue,
}

impl Gathering {
    pub(super) fn new(external: Vec<IpAddr>) -> Self {
        Self {
            gatherer: Gatherer::default(),
            is_direct: true,
            resolving: None,
            refusals: Refusals::default(),
            mid: None,
            external,
        }
    }

    /// Begins: with the sockets unless all goes through relays. [`note_resolved`](Self::note_resolved) gets the
    /// addresses of the servers later.
    pub(super) fn start(
        &mut self,
        mid: Option<String>,
        is_direct: bool,
        servers: usize,
        search: &mut Search<'_>,
    ) {
        self.mid = mid;
        self.resolving = Some(servers);
        self.is_direct = is_direct;
        self.refusals = Refusals::default();
        for addr in if is_direct {
            search.routes.hosts().to_vec()
        } else {
            Vec::new()
        } {
            match Candidate::host(addr, "udp") {
                Ok(candidate) => self.add_local(candidate, search),
                Err(error) => tracing::debug!(%error, %addr, "an address is no candidate"),
            }
        }
        self.check_done(search.routes, search.events);
    }

    /// Adds a candidate of this side, which the peer is told of.
    fn add_local(&self, candidate: Candidate, search: &mut Search<'_>) {
        let Some(candidate) = search.ice.add_local(candidate, search.now) else {
            return;
        };
        for candidate in self.announced(&candidate, search.names) {
            search.events.push(PeerEvent::Candidate(event::Candidate {
                candidate,
                mid: self.mid.clone(),
                line: Some(0),
            }));
        }
    }

    /// Returns a candidate of this side as the peer is told of it.
    pub(super) fn announced(&self, candidate: &Candidate, names: &Names) -> Vec<String> {
        announced(candidate, &self.external, names.of(candidate.addr().ip()))
    }

    /// Asks a server, whose name was resolved to these addresses or could not be.
    pub(super) fn note_resolved(
        &mut self,
        server: &TurnServer,
        addrs: Result<Vec<SocketAddr>, String>,
        search: &mut Search<'_>,
    ) {
        self.resolving = self.resolving.map(|left| left.saturating_sub(1));
        let now = search.now;
        match addrs {
            Ok(addrs) => {
                let mut families = [false; 2];
                let is_relay = server.addr.turn && server.addr.transport == ServerTransport::Udp;
                let sockets: Vec<_> = if is_relay {
                    search.routes.for_relays().collect()
                } else {
                    search.routes.hosts().iter().copied().enumerate().collect()
                };
                for (socket, base) in sockets {
                    // One address of each family is enough, and one that the base reaches.
                    let fits = |addr: &&SocketAddr| {
                        addr.is_ipv4() == base.is_ipv4()
                            && (addr.ip().is_loopback() || !base.ip().is_loopback())
                    };
                    let Some(addr) = addrs.iter().find(fits) else {
                        continue;
                    };
                    let is_asked = &mut families[usize::from(base.is_ipv4())];
                    if !server.addr.turn {
                        self.gatherer.ask(now, base, *addr);
                    } else if !std::mem::replace(is_asked, true) {
                        if server.addr.transport == ServerTransport::Udp {
                            search
                                .routes
                                .relays
                                .add_udp(now, server, (socket, base), *addr);
                        } else {
                            search.routes.relays.add_stream(now, server, base);
                        }
                    }
                }
            }
            Err(why) => {
                let ServerAddr { host, port, .. } = &server.addr;
                let why = format!("the server {host}:{port} is not found: {why}");
                self.refusals.note(why);
            }
        }
        self.check_done(search.routes, search.events);
    }

    /// Returns why servers do not help.
    pub(super) fn refusals(&self) -> Option<String> {
        (!self.refusals.is_empty()).then(|| self.refusals.to_string())
    }

    fn check_done(&mut self, routes: &Routes, events: &mut EventQueue) {
        if self.resolving == Some(0) && self.gatherer.is_done() && routes.relays.are_settled() {
            self.resolving = None;
            events.push(PeerEvent::GatheringDone);
        }
    }

    /// Does what is due.
    pub(super) fn drive(&mut self, search: &mut Search<'_>) {
        let now = search.now;
        if self.gatherer.poll_timeout().is_some_and(|at| at <= now) {
            self.gatherer.handle_timeout(now);
        }
        while let Some(gathered) = self.gatherer.poll_event() {
            match gathered {
                Gathered::Reflexive { base, addr } => {
                    match Candidate::server_reflexive(addr, base, "udp") {
                        Ok(candidate) => self.add_local(candidate, search),
                        Err(error) => tracing::debug!(%error, %addr, "an address is no candidate"),
                    }
                }
                Gathered::Failed { base, server, why } => {
                    self.refusals
                        .note(format!("the server {server} does not help {base}: {why}"));
                }
                Gathered::Done => {}
            }
        }
        search.routes.relays.handle_timeout(now);
        while let Some(event) = search.routes.relays.poll_event(now) {
            match event {
                RelayEvent::Allocated {
                    base,
                    relayed,
                    is_udp,
                } => {
                    if let Some(mapped) = relayed.mapped
                        && is_udp
                        && self.is_direct
                        && mapped != base
                        // Another socket than the candidates'.
                        && search.routes.hosts().contains(&base)
                        && let Ok(candidate) = Candidate::server_reflexive(mapped, base, "udp")
                    {
                        self.add_local(candidate, search);
                    }
                    match Candidate::relayed(relayed.addr, base, "udp") {
                        Ok(candidate) => self.add_local(candidate, search),
                        Err(error) => tracing::debug!(%error, "a relay is no candidate"),
                    }
                    for ip in search.ice.remote_ips() {
                        search.routes.relays.permit(now, ip);
                    }
                }
                RelayEvent::Failed { relayed, why } => {
                    self.refusals.note(why);
                    if let Some(relayed) = relayed {
                        search.ice.remove_local(relayed);
                    }
                }
            }
        }
        self.check_done(search.routes, search.events);
    }

    /// Takes a datagram to the socket at `base`. Returns whether it is an answer to a question of this side.
    pub(super) fn handle_packet(
        &mut self,
        base: SocketAddr,
        from: SocketAddr,
        datagram: &[u8],
    ) -> bool {
        matches!(datagram.first(), Some(0..=3)) && self.gatherer.handle_packet(base, from, datagram)
    }

    /// Returns the next question to send.
    pub(super) fn poll_transmit(&mut self) -> Option<Transmit> {
        self.gatherer.poll_transmit()
    }

    /// Returns when to call [`drive`](Self::drive), besides the times of the relays.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.gatherer.poll_timeout()
    }

    /// Gives the search up.
    pub(super) fn stop(&mut self) {
        self.gatherer.stop("the connection is closed");
    }
}
