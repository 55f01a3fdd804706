use std::io;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::lane::{Lane, Transfer};
use crate::page_buffer::PAGE;

/// The size of the writes, in bytes.
const WRITE: usize = 64 * 1024;

/// What is moved to find out whether an offset is slow, in bytes.
const PROBE: u64 = 512 * 1024;

/// How often each offset is probed. The best counts: a slow offset is slow every time, while a task
/// that had to wait for its processor is not.
const PROBES: usize = 3;

/// What is moved to measure, in bytes.
const MEASURED: u64 = 32 * 1024 * 1024;

/// How often each pair of offsets is measured, in turn with the others. Again the best counts.
const MEASUREMENTS: usize = 8;

/// The step from one offset to the next, in bytes: that of the addresses which allocators give.
const STEP: usize = 16;

/// How fast bytes move where their buffers lie well, and where they lie badly.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Extremes {
    /// Bytes a second at the luckiest offsets.
    pub lucky: f64,
    /// Bytes a second at the unluckiest offsets.
    pub unlucky: f64,
}

/// Finds the offsets of the two buffers in their pages at which bytes move fastest and slowest, and
/// measures there.
///
/// Where the memory between writer and reader lies is unknown, so every offset is tried, in steps
/// of 16 bytes: first those of the buffer that is written, then those of the buffer that is read
/// into. Then the two fastest and the two slowest are measured in all four combinations.
///
/// # Errors
///
/// Those of the writes and reads.
pub async fn extremes<W, R>(writer: W, reader: R) -> io::Result<Extremes>
where
    W: AsyncWrite + Unpin + Send + 'static,
    R: AsyncRead + Unpin + Send + 'static,
{
    let lane = Lane::new(writer, reader);
    // The memory in between has grown to its full size before addresses count.
    let (lane, _) = lane.run(Transfer::new(4 * PROBE, WRITE)).await?;

    let probe = Transfer::new(PROBE, WRITE);
    let (lane, write) = scan(lane, |write_offset| Transfer {
        write_offset,
        ..probe
    })
    .await?;
    let (mut lane, read) = scan(lane, |read_offset| Transfer {
        write_offset: write.fastest,
        read_offset,
        ..probe
    })
    .await?;

    let mut rates = [0.0_f64; 4];
    for _ in 0..MEASUREMENTS {
        for (index, best) in rates.iter_mut().enumerate() {
            let transfer = Transfer {
                bytes: MEASURED,
                write_len: WRITE,
                write_offset: [write.fastest, write.slowest][index / 2],
                read_offset: [read.fastest, read.slowest][index % 2],
            };
            let (next, rate) = lane.run(transfer).await?;
            lane = next;
            *best = best.max(rate);
        }
    }
    Ok(Extremes {
        lucky: rates.iter().copied().fold(0.0, f64::max),
        unlucky: rates.iter().copied().fold(f64::INFINITY, f64::min),
    })
}

struct Offsets {
    fastest: usize,
    slowest: usize,
}

/// Tries a transfer at every offset.
async fn scan<W, R>(
    mut lane: Lane<W, R>,
    transfer_at: impl Fn(usize) -> Transfer,
) -> io::Result<(Lane<W, R>, Offsets)>
where
    W: AsyncWrite + Unpin + Send + 'static,
    R: AsyncRead + Unpin + Send + 'static,
{
    let mut rates = [0.0_f64; PAGE / STEP];
    for _ in 0..PROBES {
        for (index, best) in rates.iter_mut().enumerate() {
            let (next, rate) = lane.run(transfer_at(index * STEP)).await?;
            lane = next;
            *best = best.max(rate);
        }
    }
    let by_rate = |a: &usize, b: &usize| rates[*a].total_cmp(&rates[*b]);
    let offsets = Offsets {
        fastest: (0..rates.len()).max_by(by_rate).unwrap_or(0) * STEP,
        slowest: (0..rates.len()).min_by(by_rate).unwrap_or(0) * STEP,
    };
    Ok((lane, offsets))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_lucky_rate_is_no_less_than_the_unlucky_one() {
        let (a, b) = tokio::io::duplex(256 * 1024);
        let extremes = extremes(a, b).await.unwrap();
        assert!(extremes.unlucky > 0.0);
        assert!(extremes.lucky >= extremes.unlucky);
    }
}
