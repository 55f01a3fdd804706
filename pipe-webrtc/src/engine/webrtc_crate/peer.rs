use std::fmt;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use pipe_core::{Error, ErrorKind, Result};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::coop::unconstrained;
use tokio::time::{Instant, timeout};
use webrtc::peer_connection::{
    PeerConnection, PeerConnectionBuilder, RTCConfigurationBuilder, RTCIceCandidateInit,
    RTCSessionDescription,
};
use webrtc::runtime::TokioRuntime;

use super::super::channel_info::ChannelOptions;
use super::super::event::{Candidate, PeerEvent};
use super::super::external::External;
use super::super::options::PeerOptions;
use super::super::stats::{CandidatePair, SctpStats};
use super::super::task::Parts;
use super::channel::Channel;
use super::message_size;
use super::options::{ice_servers, policy};
use super::peer_event::Handler;
use super::runtime::PipeRuntime;
use super::tunnels::Servers;
use super::vitals::Vitals;
use crate::error::{handshake, lost, protocol};
use crate::ice_server::IceServer;

/// Maximum number of queued events. Beyond, the engine waits.
const EVENTS: usize = 256;

/// The least that a peer has to take as one message, in bytes.
const MIN_MESSAGE: u32 = 1200;

/// Maximum number of messages handed to the engine in one turn, and the time limit for it.
const MAX_BURST: usize = 8;
const MAX_PAUSE: Duration = Duration::from_millis(20);

/// A peer connection.
///
/// It has to be [closed](Self::close): dropping it starts that in the background.
pub(crate) struct Peer {
    inner: Arc<dyn PeerConnection>,
    vitals: Arc<Vitals>,
    /// The task of the engine.
    parts: Arc<Parts>,
    external: External,
    /// Whether it was made without candidates of this machine, which the engine would keep.
    relay_only: bool,
    /// The largest message that this side takes, in bytes.
    own_message: u32,
    /// Maximum message size of the peer, in bytes, from its description; 0 is any size.
    peer_message: AtomicU32,
    /// The offer of an ICE restart that waits for its answer.
    restart: Mutex<Option<RTCSessionDescription>>,
    /// The user name and password of the peer's last description.
    credentials: Mutex<Option<Credentials>>,
    closed: AtomicBool,
    pace: Pace,
}

/// Number of messages handed to the engine since its last turn.
#[derive(Default)]
struct Pace {
    turn: AtomicU64,
    burst: AtomicUsize,
}

impl Peer {
    /// Binds the sockets of a new peer connection.
    ///
    /// Dropping the future leaves nothing behind.
    pub(crate) async fn new(
        options: PeerOptions,
    ) -> Result<(Self, mpsc::Receiver<PeerEvent<Channel>>)> {
        let vitals = Vitals::new();
        let (parts, task) = Parts::new();
        let (events, receiver) = mpsc::channel(EVENTS);
        let (mdns, bound) = (options.mdns, options.bind.clone());
        let relay_only = options.relay_only;
        let own_message = options.max_message;
        // The engine has a setting for such addresses, and does not look at it.
        let external = External {
            addrs: options.external_addrs.clone().into(),
            relay_only: options.relay_only,
        };
        let outside = external.clone();
        let builder = PeerConnectionBuilder::new()
            .with_configuration(options.configuration()?)
            .with_setting_engine(options.engine(&vitals)?)
            .with_handler(Arc::new(Handler {
                events,
                external,
                vitals: vitals.clone(),
            }))
            .with_runtime(Arc::new(PipeRuntime {
                inner: TokioRuntime,
                task: Mutex::new(Some((parts.clone(), task))),
                vitals: vitals.clone(),
                faults: options.faults,
                servers: Servers::new(options.turn_tls),
                socket_buffer: options.socket_buffer,
                resolve_timeout: options.resolve_timeout,
            }))
            .with_udp_addrs(options.bind);
        // An engine that is dropped while it starts leaks its task: it starts in one of ours.
        let (done, built) = oneshot::channel();
        let watched = vitals.clone();
        tokio::spawn(async move {
            let built = builder.build().await.map(|inner| Self {
                inner: Arc::new(inner),
                vitals: watched,
                parts,
                external: outside,
                relay_only,
                own_message,
                peer_message: AtomicU32::new(0),
                restart: Mutex::default(),
                credentials: Mutex::default(),
                closed: AtomicBool::new(false),
                pace: Pace::default(),
            });
            // The caller may have gone; then the peer is dropped here, which closes it.
            let _ = done.send(built);
        });
        match built.await {
            // The engine skips addresses that it cannot bind, and fails if that is all.
            Ok(made)
                if vitals.sockets() < bound.len()
                    && (made.is_ok()
                        || bound.iter().any(|addr| UdpSocket::bind(addr).is_err())) =>
            {
                let why = "an address or port that was free is taken now";
                Err(Error::new(ErrorKind::AddrInUse, why))
            }
            Ok(Ok(peer)) => Ok((peer, receiver)),
            Ok(Err(error)) => {
                let about = if mdns {
                    " (mdns takes a route for multicast)"
                } else {
                    ""
                };
                let why = format!("the WebRTC engine did not start{about}: {error}");
                Err(Error::with_source(ErrorKind::Io, why, error))
            }
            Err(_) => Err(Error::new(ErrorKind::Io, "the WebRTC engine did not start")),
        }
    }

    pub(crate) fn vitals(&self) -> &Arc<Vitals> {
        &self.vitals
    }

    /// Returns how many datagrams and TCP reads have arrived, ever.
    pub(crate) fn heard(&self) -> u64 {
        self.vitals.heard()
    }

    pub(crate) fn sockets(&self) -> usize {
        self.vitals.sockets()
    }

    pub(crate) fn refusals(&self) -> Option<String> {
        let refusals = self.vitals.refusals();
        (!refusals.is_empty()).then(|| refusals.to_string())
    }

    /// Waits until a fatal alert has ended the association, or the handshake while that goes on.
    pub(crate) async fn broken(&self, connecting: bool) -> Error {
        tokio::select! {
            biased;
            alert = self.vitals.refused(), if connecting => refused(alert),
            alert = self.vitals.ended() => {
                lost(format_args!("it was ended with the fatal DTLS alert {alert}"))
            }
        }
    }

    /// Waits for the engine when it has been given much at once: its queues keep the memory of the
    /// longest burst there ever was.
    pub(crate) async fn keep_pace(&self) {
        let (Pace { turn, burst }, now) = (&self.pace, self.vitals.turns());
        if turn.swap(now, Ordering::Relaxed) != now {
            burst.store(0, Ordering::Relaxed);
        }
        if burst.fetch_add(1, Ordering::Relaxed) >= MAX_BURST {
            // It turns soon, since there is something to send; unless it has stopped.
            let _ = timeout(MAX_PAUSE, self.vitals.turn_after(now)).await;
            burst.store(1, Ordering::Relaxed);
        }
    }

    /// Returns the ids to reserve before another channel is opened; `None` if that has to wait.
    pub(crate) fn before_open(&self) -> Option<Vec<u16>> {
        let mut resets = self.vitals.resets().lock();
        resets.before_open(self.vitals.turns(), Instant::now())
    }

    /// Runs this in the engine's task, where handing something to the engine and back costs the least. The
    /// engine goes on when this waits, so it may take all that there is to do.
    pub(crate) fn run_beside(&self, part: impl Future<Output = ()> + Send + 'static) {
        self.parts.add(unconstrained(part));
    }

    /// Waits until a part of the engine's task has panicked.
    pub(crate) async fn panicked(&self) {
        self.parts.panicked().await;
    }

    /// Makes an offer and takes it as this side's description.
    pub(crate) async fn offer(&self) -> Result<String> {
        let described = async {
            let offer = self.inner.create_offer(None).await?;
            self.inner.set_local_description(offer.clone()).await?;
            Ok(self.external.description(offer.sdp))
        };
        described.await.map_err(engine_failed)
    }

    /// Answers an offer. Candidates for it may follow.
    pub(crate) async fn answer(&self, offer: String) -> Result<String> {
        let offer = self.note_description(&offer)?;
        let offer = RTCSessionDescription::offer(offer).map_err(|error| bad_description(&error))?;
        self.inner
            .set_remote_description(offer)
            .await
            .map_err(|error| bad_description(&error))?;
        self.vitals.checks().forget_sources();
        let described = async {
            let answer = self.inner.create_answer(None).await?;
            self.inner.set_local_description(answer.clone()).await?;
            Ok(self.external.description(answer.sdp))
        };
        described.await.map_err(engine_failed)
    }

    /// Makes an offer that restarts ICE. The path in use stays until its answer is
    /// [accepted](Self::accept_answer): the engine gives it up when it takes the offer.
    pub(crate) async fn offer_restart(&self) -> Result<String> {
        self.inner.restart_ice().await.map_err(engine_failed)?;
        let offer = self.inner.create_offer(None).await;
        let offer = offer.map_err(engine_failed)?;
        *self.restart.lock() = Some(offer.clone());
        Ok(self.external.description(offer.sdp))
    }

    /// Takes the peer's answer to the last offer.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](ErrorKind::Unsupported) if the offer restarts ICE and the peer does not: its
    /// credentials are those that it had (RFC 8839, section 4.4.1.1). Nothing has changed then.
    pub(crate) async fn accept_answer(&self, answer: String) -> Result<()> {
        let restart = self.restart.lock().take();
        if let Some(offer) = restart {
            let credentials = Credentials::of(&answer);
            if credentials.is_some() && *self.credentials.lock() == credentials {
                let why = "the peer does not restart ICE: its answer has the credentials of before";
                return Err(Error::new(ErrorKind::Unsupported, why));
            }
            self.vitals.set_connecting(true);
            let taken = self.inner.set_local_description(offer).await;
            taken.map_err(engine_failed)?;
        }
        let answer = self.note_description(&answer)?;
        let answer =
            RTCSessionDescription::answer(answer).map_err(|error| bad_description(&error))?;
        self.inner
            .set_remote_description(answer)
            .await
            .map_err(|error| bad_description(&error))?;
        self.vitals.checks().forget_sources();
        Ok(())
    }

    /// Notes the message size in a description of the peer, and converts it for the engine.
    fn note_description(&self, sdp: &str) -> Result<String> {
        let announced = message_size::announced(sdp);
        if (1..MIN_MESSAGE).contains(&announced) {
            return Err(handshake(format_args!(
                "the peer takes messages of {announced} bytes at most, where {MIN_MESSAGE} are needed"
            )));
        }
        self.peer_message.store(announced, Ordering::Relaxed);
        *self.credentials.lock() = Credentials::of(sdp);
        Ok(message_size::widen(sdp, self.own_message))
    }

    /// Adds a candidate of the peer. It has to come after the description that it belongs to.
    ///
    /// A candidate whose address has sent packets already is skipped: its check has overtaken it,
    /// and the engine knows the address by that (RFC 8445, section 7.3.1.3). It would check the
    /// address a second time, accept no answer for one of that second pair, and wait for it before
    /// it chooses another one.
    pub(crate) async fn add_candidate(&self, candidate: Candidate) -> Result<()> {
        if address(&candidate.candidate).is_some_and(|addr| self.vitals.checks().has_answered(addr))
        {
            return Ok(());
        }
        let init = RTCIceCandidateInit {
            candidate: candidate.candidate,
            sdp_mid: candidate.mid,
            sdp_mline_index: candidate.line,
            ..Default::default()
        };
        self.inner
            .add_ice_candidate(init)
            .await
            .map_err(|error| protocol(format_args!("a bad candidate: {error}")))
    }

    pub(crate) async fn set_ice_servers(
        &self,
        servers: &[IceServer],
        relay_only: bool,
    ) -> Result<()> {
        if relay_only && !self.relay_only {
            let why = "relay_only has to be set before the connection is made";
            return Err(Error::new(ErrorKind::Unsupported, why));
        }
        let configuration = RTCConfigurationBuilder::new()
            .with_ice_servers(ice_servers(servers))
            .with_ice_transport_policy(policy(relay_only))
            .with_certificates(self.inner.get_configuration().await.certificates().to_vec())
            .build();
        self.inner
            .set_configuration(configuration)
            .await
            .map_err(engine_failed)
    }

    pub(crate) async fn open_channel(
        &self,
        label: &str,
        options: ChannelOptions,
    ) -> Result<Channel> {
        let channel = self
            .inner
            .create_data_channel(label, Some(options.into()))
            .await
            .map_err(engine_failed)?;
        let channel = Channel::new(channel);
        channel.set_quiet().await;
        Ok(channel)
    }

    /// Returns the largest message that the peer takes, in bytes.
    pub(crate) async fn max_message(&self) -> Option<u32> {
        let engine = self.inner.sctp().await?.max_message_size().await.ok()?;
        Some(match self.peer_message.load(Ordering::Relaxed) {
            0 => engine,
            announced => announced.min(engine),
        })
    }

    /// Returns the peer's certificates, each in DER.
    pub(crate) async fn certificates(&self) -> Vec<Bytes> {
        let Some(sctp) = self.inner.sctp().await else {
            return Vec::new();
        };
        let chain = sctp.transport().get_remote_certificates().await;
        chain
            .unwrap_or_default()
            .into_iter()
            .map(Bytes::from)
            .collect()
    }

    pub(crate) async fn candidate_pair(&self) -> Option<CandidatePair> {
        CandidatePair::of(&*self.inner).await
    }

    pub(crate) async fn stats(&self) -> SctpStats {
        SctpStats::of(&*self.inner).await
    }

    /// Returns the peer connection itself.
    #[cfg(feature = "native")]
    pub(crate) fn inner(&self) -> &Arc<dyn PeerConnection> {
        &self.inner
    }

    /// Ends the connection and frees its sockets and tasks. Data in flight may be lost.
    pub(crate) async fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        if let Err(error) = self.inner.close().await {
            tracing::debug!(%error, "closing the peer connection failed");
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if !*self.closed.get_mut()
            && let Ok(runtime) = Handle::try_current()
        {
            let inner = self.inner.clone();
            runtime.spawn(async move { inner.close().await });
        }
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer").finish_non_exhaustive()
    }
}

/// The user name and the password that ICE has of one side (RFC 8839, section 5.4).
#[derive(Debug, PartialEq, Eq)]
struct Credentials {
    ufrag: String,
    pwd: String,
}

impl Credentials {
    /// Those of a description, which are of all its sections here.
    fn of(sdp: &str) -> Option<Self> {
        let first = |name| {
            let mut values = sdp.lines().filter_map(|line| line.strip_prefix(name));
            values.next().map(|value| value.trim().to_owned())
        };
        Some(Self {
            ufrag: first("a=ice-ufrag:")?,
            pwd: first("a=ice-pwd:")?,
        })
    }
}

/// Returns the address of a candidate over UDP (RFC 8839, section 5.1), unless it is a name.
fn address(candidate: &str) -> Option<SocketAddr> {
    let mut words = candidate.split_ascii_whitespace().skip(2);
    let protocol = words.next()?;
    let (ip, port) = (words.nth(1)?, words.next()?);
    let addr = SocketAddr::new(ip.parse().ok()?, port.parse().ok()?);
    protocol.eq_ignore_ascii_case("udp").then_some(addr)
}

fn engine_failed(error: webrtc::error::Error) -> Error {
    let why = format!("the WebRTC engine failed: {error}");
    Error::with_source(ErrorKind::Failed, why, error)
}

fn bad_description(error: &webrtc::error::Error) -> Error {
    handshake(format_args!(
        "the peer's session description is unusable: {error}"
    ))
}

/// Returns the error for the alert that this side sent in the handshake of DTLS.
fn refused(alert: u8) -> Error {
    // Those about certificates (RFC 5246, section 7.2.2).
    if (41..=46).contains(&alert) {
        let why = "the peer's certificate does not have the fingerprint that was announced";
        return Error::new(ErrorKind::Unauthenticated, why);
    }
    let why = format!("the handshake of DTLS has failed with alert {alert}");
    Error::new(ErrorKind::Handshake, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_a_candidate_over_udp_is_found() {
        let found = |text| address(text).map(|addr| addr.to_string());
        let host = "candidate:1 1 udp 2130706431 127.0.0.1 44731 typ host";
        assert_eq!(found(host).unwrap(), "127.0.0.1:44731");
        let relay = "candidate:1 1 UDP 5 fd00::2 9 typ relay raddr 10.0.0.1 rport 7";
        assert_eq!(found(relay).unwrap(), "[fd00::2]:9");
        for other in [
            "candidate:1 1 tcp 2130706431 127.0.0.1 9 typ host tcptype active",
            "candidate:1 1 udp 2130706431 4f6e.local 44731 typ host",
            "candidate:1 1 udp 2130706431 127.0.0.1 70000 typ host",
            "candidate:1 1 udp 2130706431 127.0.0.1",
            "",
        ] {
            assert_eq!(found(other), None, "{other}");
        }
    }
}
