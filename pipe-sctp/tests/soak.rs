//! Long lives: days of traffic, streams by the million, many associations. Memory stays flat.
//!
//! Short by default; `PIPE_SCTP_SOAK=1` runs 24 hours of virtual time, 1,000,000 streams and 100,000 associations.

mod sim;

use pipe_sctp::Config;
use sim::{Ledger, LinkConfig, Ours, Output, Pair, Sending, Stack, Step};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const MS: Duration = Duration::from_millis(1);

fn is_long() -> bool {
    std::env::var_os("PIPE_SCTP_SOAK").is_some_and(|value| value == "1")
}

fn held(region: &Region<'_, System>) -> isize {
    let change = region.change();
    change.bytes_allocated as isize - change.bytes_deallocated as isize
}

fn connected(link: LinkConfig, seed: u64) -> Pair {
    let base = Instant::now();
    let config = Config::default();
    let ends: [Box<dyn Stack>; 2] = [
        Ours::boxed(config.clone(), seed, base),
        Ours::boxed(config, !seed, base),
    ];
    let mut pair = Pair::new(ends, [link.clone(), link], seed);
    pair.connect(Duration::from_secs(60));
    pair
}

/// Mixed traffic with bulk, pauses, losses and cuts of the path.
fn hours(total: Duration) {
    let region = Region::new(ALLOCATOR);
    let mut rng = fastrand::Rng::with_seed(24);
    let mut link = LinkConfig {
        loss: 0.01,
        reorder: 0.01,
        duplicate: 0.01,
        ..LinkConfig::with_delay(20 * MS)
    };
    // One cut of eight seconds in ten minutes.
    let mut at = Duration::from_secs(300);
    while at < total {
        link.blackouts.push((at, at + Duration::from_secs(8)));
        at += Duration::from_secs(600);
    }
    let mut pair = connected(link, 24);
    let mut ledgers = <[Ledger; 2]>::default();
    let mut bytes = 0;
    let mut after_start = None;
    while pair.now < total {
        let count = if rng.u8(..10) == 0 {
            200
        } else {
            rng.usize(..6)
        };
        for _ in 0..count {
            let (end, stream) = (rng.usize(..2), rng.u16(..20));
            let len = [9, 100, 1_200, 30_000][rng.usize(..4)];
            let sending = Sending {
                unordered: rng.u8(..4) == 0,
                ..Sending::default()
            };
            let message = ledgers[end].message(stream, len);
            if pair.send(end, stream, message, sending) {
                ledgers[end].sent(stream, len, sending);
                bytes += len;
            }
        }
        let until = pair.now + MS * [1, 1, 1, 5, 20, 50, 500, 2_000, 20_000][rng.usize(..9)];
        pair.run_until(until, &mut |end, output| match output {
            Output::Message { stream, payload } => {
                ledgers[1 - end]
                    .received(stream, &payload)
                    .unwrap_or_else(|error| panic!("{error}"));
            }
            other => panic!("end {end} reported {other:?}"),
        });
        if pair.now > total / 10 && after_start.is_none() {
            after_start = Some(held(&region));
        }
    }
    let quiet = pair.run_to_quiet(total + Duration::from_secs(60), &mut |end, output| {
        if let Output::Message { stream, payload } = output {
            ledgers[1 - end]
                .received(stream, &payload)
                .unwrap_or_else(|error| panic!("{error}"));
        }
    });
    assert!(quiet, "timers go on\n{}", pair.describe());
    let arrived: u64 = ledgers.iter().map(|ledger| ledger.arrived).sum();
    for ledger in &mut ledgers {
        ledger.finish().unwrap_or_else(|error| panic!("{error}"));
    }
    let (after_start, now) = (after_start.expect("a tenth of the time"), held(&region));
    println!(
        "{total:?}: {arrived} messages, {bytes} bytes; {after_start} bytes held after a tenth, {now} in the end"
    );
    assert!(
        now < after_start.max(0) + 65_536,
        "{after_start} bytes grew to {now}"
    );
    assert!(
        now < 262_144,
        "{now} bytes are held by a pair without traffic"
    );
}

/// Streams that are opened, used and reset by both ends, one batch after the other.
fn streams(total: usize) {
    const BATCH: u16 = 64;
    let region = Region::new(ALLOCATOR);
    let mut pair = connected(LinkConfig::with_delay(MS), 7);
    let mut after_start = None;
    let mut id = 0u16;
    for batch in 0..total / usize::from(BATCH) {
        let ids: Vec<u16> = (0..BATCH)
            .map(|offset| id.wrapping_add(offset) % 65_534)
            .collect();
        id = id.wrapping_add(BATCH) % 65_534;
        let mut left = 4 * ids.len();
        for end in 0..2 {
            for stream in &ids {
                let taken =
                    pair.ends[end].send(pair.now, *stream, vec![1; 40].into(), Sending::default());
                assert!(
                    taken,
                    "batch {batch}: stream {stream} is not free\n{}",
                    pair.describe()
                );
                pair.ends[end].reset(pair.now, *stream);
            }
            pair.flush(end);
        }
        let limit = pair.now + Duration::from_secs(30);
        let mut messages = 0;
        while left > 0 {
            let step = pair.step(None, &mut |_, output| match output {
                Output::Message { .. } => messages += 1,
                Output::IncomingReset { .. } | Output::OutgoingReset { .. } => left -= 1,
                other => panic!("{other:?}"),
            });
            assert!(
                step != Step::Quiet || left == 0,
                "batch {batch}: stuck with {left}\n{}",
                pair.describe()
            );
            assert!(
                pair.now < limit,
                "batch {batch}: {left} left\n{}",
                pair.describe()
            );
        }
        assert_eq!(messages, 2 * ids.len(), "batch {batch}");
        if batch == 20 {
            after_start = Some(held(&region));
        }
    }
    let (after_start, now) = (after_start.expect("20 batches"), held(&region));
    println!("{total} streams: {after_start} bytes after 20 batches, {now} in the end");
    assert!(
        now < after_start.max(0) + 65_536,
        "{after_start} bytes grew to {now}"
    );
}

/// Associations one after the other, some shut down, some dropped in the middle of traffic.
fn associations(total: u64) {
    let region = Region::new(ALLOCATOR);
    for seed in 0..total {
        let link = LinkConfig {
            loss: if seed % 3 == 0 { 0.05 } else { 0.0 },
            ..LinkConfig::with_delay(5 * MS)
        };
        let mut pair = connected(link, seed);
        for end in 0..2 {
            assert!(pair.send(end, 1, vec![2; 5_000].into(), Sending::default()));
        }
        if seed % 2 == 0 {
            let now = pair.now;
            pair.ends[0].shutdown(now);
            pair.flush(0);
            let mut closed = 0;
            let limit = now + Duration::from_secs(120);
            let quiet = pair.run_to_quiet(limit, &mut |_, output| {
                closed += usize::from(matches!(output, Output::Closed(_)));
            });
            assert!(
                quiet && closed == 2,
                "seed {seed}: {closed} closed\n{}",
                pair.describe()
            );
        }
    }
    let now = held(&region);
    println!("{total} associations: {now} bytes in the end");
    assert!(now < 4_096, "{now} bytes are left");
}

/// One test, since each part measures the memory of the process.
#[test]
fn memory_stays_flat_over_hours_streams_and_associations() {
    if is_long() {
        hours(Duration::from_secs(24 * 3_600));
        streams(1_000_000);
        associations(100_000);
    } else {
        hours(Duration::from_secs(1_800));
        streams(10_000);
        associations(500);
    }
}
