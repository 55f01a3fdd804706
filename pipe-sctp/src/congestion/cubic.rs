//! CUBIC: the window is a function of the time since the last loss, not of the round trip.

use super::controller::{Ack, Controller, Loss, initial_window, minimum_window, window_after_idle};
use super::hystart::HyStart;
use std::time::{Duration, Instant};

/// How fast the window grows, in packets a second cubed (RFC 9438, section 5.1).
const C: f64 = 0.4;
/// What is left of the window after a loss (RFC 9438, section 4.6).
const BETA: f64 = 0.7;
/// Packets a round trip that make the estimate grow as Reno with [`BETA`] would (RFC 9438, section 4.3).
const ALPHA: f64 = 3.0 * (1.0 - BETA) / (1.0 + BETA);

/// CUBIC (RFC 9438) with HyStart++ (RFC 9406).
#[derive(Debug)]
pub struct Cubic {
    mtu: usize,
    /// The congestion window in bytes.
    window: f64,
    ssthresh: usize,
    /// Leaves the first slow start early; `None` after it.
    hystart: Option<HyStart>,
    /// The window before the last reduction, in bytes; less after fast convergence. `W_max` of the RFC; 0 where
    /// the curve begins at its plateau.
    window_max: f64,
    /// The window before the last reduction in bytes. `cwnd_prior` of the RFC.
    window_prior: f64,
    /// The stage of congestion avoidance; `None` before its first acknowledgement.
    stage: Option<Stage>,
    /// Packets sent before this are part of the last reduction.
    recovery_start: Option<Instant>,
    /// Whether the retransmission timer expired, with no later packet acknowledged since.
    timed_out: bool,
    /// Since when the sender has not used its window.
    limited_since: Option<Instant>,
    /// When anything was sent or acknowledged last.
    last_activity: Option<Instant>,
    undo: Option<Undo>,
}

/// A stage of congestion avoidance.
#[derive(Clone, Copy, Debug)]
struct Stage {
    /// Its beginning, moved by the time in which the window was not used (RFC 9438, section 5.8).
    start: Instant,
    /// Seconds until the curve reaches its plateau. `K` of the RFC.
    plateau: f64,
    /// The window of Reno in bytes. `W_est` of the RFC.
    estimate: f64,
}

/// What a reduction changed.
#[derive(Clone, Copy, Debug)]
struct Undo {
    window: f64,
    ssthresh: usize,
    window_max: f64,
    window_prior: f64,
    stage: Option<Stage>,
}

impl Cubic {
    /// Creates a controller with the initial window for packets of at most `mtu` bytes.
    pub fn new(mtu: usize) -> Cubic {
        Cubic {
            mtu,
            window: initial_window(mtu) as f64,
            ssthresh: usize::MAX,
            hystart: Some(HyStart::default()),
            window_max: 0.0,
            window_prior: 0.0,
            stage: None,
            recovery_start: None,
            timed_out: false,
            limited_since: None,
            last_activity: None,
            undo: None,
        }
    }

    fn slow_start(&mut self, ack: &Ack) {
        let grown = match &mut self.hystart {
            Some(hystart) => hystart.on_ack(ack.now, ack.sent, ack.rtt, ack.bytes),
            None => Some(ack.bytes),
        };
        match grown {
            Some(bytes) => {
                let most = if self.ssthresh == usize::MAX {
                    f64::MAX
                } else {
                    self.ssthresh as f64
                };
                self.window = (self.window + bytes as f64).min(most);
            }
            None => {
                self.hystart = None;
                self.ssthresh = self.window as usize;
            }
        }
    }

    fn congestion_avoidance(&mut self, ack: &Ack) {
        let mtu = self.mtu as f64;
        let window = self.window;
        let stage = self.stage.get_or_insert_with(|| {
            if self.window_max <= window {
                self.window_max = window;
            }
            let plateau = ((self.window_max - window) / mtu / C).cbrt();
            Stage {
                start: ack.now,
                plateau,
                estimate: window,
            }
        });
        let elapsed = ack.now.saturating_duration_since(stage.start);
        let curve =
            |at: Duration| C * mtu * (at.as_secs_f64() - stage.plateau).powi(3) + self.window_max;

        // Once the estimate is back at the window before the loss, it grows as Reno does (section 4.3).
        let alpha = if stage.estimate < self.window_prior {
            ALPHA
        } else {
            1.0
        };
        stage.estimate += alpha * mtu * (ack.bytes as f64 / window);

        if curve(elapsed) < stage.estimate {
            self.window = window.max(stage.estimate);
        } else {
            let target = curve(elapsed + ack.srtt).clamp(window, 1.5 * window);
            self.window = window + (target - window) * (ack.bytes as f64 / window).min(1.0);
        }
    }

    fn reduce(&mut self, now: Instant) {
        self.undo = Some(Undo {
            window: self.window,
            ssthresh: self.ssthresh,
            window_max: self.window_max,
            window_prior: self.window_prior,
            stage: self.stage,
        });
        // Fast convergence (section 4.7): a window that did not get back to the last plateau makes room.
        self.window_max = if self.window < self.window_max {
            self.window * (1.0 + BETA) / 2.0
        } else {
            self.window
        };
        self.window_prior = self.window;
        self.window = (self.window * BETA).max(minimum_window(self.mtu) as f64);
        self.ssthresh = self.window as usize;
        self.hystart = None;
        self.stage = None;
        self.recovery_start = Some(now);
    }
}

impl Controller for Cubic {
    fn on_sent(&mut self, now: Instant, _bytes: usize, in_flight: usize) {
        if let (0, Some(last)) = (in_flight, self.last_activity) {
            let idle = now.saturating_duration_since(last);
            let window = window_after_idle(self.window as usize, self.mtu, idle);
            if window < self.window as usize {
                self.ssthresh = self.ssthresh.max((self.window * 0.75) as usize);
                self.window = window as f64;
                self.stage = None;
                self.limited_since = None;
            } else {
                self.limited_since.get_or_insert(last);
            }
        }
        self.last_activity = Some(now);
    }

    fn on_ack(&mut self, ack: &Ack) {
        let last = self.last_activity.replace(ack.now).unwrap_or(ack.now);
        let in_recovery = self.recovery_start.is_some_and(|start| ack.sent <= start);
        if !in_recovery {
            self.timed_out = false;
        }
        if ack.app_limited {
            self.limited_since.get_or_insert(last);
            return;
        }
        if let (Some(since), Some(stage)) = (self.limited_since.take(), &mut self.stage) {
            let unused = ack.now.saturating_duration_since(since);
            stage.start = stage
                .start
                .checked_add(unused)
                .map_or(ack.now, |start| start.min(ack.now));
        }
        // After a timeout the window is one packet, and every acknowledgement counts.
        if in_recovery && !self.timed_out {
            return;
        }
        if self.is_in_slow_start() {
            self.slow_start(ack);
        } else {
            self.congestion_avoidance(ack);
        }
    }

    fn on_loss(&mut self, loss: &Loss) {
        let same = self
            .recovery_start
            .is_some_and(|start| loss.largest_sent <= start);
        // A timer that expires again and again leaves the threshold (RFC 5681, section 3.1).
        let repeated = loss.persistent && self.timed_out;
        if !same && !repeated {
            self.reduce(loss.now);
        }
        if loss.persistent {
            // The curve begins at its plateau, with the window that slow start reaches (section 4.8).
            self.window_max = 0.0;
            self.window = self.mtu as f64;
            self.stage = None;
            self.timed_out = true;
            self.recovery_start = Some(loss.now);
        }
    }

    fn on_spurious_loss(&mut self, _now: Instant) {
        if let Some(undo) = self.undo.take() {
            self.window = self.window.max(undo.window);
            self.ssthresh = self.ssthresh.max(undo.ssthresh);
            self.window_max = undo.window_max;
            self.window_prior = undo.window_prior;
            self.stage = undo.stage;
            self.recovery_start = None;
            self.timed_out = false;
        }
    }

    fn window(&self) -> usize {
        self.window as usize
    }

    fn ssthresh(&self) -> usize {
        self.ssthresh
    }

    fn set_mtu(&mut self, mtu: usize) {
        self.mtu = mtu;
        self.window = self.window.max(mtu as f64);
    }
}

#[cfg(test)]
mod tests;
