//! Counts the memory of idle streams and connections. `pipe-bench` runs it and reads the JSON that it prints: it is a
//! program of its own because counting slows every allocation down.

use std::alloc::System;
use std::io;

use clap::{Parser, ValueEnum};
use pipe_bench::interleave;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Count the memory of idle streams and connections, and print the comparisons as JSON
#[derive(Parser)]
struct Args {
    /// What to measure
    subject: Subject,
    /// How many rounds count, after one that warms up
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

#[derive(Clone, Copy, ValueEnum)]
enum Subject {
    Inproc,
    Tcp,
    Ws,
    #[cfg(feature = "rivals")]
    Rivals,
    Quic,
    Webrtc,
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    let scenarios = match args.subject {
        Subject::Inproc => vec![pipe_bench::inproc::memory(heap)],
        Subject::Tcp => pipe_bench::tcp::memory(heap),
        Subject::Ws => pipe_bench::ws::memory(heap),
        #[cfg(feature = "rivals")]
        Subject::Rivals => pipe_bench::rivals::memory(heap),
        Subject::Quic => pipe_bench::quic::memory(heap),
        Subject::Webrtc => pipe_bench::webrtc::memory(heap),
    };
    let mut comparisons = Vec::new();
    for scenario in scenarios {
        comparisons.extend(interleave(&scenario, args.rounds, |_| {})?);
    }
    serde_json::to_writer(io::stdout().lock(), &comparisons)?;
    Ok(())
}

/// How many bytes are allocated now.
fn heap() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}
