//! Compares throughput, fairness, latency, CPU time and memory of stacks over simulated paths.
//!
//! Contenders take turns within one run; each figure is the median of seven seeds with its spread.
//! usage: bench [bulk|memory|pair|fair|latency|heap|RATE…]
//!
//! All sections without one; `bulk` at all rates, or at those given in Mbit/s.

use bytes::Bytes;
use pipe_sctp::{Association, Config, SendOptions};
use pipe_sctp_differential::dcsctp::Dcsctp;
use pipe_sctp_differential::pion::{RtcSctp, SctpProto};
use pipe_sctp_differential::quic::{self, Quic};
use pipe_sctp_differential::shared::{Flow, Shared};
use pipe_sctp_differential::sim::{LinkConfig, Ours, Sending, Stack};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const MS: Duration = Duration::from_millis(1);
const ROUNDS: u64 = 7;
/// IP, UDP and DTLS.
const SCTP_OVERHEAD: usize = 65;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Contender {
    Ours,
    OursInOrder,
    Dcsctp,
    SctpProto,
    RtcSctp,
    Quinn,
}

impl Contender {
    fn name(self) -> &'static str {
        match self {
            Contender::Ours => "pipe-sctp",
            Contender::OursInOrder => "pipe-sctp without I-DATA",
            Contender::Dcsctp => "dcsctp",
            Contender::SctpProto => "sctp-proto",
            Contender::RtcSctp => "rtc-sctp",
            Contender::Quinn => "quinn",
        }
    }

    fn flow(self, seed: u64) -> Flow {
        let base = Instant::now();
        let ours = |interleaving| -> [Box<dyn Stack>; 2] {
            let mut config = Config::default();
            config.send_buffer = 48 << 20;
            config.receive_buffer = 32 << 20;
            config.interleaving = interleaving;
            [
                Ours::boxed(config.clone(), seed, base),
                Ours::boxed(config, !seed, base),
            ]
        };
        match self {
            Contender::Ours => Flow::new(ours(true), SCTP_OVERHEAD),
            Contender::OursInOrder => Flow::new(ours(false), SCTP_OVERHEAD),
            Contender::Dcsctp => {
                let end = || Box::new(Dcsctp::new(true, true));
                Flow::new([end(), end()], SCTP_OVERHEAD)
            }
            Contender::SctpProto => {
                let end = || Box::new(SctpProto::new(base));
                Flow::new([end(), end()], SCTP_OVERHEAD)
            }
            Contender::RtcSctp => {
                let end = || Box::new(RtcSctp::new(base));
                Flow::new([end(), end()], SCTP_OVERHEAD)
            }
            Contender::Quinn => Flow::new(Quic::pair(base), quic::OVERHEAD),
        }
    }
}

/// Median, least and greatest.
#[derive(Clone, Copy)]
struct Spread {
    median: f64,
    least: f64,
    greatest: f64,
}

fn spread(mut values: Vec<f64>) -> Spread {
    values.sort_by(f64::total_cmp);
    Spread {
        median: values[values.len() / 2],
        least: values[0],
        greatest: values[values.len() - 1],
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:.1} ({:.1}-{:.1})",
            self.median, self.least, self.greatest
        )
    }
}

/// A path of `delay` each way; the queue holds what is on the way in a round trip, and 32 packets at least.
fn path(mbit: f64, delay: Duration, loss: f64) -> LinkConfig {
    let rate = (mbit * 1e6) as u64;
    let packets = mbit * 1e6 * 2.0 * delay.as_secs_f64() / 8.0 / 1_256.0;
    LinkConfig {
        delay,
        loss,
        rate: Some(rate),
        queue: (packets as usize).max(32),
        ..LinkConfig::default()
    }
}

/// The way back, which loses as much, and whose queue does not matter.
fn back(path: &LinkConfig) -> LinkConfig {
    LinkConfig {
        queue: 10_000,
        ..path.clone()
    }
}

/// A flow of bulk on one stream. quinn closes a connection with more than some gaps in a stream, which a large
/// window gets when slow start ends: it spreads them over sixteen.
fn bulk_flow(contender: Contender, message: usize, seed: u64) -> Flow {
    let streams = if contender == Contender::Quinn {
        1..17
    } else {
        1..2
    };
    contender.flow(seed).with_bulk_on(streams, message)
}

/// Mbit/s of user data that a flow moves in `time`.
fn goodput(
    contender: Contender,
    path: &LinkConfig,
    message: usize,
    time: Duration,
    seed: u64,
) -> f64 {
    let mut shared = Shared::new(
        vec![bulk_flow(contender, message, seed)],
        path.clone(),
        back(path),
        seed,
    );
    shared.connect();
    let until = shared.now + time;
    shared.run_until(until, &mut |_| {});
    shared.flows[0].total() as f64 * 8.0 / 1e6 / time.as_secs_f64()
}

fn bulk(rates: &[f64]) {
    println!(
        "\n## Goodput in Mbit/s over 10 s (4 s at 1,000 Mbit/s), 64 KiB messages; ratio to quinn (CUBIC)\n"
    );
    println!("| Mbit/s | delay each way | loss | pipe-sctp | quinn | ratio | dcsctp |");
    println!("|---|---|---|---|---|---|---|");
    let rates = if rates.is_empty() {
        &[10.0, 100.0, 1_000.0][..]
    } else {
        rates
    };
    for mbit in rates.iter().copied() {
        for delay in [0, 10, 50] {
            for loss in [0.0, 0.001, 0.01, 0.05] {
                let path = path(mbit, delay * MS, loss);
                let time = Duration::from_secs(if mbit < 1_000.0 { 10 } else { 4 });
                let mut values = [Vec::new(), Vec::new(), Vec::new()];
                for seed in 0..ROUNDS {
                    let contenders = [Contender::Ours, Contender::Quinn, Contender::Dcsctp];
                    for (contender, values) in contenders.into_iter().zip(&mut values) {
                        // dcsctp formats each packet as text: it is left out where that takes minutes.
                        if contender != Contender::Dcsctp || (mbit < 1_000.0 && seed < 3) {
                            values.push(goodput(contender, &path, 65_536, time, seed));
                        }
                    }
                }
                let [ours, quinn, dcsctp] = values;
                let dcsctp = if dcsctp.is_empty() {
                    "-".to_owned()
                } else {
                    spread(dcsctp).to_string()
                };
                let (ours, quinn) = (spread(ours), spread(quinn));
                let ratio = ours.median / quinn.median;
                println!(
                    "| {mbit} | {delay} ms | {} % | {ours} | {quinn} | **{ratio:.2}** | {dcsctp} |",
                    loss * 100.0
                );
            }
        }
    }
}

fn fair() {
    println!("\n## Share of one flow beside another over 60 s\n");
    println!("| Mbit/s | delay each way | flows | share of the first | sum in Mbit/s |");
    println!("|---|---|---|---|---|");
    for (mbit, delay) in [(100.0, 10), (100.0, 2), (100.0, 50), (10.0, 10)] {
        let pairs = [
            (Contender::Ours, Contender::Quinn),
            (Contender::Ours, Contender::Ours),
            (Contender::Quinn, Contender::Quinn),
        ];
        for (first, second) in pairs {
            // Some jitter, so that seeds differ.
            let path = LinkConfig {
                jitter: MS,
                ..path(mbit, delay * MS, 0.0)
            };
            let (mut shares, mut sums) = (Vec::new(), Vec::new());
            for seed in 0..ROUNDS {
                let flows = vec![
                    bulk_flow(first, 65_536, seed),
                    bulk_flow(second, 65_536, seed + 100),
                ];
                let mut shared = Shared::new(flows, path.clone(), back(&path), seed);
                shared.connect();
                let time = Duration::from_secs(60);
                let until = shared.now + time;
                shared.run_until(until, &mut |_| {});
                let totals = [
                    shared.flows[0].total() as f64,
                    shared.flows[1].total() as f64,
                ];
                shares.push(totals[0] / (totals[0] + totals[1]));
                sums.push((totals[0] + totals[1]) * 8.0 / 1e6 / time.as_secs_f64());
            }
            let shares = spread(shares);
            println!(
                "| {mbit} | {delay} ms | {} beside {} | {:.2} ({:.2}-{:.2}) | {} |",
                first.name(),
                second.name(),
                shares.median,
                shares.least,
                shares.greatest,
                spread(sums)
            );
        }
    }
}

fn latency() {
    println!(
        "\n## 64 B each 20 ms beside 8 bulk streams, 100 Mbit/s, 10 ms each way, 1 % loss: ms one way\n"
    );
    println!("| stack | p50 | p99 | greatest | bulk Mbit/s |");
    println!("|---|---|---|---|---|");
    for contender in [
        Contender::Ours,
        Contender::OursInOrder,
        Contender::Dcsctp,
        Contender::SctpProto,
        Contender::RtcSctp,
    ] {
        let (mut p50, mut p99, mut most, mut rate) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for seed in 0..ROUNDS {
            let mut flow = contender.flow(seed);
            for stream in 1..=8 {
                flow = flow.with_bulk(stream, 65_536);
            }
            let path = path(100.0, 10 * MS, 0.01);
            let mut shared = Shared::new(vec![flow], path.clone(), back(&path), seed);
            shared.connect();
            let (start, mut sent) = (shared.now, Vec::new());
            let mut latencies: Vec<f64> = Vec::new();
            let mut closed = false;
            for index in 0..1_000u32 {
                if shared.flows[0].closed.is_some() {
                    closed = true;
                    break;
                }
                let mut payload = vec![0; 64];
                payload[..4].copy_from_slice(&index.to_be_bytes());
                sent.push(shared.now);
                let now = shared.now;
                shared.flows[0].ends[0].send(now, 0, payload.into(), Sending::default());
                shared.flush(0, 0);
                let until = now + 20 * MS;
                shared.run_until(until, &mut |arrival| {
                    if arrival.stream == 0 {
                        let index = u32::from_be_bytes(
                            arrival.payload[..4].try_into().expect("four bytes"),
                        );
                        latencies.push((arrival.at - sent[index as usize]).as_secs_f64() * 1e3);
                    }
                });
            }
            if closed {
                continue;
            }
            // What has not arrived by now is as late as it can be.
            let late = sent.len() - latencies.len();
            latencies.extend(std::iter::repeat_n(f64::INFINITY, late));
            latencies.sort_by(f64::total_cmp);
            // The last ones had no time to arrive.
            let latencies = &latencies[..latencies.len() - 3.min(late)];
            p50.push(latencies[latencies.len() / 2]);
            p99.push(latencies[latencies.len() * 99 / 100]);
            most.push(latencies[latencies.len() - 1]);
            rate.push(
                shared.flows[0].total() as f64 * 8.0 / 1e6 / (shared.now - start).as_secs_f64(),
            );
        }
        if p50.is_empty() {
            println!("| {} | closed the association | | | |", contender.name());
            continue;
        }
        println!(
            "| {} | {} | {} | {} | {} |",
            contender.name(),
            spread(p50),
            spread(p99),
            spread(most),
            spread(rate)
        );
    }
}

fn memory() {
    println!(
        "\n## In memory, without loss and delay: MiB/s of both ends together and CPU seconds a GiB\n"
    );
    println!("| stack | message | MiB/s | CPU s/GiB | ratio to dcsctp |");
    println!("|---|---|---|---|---|");
    let contenders = [
        Contender::Dcsctp,
        Contender::Ours,
        Contender::OursInOrder,
        Contender::SctpProto,
        Contender::RtcSctp,
    ];
    for message in [65_536, 1_024] {
        let mut rates = vec![Vec::new(); contenders.len()];
        for seed in 0..ROUNDS {
            for (contender, rates) in contenders.into_iter().zip(&mut rates) {
                // The slow ones move less.
                let total: u64 = if matches!(contender, Contender::Ours | Contender::OursInOrder) {
                    64 << 20
                } else {
                    8 << 20
                };
                let flow = contender.flow(seed).with_bulk(1, message);
                let path = LinkConfig::with_delay(Duration::from_micros(50));
                let mut shared = Shared::new(vec![flow], path.clone(), path, seed);
                shared.connect();
                let begun = Instant::now();
                while shared.flows[0].total() < total && shared.flows[0].closed.is_none() {
                    let until = shared.now + MS;
                    shared.run_until(until, &mut |_| {});
                }
                let mib = shared.flows[0].total() as f64 / (1 << 20) as f64;
                rates.push(mib / begun.elapsed().as_secs_f64());
            }
        }
        let spreads: Vec<Spread> = rates.into_iter().map(spread).collect();
        for (contender, rate) in contenders.into_iter().zip(&spreads) {
            let ratio = rate.median / spreads[0].median;
            println!(
                "| {} | {message} | {rate} | {:.2} | {ratio:.1} |",
                contender.name(),
                1_024.0 / rate.median
            );
        }
    }
}

/// Moves `total` bytes in messages of `len` from one association to another, by nothing but their calls. The time stands
/// still unless a timer is all that is left. Returns the number of packets.
fn transfer(total: usize, len: usize) -> u64 {
    let mut now = Instant::now();
    let config = Config::default();
    let mut a = Association::new(config.clone(), 1, now);
    let mut b = Association::new(config, 2, now);
    a.connect(now);
    let payload = Bytes::from(vec![7; len]);
    let options = SendOptions::default();
    let (mut sent, mut received, mut packets) = (0, 0, 0);
    while received < total {
        while sent < total && a.send(now, 1, 53, payload.clone(), options).is_ok() {
            sent += len;
        }
        let before = packets;
        while let Some(packet) = a.poll_transmit(now) {
            packets += 1;
            b.handle_packet(now, packet);
            while b.poll_event().is_some() {}
            while let Some(message) = b.poll_message() {
                received += message.payload.len();
            }
            while let Some(packet) = b.poll_transmit(now) {
                packets += 1;
                a.handle_packet(now, packet);
            }
            while a.poll_event().is_some() {}
        }
        while let Some(packet) = b.poll_transmit(now) {
            packets += 1;
            a.handle_packet(now, packet);
        }
        if packets == before {
            let timers = [a.poll_timeout(), b.poll_timeout()];
            now = timers.into_iter().flatten().min().unwrap_or(now).max(now);
            a.handle_timeout(now);
            b.handle_timeout(now);
        }
    }
    packets
}

/// Returns the CPU time of this thread as Linux counts it, so that a loaded machine measures the same; elsewhere the time
/// since the first call.
fn cpu_time() -> Duration {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    std::fs::read_to_string("/proc/thread-self/schedstat")
        .ok()
        .and_then(|stat| stat.split(' ').next()?.parse().ok())
        .map_or_else(|| START.elapsed(), Duration::from_nanos)
}

/// Measures all sizes of messages, or with `bench pair BYTES` one, for a profiler.
fn pair() {
    println!("\n## A pair of associations, nothing else, without loss: CPU time of one thread\n");
    println!("| message | MB/s | ns a packet |");
    println!("|---|---|---|");
    let chosen: Vec<usize> = std::env::args()
        .filter_map(|argument| argument.parse().ok())
        .collect();
    let sizes = if chosen.is_empty() {
        vec![65_536, 1_024, 16]
    } else {
        chosen
    };
    for len in sizes {
        let total = (len << 17).clamp(16 << 20, 256 << 20);
        let (mut rates, mut costs) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let begun = cpu_time();
            let packets = transfer(total, len);
            let taken = (cpu_time() - begun).as_secs_f64();
            rates.push(total as f64 / 1e6 / taken);
            costs.push(taken * 1e9 / packets as f64);
        }
        println!("| {len} | {} | {} |", spread(rates), spread(costs));
    }
}

fn heap() {
    println!("\n## Heap of an association, one end, in bytes\n");
    println!("| stack | idle after the handshake | idle after 64 B | idle after 8 MiB |");
    println!("|---|---|---|---|");
    for contender in [
        Contender::Ours,
        Contender::Dcsctp,
        Contender::SctpProto,
        Contender::RtcSctp,
    ] {
        const PAIRS: usize = 50;
        let region = Region::new(ALLOCATOR);
        let held = |region: &Region<'_, System>| {
            let change = region.change();
            (change.bytes_allocated as f64 - change.bytes_deallocated as f64) / (2 * PAIRS) as f64
        };
        let path = LinkConfig::with_delay(MS);
        let mut pairs: Vec<Shared> = (0..PAIRS)
            .map(|seed| {
                Shared::new(
                    vec![contender.flow(seed as u64)],
                    path.clone(),
                    path.clone(),
                    seed as u64,
                )
            })
            .collect();
        let before = held(&region);
        for pair in &mut pairs {
            pair.connect();
            let until = pair.now + 2_000 * MS;
            pair.run_until(until, &mut |_| {});
        }
        // The endpoints of the other stacks exist before their association.
        let idle = held(&region);
        let mut figures = vec![idle];
        for (messages, len) in [(1, 64), (128, 65_536)] {
            for pair in &mut pairs {
                for _ in 0..messages {
                    let now = pair.now;
                    assert!(pair.flows[0].ends[0].send(
                        now,
                        1,
                        vec![1; len].into(),
                        Sending::default()
                    ));
                    pair.flush(0, 0);
                    let until = now + 20 * MS;
                    pair.run_until(until, &mut |_| {});
                }
                let until = pair.now + 5_000 * MS;
                pair.run_until(until, &mut |_| {});
                assert!(pair.flows[0].total() >= (messages * len) as u64);
            }
            figures.push(held(&region));
        }
        println!(
            "| {} | {:.0} (of it {before:.0} before) | {:.0} | {:.0} |",
            contender.name(),
            figures[0],
            figures[1],
            figures[2]
        );
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let rates: Vec<f64> = arguments
        .iter()
        .filter_map(|argument| argument.parse().ok())
        .collect();
    let chosen =
        |name: &str| arguments.is_empty() || arguments.iter().any(|argument| argument == name);
    let sections: [(&str, fn()); 5] = [
        ("heap", heap),
        ("pair", pair),
        ("memory", memory),
        ("latency", latency),
        ("fair", fair),
    ];
    for (name, run) in sections {
        if chosen(name) {
            run();
        }
    }
    if chosen("bulk") {
        bulk(&rates);
    }
}
