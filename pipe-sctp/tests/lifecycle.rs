//! Handshakes, restarts, ends, and paths that are cut for a while.

// A `Config` is made by changing the default.
#![allow(clippy::field_reassign_with_default)]

mod sim;

use pipe_sctp::Config;
use sim::{Ledger, LinkConfig, Ours, Output, Pair, Sending, Stack, Step};
use std::time::{Duration, Instant};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn pair_of(configs: [Config; 2], links: [LinkConfig; 2], seed: u64) -> Pair {
    let base = Instant::now();
    let [first, second] = configs;
    Pair::new(
        [
            Ours::boxed(first, seed, base),
            Ours::boxed(second, !seed, base),
        ],
        links,
        seed,
    )
}

fn pair(link: LinkConfig, seed: u64) -> Pair {
    pair_of(
        [Config::default(), Config::default()],
        [link.clone(), link],
        seed,
    )
}

/// Sends a message and records it.
fn send(pair: &mut Pair, ledgers: &mut [Ledger; 2], end: usize, stream: u16, len: usize) -> bool {
    let message = ledgers[end].message(stream, len);
    let taken = pair.send(end, stream, message, Sending::default());
    if taken {
        ledgers[end].sent(stream, len, Sending::default());
    }
    taken
}

/// Records what arrives, and panics on everything else.
fn record(ledgers: &mut [Ledger; 2], end: usize, output: Output) {
    match output {
        Output::Message { stream, payload } => {
            ledgers[1 - end]
                .received(stream, &payload)
                .unwrap_or_else(|error| panic!("{error}"));
        }
        other => panic!("end {end} reported {other:?}"),
    }
}

/// Runs until all that was sent has arrived. Returns when.
fn settle(pair: &mut Pair, ledgers: &mut [Ledger; 2], limit: Duration) -> Duration {
    let limit = pair.now + limit;
    while !ledgers.iter().all(Ledger::is_settled) {
        let step = pair.step(None, &mut |end, output| record(ledgers, end, output));
        assert!(
            step != Step::Quiet || ledgers.iter().all(Ledger::is_settled),
            "stuck\n{}",
            pair.describe()
        );
        assert!(pair.now < limit, "not done in time\n{}", pair.describe());
    }
    pair.now
}

/// Cuts the path for `cut` under messages each 20 ms and bulk, and returns how long after its return the first
/// message of each side arrived.
fn cut(cut: Duration, bulk: bool, seed: u64) -> [Duration; 2] {
    let (from, until) = (2 * SECOND, 2 * SECOND + cut);
    let link = LinkConfig {
        blackouts: vec![(from, until)],
        ..LinkConfig::with_delay(10 * MS)
    };
    let mut pair = pair(link, seed);
    pair.connect(SECOND);
    let mut ledgers = <[Ledger; 2]>::default();
    let mut first = [None; 2];
    while pair.now < until + 2 * SECOND {
        for end in 0..2 {
            // Until the send buffer is full.
            send(&mut pair, &mut ledgers, end, 0, 64);
            if bulk {
                send(&mut pair, &mut ledgers, end, 1, 20_000);
            }
        }
        let at = pair.now + 20 * MS;
        while pair.now < at {
            let now = pair.now;
            pair.step(Some(at), &mut |end, output| {
                if now >= until {
                    first[end].get_or_insert(now - until);
                }
                record(&mut ledgers, end, output);
            });
        }
    }
    settle(&mut pair, &mut ledgers, 10 * SECOND);
    first.map(|first| first.expect("a message after the cut"))
}

#[test]
fn a_cut_of_the_path_heals_within_a_second_of_its_return() {
    for seconds in [1, 5, 20, 60, 600] {
        for bulk in [false, true] {
            for seed in 0..5 {
                let healed = cut(Duration::from_secs(seconds), bulk, seed);
                for after in healed {
                    assert!(
                        after <= SECOND + 20 * MS,
                        "{seconds} s, bulk {bulk}, seed {seed}: {healed:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_cut_of_one_direction_heals_too() {
    for seed in 0..10 {
        let dark = LinkConfig {
            blackouts: vec![(SECOND, 31 * SECOND)],
            ..LinkConfig::with_delay(10 * MS)
        };
        let links = if seed % 2 == 0 {
            [dark, LinkConfig::with_delay(10 * MS)]
        } else {
            [LinkConfig::with_delay(10 * MS), dark]
        };
        let mut pair = pair_of([Config::default(), Config::default()], links, seed);
        pair.connect(SECOND);
        let mut ledgers = <[Ledger; 2]>::default();
        pair.run_until(900 * MS, &mut |end, output| {
            record(&mut ledgers, end, output);
        });
        for index in 0..200 {
            send(&mut pair, &mut ledgers, index % 2, 1, 3_000);
            let at = pair.now + 10 * MS;
            pair.run_until(at, &mut |end, output| record(&mut ledgers, end, output));
        }
        let done = settle(&mut pair, &mut ledgers, 60 * SECOND);
        assert!(done <= 34 * SECOND, "seed {seed}: {done:?}");
    }
}

#[test]
fn a_suspended_process_goes_on_within_a_second() {
    for seed in 0..10 {
        let mut pair = pair(LinkConfig::with_delay(10 * MS), seed);
        pair.connect(SECOND);
        let mut ledgers = <[Ledger; 2]>::default();
        let asleep = (seed % 2) as usize;
        for round in 0..150 {
            pair.suspended[asleep] = (20..120).contains(&round);
            for end in (0..2)
                .filter(|end| !pair.suspended[*end])
                .collect::<Vec<_>>()
            {
                send(&mut pair, &mut ledgers, end, 0, 2_000);
            }
            let at = pair.now + 50 * MS;
            pair.run_until(at, &mut |end, output| record(&mut ledgers, end, output));
        }
        // It woke 1.5 s ago.
        let done = settle(&mut pair, &mut ledgers, SECOND);
        assert!(done <= 8_100 * MS, "seed {seed}: {done:?}");
    }
}

#[test]
fn both_ends_may_connect_at_once() {
    for seed in 0..200 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut link = || LinkConfig {
            loss: [0.0, 0.2, 0.5][rng.usize(..3)],
            reorder: 0.2,
            duplicate: 0.1,
            ..LinkConfig::with_delay(Duration::from_micros(rng.u64(0..30_000)))
        };
        let links = [link(), link()];
        let mut pair = pair_of([Config::default(), Config::default()], links, seed);
        for end in 0..2 {
            pair.ends[end].connect(pair.now);
            pair.flush(end);
        }
        pair.wait_connected(60 * SECOND);
        let mut ledgers = <[Ledger; 2]>::default();
        for end in 0..2 {
            assert!(send(&mut pair, &mut ledgers, end, 3, 5_000));
        }
        settle(&mut pair, &mut ledgers, 60 * SECOND);
    }
}

/// Replaces an endpoint by one that knows nothing, and connects it.
fn restart(pair: &mut Pair, end: usize, seed: u64, base: Instant) {
    pair.ends[end] = Box::new(Ours::new(Config::default(), seed, base, pair.now));
    pair.ends[end].connect(pair.now);
    pair.flush(end);
}

#[test]
fn an_end_that_starts_anew_is_connected_again() {
    for seed in 0..50 {
        let base = Instant::now();
        let link = LinkConfig {
            loss: if seed % 2 == 0 { 0.0 } else { 0.2 },
            ..LinkConfig::with_delay(5 * MS)
        };
        let config = Config::default();
        let ends: [Box<dyn Stack>; 2] = [
            Ours::boxed(config.clone(), seed, base),
            Ours::boxed(config, !seed, base),
        ];
        let mut pair = Pair::new(ends, [link.clone(), link], seed);
        pair.connect(60 * SECOND);
        let mut ledgers = <[Ledger; 2]>::default();
        for round in 0..20 {
            send(&mut pair, &mut ledgers, round % 2, 1, 4_000);
            let at = pair.now + MS;
            pair.run_until(at, &mut |end, output| record(&mut ledgers, end, output));
        }
        // In the middle of traffic.
        let (again, other) = if seed % 4 < 2 { (0, 1) } else { (1, 0) };
        restart(&mut pair, again, seed + 1_000, base);
        let mut reports = [false; 2];
        let limit = pair.now + 60 * SECOND;
        while reports != [true; 2] {
            pair.step(None, &mut |end, output| match output {
                Output::Connected if end == again => reports[end] = true,
                Output::Restarted if end == other => reports[end] = true,
                // What had arrived before.
                Output::Message { .. } if end == other && !reports[other] => {}
                // What was still in the send buffer of the end that stayed is lost with the old association.
                output => panic!("seed {seed}: end {end} reported {output:?}"),
            });
            assert!(pair.now < limit, "seed {seed}\n{}", pair.describe());
        }
        let mut ledgers = <[Ledger; 2]>::default();
        for end in 0..2 {
            assert!(send(&mut pair, &mut ledgers, end, 1, 9_000), "seed {seed}");
        }
        settle(&mut pair, &mut ledgers, 60 * SECOND);
    }
}

#[test]
fn both_ends_may_start_anew_at_once() {
    for seed in 0..50 {
        let base = Instant::now();
        let link = LinkConfig {
            loss: if seed % 2 == 0 { 0.0 } else { 0.2 },
            ..LinkConfig::with_delay(5 * MS)
        };
        let config = Config::default();
        let ends: [Box<dyn Stack>; 2] = [
            Ours::boxed(config.clone(), seed, base),
            Ours::boxed(config, !seed, base),
        ];
        let mut pair = Pair::new(ends, [link.clone(), link], seed);
        pair.connect(60 * SECOND);
        let mut ledgers = <[Ledger; 2]>::default();
        for end in 0..2 {
            send(&mut pair, &mut ledgers, end, 1, 40_000);
            restart(&mut pair, end, seed + 1_000 + end as u64, base);
        }
        pair.wait_connected(60 * SECOND);
        let mut ledgers = <[Ledger; 2]>::default();
        for end in 0..2 {
            assert!(send(&mut pair, &mut ledgers, end, 1, 9_000), "seed {seed}");
        }
        settle(&mut pair, &mut ledgers, 60 * SECOND);
    }
}

#[test]
fn a_shutdown_ends_both_after_everything_arrived() {
    for seed in 0..60 {
        let link = LinkConfig {
            loss: [0.0, 0.1, 0.3][seed as usize % 3],
            ..LinkConfig::with_delay(10 * MS)
        };
        let mut pair = pair(link, seed);
        pair.connect(60 * SECOND);
        let mut ledgers = <[Ledger; 2]>::default();
        for index in 0..20 {
            send(&mut pair, &mut ledgers, index % 2, 1, 6_000);
        }
        for end in 0..=(seed % 2) as usize {
            pair.ends[end].shutdown(pair.now);
            pair.flush(end);
            assert!(
                !pair.send(end, 1, vec![1].into(), Sending::default()),
                "sent after the shutdown"
            );
        }
        let mut closed = [false; 2];
        let mut report = |end: usize, output| match output {
            Output::Closed(reason) => {
                assert!(reason.contains("shut down"), "seed {seed}: {reason}");
                closed[end] = true;
            }
            output => record(&mut ledgers, end, output),
        };
        assert!(
            pair.run_to_quiet(120 * SECOND, &mut report),
            "seed {seed}\n{}",
            pair.describe()
        );
        assert_eq!(closed, [true; 2], "seed {seed}\n{}", pair.describe());
        for ledger in &mut ledgers {
            ledger
                .finish()
                .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        }
    }
}

#[test]
fn a_message_beyond_the_limit_ends_the_association_at_both_ends() {
    let mut small = Config::default();
    small.max_message_size = 10_000;
    let link = LinkConfig::with_delay(5 * MS);
    for interleaving in [false, true] {
        small.interleaving = interleaving;
        let mut pair = pair_of(
            [Config::default(), small.clone()],
            [link.clone(), link.clone()],
            1,
        );
        pair.connect(SECOND);
        assert!(pair.send(0, 1, vec![1; 10_000].into(), Sending::default()));
        assert!(pair.send(0, 1, vec![2; 10_001].into(), Sending::default()));
        let mut closed = [None, None];
        let mut arrived = Vec::new();
        pair.run_to_quiet(60 * SECOND, &mut |end, output| match output {
            Output::Closed(reason) => closed[end] = Some(reason),
            Output::Message { payload, .. } => arrived.push(payload.len()),
            output => panic!("{output:?}"),
        });
        assert_eq!(arrived, [10_000]);
        assert!(closed.iter().all(Option::is_some), "{closed:?}");
    }
}

#[test]
fn an_application_that_does_not_read_stops_the_peer_and_loses_nothing() {
    for seed in 0..10 {
        let mut config = Config::default();
        config.receive_buffer = 128 * 1_024;
        config.send_buffer = 256 * 1_024;
        let link = LinkConfig {
            loss: [0.0, 0.05][seed as usize % 2],
            ..LinkConfig::with_delay(5 * MS)
        };
        let mut pair = pair_of([config.clone(), config], [link.clone(), link], seed);
        pair.connect(60 * SECOND);
        let mut ledgers = <[Ledger; 2]>::default();
        pair.reading[1] = false;
        let mut taken = 0;
        for _ in 0..3_000 {
            taken += usize::from(send(&mut pair, &mut ledgers, 0, 1, 1_500)) * 1_500;
            let at = pair.now + 10 * MS;
            pair.run_until(at, &mut |end, output| record(&mut ledgers, end, output));
        }
        assert!(
            taken < 3 * (128 + 256) * 1_024,
            "seed {seed}: {taken} bytes were taken"
        );
        assert!(taken > 256 * 1_024, "seed {seed}: {taken} bytes were taken");
        pair.reading[1] = true;
        let resumed = pair.now;
        let done = settle(&mut pair, &mut ledgers, 30 * SECOND);
        assert!(
            done < resumed + 3 * SECOND,
            "seed {seed}: {:?}",
            done - resumed
        );
    }
}
