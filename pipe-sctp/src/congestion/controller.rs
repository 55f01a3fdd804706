//! What a congestion controller is told and asked.

use std::fmt::Debug;
use std::time::{Duration, Instant};

/// Controls the congestion window of one path.
///
/// All sizes are bytes of user data with their chunk headers, counted the same way in every call.
pub trait Controller: Send + Debug {
    /// Records `bytes` sent at `now`, with `in_flight` bytes outstanding before them.
    fn on_sent(&mut self, now: Instant, bytes: usize, in_flight: usize);

    /// Records an acknowledgement of bytes that had not been acknowledged before.
    fn on_ack(&mut self, ack: &Ack);

    /// Records a loss. Losses of packets that were sent before the last reduction are part of it and
    /// reduce the window no further.
    fn on_loss(&mut self, loss: &Loss);

    /// Undoes the last reduction: everything that was declared lost in it has arrived.
    fn on_spurious_loss(&mut self, now: Instant);

    /// Returns the congestion window in bytes, at least one packet.
    fn window(&self) -> usize;

    /// Returns the slow start threshold in bytes; `usize::MAX` before the first loss.
    fn ssthresh(&self) -> usize;

    /// Returns whether the window grows exponentially, which the pacer allows for.
    fn is_in_slow_start(&self) -> bool {
        self.window() < self.ssthresh()
    }

    /// Sets the largest packet in bytes.
    fn set_mtu(&mut self, mtu: usize);
}

/// Bytes that were acknowledged.
#[derive(Clone, Copy, Debug)]
pub struct Ack {
    /// When the acknowledgement arrived.
    pub now: Instant,
    /// Newly acknowledged bytes, cumulatively or in gap blocks.
    pub bytes: usize,
    /// When the newest of the acknowledged packets was sent.
    pub sent: Instant,
    /// The round trip that this acknowledgement measured, if any: none where it covers retransmitted
    /// data alone (Karn's algorithm, RFC 9260, section 6.3.1).
    pub rtt: Option<Duration>,
    /// The smoothed round trip.
    pub srtt: Duration,
    /// The least round trip that was measured on this path.
    pub min_rtt: Duration,
    /// Bytes outstanding before the acknowledgement.
    pub in_flight: usize,
    /// Whether something else than the window kept the sender from sending more: it had no data, or the
    /// peer's receive window was full. The window does not grow then.
    pub app_limited: bool,
}

/// Bytes that were declared lost.
#[derive(Clone, Copy, Debug)]
pub struct Loss {
    /// When the loss was detected.
    pub now: Instant,
    /// Bytes that were declared lost.
    pub lost_bytes: usize,
    /// When the newest of the lost packets was sent.
    pub largest_sent: Instant,
    /// Bytes outstanding before the loss was detected.
    pub in_flight: usize,
    /// Whether the retransmission timer expired: the window falls to one packet.
    pub persistent: bool,
}

/// Returns the initial window in bytes: ten packets as in RFC 6928, and at most 14,720 bytes.
pub(super) fn initial_window(mtu: usize) -> usize {
    (10 * mtu).min(14_720.max(2 * mtu))
}

/// Returns the least window and threshold after a loss in bytes (RFC 9260, section 7.2.3).
pub(super) fn minimum_window(mtu: usize) -> usize {
    4 * mtu
}

/// Returns the window after `idle` without anything in flight: half of it for each RTO of one second,
/// and no less than the initial one (RFC 9260, section 7.2.1, rule 5).
pub(super) fn window_after_idle(window: usize, mtu: usize, idle: Duration) -> usize {
    let least = initial_window(mtu);
    let halvings = u32::try_from(idle.as_secs()).unwrap_or(u32::MAX);
    window.min((window.checked_shr(halvings).unwrap_or(0)).max(least))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_initial_window_is_ten_packets_up_to_a_bound() {
        assert_eq!(initial_window(1_200), 12_000);
        assert_eq!(initial_window(1_472), 14_720);
        assert_eq!(initial_window(4_000), 14_720);
        assert_eq!(initial_window(9_000), 18_000);
    }

    #[test]
    fn idle_seconds_halve_the_window_down_to_the_initial_one() {
        let idle = Duration::from_millis;
        assert_eq!(window_after_idle(100_000, 1_200, idle(999)), 100_000);
        assert_eq!(window_after_idle(100_000, 1_200, idle(1_000)), 50_000);
        assert_eq!(window_after_idle(100_000, 1_200, idle(2_500)), 25_000);
        assert_eq!(window_after_idle(100_000, 1_200, Duration::MAX), 12_000);
        assert_eq!(window_after_idle(5_000, 1_200, idle(9_000)), 5_000);
    }
}
