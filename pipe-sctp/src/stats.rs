//! Counters and gauges of an association.

use std::time::Duration;

/// A snapshot of an association, from [`Association::stats`](crate::Association::stats).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Smoothed round-trip time, or `None` before the first measurement.
    pub smoothed_rtt: Option<Duration>,
    /// Variance of the round-trip time (RFC 6298).
    pub rtt_variance: Duration,
    /// Least round-trip time.
    pub min_rtt: Option<Duration>,
    /// Retransmission timeout.
    pub rto: Duration,
    /// Congestion window in bytes.
    pub congestion_window: usize,
    /// Slow-start threshold in bytes.
    pub slow_start_threshold: usize,
    /// Window that the peer announced last, in bytes.
    pub peer_window: usize,
    /// Bytes of chunks that are in flight.
    pub in_flight: usize,
    /// Window that this end would announce now, in bytes.
    pub receive_window: usize,
    /// Largest packet in bytes.
    pub mtu: usize,
    /// Packets sent.
    pub packets_sent: u64,
    /// Packets received with the right ports and checksum.
    pub packets_received: u64,
    /// Packets received and dropped: malformed, with a wrong checksum, or of another association.
    pub packets_dropped: u64,
    /// Bytes of the packets sent.
    pub bytes_sent: u64,
    /// Bytes of the packets received.
    pub bytes_received: u64,
    /// Messages taken by [`send`](crate::Association::send).
    pub messages_sent: u64,
    /// Messages that were complete and in order.
    pub messages_received: u64,
    /// Messages given up under a limit of [`SendOptions`](crate::SendOptions).
    pub messages_abandoned: u64,
    /// Chunks with data sent, retransmissions among them.
    pub chunks_sent: u64,
    /// Chunks with data sent again.
    pub chunks_retransmitted: u64,
    /// Chunks with data received more than once.
    pub chunks_duplicated: u64,
    /// Retransmission timeouts.
    pub timeouts: u64,
    /// Tail-loss probes.
    pub probes: u64,
    /// Reductions of the congestion window that were undone.
    pub spurious_losses: u64,
    /// Whether messages are interleaved (RFC 8260).
    pub interleaving: bool,
    /// Whether packets are sent without a checksum (RFC 9653).
    pub zero_checksum: bool,
    /// Whether the peer takes FORWARD-TSN (RFC 3758).
    pub partial_reliability: bool,
    /// Whether the peer takes stream resets (RFC 6525).
    pub reconfig: bool,
}
