//! NewReno: additive increase, multiplicative decrease.

use super::controller::{Ack, Controller, Loss, initial_window, minimum_window, window_after_idle};
use std::time::Instant;

/// NewReno as RFC 9260, section 7.2 has it for SCTP.
///
/// Slow start grows by the acknowledged bytes (RFC 9002, section 7.3.1), since bursts are the pacer's.
#[derive(Debug)]
pub struct NewReno {
    mtu: usize,
    window: usize,
    ssthresh: usize,
    /// Bytes acknowledged since the window grew last in congestion avoidance.
    partial_bytes_acked: usize,
    /// Packets sent before this are part of the last reduction.
    recovery_start: Option<Instant>,
    /// Whether the retransmission timer expired, with no later packet acknowledged since.
    timed_out: bool,
    /// When anything was sent or acknowledged last.
    last_activity: Option<Instant>,
    undo: Option<Undo>,
}

/// The window before the last reduction.
#[derive(Clone, Copy, Debug)]
struct Undo {
    window: usize,
    ssthresh: usize,
}

impl NewReno {
    /// Creates a controller with the initial window for packets of at most `mtu` bytes.
    pub fn new(mtu: usize) -> NewReno {
        NewReno {
            mtu,
            window: initial_window(mtu),
            ssthresh: usize::MAX,
            partial_bytes_acked: 0,
            recovery_start: None,
            timed_out: false,
            last_activity: None,
            undo: None,
        }
    }
}

impl Controller for NewReno {
    fn on_sent(&mut self, now: Instant, _bytes: usize, in_flight: usize) {
        if let (0, Some(last)) = (in_flight, self.last_activity) {
            let idle = now.saturating_duration_since(last);
            let window = window_after_idle(self.window, self.mtu, idle);
            if window < self.window {
                self.ssthresh = self.ssthresh.max(self.window / 4 * 3);
                self.window = window;
                self.partial_bytes_acked = 0;
            }
        }
        self.last_activity = Some(now);
    }

    fn on_ack(&mut self, ack: &Ack) {
        self.last_activity = Some(ack.now);
        if self.recovery_start.is_some_and(|start| ack.sent <= start) {
            // After a timeout the window is one packet, and every acknowledgement counts.
            if !self.timed_out {
                return;
            }
        } else {
            self.timed_out = false;
        }
        if ack.app_limited {
            return;
        }
        if self.window < self.ssthresh {
            self.window = (self.window + ack.bytes).min(self.ssthresh.max(self.window));
        } else {
            self.partial_bytes_acked += ack.bytes;
            if self.partial_bytes_acked >= self.window {
                self.partial_bytes_acked -= self.window;
                self.window += self.mtu;
            }
        }
    }

    fn on_loss(&mut self, loss: &Loss) {
        let same = self
            .recovery_start
            .is_some_and(|start| loss.largest_sent <= start);
        // A timer that expires again and again leaves the threshold (RFC 5681, section 3.1).
        let repeated = loss.persistent && self.timed_out;
        if !same && !repeated {
            self.undo = Some(Undo {
                window: self.window,
                ssthresh: self.ssthresh,
            });
            self.ssthresh = (self.window / 2).max(minimum_window(self.mtu));
            self.window = self.ssthresh;
            self.partial_bytes_acked = 0;
            self.recovery_start = Some(loss.now);
        }
        if loss.persistent {
            self.window = self.mtu;
            self.partial_bytes_acked = 0;
            self.timed_out = true;
            self.recovery_start = Some(loss.now);
        }
    }

    fn on_spurious_loss(&mut self, _now: Instant) {
        if let Some(undo) = self.undo.take() {
            self.window = self.window.max(undo.window);
            self.ssthresh = self.ssthresh.max(undo.ssthresh);
            self.partial_bytes_acked = 0;
            self.recovery_start = None;
            self.timed_out = false;
        }
    }

    fn window(&self) -> usize {
        self.window
    }

    fn ssthresh(&self) -> usize {
        self.ssthresh
    }

    fn set_mtu(&mut self, mtu: usize) {
        self.mtu = mtu;
        self.window = self.window.max(mtu);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const MTU: usize = 1_000;
    const MS: Duration = Duration::from_millis(1);

    fn ack(reno: &mut NewReno, now: Instant, sent: Instant, app_limited: bool) {
        let (bytes, srtt, min_rtt) = (MTU, 40 * MS, 40 * MS);
        let in_flight = reno.window();
        reno.on_ack(&Ack {
            now,
            bytes,
            sent,
            rtt: None,
            srtt,
            min_rtt,
            in_flight,
            app_limited,
        });
    }

    fn lose(reno: &mut NewReno, now: Instant, largest_sent: Instant, persistent: bool) {
        let in_flight = reno.window();
        reno.on_loss(&Loss {
            now,
            lost_bytes: MTU,
            largest_sent,
            in_flight,
            persistent,
        });
    }

    #[test]
    fn slow_start_doubles_and_congestion_avoidance_adds_a_packet() {
        let (mut reno, now) = (NewReno::new(MTU), Instant::now());
        for _ in 0..10 {
            ack(&mut reno, now, now, false);
        }
        assert_eq!(reno.window(), 20 * MTU);
        lose(&mut reno, now, now, false);
        assert_eq!((reno.window(), reno.ssthresh()), (10 * MTU, 10 * MTU));
        let later = now + MS;
        for round in 1..=20 {
            for _ in 0..reno.window() / MTU {
                ack(&mut reno, later, later, false);
            }
            assert_eq!(reno.window(), (10 + round) * MTU);
        }
    }

    #[test]
    fn one_window_is_reduced_once() {
        let (mut reno, now) = (NewReno::new(MTU), Instant::now());
        reno.window = 100 * MTU;
        lose(&mut reno, now + 40 * MS, now, false);
        lose(&mut reno, now + 50 * MS, now + 30 * MS, false);
        ack(&mut reno, now + 50 * MS, now + 30 * MS, false);
        assert_eq!(reno.window(), 50 * MTU);
        lose(&mut reno, now + 90 * MS, now + 50 * MS, false);
        assert_eq!(reno.window(), 25 * MTU);
    }

    #[test]
    fn a_timeout_leaves_one_packet_and_repeated_ones_the_threshold() {
        let (mut reno, now) = (NewReno::new(MTU), Instant::now());
        reno.window = 100 * MTU;
        for second in 1..6 {
            let at = now + second * 1_000 * MS;
            lose(&mut reno, at, at - MS, true);
            assert_eq!((reno.window(), reno.ssthresh()), (MTU, 50 * MTU));
        }
        // Slow start up to the threshold.
        let later = now + 9_000 * MS;
        for _ in 0..49 {
            ack(&mut reno, later, later, false);
        }
        assert_eq!(reno.window(), 50 * MTU);
        ack(&mut reno, later, later, false);
        assert_eq!(reno.window(), 50 * MTU);
    }

    #[test]
    fn a_spurious_loss_is_undone() {
        let (mut reno, now) = (NewReno::new(MTU), Instant::now());
        reno.window = 100 * MTU;
        lose(&mut reno, now, now, false);
        reno.on_spurious_loss(now + MS);
        assert_eq!((reno.window(), reno.ssthresh()), (100 * MTU, usize::MAX));
    }

    #[test]
    fn an_unused_window_does_not_grow_and_an_idle_one_shrinks() {
        let (mut reno, now) = (NewReno::new(MTU), Instant::now());
        reno.window = 100 * MTU;
        for _ in 0..500 {
            ack(&mut reno, now, now, true);
        }
        assert_eq!(reno.window(), 100 * MTU);
        reno.ssthresh = 100 * MTU;
        reno.on_sent(now + 1_100 * MS, MTU, 0);
        assert_eq!((reno.window(), reno.ssthresh()), (50 * MTU, 100 * MTU));
    }

    #[test]
    fn the_threshold_is_four_packets_at_least() {
        let (mut reno, now) = (NewReno::new(MTU), Instant::now());
        for second in 1..20 {
            let at = now + second * 1_000 * MS;
            lose(&mut reno, at, at, false);
        }
        assert_eq!((reno.window(), reno.ssthresh()), (4 * MTU, 4 * MTU));
    }
}
