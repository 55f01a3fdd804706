use std::time::Duration;

use rtc::statistics::report::RTCStatsReportEntry;
use webrtc::peer_connection::PeerConnection;
use webrtc::peer_connection::StatsSelector;

use super::super::stats::{CandidatePair, SctpStats};

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
