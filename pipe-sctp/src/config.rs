//! Settings of an association.

use crate::congestion::CongestionKind;
use std::time::Duration;

/// Settings of an [`Association`](crate::Association).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Port of this end. 5000, as WebRTC has it.
    pub local_port: u16,
    /// Port of the peer. 5000.
    pub remote_port: u16,
    /// Largest message taken from the peer, in bytes. A larger one ends the association. 262,144.
    pub max_message_size: usize,
    /// Bytes of received messages that are kept until they are taken with
    /// [`poll_message`](crate::Association::poll_message), each with an overhead of 96, as much as it
    /// takes of the heap; announced to the peer as its window. Twice of it, in messages not yet complete
    /// or TSNs beyond gaps, ends the association. 1 MiB.
    pub receive_buffer: usize,
    /// Bytes that are queued or not yet acknowledged, beyond which
    /// [`send`](crate::Association::send) is refused. 1 MiB.
    pub send_buffer: usize,
    /// Bytes queued or not yet acknowledged at which [`BufferedLow`](crate::Event::BufferedLow) is
    /// reported, once they were above. 256 KiB.
    pub buffered_low: usize,
    /// Largest packet, in bytes of DTLS payload. 1,191 by default, at least 512: 1,280 without the headers
    /// of IPv6, UDP and DTLS.
    pub mtu: usize,
    /// Least retransmission timeout. 30 ms.
    pub rto_min: Duration,
    /// Retransmission timeout before the first measurement. 500 ms.
    pub rto_initial: Duration,
    /// Longest retransmission timeout that backoff leads to. 1 s, so that a cut heals soon after it
    /// ends.
    pub rto_max: Duration,
    /// How long the acknowledgement of a single packet is delayed. At most 500 ms. 10 ms.
    pub sack_delay: Duration,
    /// Whether the peer is told of [`sack_delay`](Self::sack_delay), in a parameter that other
    /// implementations do not know. They have to ignore it (RFC 9260, section 3.2.1), but some drop the
    /// INIT. `true`.
    pub announce_sack_delay: bool,
    /// Most packets of data in answer to one SACK, beyond as many as it acknowledges. 128: a peer that reads what the
    /// system has put together, up to 64 packets, has work while its SACK for them is on its way.
    pub max_burst: usize,
    /// How long the peer may leave everything unanswered before the association fails. `None`:
    /// packets are sent again until the association is dropped. `None`.
    pub failed_after: Option<Duration>,
    /// How long an association is idle before a HEARTBEAT is sent. `None`: none is sent. `None`.
    pub heartbeat_interval: Option<Duration>,
    /// The congestion controller. CUBIC.
    pub congestion: CongestionKind,
    /// Whether messages of different streams are interleaved (RFC 8260) if the peer can. `true`.
    pub interleaving: bool,
    /// Whether packets without a checksum are taken, and sent if the peer takes them (RFC 9653). DTLS
    /// protects them. `true`.
    pub zero_checksum: bool,
    /// Most streams towards the peer. 65,535, with ids up to 65,534: 65,535 is the id of no stream (RFC
    /// 8832, section 6).
    pub outbound_streams: u16,
    /// Most streams from the peer. 65,535.
    pub inbound_streams: u16,
}

/// Largest receive buffer, in bytes.
pub(crate) const MAX_RECEIVE_BUFFER: usize = u32::MAX as usize / 4;

impl Default for Config {
    fn default() -> Self {
        Self {
            local_port: 5000,
            remote_port: 5000,
            max_message_size: 256 * 1024,
            receive_buffer: 1024 * 1024,
            send_buffer: 1024 * 1024,
            buffered_low: 256 * 1024,
            mtu: 1191,
            rto_min: Duration::from_millis(30),
            rto_initial: Duration::from_millis(500),
            rto_max: Duration::from_secs(1),
            sack_delay: Duration::from_millis(10),
            announce_sack_delay: true,
            max_burst: 128,
            failed_after: None,
            heartbeat_interval: None,
            congestion: CongestionKind::default(),
            interleaving: true,
            zero_checksum: true,
            outbound_streams: u16::MAX,
            inbound_streams: u16::MAX,
        }
    }
}

impl Config {
    /// Returns the settings with each brought into the range that works.
    pub(crate) fn checked(mut self) -> Self {
        self.mtu = self.mtu.clamp(512, 65_535) & !3;
        self.receive_buffer = self.receive_buffer.clamp(4 * self.mtu, MAX_RECEIVE_BUFFER);
        self.sack_delay = self.sack_delay.min(Duration::from_millis(500));
        self.rto_min = self.rto_min.max(Duration::from_millis(1));
        self.rto_initial = self.rto_initial.max(self.rto_min);
        self.rto_max = self.rto_max.max(self.rto_min);
        self.max_burst = self.max_burst.max(1);
        self.outbound_streams = self.outbound_streams.max(1);
        self.inbound_streams = self.inbound_streams.max(1);
        self
    }
}
