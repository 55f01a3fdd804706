use std::time::Duration;

use rtc::statistics::report::RTCStatsReportEntry;
use webrtc::peer_connection::PeerConnection;
use webrtc::peer_connection::StatsSelector;

/// The two ends of the path that a connection's packets take.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CandidatePair {
    /// Candidate of this side, as in an SDP.
    pub local: String,
    /// The peer's candidate, as in an SDP.
    pub remote: String,
}

/// Statistics of the transport under a connection. Values that the engine does not report are
/// absent.
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

impl CandidatePair {
    /// Returns the path that the packets of a peer connection take.
    pub(super) async fn of(peer: &dyn PeerConnection) -> Option<Self> {
        let ice = peer.sctp().await?.transport().ice_transport();
        let pair = ice.get_selected_candidate_pair().await.ok()??;
        let text = |candidate: &rtc::peer_connection::transport::RTCIceCandidate| {
            candidate.to_json().map(|json| json.candidate).ok()
        };
        Some(Self {
            local: text(pair.local())?,
            remote: text(pair.remote())?,
        })
    }
}

impl SctpStats {
    /// Returns the statistics of a peer connection.
    pub(super) async fn of(peer: &dyn PeerConnection) -> Self {
        let report = peer
            .get_stats(std::time::Instant::now(), StatsSelector::None)
            .await;
        let mut stats = Self::default();
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
}
