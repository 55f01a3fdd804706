//! Random traffic over random paths: every message arrives once and in order, whatever the path does.

// A `Config` is made by changing the default.
#![allow(clippy::field_reassign_with_default)]

mod sim;

use pipe_sctp::Config;
use pipe_sctp::congestion::CongestionKind;
use proptest::collection::vec;
use proptest::prelude::*;
use sim::{Action, LinkConfig, Ours, PATIENCE, Scenario, Sending, Stack, Timed};
use std::time::{Duration, Instant};

/// Cases of each property. `PIPE_SCTP_CASES` runs more.
fn cases(default: u32) -> u32 {
    std::env::var("PIPE_SCTP_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(default)
}

fn config(cases_by_default: u32) -> ProptestConfig {
    ProptestConfig {
        cases: cases(cases_by_default),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

fn millis(range: std::ops::Range<u64>) -> impl Strategy<Value = Duration> {
    range.prop_map(|tenths| Duration::from_micros(tenths * 100))
}

/// A chance of 0 in most cases, else up to `most`.
fn chance(most: f64) -> impl Strategy<Value = f64> {
    prop_oneof![2 => Just(0.0), 1 => 0.0..most / 10.0, 1 => 0.0..most]
}

fn link() -> impl Strategy<Value = LinkConfig> {
    let time = (millis(0..1_000), millis(0..100), millis(0..300));
    let shape = (
        prop_oneof![2 => Just(None), 1 => (200_000u64..200_000_000).prop_map(Some)],
        8usize..100,
    );
    let burst = prop_oneof![3 => Just(None), 1 => (0.0..0.02, 0.1..0.9).prop_map(Some)];
    let faults = (chance(0.25), burst, chance(0.3), chance(0.2), chance(0.1));
    (time, shape, faults).prop_map(|(time, shape, faults)| {
        let (delay, jitter, reorder_delay) = time;
        let (rate, queue) = shape;
        let (loss, burst_loss, reorder, duplicate, corrupt) = faults;
        LinkConfig {
            delay,
            jitter,
            reorder,
            reorder_delay,
            rate,
            queue,
            loss,
            burst_loss,
            duplicate,
            corrupt,
            ..LinkConfig::default()
        }
    })
}

fn sending() -> impl Strategy<Value = Sending> {
    let limit = prop_oneof![
        6 => Just((None, None)),
        1 => (0u16..3).prop_map(|most| (Some(most), None)),
        1 => (1u64..300).prop_map(|ms| (None, Some(Duration::from_millis(ms)))),
    ];
    (prop::bool::weighted(0.3), limit).prop_map(|(unordered, (max_retransmits, lifetime))| {
        Sending {
            unordered,
            max_retransmits,
            lifetime,
        }
    })
}

fn len() -> impl Strategy<Value = usize> {
    prop_oneof![4 => 1usize..100, 3 => 900usize..2_600, 2 => 4_000usize..20_000, 1 => 20_000usize..70_000]
}

fn action() -> impl Strategy<Value = Action> {
    let stream = prop_oneof![5 => 0u16..4, 1 => 1_000u16..1_003];
    prop_oneof![
        12 => (stream.clone(), len(), sending()).prop_map(|(stream, len, sending)| {
            // A short message is told by its place alone.
            let len = if sending == Sending::default() { len } else { len.max(sim::ledger::HEADER) };
            Action::Send { stream, len, sending }
        }),
        2 => stream.prop_map(|stream| Action::Reset { stream }),
        1 => Just(Action::Pause),
        1 => Just(Action::Resume),
    ]
}

fn scenario(actions: usize) -> impl Strategy<Value = Scenario> {
    let gap = prop_oneof![3 => Just(0u16), 2 => 0u16..5, 1 => 0u16..400];
    let timed =
        (gap, 0usize..2, action()).prop_map(|(after, end, action)| Timed { after, end, action });
    (
        any::<u64>(),
        [link(), link()],
        any::<bool>(),
        vec(timed, 1..actions),
    )
        .prop_map(|(seed, links, both_connect, actions)| Scenario {
            seed,
            links,
            both_connect,
            reset_all: true,
            patience: PATIENCE,
            actions,
        })
}

fn settings() -> impl Strategy<Value = Config> {
    let sizes = (600usize..1_400, 70_000usize..400_000, 70_000usize..400_000);
    let features = (any::<bool>(), any::<bool>(), any::<bool>(), 0u64..200);
    (sizes, features).prop_map(
        |((mtu, receive_buffer, send_buffer), (interleaving, zero, reno, sack))| {
            let mut config = Config::default();
            config.mtu = mtu;
            config.receive_buffer = receive_buffer;
            config.send_buffer = send_buffer;
            config.max_message_size = 70_000;
            config.interleaving = interleaving;
            config.zero_checksum = zero;
            config.sack_delay = Duration::from_millis(sack);
            config.rto_min = Duration::from_millis(30.max(2 * sack));
            config.congestion = if reno {
                CongestionKind::NewReno
            } else {
                CongestionKind::Cubic
            };
            config
        },
    )
}

fn run(scenario: &Scenario, mut configs: [Config; 2]) -> Result<(), TestCaseError> {
    let corrupts = scenario.links.iter().any(|link| link.corrupt > 0.0);
    for config in &mut configs {
        config.zero_checksum &= !corrupts;
    }
    let base = Instant::now();
    let [first, second] = configs;
    let ends: [Box<dyn Stack>; 2] = [
        Ours::boxed(first, scenario.seed, base),
        Ours::boxed(second, scenario.seed ^ 1, base),
    ];
    scenario.run(ends).map(|_| ()).map_err(TestCaseError::fail)
}

proptest! {
    #![proptest_config(config(1_500))]

    #[test]
    fn everything_arrives_once_and_in_order(scenario in scenario(60), configs in [settings(), settings()]) {
        run(&scenario, configs)?;
    }
}

proptest! {
    #![proptest_config(config(1_500))]

    #[test]
    fn a_few_actions_on_a_bad_path_leave_nothing_behind(
        scenario in scenario(6),
        configs in [settings(), settings()],
    ) {
        run(&scenario, configs)?;
    }
}
