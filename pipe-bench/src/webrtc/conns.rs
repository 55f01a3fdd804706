//! What is measured of connections over WebRTC only.

use std::io;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::measure::{Measure, Pair, stream_pairs};
use crate::summary::Summary;
use crate::{Lane, Transfer, connect_times};

/// How much goes over the stream beside others, in bytes.
const BESIDE: u64 = 4 * 1024 * 1024;

/// Number of bytes written to a stalled stream: more than any window.
const STALLED: usize = 8 * 1024 * 1024;

/// A stream is full when a write waits for so long.
const FULL: Duration = Duration::from_millis(100);

/// The median time to connect, open a stream and get a byte to and fro on it, in milliseconds.
#[derive(Clone, Copy)]
pub(super) struct Connect {
    pub(super) times: usize,
}

impl Measure for Connect {
    async fn run<P: Pair>(self) -> io::Result<Vec<f64>> {
        let times = connect_times(P::connect, self.times).await?;
        let times = times.iter().map(|time| time.as_secs_f64() * 1e3).collect();
        Ok(vec![Summary::of(times).median])
    }
}

/// How fast a new stream is while others are full and unread.
#[derive(Clone, Copy)]
pub(super) struct Crowded {
    pub(super) stalled: usize,
}

impl Measure for Crowded {
    async fn run<P: Pair>(self) -> io::Result<Vec<f64>> {
        let (opener, mut acceptor) = P::connect().await?;
        let pairs = stream_pairs(&opener, &mut acceptor, self.stalled).await?;
        let mut unread = Vec::new();
        let mut writers = JoinSet::new();
        for (mut near, far) in pairs {
            let mut written = 0;
            let block = vec![7; 64 * 1024];
            while let Ok(count) = timeout(FULL, near.write(&block)).await {
                written += count?;
            }
            unread.push(far);
            writers.spawn(async move {
                near.write_all(&vec![7; STALLED - written]).await?;
                near.shutdown().await
            });
        }
        let start = Instant::now();
        let mut pairs = stream_pairs(&opener, &mut acceptor, 1).await?;
        let (near, far) = pairs.remove(0);
        Lane::new(near, far)
            .run(Transfer::new(BESIDE, 64 * 1024))
            .await?;
        let rate = BESIDE as f64 / start.elapsed().as_secs_f64() / 1e6;
        // The others go on where they stopped.
        for mut far in unread {
            let mut rest = vec![0; STALLED];
            far.read_exact(&mut rest).await?;
        }
        while let Some(writer) = writers.join_next().await {
            writer??;
        }
        Ok(vec![rate])
    }
}
