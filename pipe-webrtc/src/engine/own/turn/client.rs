use std::collections::VecDeque;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use pipe_core::{Error, ErrorKind};
use stun_types::message::{MessageClass, TransactionId};

use super::config::TurnConfig;
use super::event::{Relayed, TurnEvent, TurnInput};
use super::framing::CHANNEL_HEADER;
use super::peers::{Peers, Way};
use super::referral::Referral;
use super::refusal::explain;
use super::request::{Asked, Auth, Family, Request};
use crate::engine::own::stun::{
    DATA, DATA_METHOD, Fired, LIFETIME, NONCE, REALM, Received, SEND, Writer, XOR_MAPPED_ADDRESS,
    XOR_PEER_ADDRESS, XOR_RELAYED_ADDRESS, transaction,
};

/// How often a server may refuse the nonce of one request.
const MAX_STALE: u32 = 3;

/// Largest realm and nonce, in bytes (RFC 8489, sections 14.9 and 14.10).
const MAX_TEXT: usize = 763;

/// Least time between two refreshes.
const LEAST_REFRESH: Duration = Duration::from_secs(5);

/// Time before the end of an allocation at which it is refreshed.
const REFRESH_BEFORE: Duration = Duration::from_secs(60);

/// Lifetime that a refresh asks for, in seconds (RFC 8656, section 3.2).
const LIFETIME_ASKED: u32 = 600;

/// A relay at one server (RFC 8656), for one socket or stream to it.
///
/// It does no I/O. Messages for the server come from [`poll_transmit`](Self::poll_transmit) and
/// [`send`](Self::send), those of the server go to [`handle_packet`](Self::handle_packet), and time is
/// passed in. Everything that it holds is bounded.
#[derive(Debug)]
pub(crate) struct TurnClient {
    config: TurnConfig,
    family: Family,
    state: State,
    auth: Option<Auth>,
    requests: Vec<Request>,
    peers: Peers,
    /// Messages for the server: one of each request, and data that waited for a permission.
    out: VecDeque<Bytes>,
    events: VecDeque<TurnEvent>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Allocating,
    Allocated {
        relayed: SocketAddr,
        refresh: Instant,
    },
    /// It is to end at the server.
    Closing,
    Closed,
}

impl TurnClient {
    /// Begins an allocation.
    pub(crate) fn new(now: Instant, config: TurnConfig) -> Self {
        let family = if config.ipv6 {
            Family::Ipv6 { is_second: false }
        } else {
            Family::Default
        };
        let mut client = Self {
            config,
            family,
            state: State::Allocating,
            auth: None,
            requests: Vec::new(),
            peers: Peers::default(),
            out: VecDeque::new(),
            events: VecDeque::new(),
        };
        client.ask(now, Asked::Allocation);
        client
    }

    /// Returns the address of the relay, while there is one.
    pub(crate) fn relayed(&self) -> Option<SocketAddr> {
        match self.state {
            State::Allocated { relayed, .. } => Some(relayed),
            State::Allocating | State::Closing | State::Closed => None,
        }
    }

    /// Returns whether nothing is left to do.
    #[cfg(test)]
    pub(crate) fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// Asks the server to let packets of an address of the peer through, which a packet to it does too.
    pub(crate) fn permit(&mut self, now: Instant, ip: IpAddr) {
        if self.reaches(ip) && self.peers.ask(now, ip) {
            self.ask(now, Asked::Permission(ip));
        }
    }

    /// Sends a packet to a peer: appends the message for the server to `out`, without the padding of a stream.
    /// Returns whether there is one; else the packet waits for a permission, or is lost, as one of UDP may be.
    pub(crate) fn send(
        &mut self,
        now: Instant,
        peer: SocketAddr,
        data: &[u8],
        out: &mut Vec<u8>,
    ) -> bool {
        let Ok(length) = u16::try_from(data.len()) else {
            return false;
        };
        if !self.reaches(peer.ip()) {
            return false;
        }
        match self.peers.way(now, peer) {
            Way::Channel(number) => {
                out.extend_from_slice(&number.to_be_bytes());
                out.extend_from_slice(&length.to_be_bytes());
                out.extend_from_slice(data);
                true
            }
            Way::Indication { bind } => {
                // Checks go to many addresses, and the rest to one.
                let is_check = data.first().is_some_and(|first| *first <= 3);
                if bind && !is_check {
                    let number = self.peers.open_channel(peer);
                    self.ask(now, Asked::Channel(number, peer));
                }
                out.extend_from_slice(&indication(peer, data));
                true
            }
            Way::Waits { ask } => {
                if ask {
                    self.permit(now, peer.ip());
                }
                self.peers.wait(peer, data);
                false
            }
            Way::Closed => false,
        }
    }

    /// Takes a datagram of the server, or an element of the stream to it.
    pub(crate) fn handle_packet(&mut self, now: Instant, packet: &[u8]) -> TurnInput {
        match packet.first() {
            Some(0x40..=0x4f) => self.channel_data(packet),
            Some(0..=3) => self.message(now, packet),
            _ => TurnInput::Unknown,
        }
    }

    /// Sends what is due, and gives up what has had its time.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if let State::Allocated { relayed, refresh } = self.state {
            if refresh <= now {
                // The answer sets the next one.
                let refresh = now + Duration::from_secs(u64::from(LIFETIME_ASKED));
                self.state = State::Allocated { relayed, refresh };
                self.ask(now, Asked::Refresh(LIFETIME_ASKED));
            }
            let (ips, channels) = self.peers.renew(now);
            for ip in ips {
                self.ask(now, Asked::Permission(ip));
            }
            for (number, peer) in channels {
                self.ask(now, Asked::Channel(number, peer));
            }
        }
        let mut at = 0;
        while let Some(request) = self.requests.get_mut(at) {
            match request.timer.fire(now) {
                Some(Fired::Send) => self.out.push_back(request.payload.clone()),
                Some(Fired::GiveUp) => {
                    let asked = self.requests.swap_remove(at).asked;
                    let why = self.error(ErrorKind::TimedOut, "it does not answer");
                    self.refused(now, asked, why);
                    continue;
                }
                None => {}
            }
            at += 1;
        }
    }

    /// Returns the time of the next [`handle_timeout`](Self::handle_timeout).
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let requests = self.requests.iter().map(|one| one.timer.due()).min();
        let (refresh, peers) = match self.state {
            State::Allocated { refresh, .. } => (Some(refresh), self.peers.due()),
            State::Allocating | State::Closing | State::Closed => (None, None),
        };
        [requests, refresh, peers].into_iter().flatten().min()
    }

    /// Returns the next message for the server, without the padding of a stream.
    pub(crate) fn poll_transmit(&mut self) -> Option<Bytes> {
        self.out.pop_front()
    }

    /// Returns the next event.
    pub(crate) fn poll_event(&mut self) -> Option<TurnEvent> {
        self.events.pop_front()
    }

    /// Ends the allocation at the server (RFC 8656, section 8). It is over when that has answered, and frees
    /// itself without.
    pub(crate) fn close(&mut self, now: Instant) {
        match self.state {
            State::Allocated { .. } => {
                self.requests.clear();
                self.state = State::Closing;
                self.ask(now, Asked::Refresh(0));
            }
            State::Allocating => self.end(TurnEvent::Closed),
            State::Closing | State::Closed => {}
        }
    }

    /// Ends it, as when the stream to the server is lost.
    pub(crate) fn fail(&mut self, why: impl fmt::Display) {
        if self.state != State::Closed {
            let error = self.error(ErrorKind::Unreachable, why);
            self.end(TurnEvent::Failed(error));
        }
    }

    fn reaches(&self, ip: IpAddr) -> bool {
        self.relayed()
            .is_some_and(|relayed| relayed.is_ipv4() == ip.is_ipv4())
    }

    /// Makes a request and sends it.
    fn ask(&mut self, now: Instant, asked: Asked) {
        let is_stream = self.config.is_stream;
        let mut request = Request::new(asked, self.family, self.auth.as_ref(), now, is_stream);
        if request.timer.fire(now) == Some(Fired::Send) {
            self.out.push_back(request.payload.clone());
        }
        self.requests.push(request);
    }

    fn channel_data(&self, packet: &[u8]) -> TurnInput {
        let Some((&[n0, n1, l0, l1], data)) = packet.split_first_chunk() else {
            return TurnInput::Unknown;
        };
        let number = u16::from_be_bytes([n0, n1]);
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        // A datagram may be padded (RFC 8656, section 12.5).
        match self.peers.channel(number) {
            Some(peer) if length <= data.len() && self.relayed().is_some() => TurnInput::Data {
                peer,
                range: CHANNEL_HEADER..CHANNEL_HEADER + length,
            },
            // It is cut off, or the relay is being closed.
            Some(_) => TurnInput::Handled,
            None => TurnInput::Unknown,
        }
    }

    fn message(&mut self, now: Instant, packet: &[u8]) -> TurnInput {
        let Some(id) = transaction(packet) else {
            return TurnInput::Unknown;
        };
        let at = self.requests.iter().position(|one| one.transaction == id);
        // Others are not even parsed: they may come from anywhere, as checks.
        let is_data = packet.first_chunk() == Some(&[0x00, 0x17]);
        if at.is_none() && !is_data {
            return TurnInput::Unknown;
        }
        let Some(message) = Received::parse(packet) else {
            return TurnInput::Handled;
        };
        let Some(at) = at else {
            return self.data(&message);
        };
        let is_success = match message.class() {
            MessageClass::Success => true,
            MessageClass::Error => false,
            MessageClass::Request | MessageClass::Indication => return TurnInput::Handled,
        };
        let request = &self.requests[at];
        // An answer is of the server if it proves the password. One without proof is taken where there
        // is none to give: to a request without credentials, and for an error.
        let proof = match (&self.auth, request.is_signed) {
            (Some(auth), true) => message.is_signed_with(&auth.key),
            _ => None,
        };
        if proof == Some(false) || (proof.is_none() && is_success && request.is_signed) {
            tracing::debug!(server = %self.config.name, "an answer that proves nothing is dropped");
            return TurnInput::Handled;
        }
        let request = self.requests.swap_remove(at);
        if is_success {
            self.granted(now, request.asked, &message);
        } else {
            self.error_response(now, &request, &message, proof.is_some());
        }
        TurnInput::Handled
    }

    /// Takes a packet of a peer within an indication (RFC 8656, section 11.6).
    fn data(&self, message: &Received<'_>) -> TurnInput {
        let (class, method) = (message.class(), message.method());
        let peer = message.xor_addr(XOR_PEER_ADDRESS);
        match (peer, message.range(DATA)) {
            (Some(peer), Some(range))
                if class == MessageClass::Indication
                    && method == DATA_METHOD
                    && self.relayed().is_some()
                    && self.peers.is_permitted(peer.ip()) =>
            {
                TurnInput::Data { peer, range }
            }
            _ => TurnInput::Handled,
        }
    }

    fn granted(&mut self, now: Instant, asked: Asked, message: &Received<'_>) {
        match asked {
            Asked::Allocation => self.allocated(now, message),
            Asked::Refresh(0) => self.end(TurnEvent::Closed),
            Asked::Refresh(_) => {
                let lifetime = message.number(LIFETIME).unwrap_or(LIFETIME_ASKED);
                if lifetime == 0 {
                    return self.fail("it has ended the allocation");
                }
                if let State::Allocated { refresh, .. } = &mut self.state {
                    *refresh = refresh_at(now, lifetime);
                }
            }
            Asked::Permission(ip) => {
                for (peer, data) in self.peers.permitted(now, ip, true) {
                    let mut message = Vec::new();
                    if self.send(now, peer, &data, &mut message) {
                        self.out.push_back(message.into());
                    }
                }
            }
            Asked::Channel(number, _) => self.peers.bound(now, number, true),
        }
    }

    fn allocated(&mut self, now: Instant, message: &Received<'_>) {
        let usable = |addr: &SocketAddr| {
            addr.port() > 0 && !addr.ip().is_unspecified() && !addr.ip().is_multicast()
        };
        // Some servers name one that they do not have before the one that they give.
        let relayed = message.xor_addrs(XOR_RELAYED_ADDRESS).find(usable);
        let lifetime = message.number(LIFETIME).filter(|seconds| *seconds > 0);
        let (Some(relayed), Some(lifetime)) = (relayed, lifetime) else {
            return self.fail(self.without(relayed.is_none(), message));
        };
        if self.family != Family::Default && relayed.is_ipv4() {
            return self.fail("it has no relay of IPv6: its allocation is one of IPv4");
        }
        self.state = State::Allocated {
            relayed,
            refresh: refresh_at(now, lifetime),
        };
        self.events.push_back(TurnEvent::Allocated(Relayed {
            addr: relayed,
            mapped: message.xor_addr(XOR_MAPPED_ADDRESS).filter(usable),
        }));
    }

    /// Returns why an allocation without an address or a lifetime is of no use.
    fn without(&self, address: bool, message: &Received<'_>) -> String {
        if !address {
            return "its allocation ends at once".to_owned();
        }
        let family = match self.family {
            Family::Default => "IPv4",
            Family::Ipv6 { .. } => "IPv6",
        };
        match message.xor_addr(XOR_RELAYED_ADDRESS) {
            Some(addr) => format!("it has no relay of {family}: its allocation is at {addr}"),
            None => format!("it has no relay of {family}: its allocation names no address"),
        }
    }

    /// Takes an error. `is_proven` is whether it proves the password.
    fn error_response(
        &mut self,
        now: Instant,
        request: &Request,
        message: &Received<'_>,
        is_proven: bool,
    ) {
        let Some((code, reason)) = message.error() else {
            let error = self.error(ErrorKind::Protocol, "an error without a code");
            return self.refused(now, request.asked, error);
        };
        let stale = request.stale + u32::from(code == 438);
        if (code == 401 && !request.is_signed) || (code == 438 && stale <= MAX_STALE) {
            let realm = message.text(REALM);
            let realm = realm.or_else(|| self.auth.as_ref().map(|auth| auth.realm().to_owned()));
            let fits = |text: &String| text.len() <= MAX_TEXT;
            if let (Some(of), Some(realm)) = (&self.config.realm, &realm)
                && of != realm
            {
                let why = format!(
                    "it is of the realm {realm:?}, and the server that refers to it of {of:?}"
                );
                let error = self.error(ErrorKind::Unauthenticated, why);
                return self.refused(now, request.asked, error);
            }
            return match (realm.filter(fits), message.text(NONCE).filter(fits)) {
                (Some(realm), Some(nonce)) => {
                    let config = &self.config;
                    let auth = Auth::new(&config.username, &config.password, realm, nonce);
                    self.auth = Some(auth);
                    self.ask(now, request.asked);
                    if let Some(request) = self.requests.last_mut() {
                        request.stale = stale;
                    }
                }
                _ => {
                    let error = self.error(
                        ErrorKind::Protocol,
                        "it asks for credentials without a realm or a nonce",
                    );
                    self.refused(now, request.asked, error);
                }
            };
        }
        if code == 440 && request.asked == Asked::Allocation && self.family == Family::Default {
            // It has no IPv4.
            self.family = Family::Ipv6 { is_second: true };
            return self.ask(now, Asked::Allocation);
        }
        if code == 300 && request.asked == Asked::Allocation {
            return self.referred(request.is_signed && !is_proven, message);
        }
        let (kind, why) = explain(request.asked, self.family, code, &reason);
        let error = self.error(kind, why);
        if code == 437 && !matches!(request.asked, Asked::Allocation | Asked::Refresh(0)) {
            // The server has been started anew, or has lost the allocation.
            return self.end(TurnEvent::Failed(error));
        }
        self.refused(now, request.asked, error);
    }

    /// The server refers to another one (RFC 8489, section 10). It `lacks_proof` if it could prove the password and
    /// does not, so that anything on the way may be its author.
    fn referred(&mut self, lacks_proof: bool, message: &Received<'_>) {
        let realm = self.auth.as_ref().map(Auth::realm);
        let realm = realm.or(self.config.realm.as_deref());
        let why = match Referral::read(message, realm) {
            None => "it refers to another server (300), and does not say which",
            Some(_) if lacks_proof => "it refers to another server (300) without a proof",
            Some(_) if self.config.is_alternate => {
                "it refers to a further server (300), as one has referred to it"
            }
            Some(referral) => return self.end(TurnEvent::Referred(referral)),
        };
        let error = self.error(ErrorKind::Unsupported, why);
        self.end(TurnEvent::Failed(error));
    }

    fn refused(&mut self, now: Instant, asked: Asked, error: Error) {
        match asked {
            // The peer may be reached on other ways, and the way without a channel stays.
            Asked::Permission(ip) => {
                let _ = self.peers.permitted(now, ip, false);
                self.events.push_back(TurnEvent::PeerRefused(ip, error));
            }
            Asked::Channel(number, _) => {
                tracing::debug!(%error, number, "a channel of TURN is refused");
                self.peers.bound(now, number, false);
            }
            Asked::Refresh(0) => self.end(TurnEvent::Closed),
            Asked::Allocation | Asked::Refresh(_) => self.end(TurnEvent::Failed(error)),
        }
    }

    fn error(&self, kind: ErrorKind, why: impl fmt::Display) -> Error {
        Error::new(kind, format!("the TURN server {}: {why}", self.config.name))
    }

    fn end(&mut self, event: TurnEvent) {
        self.state = State::Closed;
        self.requests.clear();
        self.out.clear();
        self.peers = Peers::default();
        self.events.push_back(event);
    }
}

fn refresh_at(now: Instant, lifetime: u32) -> Instant {
    let lifetime = Duration::from_secs(lifetime.into());
    let before = lifetime.saturating_sub(REFRESH_BEFORE);
    now + before.max(lifetime / 2).max(LEAST_REFRESH)
}

/// Returns a packet for a peer within an indication (RFC 8656, section 11.1).
fn indication(peer: SocketAddr, data: &[u8]) -> Vec<u8> {
    Writer::new(MessageClass::Indication, SEND, TransactionId::generate())
        .xor_addr(XOR_PEER_ADDRESS, peer)
        .bytes(DATA, data)
        .finish(None)
}
