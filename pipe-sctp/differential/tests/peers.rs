//! Random traffic between this crate's association and other stacks, each as client and as server.

use pipe_sctp::Config;
use pipe_sctp_differential::dcsctp::Dcsctp;
use pipe_sctp_differential::pion::{RtcSctp, SctpProto};
use pipe_sctp_differential::sim::{
    Action, LinkConfig, Ours, PATIENCE, Scenario, Sending, Stack, Timed,
};
use std::time::{Duration, Instant};

/// Seeds of each test. `PIPE_SCTP_CASES` runs more.
fn seeds(default: u64) -> std::ops::Range<u64> {
    0..std::env::var("PIPE_SCTP_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(default)
}

/// What a peer can take part in.
#[derive(Clone, Copy)]
struct Abilities {
    /// Unordered and partially reliable messages from this side, resets of each direction alone.
    all: bool,
    loss: bool,
    /// What its timers make of a lossy path.
    patience: Duration,
}

fn link(rng: &mut fastrand::Rng, loss: bool) -> LinkConfig {
    let mut link = LinkConfig::with_delay(Duration::from_micros(rng.u64(0..50_000)));
    if rng.bool() {
        link.rate = Some(rng.u64(1_000_000..100_000_000));
        link.queue = rng.usize(20..100);
    }
    if loss {
        link.loss = [0.0, 0.01, 0.05, 0.15][rng.usize(..4)];
        link.reorder = [0.0, 0.0, 0.05][rng.usize(..3)];
        link.duplicate = [0.0, 0.05][rng.usize(..2)];
    }
    link
}

fn scenario(seed: u64, abilities: Abilities) -> Scenario {
    let mut rng = fastrand::Rng::with_seed(seed);
    let links = [
        link(&mut rng, abilities.loss),
        link(&mut rng, abilities.loss),
    ];
    let actions = (0..rng.usize(5..60))
        .map(|_| {
            let after = [0, 0, 1, 5, 50][rng.usize(..5)];
            let end = rng.usize(..2);
            let stream = rng.u16(..4);
            let action = if abilities.all && rng.u8(..10) == 0 {
                Action::Reset { stream }
            } else {
                let len = [9, 64, 1_150, 3_000, 20_000, 66_000][rng.usize(..6)];
                let mut sending = Sending::default();
                if abilities.all {
                    sending.unordered = rng.u8(..4) == 0;
                    // All messages of half of the streams, as a data channel has one reliability: dcsctp 0.1.16 drops a
                    // message that arrived complete if a FORWARD-TSN skips later ones of its stream.
                    if stream >= 2 {
                        let (most, time) = (rng.u16(..3), rng.u64(1..200));
                        if rng.bool() {
                            sending.max_retransmits = Some(most);
                        } else {
                            sending.lifetime = Some(Duration::from_millis(time));
                        }
                    }
                }
                Action::Send {
                    stream,
                    len,
                    sending,
                }
            };
            Timed { after, end, action }
        })
        .collect();
    Scenario {
        seed,
        links,
        both_connect: false,
        reset_all: abilities.all,
        patience: abilities.patience,
        actions,
    }
}

fn config(seed: u64) -> Config {
    let mut config = Config::default();
    config.interleaving = seed & 2 == 0;
    config.zero_checksum = seed & 4 == 0;
    // Others delay their acknowledgements by 200 ms.
    config.rto_min = Duration::from_millis(220);
    config
}

/// Runs all seeds with the peer on each side.
fn run(
    name: &str,
    abilities: Abilities,
    count: u64,
    peer: impl Fn(u64, Instant) -> Box<dyn Stack>,
) {
    let mut arrived = 0;
    for seed in seeds(count) {
        for ours_first in [true, false] {
            let base = Instant::now();
            let ours: Box<dyn Stack> = Ours::boxed(config(seed), seed, base);
            let theirs = peer(seed, base);
            let ends = if ours_first {
                [ours, theirs]
            } else {
                [theirs, ours]
            };
            match scenario(seed, abilities).run(ends) {
                Ok(outcome) => arrived += outcome.arrived,
                Err(error) => panic!("{name}, seed {seed}, ours first: {ours_first}: {error}"),
            }
        }
    }
    assert!(arrived > 0, "{name}: nothing arrived");
}

#[test]
fn dcsctp() {
    let abilities = Abilities {
        all: true,
        loss: true,
        patience: PATIENCE,
    };
    run("dcsctp", abilities, 150, |seed, _| {
        Box::new(Dcsctp::new(seed & 1 == 0, seed & 4 == 0))
    });
}

#[test]
fn sctp_proto() {
    let abilities = Abilities {
        all: false,
        loss: true,
        patience: PATIENCE,
    };
    run("sctp-proto", abilities, 100, |_, base| {
        Box::new(SctpProto::new(base))
    });
}

/// It doubles its RTO up to a minute, keeps it until a chunk that was sent once is acknowledged (RFC 9260, sections
/// 6.3.1 and 6.3.3, rule E2), and has no setting for less. On a path of 15 % loss each way that moves a packet or
/// two a minute, so that it has hours; everything has to arrive nevertheless.
#[test]
fn rtc_sctp() {
    let abilities = Abilities {
        all: false,
        loss: true,
        patience: Duration::from_secs(6 * 3_600),
    };
    run("rtc-sctp", abilities, 100, |_, base| {
        Box::new(RtcSctp::new(base))
    });
}
