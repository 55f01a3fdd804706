use std::fmt;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use pipe_core::{Error, ErrorKind, Result};
use rtc::ice::mdns::MulticastDnsMode;
use rtc::peer_connection::configuration::setting_engine::SctpMaxMessageSize;
use rtc::statistics::report::RTCStatsReportEntry;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::coop::unconstrained;
use webrtc::data_channel::DataChannel;
use webrtc::peer_connection::{
    PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCConfiguration,
    RTCConfigurationBuilder, RTCIceCandidateInit, RTCIceConnectionState, RTCIceGatheringState,
    RTCIceServer, RTCIceTransportPolicy, RTCPeerConnectionIceEvent, RTCPeerConnectionState,
    RTCSessionDescription, SettingEngine, SettingEngineBuilder, StatsSelector,
};
use webrtc::runtime::TokioRuntime;

use super::Faults;
use super::certificate::Certificate;
use super::channel::{Channel, ChannelOptions};
use super::external::External;
use super::runtime::{PipeRuntime, Vitals};
use super::task::Parts;
use crate::error::{handshake, protocol};
use crate::settings::IceServer;

/// How often a pair of candidates is tried, five times a second.
const MAX_CHECKS: u16 = 1500;

/// How many events may wait for the owner. Beyond, the engine waits.
const EVENTS: usize = 256;

/// A peer connection.
///
/// It has to be [closed](Self::close): dropping it starts that in the background.
pub(crate) struct Peer {
    inner: Arc<dyn PeerConnection>,
    vitals: Arc<Vitals>,
    /// The task of the engine.
    parts: Arc<Parts>,
    external: External,
    /// It was made without candidates of this machine, which the engine would keep.
    relay_only: bool,
    closed: AtomicBool,
}

/// How to make a peer connection.
#[derive(Clone, Debug)]
pub(crate) struct PeerOptions {
    pub(crate) bind: Vec<SocketAddr>,
    pub(crate) ice_servers: Vec<IceServer>,
    pub(crate) relay_only: bool,
    /// From silence to [`IceState::Disconnected`].
    pub(crate) disconnected_after: Duration,
    /// From there to [`IceState::Failed`].
    pub(crate) failed_after: Duration,
    pub(crate) keep_alive: Duration,
    pub(crate) receive_buffer: u32,
    pub(crate) max_message: u32,
    pub(crate) mtu: Option<u32>,
    pub(crate) mdns: bool,
    pub(crate) external_addrs: Vec<std::net::IpAddr>,
    pub(crate) certificate: Option<Certificate>,
    pub(crate) socket_buffer: u32,
    pub(crate) resolve_timeout: Duration,
    pub(crate) faults: Option<Faults>,
}

/// What a peer connection tells.
#[derive(Debug)]
pub(crate) enum PeerEvent {
    /// A candidate of this side, for the other one.
    Candidate(Candidate),
    /// This side has no more candidates.
    GatheringDone,
    Ice(IceState),
    /// The peer has opened a channel.
    Channel(Channel),
    /// The transport under the channels is over.
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IceState {
    Connecting,
    Connected,
    Disconnected,
    Failed,
}

/// A way to reach one side (RFC 8839, section 5.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) candidate: String,
    pub(crate) mid: Option<String>,
    pub(crate) line: Option<u16>,
}

/// The two ends of the path that a connection's packets take.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CandidatePair {
    /// This side's candidate, as in an SDP.
    pub local: String,
    /// The peer's candidate, as in an SDP.
    pub remote: String,
}

/// What is known of the transport under a connection. What the engine does not tell is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct SctpStats {
    /// Bytes sent in packets, headers included.
    pub bytes_sent: u64,
    /// Bytes received in packets, headers included.
    pub bytes_received: u64,
    /// The last round trip that ICE measured on the path.
    pub round_trip: Option<Duration>,
    /// The smoothed round trip of SCTP.
    pub smoothed_round_trip: Option<Duration>,
    /// The congestion window, in bytes.
    pub congestion_window: Option<u32>,
    /// The receive window of the peer, in bytes.
    pub receive_window: Option<u32>,
    /// The largest packet of SCTP, in bytes.
    pub mtu: Option<u32>,
}

impl Peer {
    /// Binds the sockets of a new peer connection.
    ///
    /// Dropping the future leaves nothing behind.
    pub(crate) async fn new(options: PeerOptions) -> Result<(Self, mpsc::Receiver<PeerEvent>)> {
        let vitals = Vitals::new();
        let (parts, task) = Parts::new();
        let (events, receiver) = mpsc::channel(EVENTS);
        let (mtu, mdns, bound) = (options.mtu, options.mdns, options.bind.clone());
        let relay_only = options.relay_only;
        // The engine has a setting for such addresses, and does not look at it.
        let external = External {
            addrs: options.external_addrs.clone().into(),
            relay_only: options.relay_only,
        };
        let outside = external.clone();
        let builder = PeerConnectionBuilder::new()
            .with_configuration(configuration(&options)?)
            .with_setting_engine(engine(&options, mtu))
            .with_handler(Arc::new(Handler { events, external }))
            .with_runtime(Arc::new(PipeRuntime {
                inner: TokioRuntime,
                task: Mutex::new(Some((parts.clone(), task))),
                vitals: vitals.clone(),
                faults: options.faults,
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
                closed: AtomicBool::new(false),
            });
            // Whoever asked may have given up; then the peer is dropped here, which closes it.
            let _ = done.send(built);
        });
        match built.await {
            // The engine leaves out what it cannot bind, and fails if that is all.
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

    /// Runs this in the engine's task, where handing something to the engine and back costs the least. The
    /// engine goes on when this waits, so it may take all that there is to do.
    pub(crate) fn run_beside(&self, part: impl Future<Output = ()> + Send + 'static) {
        self.parts.add(unconstrained(part));
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
        let offer = RTCSessionDescription::offer(offer).map_err(|error| bad_description(&error))?;
        self.inner
            .set_remote_description(offer)
            .await
            .map_err(|error| bad_description(&error))?;
        let described = async {
            let answer = self.inner.create_answer(None).await?;
            self.inner.set_local_description(answer.clone()).await?;
            Ok(self.external.description(answer.sdp))
        };
        described.await.map_err(engine_failed)
    }

    /// Takes the peer's answer to the last offer.
    pub(crate) async fn accept_answer(&self, answer: String) -> Result<()> {
        let answer =
            RTCSessionDescription::answer(answer).map_err(|error| bad_description(&error))?;
        self.inner
            .set_remote_description(answer)
            .await
            .map_err(|error| bad_description(&error))
    }

    /// Takes a candidate of the peer. It has to come after the description that it belongs to.
    pub(crate) async fn add_candidate(&self, candidate: Candidate) -> Result<()> {
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

    /// Asks for new credentials and candidates; the next [`offer`](Self::offer) carries them.
    pub(crate) async fn restart_ice(&self) -> Result<()> {
        self.vitals.set_connecting(true);
        self.inner.restart_ice().await.map_err(engine_failed)
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

    /// The largest message that the peer takes, in bytes.
    pub(crate) async fn max_message(&self) -> Option<u32> {
        self.inner.sctp().await?.max_message_size().await.ok()
    }

    /// The peer's certificates, each in DER.
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
        let ice = self.inner.sctp().await?.transport().ice_transport();
        let pair = ice.get_selected_candidate_pair().await.ok()??;
        let text = |candidate: &rtc::peer_connection::transport::RTCIceCandidate| {
            candidate.to_json().map(|json| json.candidate).ok()
        };
        Some(CandidatePair {
            local: text(pair.local())?,
            remote: text(pair.remote())?,
        })
    }

    pub(crate) async fn stats(&self) -> SctpStats {
        let report = self
            .inner
            .get_stats(std::time::Instant::now(), StatsSelector::None)
            .await;
        let mut stats = SctpStats::default();
        for entry in report.iter() {
            match entry {
                RTCStatsReportEntry::Transport(transport) => {
                    stats.bytes_sent = transport.bytes_sent;
                    stats.bytes_received = transport.bytes_received;
                }
                RTCStatsReportEntry::IceCandidatePair(pair) if pair.nominated => {
                    let seconds = pair.current_round_trip_time;
                    stats.round_trip = Duration::try_from_secs_f64(seconds)
                        .ok()
                        .filter(|time| !time.is_zero());
                }
                _ => {}
            }
        }
        stats
    }

    /// The peer connection itself.
    pub(crate) fn inner(&self) -> &Arc<dyn PeerConnection> {
        &self.inner
    }

    /// Ends the connection and frees its sockets and tasks. What is under way may be lost.
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

/// Passes the engine's events on.
struct Handler {
    events: mpsc::Sender<PeerEvent>,
    external: External,
}

impl Handler {
    async fn tell(&self, event: PeerEvent) {
        // Nobody listens to a peer that is being closed.
        let _ = self.events.send(event).await;
    }
}

#[async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_candidate(&self, event: RTCPeerConnectionIceEvent) {
        let init = match event.candidate.to_json() {
            Ok(init) => init,
            Err(error) => {
                tracing::debug!(%error, "a candidate of this side is unusable");
                return;
            }
        };
        for candidate in self.external.candidates(&init.candidate) {
            self.tell(PeerEvent::Candidate(Candidate {
                candidate,
                mid: init.sdp_mid.clone(),
                line: init.sdp_mline_index,
            }))
            .await;
        }
    }

    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        if state == RTCIceGatheringState::Complete {
            self.tell(PeerEvent::GatheringDone).await;
        }
    }

    async fn on_ice_connection_state_change(&self, state: RTCIceConnectionState) {
        let state = match state {
            RTCIceConnectionState::Checking => IceState::Connecting,
            RTCIceConnectionState::Connected | RTCIceConnectionState::Completed => {
                IceState::Connected
            }
            RTCIceConnectionState::Disconnected => IceState::Disconnected,
            RTCIceConnectionState::Failed => IceState::Failed,
            _ => return,
        };
        self.tell(PeerEvent::Ice(state)).await;
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        if state == RTCPeerConnectionState::Closed {
            self.tell(PeerEvent::Closed).await;
        }
    }

    async fn on_data_channel(&self, channel: Arc<dyn DataChannel>) {
        self.tell(PeerEvent::Channel(Channel::new(channel))).await;
    }
}

fn configuration(options: &PeerOptions) -> Result<RTCConfiguration> {
    let mut builder = RTCConfigurationBuilder::new()
        .with_ice_servers(ice_servers(&options.ice_servers))
        .with_ice_transport_policy(policy(options.relay_only));
    if let Some(certificate) = &options.certificate {
        builder = builder.with_certificates(vec![certificate.engine()?]);
    }
    Ok(builder.build())
}

fn ice_servers(servers: &[IceServer]) -> Vec<RTCIceServer> {
    servers
        .iter()
        .map(|server| RTCIceServer {
            urls: server.urls.clone(),
            username: server.username.clone(),
            credential: server.credential.clone(),
        })
        .collect()
}

fn policy(relay_only: bool) -> RTCIceTransportPolicy {
    if relay_only {
        RTCIceTransportPolicy::Relay
    } else {
        RTCIceTransportPolicy::All
    }
}

fn engine(options: &PeerOptions, mtu: Option<u32>) -> SettingEngine {
    let mdns = if options.mdns {
        MulticastDnsMode::QueryAndGather
    } else {
        MulticastDnsMode::Disabled
    };
    let mut builder = SettingEngineBuilder::new()
        .with_ice_timeouts(
            Some(options.disconnected_after),
            Some(options.failed_after),
            Some(options.keep_alive),
        )
        // A pair that works is taken at once when the check of the peer came before its candidate: to
        // wait for that one would cost a second, and it is of the same path.
        .with_prflx_acceptance_min_wait(Some(Duration::ZERO))
        .with_multicast_dns_mode(mdns)
        .with_include_loopback_candidate(true)
        // A pair is tried as long as the connection may come back.
        .with_ice_connection_attempts(None, Some(MAX_CHECKS))
        // A channel whose opening is not answered is no failure while the peer is away.
        .with_dcep_handshake_timeout(None)
        .with_sctp_max_receive_buffer_size(options.receive_buffer)
        .with_sctp_max_message_size(SctpMaxMessageSize::Bounded(options.max_message));
    if options.relay_only {
        // No better path can come, so that nothing is gained by a wait for one.
        builder = builder.with_relay_acceptance_min_wait(Some(Duration::ZERO));
    }
    if let Some(mtu) = mtu {
        builder = builder.with_sctp_mtu(mtu);
    }
    builder.build()
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
