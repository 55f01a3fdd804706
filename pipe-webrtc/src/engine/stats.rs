use std::time::Duration;

/// The two ends of the path that a connection's packets take.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CandidatePair {
    /// Candidate of this side, as in an SDP.
    pub local: String,
    /// The peer's candidate, as in an SDP.
    pub remote: String,
}

/// Statistics of the UDP port that connections share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct UdpPortStats {
    /// Number of connections that use it now.
    pub connections: usize,
    /// Datagrams that were dropped because they were for no connection.
    pub strangers: u64,
    /// Datagrams that were dropped because their connection had too many others to read.
    pub overflowed: u64,
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
