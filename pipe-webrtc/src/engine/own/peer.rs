use std::fmt;
use std::future::{Future, poll_fn};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use pipe_core::{Error, ErrorKind, Result};
use pipe_net::{HostPort, TcpDialer};
use tokio::net::lookup_host;
use tokio::task::coop::unconstrained;

use super::channel::Channel;
use super::core::Core;
use super::dtls::Association;
use super::fingerprint::Fingerprint;
use super::gathering::Gathering;
use super::ice::{Ice, Times};
use super::mdns::hidden_name;
use super::relays::{Relays, TurnServer};
use super::resolver::Resolver;
use super::routes::Routes;
use super::run::Run;
use super::sctp_transport::SctpTransport;
use super::sdp::{Description, Local, Session, Setup};
use super::server::{ServerAddr, ServerTransport};
use super::shared::Shared;
use super::socket::Socket;
use super::sockets::Sockets;
use super::vitals::Vitals;
use crate::engine::channel_info::ChannelOptions;
use crate::engine::event::{Candidate, IceState, PeerEvent};
use crate::engine::options::PeerOptions;
use crate::engine::stats::{CandidatePair, SctpStats};
use crate::engine::task::Parts;
use crate::error::handshake;
use crate::ice_server::IceServer;

/// The least that a peer has to take as one message, and the most that it is sent as one, in bytes.
const MIN_MESSAGE: u32 = 1200;
const MAX_MESSAGE: u32 = 256 * 1024;

/// Maximum number of bytes that were sent and not acknowledged.
const SEND_BUFFER: usize = MAX_FLIGHT + 2 * 1024 * 1024;

/// Maximum number of bytes of streams that SCTP keeps until they have arrived.
pub(crate) const MAX_FLIGHT: usize = 22 * 1024 * 1024;

/// The longest time between two checks of the path in use (RFC 7675, section 5.1, has 5 s).
const MAX_KEEP_ALIVE: Duration = Duration::from_secs(5);

/// The name of a session (RFC 8866, section 5.3) of this engine, by which it knows itself.
const NAME: &str = "s=pipewerks";
const NO_NAME: &str = "s=-";

/// A peer connection on the engine of this crate.
pub(crate) struct Peer {
    shared: Arc<Shared>,
    options: PeerOptions,
    certificate: crate::engine::Certificate,
    sockets: usize,
    /// Takes further sockets to the loop.
    new_sockets: Mutex<mpsc::Sender<Socket>>,
    /// Receive buffer of SCTP, in bytes.
    receive_buffer: AtomicU32,
    servers: Mutex<Vec<TurnServer>>,
    /// Of names of multicast DNS, once there are any.
    resolver: Mutex<Option<Resolver>>,
    negotiation: Mutex<Negotiation>,
}

/// The descriptions of both sides.
struct Negotiation {
    session: Session,
    /// The offer of this side that waits for its answer.
    offer: Option<Description>,
    /// The peer's last description.
    remote: Option<Description>,
    /// The role of this side in DTLS.
    role: Option<Setup>,
}

/// The events of a peer connection.
#[derive(Debug)]
pub(crate) struct Events(Arc<Shared>);

impl Events {
    pub(crate) async fn recv(&mut self) -> Option<PeerEvent<Channel>> {
        let (event, makes_room) = poll_fn(|cx| {
            let mut core = self.0.lock();
            let was_full = !core.events.has_room();
            let event = core.events.poll(cx.waker());
            let makes_room = was_full && core.events.has_room();
            event.map(|event| (event, makes_room))
        })
        .await;
        if makes_room {
            self.0.wake();
        }
        let event = event?;
        Some(event.map(|channel| Channel::new(channel, self.0.clone())))
    }
}

impl Peer {
    /// Binds the sockets of a new peer connection, if it has no shared ones, and starts its loop.
    pub(crate) fn new(mut options: PeerOptions) -> Result<(Self, Events)> {
        let now = Instant::now();
        // The port is kept no longer than the connection uses it.
        let port = options.port.take();
        let Sockets {
            sockets,
            addrs,
            membership,
        } = Sockets::open(port, &options.bind, options.socket_buffer)?;
        let inbox = membership.as_ref().map(|one| one.inbox().clone());
        let certificate = match &options.certificate {
            Some(certificate) => certificate.clone(),
            None => crate::engine::Certificate::generate()?,
        };
        let keep_alive = options.keep_alive.min(MAX_KEEP_ALIVE);
        let times = Times {
            keep_alive,
            failed_after: options.failed_after,
        };
        let ice = Ice::new(options.offerer, times, now)?;
        let mut config = pipe_sctp::Config::default();
        config.receive_buffer = options.receive_buffer as usize;
        config.send_buffer = SEND_BUFFER;
        config.max_message_size = options.max_message as usize;
        if let Some(mtu) = options.mtu {
            config.mtu = mtu as usize;
        }
        let servers = turn_servers(&options.ice_servers)?;
        let (relays, messages) = Relays::new(options.turn_tls.clone(), options.turn_dialer.clone());
        let core = Core::new(
            Routes::new(addrs, relays, membership),
            Gathering::new(options.external_addrs.clone()),
            ice,
            SctpTransport::new(config, now),
            Vitals::new(keep_alive * 3 / 2, now),
            now,
        )?;
        let (parts, task) = Parts::new();
        let shared = Shared::new(core, parts.clone(), options.receive_buffer as usize);
        let count = sockets.len();
        let (new_sockets, coming) = mpsc::channel();
        let run = Run::new(
            shared.clone(),
            sockets,
            coming,
            inbox,
            messages,
            options.faults.clone(),
        );
        parts.add(unconstrained(run));
        tokio::spawn(unconstrained(task));
        let peer = Self {
            shared: shared.clone(),
            certificate,
            receive_buffer: AtomicU32::new(options.receive_buffer),
            options,
            sockets: count,
            new_sockets: Mutex::new(new_sockets),
            servers: Mutex::new(servers),
            resolver: Mutex::default(),
            negotiation: Mutex::new(Negotiation {
                session: Session::generate()?,
                offer: None,
                remote: None,
                role: None,
            }),
        };
        if peer.options.mdns {
            peer.hide_addrs()?;
        }
        Ok((peer, Events(shared)))
    }

    /// Lets names of multicast DNS stand for the addresses of this side.
    fn hide_addrs(&self) -> Result<()> {
        let mut core = self.shared.lock();
        let resolver = Resolver::start(&self.shared, core.addrs()).map_err(|error| {
            let why = format!("mdns takes a route for multicast: {error}");
            Error::with_source(ErrorKind::Io, why, error)
        })?;
        let ips: Vec<_> = core.addrs().iter().map(SocketAddr::ip).collect();
        for ip in ips {
            let name = hidden_name()?;
            resolver.service.publish(&name, vec![ip]);
            core.names.hide(ip, name);
        }
        *self.resolver.lock() = Some(resolver);
        Ok(())
    }

    /// Looks up the names of the peer's candidates, unless all packets go through relays, which do not reach
    /// what is in this network.
    fn look_up_names(&self, core: &mut Core) {
        let names = core.names.take_new();
        if names.is_empty() || self.options.relay_only {
            return;
        }
        let mut resolver = self.resolver.lock();
        if resolver.is_none() {
            match Resolver::start(&self.shared, core.addrs()) {
                Ok(started) => *resolver = Some(started),
                Err(error) => {
                    tracing::debug!(%error, "names of the peer are not looked up");
                    return;
                }
            }
        }
        for name in names {
            if let Some(resolver) = &*resolver {
                resolver.service.look_up(&name);
            }
        }
    }

    pub(crate) fn run_beside(&self, part: impl Future<Output = ()> + Send + 'static) {
        self.shared.parts().add(unconstrained(part));
    }

    pub(crate) async fn panicked(&self) {
        self.shared.parts().panicked().await;
    }

    pub(crate) async fn broken(&self) -> Error {
        self.shared.broken().await
    }

    pub(crate) fn goodbye(&self) -> Option<String> {
        self.shared.lock().goodbye()
    }

    /// Makes SCTP's receive buffer larger, if it is not as large already.
    pub(crate) fn raise_receive_buffer(&self, bytes: u32) {
        if self.receive_buffer.fetch_max(bytes, Ordering::Relaxed) < bytes {
            self.shared.lock().sctp.raise_receive_buffer(bytes as usize);
        }
    }

    pub(crate) fn heard(&self) -> u64 {
        self.shared.heard()
    }

    pub(crate) fn sockets(&self) -> usize {
        self.sockets
    }

    pub(crate) fn refusals(&self) -> Option<String> {
        self.shared.lock().refusals()
    }

    pub(crate) async fn acknowledged(&self) {
        self.shared.acknowledged().await;
    }

    pub(crate) fn has_free_id(&self) -> bool {
        self.shared.lock().sctp.has_free_id()
    }

    /// Gathers the candidates of this side, which are events.
    fn gather(&self, core: &mut Core, mid: Option<String>) {
        let servers: Vec<_> = self.servers.lock().clone();
        self.bind_for_relays(core, &servers);
        core.gather(mid, !self.options.relay_only, servers.len());
        for server in servers {
            let (shared, limit) = (self.shared.clone(), self.options.resolve_timeout);
            let dialer = self.options.turn_dialer.clone();
            // It ends in time, and does nothing for a connection that is over.
            tokio::spawn(async move {
                let found = tokio::time::timeout(limit, addrs_of(&server.addr, &dialer));
                let addrs = found.await;
                let addrs = addrs.unwrap_or_else(|_| Err("its name is not resolved".to_owned()));
                shared.lock().note_resolved(&server, addrs);
                shared.wake();
            });
        }
    }

    /// Binds the sockets that relays need over UDP, if those of the candidates cannot be used for them.
    fn bind_for_relays(&self, core: &mut Core, servers: &[TurnServer]) {
        let is_relay =
            |server: &TurnServer| server.addr.turn && server.addr.transport == ServerTransport::Udp;
        if !servers.iter().any(is_relay) {
            return;
        }
        for addr in core.missing_for_relays() {
            match Socket::bind(addr, self.options.socket_buffer) {
                Ok(socket) => {
                    core.add_for_relays(&socket);
                    // The loop has ended if it takes none.
                    let _ = self.new_sockets.lock().send(socket);
                }
                Err(error) => {
                    tracing::debug!(%error, %addr, "no relay is asked for from an address");
                }
            }
        }
    }

    /// Returns this side's part of a description.
    fn local(&self, core: &Core, session: Session, candidates: Vec<String>) -> Local {
        Local {
            session,
            credentials: core.ice.credentials().clone(),
            fingerprint: Fingerprint::sha256(self.certificate.der()),
            max_message_size: self.options.max_message,
            candidates,
            end_of_candidates: false,
        }
    }

    pub(crate) fn offer(&self) -> Result<String> {
        let mut negotiation = self.negotiation.lock();
        let mut core = self.shared.lock();
        let offer = Description::offer(self.local(&core, negotiation.session, Vec::new()));
        self.gather(&mut core, offer.mid.clone());
        drop(core);
        let text = named(&offer);
        negotiation.offer = Some(offer);
        self.shared.wake();
        Ok(text)
    }

    pub(crate) fn offer_restart(&self) -> Result<String> {
        let mut negotiation = self.negotiation.lock();
        let mut core = self.shared.lock();
        core.restart_ice(Instant::now())?;
        negotiation.session = negotiation.session.next();
        let candidates = core.locals();
        let mut offer = Description::offer(self.local(&core, negotiation.session, candidates));
        if let Some(remote) = &negotiation.remote {
            offer.mid.clone_from(&remote.mid);
        }
        self.gather(&mut core, offer.mid.clone());
        drop(core);
        let text = named(&offer);
        negotiation.offer = Some(offer);
        Ok(text)
    }

    pub(crate) fn answer(&self, offer: &str) -> Result<String> {
        let is_own = is_own(offer);
        let offer: Description = offer.parse()?;
        check_message(&offer)?;
        let now = Instant::now();
        let mut negotiation = self.negotiation.lock();
        let mut core = self.shared.lock();
        let mut candidates = Vec::new();
        let before = negotiation
            .remote
            .as_ref()
            .map(|remote| &remote.credentials);
        let is_first = before.is_none();
        let is_restart = before.is_some_and(|before| *before != offer.credentials);
        if is_restart {
            core.restart_ice(now)?;
            self.gather(&mut core, offer.mid.clone());
        }
        if !is_first {
            negotiation.session = negotiation.session.next();
            candidates = core.locals();
        }
        let local = self.local(&core, negotiation.session, candidates);
        let answer = offer.answer(local, negotiation.role)?;
        if is_first {
            self.make_dtls(&mut core, &offer, answer.setup, is_own)?;
            negotiation.role = Some(answer.setup);
            self.gather(&mut core, answer.mid.clone());
        }
        if is_first || is_restart {
            self.look(&mut core, &offer, now);
        }
        drop(core);
        let text = named(&answer);
        negotiation.remote = Some(offer);
        self.shared.wake();
        Ok(text)
    }

    pub(crate) fn accept_answer(&self, answer: &str) -> Result<()> {
        let is_own = is_own(answer);
        let answer: Description = answer.parse()?;
        check_message(&answer)?;
        let now = Instant::now();
        let mut negotiation = self.negotiation.lock();
        let Some(offer) = negotiation.offer.take() else {
            return Err(handshake("an answer without an offer"));
        };
        let role = offer.role_after(&answer)?;
        let mut core = self.shared.lock();
        match &negotiation.remote {
            Some(before) => {
                if before.credentials == answer.credentials {
                    core.cancel_restart();
                    let why =
                        "the peer does not restart ICE: its answer has the credentials of before";
                    return Err(Error::new(ErrorKind::Unsupported, why));
                }
                if negotiation.role != Some(role) {
                    return Err(handshake("the peer changes its role in DTLS"));
                }
            }
            None => {
                self.make_dtls(&mut core, &answer, role, is_own)?;
                negotiation.role = Some(role);
            }
        }
        self.look(&mut core, &answer, now);
        drop(core);
        negotiation.remote = Some(answer);
        self.shared.wake();
        Ok(())
    }

    /// Looks for a path to the author of a description.
    fn look(&self, core: &mut Core, remote: &Description, now: Instant) {
        core.events.push(PeerEvent::Ice(IceState::Connecting));
        core.names.forget();
        for candidate in &remote.candidates {
            if let Err(error) = core.add_remote(candidate, now) {
                tracing::debug!(%error, "a candidate of the peer is left out");
            }
        }
        self.look_up_names(core);
        core.ice.set_remote(&remote.credentials, now);
    }

    /// Makes the association of DTLS with the author of a description.
    fn make_dtls(
        &self,
        core: &mut Core,
        remote: &Description,
        role: Setup,
        is_own: bool,
    ) -> Result<()> {
        let now = Instant::now();
        core.sctp.configure(|config| {
            config.remote_port = remote.sctp_port;
            if !is_own {
                // Some drop an INIT with a parameter that they do not know.
                config.zero_checksum = false;
                config.announce_sack_delay = false;
            }
        });
        let is_client = role == Setup::Active;
        let fingerprints = remote.fingerprints.clone();
        let dtls = Association::new(&self.certificate, is_client, fingerprints, now)?;
        core.set_dtls(dtls, now);
        Ok(())
    }

    pub(crate) fn add_candidate(&self, candidate: &Candidate) -> Result<()> {
        let mut core = self.shared.lock();
        let added = core.add_remote(&candidate.candidate, Instant::now());
        self.look_up_names(&mut core);
        drop(core);
        self.shared.wake();
        added
    }

    pub(crate) fn set_ice_servers(&self, servers: &[IceServer], relay_only: bool) -> Result<()> {
        if relay_only && !self.options.relay_only {
            let why = "relay_only has to be set before the connection is made";
            return Err(Error::new(ErrorKind::Unsupported, why));
        }
        *self.servers.lock() = turn_servers(servers)?;
        Ok(())
    }

    pub(crate) fn open_channel(&self, label: &str, options: &ChannelOptions) -> Result<Channel> {
        let opened = self.shared.lock().sctp.open_channel(label, options);
        self.shared.wake();
        let Some(inner) = opened else {
            let id = options.negotiated.unwrap_or_default();
            let why = format!("the id {id} of a data channel is in use");
            return Err(Error::new(ErrorKind::Failed, why));
        };
        Ok(Channel::new(inner, self.shared.clone()))
    }

    pub(crate) fn max_message(&self) -> Option<u32> {
        let negotiation = self.negotiation.lock();
        let remote = negotiation.remote.as_ref()?;
        Some(
            remote
                .message_limit()
                .unwrap_or(MAX_MESSAGE)
                .min(MAX_MESSAGE),
        )
    }

    pub(crate) fn certificates(&self) -> Vec<Bytes> {
        let core = self.shared.lock();
        let certificate = core.dtls().and_then(|dtls| dtls.certificate().cloned());
        certificate.into_iter().collect()
    }

    pub(crate) fn candidate_pair(&self) -> Option<CandidatePair> {
        let (local, remote, _) = self.shared.lock().ice.pair()?;
        Some(CandidatePair { local, remote })
    }

    pub(crate) fn stats(&self) -> SctpStats {
        let core = self.shared.lock();
        let mut stats = SctpStats {
            round_trip: core.ice.pair().and_then(|(_, _, time)| time),
            ..SctpStats::default()
        };
        if let Some(sctp) = core.sctp.association() {
            let sctp = sctp.stats();
            let count = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
            stats.bytes_sent = sctp.bytes_sent;
            stats.bytes_received = sctp.bytes_received;
            stats.smoothed_round_trip = sctp.smoothed_rtt;
            stats.congestion_window = Some(count(sctp.congestion_window));
            stats.receive_window = Some(count(sctp.peer_window));
            stats.mtu = Some(count(sctp.mtu));
        }
        stats
    }

    pub(crate) async fn close(&self) {
        self.shared.lock().close(Instant::now());
        self.shared.wake();
        self.shared.ended().await;
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.shared.lock().close(Instant::now());
        self.shared.wake();
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer").finish_non_exhaustive()
    }
}

/// Returns the servers of all URLs.
fn turn_servers(servers: &[IceServer]) -> Result<Vec<TurnServer>> {
    let mut all = Vec::new();
    for server in servers {
        for url in &server.urls {
            let bad = |why: String| {
                let why = format!("ice_servers: {url:?}: {why}");
                Error::new(ErrorKind::ConfigInvalid, why)
            };
            all.push(TurnServer {
                addr: url.parse().map_err(bad)?,
                username: server.username.clone(),
                password: server.credential.clone(),
            });
        }
    }
    Ok(all)
}

/// Returns a description of this side as text, with its name.
fn named(description: &Description) -> String {
    description.to_string().replacen(NO_NAME, NAME, 1)
}

/// Returns whether a description is one of this engine.
fn is_own(description: &str) -> bool {
    description.lines().any(|line| line.trim_end() == NAME)
}

/// Checks how large the messages are that the author of a description takes.
fn check_message(description: &Description) -> Result<()> {
    match description.message_limit() {
        Some(size) if size < MIN_MESSAGE => Err(handshake(format_args!(
            "the peer takes messages of {size} bytes at most, where {MIN_MESSAGE} are needed"
        ))),
        _ => Ok(()),
    }
}

/// Returns the addresses that a server is reached by. Where a proxy or a function of the application stands between, the
/// server's name need not be known here.
async fn addrs_of(server: &ServerAddr, dialer: &TcpDialer) -> Result<Vec<SocketAddr>, String> {
    let to = server.host_port();
    let hop = match server.transport {
        ServerTransport::Udp => Some(&to),
        ServerTransport::Tcp | ServerTransport::Tls => dialer
            .first_hop(server.scheme(), &to)
            .map_err(|error| error.to_string())?,
    };
    let Some(HostPort { host, port }) = hop else {
        // The function may connect from anywhere: these are reached from every address of their families.
        let any: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        return Ok(any.map(|ip| SocketAddr::new(ip, to.port)).into());
    };
    let found = lookup_host((host.as_str(), *port)).await;
    found
        .map(Iterator::collect)
        .map_err(|error| error.to_string())
}
