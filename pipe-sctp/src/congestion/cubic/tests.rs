use super::*;

const MTU: usize = 1_000;
const MS: Duration = Duration::from_millis(1);

/// A path without a queue: every window is acknowledged one round trip later, a packet at a time.
struct Path {
    cubic: Cubic,
    now: Instant,
    rtt: Duration,
}

impl Path {
    fn new(rtt: Duration) -> Path {
        Path {
            cubic: Cubic::new(MTU),
            now: Instant::now(),
            rtt,
        }
    }

    /// A path in congestion avoidance after a loss at `window` bytes.
    fn after_loss(window: usize, rtt: Duration) -> Path {
        let mut path = Path::new(rtt);
        path.cubic.window = window as f64;
        path.lose();
        path
    }

    fn ack(&mut self, sent: Instant, bytes: usize, app_limited: bool) {
        let in_flight = self.cubic.window();
        let (now, rtt) = (self.now, self.rtt);
        self.cubic.on_ack(&Ack {
            now,
            bytes,
            sent,
            rtt: Some(rtt),
            srtt: rtt,
            min_rtt: rtt,
            in_flight,
            app_limited,
        });
    }

    /// One round trip of a full window.
    fn round(&mut self) {
        let packets = self.cubic.window() / MTU;
        let sent = self.now + Duration::from_nanos(1);
        for _ in 0..packets {
            self.now += self.rtt / packets as u32;
            self.ack(sent, MTU, false);
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.round();
        }
    }

    fn loss(&mut self, largest_sent: Instant, persistent: bool) {
        let in_flight = self.cubic.window();
        self.cubic.on_loss(&Loss {
            now: self.now,
            lost_bytes: MTU,
            largest_sent,
            in_flight,
            persistent,
        });
    }

    fn lose(&mut self) {
        self.loss(self.now, false);
        self.now += MS;
    }
}

fn assert_near(value: usize, expected: f64, tolerance: f64) {
    let off = (value as f64 - expected).abs() / expected;
    assert!(off <= tolerance, "{value} is not {expected}");
}

#[test]
fn slow_start_doubles_the_window_each_round_trip() {
    let mut path = Path::new(40 * MS);
    for round in 1..8 {
        path.round();
        assert_eq!(path.cubic.window(), (10 * MTU) << round);
    }
    assert!(path.cubic.is_in_slow_start());
}

#[test]
fn a_queue_that_grows_ends_slow_start_without_a_loss() {
    let mut path = Path::new(40 * MS);
    for _ in 0..3 {
        path.round();
    }
    for _ in 0..10 {
        path.rtt = path.rtt.min(60 * MS) + 8 * MS;
        path.round();
    }
    assert!(!path.cubic.is_in_slow_start());
    assert!(path.cubic.window() < 500 * MTU, "{}", path.cubic.window());
}

#[test]
fn a_loss_leaves_seven_tenths() {
    let mut path = Path::new(40 * MS);
    path.cubic.window = 200_000.0;
    path.loss(path.now, false);
    assert_eq!(
        (path.cubic.window(), path.cubic.ssthresh()),
        (140_000, 140_000)
    );
    assert!(!path.cubic.is_in_slow_start());
}

#[test]
fn losses_of_one_window_are_one_reduction() {
    let mut path = Path::new(40 * MS);
    path.cubic.window = 200_000.0;
    let sent = path.now;
    path.now += 40 * MS;
    path.loss(sent, false);
    path.loss(sent + 30 * MS, false);
    path.loss(path.now, false);
    assert_eq!(path.cubic.window(), 140_000);
    path.now += 40 * MS;
    path.loss(path.now, false);
    assert_eq!(path.cubic.window(), 98_000);
}

#[test]
fn packets_of_before_the_loss_do_not_grow_the_window() {
    let mut path = Path::after_loss(200_000, 40 * MS);
    let before = path.now - 2 * MS;
    for _ in 0..100 {
        path.ack(before, MTU, false);
    }
    assert_eq!(path.cubic.window(), 140_000);
}

#[test]
fn the_window_follows_the_curve_back_to_the_plateau_and_beyond() {
    // With 1,000 packets and 100 ms, Reno is slower. K = cbrt(300 / 0.4) = 9.086 s.
    let (max, k) = (1_000.0, 9.086);
    let mut path = Path::after_loss(1_000_000, 100 * MS);
    for seconds in [2u32, 5, 9, 12, 15] {
        let mut path_at = Path::after_loss(1_000_000, 100 * MS);
        path_at.run(Duration::from_secs(seconds.into()));
        let t = f64::from(seconds);
        let expected = (0.4 * (t - k).powi(3) + max) * MTU as f64;
        assert_near(path_at.cubic.window(), expected, 0.03);
    }
    path.run(Duration::from_millis(9_086));
    assert_near(path.cubic.window(), 1_000_000.0, 0.01);
}

#[test]
fn the_growth_does_not_depend_on_the_round_trip() {
    let windows = [50, 100, 200].map(|rtt| {
        let mut path = Path::after_loss(2_000_000, rtt * MS);
        path.run(Duration::from_secs(14));
        path.cubic.window() as f64
    });
    assert!(windows[0] / windows[2] < 1.03, "{windows:?}");
}

#[test]
fn the_window_grows_by_half_at_most_in_a_round_trip() {
    let mut path = Path::after_loss(100_000, 100 * MS);
    path.round();
    // A curve far above the window.
    path.cubic.stage.as_mut().unwrap().start -= Duration::from_secs(100);
    let before = path.cubic.window() as f64;
    path.round();
    // Half of each packet that is acknowledged, which compounds within the round.
    let ratio = path.cubic.window() as f64 / before;
    assert!((1.4..1.66).contains(&ratio), "{ratio}");
}

#[test]
fn on_short_round_trips_it_is_as_fast_as_reno() {
    // 20 packets at 10 ms: the estimate grows by 9/17 of a packet a round trip until the window of before the
    // loss, then by one.
    let mut path = Path::after_loss(20_000, 10 * MS);
    for _ in 0..5 {
        path.round();
    }
    assert_near(path.cubic.window(), 14_000.0 + 5.0 * ALPHA * 1_000.0, 0.02);
    for _ in 0..60 {
        path.round();
    }
    let rounds = 65.0 - 6_000.0 / (ALPHA * 1_000.0);
    assert_near(path.cubic.window(), 20_000.0 + rounds * 1_000.0, 0.03);
}

#[test]
fn fast_convergence_makes_room_for_others() {
    let mut path = Path::after_loss(1_000_000, 100 * MS);
    assert_eq!(path.cubic.window_max, 1_000_000.0);
    path.now += 100 * MS;
    path.lose();
    assert_eq!(path.cubic.window_max, 700_000.0 * 0.85);
    assert_near(path.cubic.window(), 490_000.0, 0.001);
}

#[test]
fn a_timeout_leaves_one_packet_and_slow_start_up_to_the_threshold() {
    let mut path = Path::after_loss(100_000, 100 * MS);
    path.run(2_000 * MS);
    let before = path.cubic.window() as f64;
    path.now += Duration::from_secs(1);
    path.loss(path.now - 500 * MS, true);
    assert_eq!(path.cubic.window(), MTU);
    assert_near(path.cubic.ssthresh(), before * BETA, 0.01);
    for _ in 0..7 {
        path.round();
    }
    assert!(!path.cubic.is_in_slow_start());
    let threshold = path.cubic.ssthresh() as f64;
    // The curve begins at its plateau.
    assert_eq!(path.cubic.stage.unwrap().plateau, 0.0);
    assert_near(path.cubic.window_max as usize, threshold, 0.01);
}

#[test]
fn repeated_timeouts_keep_the_threshold() {
    let mut path = Path::after_loss(1_000_000, 100 * MS);
    path.now += Duration::from_secs(1);
    path.loss(path.now - MS, true);
    let threshold = path.cubic.ssthresh();
    for _ in 0..10 {
        let sent = path.now + MS;
        path.now += Duration::from_secs(2);
        path.loss(sent, true);
    }
    assert_eq!(
        (path.cubic.window(), path.cubic.ssthresh()),
        (MTU, threshold)
    );
}

#[test]
fn a_spurious_loss_is_undone_with_the_place_on_the_curve() {
    let mut path = Path::after_loss(1_000_000, 100 * MS);
    path.run(3_000 * MS);
    let (window, threshold, stage) = (
        path.cubic.window(),
        path.cubic.ssthresh(),
        path.cubic.stage.unwrap(),
    );
    path.lose();
    path.run(200 * MS);
    path.cubic.on_spurious_loss(path.now);
    assert_eq!(
        (path.cubic.window(), path.cubic.ssthresh()),
        (window, threshold)
    );
    assert_eq!(path.cubic.stage.unwrap().plateau, stage.plateau);
    // Only once.
    path.cubic.window = 5_000.0;
    path.cubic.on_spurious_loss(path.now);
    assert_eq!(path.cubic.window(), 5_000);
}

#[test]
fn a_spurious_timeout_is_undone() {
    let mut path = Path::new(100 * MS);
    path.cubic.window = 300_000.0;
    path.loss(path.now, false);
    path.now += 100 * MS;
    path.loss(path.now - 100 * MS, true);
    path.now += 300 * MS;
    path.loss(path.now - MS, true);
    assert_eq!(path.cubic.window(), MTU);
    path.cubic.on_spurious_loss(path.now);
    assert_eq!(
        (path.cubic.window(), path.cubic.ssthresh()),
        (300_000, usize::MAX)
    );
}

#[test]
fn an_unused_window_does_not_grow_and_does_not_age() {
    let mut path = Path::after_loss(1_000_000, 100 * MS);
    path.run(2_000 * MS);
    let (window, elapsed) = (
        path.cubic.window(),
        path.now - path.cubic.stage.unwrap().start,
    );
    for _ in 0..600 {
        let sent = path.now;
        path.now += 100 * MS;
        path.ack(sent, MTU, true);
    }
    assert_eq!(path.cubic.window(), window);
    path.round();
    let later = path.now - path.cubic.stage.unwrap().start;
    assert!(later < elapsed + 300 * MS, "{later:?} {elapsed:?}");
    assert!(path.cubic.window() < window + 20 * MTU);
}

#[test]
fn slow_start_waits_while_the_window_is_not_used() {
    let mut path = Path::new(40 * MS);
    for _ in 0..100 {
        path.ack(path.now, MTU, true);
    }
    assert_eq!(path.cubic.window(), 10 * MTU);
}

#[test]
fn idle_time_halves_the_window_and_remembers_it_as_the_threshold() {
    let mut path = Path::after_loss(1_000_000, 100 * MS);
    path.run(9_000 * MS);
    let window = path.cubic.window();
    path.now += Duration::from_millis(2_500);
    path.cubic.on_sent(path.now, MTU, 0);
    assert_near(path.cubic.window(), window as f64 / 4.0, 0.01);
    assert_near(path.cubic.ssthresh(), window as f64 * 0.75, 0.01);
    assert!(path.cubic.is_in_slow_start());
    // Not once for each packet.
    path.cubic.on_sent(path.now, MTU, 0);
    assert_near(path.cubic.window(), window as f64 / 4.0, 0.01);
    path.now += Duration::from_secs(3_600);
    path.cubic.on_sent(path.now, MTU, 0);
    assert_eq!(path.cubic.window(), 10 * MTU);
}

#[test]
fn a_pause_of_less_than_a_second_stops_the_clock_of_the_curve() {
    let mut path = Path::after_loss(1_000_000, 100 * MS);
    path.run(2_000 * MS);
    let elapsed = path.now - path.cubic.stage.unwrap().start;
    path.now += 900 * MS;
    path.cubic.on_sent(path.now, MTU, 0);
    path.round();
    let later = path.now - path.cubic.stage.unwrap().start;
    assert!(later < elapsed + 250 * MS, "{later:?} {elapsed:?}");
}

#[test]
fn the_window_never_falls_below_four_packets_by_fast_retransmits() {
    let mut path = Path::new(40 * MS);
    for _ in 0..50 {
        path.lose();
        path.now += 40 * MS;
    }
    assert_eq!(
        (path.cubic.window(), path.cubic.ssthresh()),
        (4 * MTU, 4 * MTU)
    );
}

#[test]
fn the_response_to_random_loss_is_that_of_the_formula() {
    // RFC 9438, section 5.1: 1.054 / (RTT^-0.75 * p^0.75) packets on average, where that is above Reno.
    let (p, rtt) = (0.0001, 100 * MS);
    let mut rng = fastrand::Rng::with_seed(7);
    let mut path = Path::after_loss(1_054_000, rtt);
    let (mut sum, mut rounds) = (0.0, 0.0);
    for _ in 0..40_000 {
        let packets = path.cubic.window() / MTU;
        path.round();
        sum += packets as f64;
        rounds += 1.0;
        if rng.f64() < p * packets as f64 {
            path.lose();
        }
    }
    let formula = 1.054 * 0.1f64.powf(0.75) / p.powf(0.75);
    let ratio = sum / rounds / formula;
    assert!((0.8..1.25).contains(&ratio), "{ratio}");
}
