//! A peer that finished the handshake and sends what it likes: no panic, no work and no memory beyond a bound.
//!
//! 100,000 changed packets; `PIPE_SCTP_MUTATIONS` and `PIPE_SCTP_SEED` run more.

// A `Config` is made by changing the default.
#![allow(clippy::field_reassign_with_default)]

mod sim;

use pipe_sctp::Config;
use sim::mutate::Observer;
use sim::{LinkConfig, Ours, Output, Pair, Sending, Stack};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Returns the CPU time of this thread, which the other processes of the machine do not lengthen.
#[cfg(unix)]
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(
        time.tv_sec.try_into().unwrap_or_default(),
        time.tv_nsec.try_into().unwrap_or_default(),
    )
}

/// Returns the time of the clock: this system has none of a thread.
#[cfg(not(unix))]
fn cpu_time() -> Duration {
    static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    START.elapsed()
}

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Received and not yet acknowledged data of an endpoint, in bytes.
const BUFFER: usize = 64 * 1_024;
/// Memory that a pair may hold besides: two association's tables, the packets on the way, what is observed.
const ALLOWANCE: usize = 512 * 1_024;
/// Allocations for one packet: its messages, the events, the answer.
const ALLOCATIONS: usize = 200;
/// CPU time for one packet.
const TIME: Duration = Duration::from_millis(1);
/// Runs of a seed that a packet has to be slow in. An interrupt counts as the time of the thread that it meets.
const REPLAYS: usize = 5;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|value| value.parse().ok())
        .unwrap_or(default)
}

fn config(rng: &mut fastrand::Rng) -> Config {
    let mut config = Config::default();
    config.receive_buffer = BUFFER;
    config.send_buffer = BUFFER;
    config.max_message_size = 16_000;
    config.interleaving = rng.bool();
    config.zero_checksum = rng.bool();
    config
}

/// Counts what one packet costs.
#[derive(Debug, Default)]
struct Costs {
    /// Packets for an association that was open.
    forged: u64,
    /// Packets for one that an earlier forgery had ended.
    stray: u64,
    associations: u64,
    ended: u64,
    /// Most packets that an association took before one ended it.
    longest: u64,
    slowest: Duration,
    /// Packets that exceeded the bound in one run and not in another.
    interrupted: u64,
    most_allocations: usize,
    most_memory: usize,
    most_answers: usize,
    /// Why associations ended.
    reasons: BTreeMap<String, u64>,
}

/// The packets of one association that took longer than [`TIME`], by their number.
type Slow = BTreeMap<u64, Duration>;

/// Runs one association under attack until it ends. What happens follows from `seed`.
fn attack(seed: u64, costs: &mut Costs) -> Slow {
    let before = costs.forged;
    let mut slow = Slow::new();
    let mut rng = fastrand::Rng::with_seed(seed);
    let region = Region::new(ALLOCATOR);
    let base = Instant::now();
    let configs = [config(&mut rng), config(&mut rng)];
    let [first, second] =
        configs.map(|config| -> Box<dyn Stack> { Ours::boxed(config, rng.u64(..), base) });
    let link = || LinkConfig::with_delay(Duration::from_millis(1));
    let mut pair = Pair::new([first, second], [link(), link()], seed);
    pair.connect(Duration::from_secs(5));
    costs.associations += 1;
    let ferocity = [0, 0, 1, 4][rng.usize(..4)];
    let mut observers = [ferocity; 2].map(Observer::with_ferocity);
    let mut closed = false;
    for round in 0..1_000u16 {
        let end = rng.usize(..2);
        match rng.u8(..10) {
            0 => pair.ends[end].reset(pair.now, round % 7),
            1..=5 => {
                let payload = vec![9; rng.usize(1..4_000)].into();
                let sending = Sending {
                    unordered: rng.bool(),
                    max_retransmits: (rng.u8(..4) == 0).then_some(0),
                    lifetime: None,
                };
                pair.ends[end].send(pair.now, round % 7, payload, sending);
            }
            _ => {}
        }
        if rng.u8(..20) == 0 {
            pair.reading[end] = !pair.reading[end];
        }
        for from in 0..2 {
            let to = 1 - from;
            while let Some(packet) = pair.ends[from].poll_transmit(pair.now) {
                observers[from].observe(&packet);
                observers[to].peer_tsn = observers[from].tsn;
                for _ in 0..rng.usize(..4) {
                    let forged = observers[from].forge(&mut rng);
                    inject(&mut pair, to, forged, costs, &mut slow);
                }
                if rng.u8(..30) != 0 {
                    pair.links[from].send(pair.now, packet);
                }
            }
        }
        let until = pair.now + Duration::from_millis([0, 1, 1, 5, 50, 1_000][rng.usize(..6)]);
        let reasons = &mut costs.reasons;
        let mut report = |_, output| {
            if let Output::Closed(reason) = output {
                closed = true;
                // Not what the peer put into it.
                let reason = reason.split(':').next().unwrap_or_default().to_owned();
                *reasons.entry(reason).or_default() += 1;
            }
        };
        while pair.now < until {
            pair.step(Some(until), &mut report);
        }
        let change = region.change();
        let held = change
            .bytes_allocated
            .saturating_sub(change.bytes_deallocated);
        costs.most_memory = costs.most_memory.max(held);
        let most = 2 * (2 * BUFFER + BUFFER) + ALLOWANCE;
        assert!(
            held <= most,
            "seed {seed}: {held} bytes are held\n{}",
            pair.describe()
        );
        if closed {
            costs.ended += 1;
            break;
        }
    }
    costs.longest = costs.longest.max(costs.forged - before);
    slow
}

/// Hands a packet to an endpoint. The time includes that of the answer.
fn inject(pair: &mut Pair, to: usize, packet: bytes::Bytes, costs: &mut Costs, slow: &mut Slow) {
    if pair.ends[to].is_closed() {
        costs.stray += 1;
    } else {
        costs.forged += 1;
    }
    let shown = packet.clone();
    let region = Region::new(ALLOCATOR);
    let begun = cpu_time();
    pair.ends[to].handle_packet(pair.now, packet);
    let change = region.change();
    let allocations = change.allocations + change.reallocations;
    costs.most_allocations = costs.most_allocations.max(allocations);
    assert!(
        allocations <= ALLOCATIONS,
        "{allocations} allocations for {shown:02x?}"
    );
    let mut answers = 0;
    while let Some(packet) = pair.ends[to].poll_transmit(pair.now) {
        answers += 1;
        pair.links[to].send(pair.now, packet);
    }
    let taken = cpu_time().saturating_sub(begun);
    if taken > TIME {
        slow.insert(costs.forged + costs.stray, taken);
    } else {
        costs.slowest = costs.slowest.max(taken);
    }
    costs.most_answers = costs.most_answers.max(answers);
    assert!(answers <= 32, "{answers} packets in answer to {shown:02x?}");
}

#[test]
fn forged_packets_of_the_peer_cost_no_more_than_their_length() {
    let mut costs = Costs::default();
    let mutations = number("PIPE_SCTP_MUTATIONS", 100_000);
    let mut seed = number("PIPE_SCTP_SEED", 0);
    while costs.forged < mutations {
        let before = costs.forged + costs.stray;
        let mut slow: Slow = attack(seed, &mut costs)
            .into_iter()
            .map(|(number, taken)| (number - before, taken))
            .collect();
        let first = slow.len() as u64;
        for _ in 0..REPLAYS {
            if !slow.is_empty() {
                let again = attack(seed, &mut Costs::default());
                slow.retain(|number, _| again.contains_key(number));
            }
        }
        assert!(slow.is_empty(), "seed {seed}: slow packets {slow:?}");
        costs.interrupted += first;
        seed += 1;
    }
    println!("{costs:?}");
    // The attack has to get beyond the first packets.
    assert!(costs.forged / costs.associations > 20, "{costs:?}");
}
