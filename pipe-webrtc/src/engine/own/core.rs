use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pipe_core::{Error, Result};

use super::dtls::{Association, Event as DtlsEvent};
use super::dtls_transport::{DtlsTransport, Way};
use super::events::EventQueue;
use super::gathering::{Gathering, Search};
use super::ice::{Added, Ice, Path};
use super::mdns::Lookup;
use super::names::Names;
use super::outgoing::Outgoing;
use super::port::Proof;
use super::relays::TurnServer;
use super::routes::Routes;
use super::sctp_transport::{SctpTransport, Taken, closed};
use super::socket::Socket;
use super::turn::{StreamInput, TurnInput};
use super::unread::Unread;
use super::vitals::Vitals;
use crate::engine::event::{IceState, PeerEvent};
use crate::engine::faults::Faults;

/// How far the deadline is where there is none.
const FAR: Duration = Duration::from_secs(3600);

/// What a turn has found, and what the loop does after it.
pub(super) struct Turn {
    /// When the next turn is due; none once the connection is over.
    pub(super) deadline: Option<Instant>,
    /// Whether more can be sent as soon as what waits was.
    pub(super) is_more: bool,
    /// Number of authentic packets of the peer since the last turn.
    pub(super) heard: u64,
    /// Whether the connection is broken.
    pub(super) is_broken: bool,
    /// Whether the peer has acknowledged something since the last turn, or it never will.
    pub(super) is_acknowledged: bool,
}

/// The layers of a connection, without I/O.
pub(super) struct Core {
    pub(super) ice: Ice,
    routes: Routes,
    gathering: Gathering,
    pub(super) names: Names,
    dtls: DtlsTransport,
    pub(super) sctp: SctpTransport,
    pub(super) events: EventQueue,
    /// The packet of SCTP that is being sent.
    packet: Vec<u8>,
    broken: Option<Error>,
    /// How the peer has ended the transport by DTLS, and whether all that it sent before was taken.
    goodbye: Option<&'static str>,
    is_ended: bool,
    is_closing: bool,
    is_over: bool,
    vitals: Vitals,
    /// Time of the last turn.
    now: Instant,
}

impl Core {
    /// Makes the layers, which requests of ICE reach from now on.
    ///
    /// # Errors
    ///
    /// Those of [`Routes::set_ufrags`].
    pub(super) fn new(
        routes: Routes,
        gathering: Gathering,
        ice: Ice,
        sctp: SctpTransport,
        vitals: Vitals,
        now: Instant,
    ) -> Result<Self> {
        routes.set_ufrags(&ice.ufrags())?;
        Ok(Self {
            ice,
            routes,
            gathering,
            names: Names::default(),
            dtls: DtlsTransport::default(),
            sctp,
            events: EventQueue::default(),
            packet: Vec::new(),
            broken: None,
            goodbye: None,
            is_ended: false,
            is_closing: false,
            is_over: false,
            vitals,
            now,
        })
    }

    pub(super) fn broken(&self) -> Option<Error> {
        self.broken.clone()
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Adds a candidate of the peer.
    ///
    /// # Errors
    ///
    /// [`Protocol`](pipe_core::ErrorKind::Protocol) for a text that is none.
    pub(super) fn add_remote(&mut self, candidate: &str, now: Instant) -> Result<()> {
        match self.ice.add_remote(candidate, now)? {
            Added::Ip(ip) => self.routes.relays.permit(now, ip),
            Added::Name(named) => self.names.wait(named),
            Added::Nothing => {}
        }
        Ok(())
    }

    /// Takes the outcome of looking up a name of the peer's candidates.
    pub(super) fn note_looked_up(&mut self, lookup: &Lookup, now: Instant) {
        for candidate in self.names.looked_up(lookup) {
            match self.ice.add_candidate(candidate, now) {
                Ok(Added::Ip(ip)) => self.routes.relays.permit(now, ip),
                Ok(_) => {}
                Err(error) => tracing::debug!(%error, "a candidate of the peer is left out"),
            }
        }
    }

    /// Returns the addresses of the sockets that are candidates.
    pub(super) fn addrs(&self) -> &[SocketAddr] {
        self.routes.hosts()
    }

    /// Returns the addresses to bind before relays are asked for over UDP.
    pub(super) fn missing_for_relays(&self) -> Vec<SocketAddr> {
        self.routes.missing_for_relays()
    }

    /// Adds a socket for relays, which the loop has to get before the next turn.
    pub(super) fn add_for_relays(&mut self, socket: &Socket) {
        self.routes.add_for_relays(socket.addr());
    }

    /// Begins a restart of ICE, with credentials that requests may be for from now on beside those of before.
    ///
    /// # Errors
    ///
    /// [`Io`](pipe_core::ErrorKind::Io) when the system gives no random bytes, and those of
    /// [`Routes::set_ufrags`].
    pub(super) fn restart_ice(&mut self, now: Instant) -> Result<()> {
        self.ice.restart(now)?;
        self.routes.set_ufrags(&self.ice.ufrags())
    }

    /// Gives a restart of ICE up.
    pub(super) fn cancel_restart(&mut self) {
        self.ice.cancel_restart();
        self.forget_ufrags();
    }

    /// Forgets the credentials of this side that are of no use any more.
    fn forget_ufrags(&self) {
        if let Err(error) = self.routes.set_ufrags(&self.ice.ufrags()) {
            tracing::debug!(%error, "the user fragments of a connection are not set");
        }
    }

    pub(super) fn dtls(&self) -> Option<&Association> {
        self.dtls.association()
    }

    /// Makes the association of DTLS, whose peer is described.
    pub(super) fn set_dtls(&mut self, dtls: Association, now: Instant) {
        self.sctp.set_role(dtls.is_client());
        for (way, datagram) in self.dtls.set(dtls) {
            self.handle_dtls(now, way, &datagram);
        }
    }

    /// Takes a datagram.
    pub(super) fn handle_datagram(
        &mut self,
        now: Instant,
        socket: usize,
        from: SocketAddr,
        datagram: &[u8],
    ) {
        if let Some(relay) = self.routes.relays.of(socket, from)
            && self.handle_relayed(now, relay, datagram)
        {
            return;
        }
        let is_host = self.routes.is_host(socket);
        let Some(local) = self.routes.addr(socket).filter(|_| is_host) else {
            return;
        };
        if self.gathering.handle_packet(local, from, datagram) {
            return;
        }
        self.handle_direct(now, socket, local, from, datagram);
    }

    /// Takes a message of a TURN server over a stream.
    pub(super) fn handle_stream(&mut self, now: Instant, relay: usize, input: &StreamInput) {
        match input {
            StreamInput::Message(message) => {
                self.handle_relayed(now, relay, message);
            }
            StreamInput::Over(error) => self.routes.relays.fail(relay, error),
        }
    }

    /// Takes a message of a TURN server. Returns whether it was one.
    fn handle_relayed(&mut self, now: Instant, relay: usize, message: &[u8]) -> bool {
        match self.routes.relays.handle(now, relay, message) {
            TurnInput::Data { peer, range } => {
                let local = self.routes.relays.addr(relay);
                if let (Some(datagram), Some(local)) = (message.get(range), local) {
                    let route = self.routes.of_relay(relay);
                    self.handle_direct(now, route, local, peer, datagram);
                }
                true
            }
            TurnInput::Handled => true,
            TurnInput::Unknown => false,
        }
    }

    /// Takes a datagram of the peer, or of what looks like one.
    fn handle_direct(
        &mut self,
        now: Instant,
        route: usize,
        local: SocketAddr,
        from: SocketAddr,
        datagram: &[u8],
    ) {
        // The first byte tells the protocols apart (RFC 7983, section 7).
        match datagram.first() {
            Some(0..=3) if self.ice.handle_datagram(now, local, from, datagram) => {
                // Only requests and responses are authentic; the first byte is of the class too.
                let is_request = datagram.first().is_some_and(|byte| byte & 1 == 0);
                let proof = if is_request {
                    Proof::Request
                } else {
                    Proof::Response
                };
                self.routes.claim(route, from, proof);
                self.note_heard(now);
            }
            Some(20..=63) => self.handle_dtls(now, (route, from), datagram),
            _ => {}
        }
    }

    fn handle_dtls(&mut self, now: Instant, way: Way, datagram: &[u8]) {
        if self.broken.is_some() || self.is_closing {
            return;
        }
        let is_known = || self.ice.knows(way.1);
        match self.dtls.handle(now, way, datagram, is_known) {
            Ok(true) => self.poll_dtls(now),
            Ok(false) => {}
            Err(error) => self.break_off(error),
        }
    }

    fn note_heard(&mut self, now: Instant) {
        let was_silent = self.vitals.is_silent(now);
        self.vitals.note_heard(now);
        self.ice.set_silent(false, now);
        if was_silent {
            self.sctp.path_restored(now);
        }
    }

    /// Returns where packets go to.
    fn destination(&self) -> Option<Way> {
        match self.ice.path() {
            Some(Path { local, remote }) => Some((self.routes.from(local)?, remote)),
            None => self.dtls.source(),
        }
    }

    /// Passes on what has come out of DTLS.
    fn poll_dtls(&mut self, now: Instant) {
        let destination = self.destination();
        let sctp = &mut self.sctp;
        let polled = self
            .dtls
            .poll(destination, |packet| sctp.push_packet(packet));
        if polled.is_heard {
            self.note_heard(now);
        }
        if let Err(error) = polled.outcome {
            return self.break_off(error);
        }
        if polled.is_connected
            && let Err(error) = self.sctp.connect(now)
        {
            self.break_off(error);
        }
        self.sctp.handle_packets(now);
        if polled.is_closed {
            self.goodbye.get_or_insert("the alert close_notify of DTLS");
        }
    }

    /// Queues a message of a channel.
    ///
    /// # Errors
    ///
    /// [`Failed`](pipe_core::ErrorKind::Failed) if the channel is closed.
    pub(super) fn send(&mut self, key: usize, is_text: bool, bytes: &Bytes) -> Result<Taken> {
        if self.is_ended || self.is_closing || self.is_over || self.broken.is_some() {
            return Err(closed());
        }
        self.sctp.send(key, is_text, bytes)
    }

    /// The connection is broken for this reason.
    pub(super) fn break_off(&mut self, error: Error) {
        if self.broken.is_none() {
            tracing::debug!(%error, "the engine gives a connection up");
            self.broken = Some(error);
        }
    }

    /// Returns how the peer has ended the transport, if it has.
    pub(super) fn goodbye(&self) -> Option<String> {
        let of_sctp = || self.sctp.goodbye().map(str::to_owned);
        self.goodbye.map(str::to_owned).or_else(of_sctp)
    }

    /// The peer has ended the transport.
    fn end_transport(&mut self) {
        if std::mem::replace(&mut self.is_ended, true) {
            return;
        }
        self.sctp.close_channels();
        self.events.push(PeerEvent::Closed);
    }

    /// Ends the connection: what can still be sent is.
    pub(super) fn close(&mut self, now: Instant) {
        if std::mem::replace(&mut self.is_closing, true) {
            return;
        }
        let destination = self.destination();
        self.routes.relays.close(now);
        self.gathering.stop();
        self.sctp.abort();
        loop {
            self.packet.clear();
            if !self.sctp.poll_transmit_into(now, &mut self.packet) {
                break;
            }
            if let Some(dtls) = self.dtls.association_mut()
                && let Err(error) = dtls.send(&self.packet)
            {
                tracing::debug!(%error, "the end of an association is not sent");
            }
        }
        self.dtls.close(destination);
    }

    /// The loop has ended: nothing happens any more.
    pub(super) fn end(&mut self) {
        self.is_over = true;
        self.is_ended = true;
        self.events.end();
        self.sctp.end();
        self.dtls.end();
        self.routes.leave();
    }

    /// Does all that there is to do now, and gives the datagrams that come of it.
    pub(super) fn turn(
        &mut self,
        now: Instant,
        out: &mut Outgoing,
        unread: &Unread,
        faults: Option<&Faults>,
    ) -> Turn {
        self.now = now;
        if !self.is_closing {
            self.drive(now);
        }
        let is_drained = self.sctp.deliver(now, unread, &mut self.events);
        if let Some(error) = self.sctp.take_failure() {
            self.break_off(error);
        }
        if is_drained && (self.goodbye.is_some() || self.sctp.goodbye().is_some()) {
            self.end_transport();
        }
        while let Some(check) = self.ice.poll_transmit() {
            if let Some(route) = self.routes.from(check.from)
                && !self.is_closing
            {
                let to = (route, check.to);
                self.routes.send(now, to, &check.bytes, out, faults);
            }
        }
        while let Some(question) = self.gathering.poll_transmit() {
            if let Some(route) = self.routes.from(question.source) {
                let to = (route, question.destination);
                self.routes.send(now, to, &question.payload, out, faults);
            }
        }
        for (to, datagram) in self.dtls.take_pending() {
            self.routes.send(now, to, &datagram, out, faults);
        }
        self.routes.relays.transmit(out, faults);
        let is_more = !self.is_closing && self.transmit(now, out, faults);
        Turn {
            deadline: (!self.is_closing).then(|| self.deadline(now)),
            is_more,
            heard: self.vitals.take_heard(),
            is_broken: self.broken.is_some(),
            is_acknowledged: self.is_acknowledged(),
        }
    }

    /// Gathers the candidates of this side: those of its sockets unless all goes through relays, and what the
    /// servers give whose addresses [`note_resolved`](Self::note_resolved) gets later.
    pub(super) fn gather(&mut self, mid: Option<String>, is_direct: bool, servers: usize) {
        let (gathering, mut search) = self.search(self.now);
        gathering.start(mid, is_direct, servers, &mut search);
    }

    /// Asks a server, whose name was resolved to these addresses or could not be.
    pub(super) fn note_resolved(
        &mut self,
        server: &TurnServer,
        addrs: std::result::Result<Vec<SocketAddr>, String>,
    ) {
        let (gathering, mut search) = self.search(Instant::now());
        gathering.note_resolved(server, addrs, &mut search);
    }

    fn search(&mut self, now: Instant) -> (&mut Gathering, Search<'_>) {
        let search = Search {
            now,
            ice: &mut self.ice,
            routes: &mut self.routes,
            names: &self.names,
            events: &mut self.events,
        };
        (&mut self.gathering, search)
    }

    /// Returns why servers do not help.
    pub(super) fn refusals(&self) -> Option<String> {
        self.gathering.refusals()
    }

    /// Returns the candidates of this side as the peer is told of them.
    pub(super) fn locals(&self) -> Vec<String> {
        let announced = |one| self.gathering.announced(&one, &self.names);
        self.ice.locals().into_iter().flat_map(announced).collect()
    }

    /// Lets the layers do what is due.
    fn drive(&mut self, now: Instant) {
        let (gathering, mut search) = self.search(now);
        gathering.drive(&mut search);
        if self.vitals.is_silent(now) {
            self.ice.set_silent(true, now);
        }
        if self.ice.drive(now) {
            // A restart may be over.
            self.forget_ufrags();
            self.events.push(PeerEvent::Ice(IceState::Connected));
        }
        let has_path = self.ice.path().is_some();
        if self.broken.is_none() {
            match self.dtls.drive(now, has_path) {
                Ok(true) => self.poll_dtls(now),
                Ok(false) => {}
                Err(error) => self.break_off(error),
            }
        }
        self.sctp.handle_timeout(now);
    }

    /// Encrypts the packets of SCTP into the outgoing batches. Returns whether there may be more of them.
    fn transmit(&mut self, now: Instant, out: &mut Outgoing, faults: Option<&Faults>) -> bool {
        let Some(to) = self.destination() else {
            return false;
        };
        let (sctp, routes) = (&mut self.sctp, &mut self.routes);
        let dtls = self.dtls.association_mut();
        let (Some(_), Some(dtls), None) = (sctp.association(), dtls, &self.broken) else {
            return false;
        };
        let mut failed = None;
        let mut is_more = false;
        loop {
            if !out.has_room() {
                is_more = true;
                break;
            }
            self.packet.clear();
            if !sctp.poll_transmit_into(now, &mut self.packet) {
                break;
            }
            let sent = dtls.send(&self.packet).and_then(|()| {
                dtls.poll(|event| {
                    let DtlsEvent::Datagram(datagram) = event else {
                        return Ok(());
                    };
                    routes.send(now, to, datagram, out, faults);
                    Ok(())
                })
            });
            if let Err(error) = sent {
                failed = Some(error);
                break;
            }
        }
        if let Some(error) = failed {
            self.break_off(error);
        }
        is_more
    }

    /// Returns whether the peer has acknowledged something since the last call, or it never will.
    fn is_acknowledged(&mut self) -> bool {
        let is_over = self.broken.is_some() || self.is_ended || self.is_closing;
        self.sctp.is_acknowledged() || is_over
    }

    fn deadline(&mut self, now: Instant) -> Instant {
        let ice = self.ice.deadline();
        let all = ice
            .into_iter()
            .chain(self.gathering.deadline())
            .chain(self.routes.relays.deadline())
            .chain(self.dtls.deadline())
            .chain(self.sctp.deadline())
            .chain(self.vitals.deadline(now));
        all.min().unwrap_or(now + FAR)
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core")
            .field("ice", &self.ice)
            .field("dtls", &self.dtls)
            .field("sctp", &self.sctp)
            .finish_non_exhaustive()
    }
}
