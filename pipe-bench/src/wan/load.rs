//! What is measured over a path.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep_until, timeout_at};

use super::contenders::{Connected, Contender};
use super::path::Path;
use crate::measure::stream_pairs;
use crate::opener::ByteStream;
use crate::page_buffer::PageBuffer;

/// The size of the writes and reads of bulk, in bytes.
const BLOCK: usize = 64 * 1024;

/// The size of a message, in bytes.
const MESSAGE: usize = 64;

/// How long after a message the next one is sent, whether the first came back or not.
const PAUSE: Duration = Duration::from_millis(20);

/// How many round trips a stream has to get up to speed.
pub(super) const START: u32 = 10;

/// Something to measure over a path, for so long.
pub(super) trait Measure: Copy + Send + Sync + 'static {
    fn run<C: Contender>(self, path: Path) -> impl Future<Output = io::Result<Vec<f64>>> + Send;
}

/// One stream that carries as much as it can. Gives the MB/s after the first round trips, those during them, and the
/// percentage of late packets.
#[derive(Clone, Copy)]
pub(super) struct Bulk {
    pub(super) time: Duration,
}

impl Measure for Bulk {
    async fn run<C: Contender>(self, path: Path) -> io::Result<Vec<f64>> {
        let Connected {
            opener,
            mut acceptor,
            emulator,
        } = C::connect(path).await?;
        let (near, far) = stream_pairs(&opener, &mut acceptor, 1).await?.remove(0);
        let start = Instant::now();
        let steady = start + START * path.round_trip();
        let mut writing = JoinSet::new();
        writing.spawn(write_on(near));
        let reading = tokio::spawn(async move {
            let mut far = far;
            let first = read_until(&mut far, steady).await?;
            let rest = read_until(&mut far, steady + self.time).await?;
            Ok::<_, io::Error>(([first, rest], far))
        });
        // The stream lives until its writer has been looked at.
        let ([first, rest], _far) = reading.await??;
        if let Some(ended) = writing.try_join_next() {
            ended??;
        }
        let first = first as f64 / (steady - start).as_secs_f64();
        let rest = rest as f64 / self.time.as_secs_f64();
        writing.shutdown().await;
        Ok(vec![rest / 1e6, first / 1e6, emulator.late()])
    }
}

/// 64 B messages to and fro beside such a stream. Gives the median and the 99th percentile of their round trips in
/// milliseconds, the MB/s of the stream, and the percentage of late packets.
#[derive(Clone, Copy)]
pub(super) struct Beside {
    pub(super) time: Duration,
}

impl Measure for Beside {
    async fn run<C: Contender>(self, path: Path) -> io::Result<Vec<f64>> {
        let Connected {
            opener,
            mut acceptor,
            emulator,
        } = C::connect(path).await?;
        let mut pairs = stream_pairs(&opener, &mut acceptor, 2).await?;
        let (messages, bulk) = (pairs.remove(0), pairs.remove(0));
        let steady = Instant::now() + START * path.round_trip();
        let mut load = JoinSet::new();
        let (near, mut far) = bulk;
        load.spawn(write_on(near));
        let reading = tokio::spawn(async move {
            read_until(&mut far, steady).await?;
            let count = read_until(&mut far, steady + self.time).await;
            // What is written on has to be read on, until the messages are through.
            Ok::<_, io::Error>((count?, far))
        });
        sleep_until(steady).await;
        let count = (self.time.as_nanos() / PAUSE.as_nanos()).max(1) as usize;
        let messages = tokio::spawn(round_trips(messages, count, steady + self.time));
        let (bytes, mut far) = reading.await??;
        load.spawn(async move {
            let forever = Instant::now() + Duration::from_secs(3600);
            read_until(&mut far, forever).await.map(drop)
        });
        let mut times = messages.await??;
        if let Some(ended) = load.try_join_next() {
            ended??;
        }
        load.shutdown().await;
        times.sort_unstable();
        let percentile = |share: usize| {
            let index = (times.len() * share / 100).min(times.len() - 1);
            times[index].as_secs_f64() * 1e3
        };
        let rate = bytes as f64 / self.time.as_secs_f64() / 1e6;
        Ok(vec![percentile(50), percentile(99), rate, emulator.late()])
    }
}

/// Writes as much as the stream takes, until it is aborted.
async fn write_on(mut stream: impl ByteStream) -> io::Result<()> {
    let mut block = PageBuffer::new(BLOCK);
    loop {
        stream.write_all(&block.at(0)[..BLOCK]).await?;
    }
}

/// Reads until that moment, and returns how many bytes came.
async fn read_until(stream: &mut impl ByteStream, end: Instant) -> io::Result<u64> {
    let mut block = PageBuffer::new(BLOCK);
    let mut bytes = 0;
    while let Ok(read) = timeout_at(end, stream.read(block.at(0))).await {
        match read? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => bytes += count as u64,
        }
        // A stream that always has something lets no time run out.
        if Instant::now() >= end {
            break;
        }
    }
    Ok(bytes)
}

/// Sends messages at fixed times, and returns how long each one was on its way to and fro. One that is not back five
/// seconds after `end` has taken until then.
async fn round_trips<A: ByteStream, B: ByteStream>(
    (near, mut far): (A, B),
    count: usize,
    end: Instant,
) -> io::Result<Vec<Duration>> {
    let limit = end + Duration::from_secs(5);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut message = [0; MESSAGE];
        loop {
            far.read_exact(&mut message).await?;
            far.write_all(&message).await?;
            far.flush().await?;
        }
    });
    let (mut reader, mut writer) = tokio::io::split(near);
    let start = Instant::now();
    tasks.spawn(async move {
        let mut due = interval(PAUSE);
        for _ in 0..count {
            due.tick().await;
            writer.write_all(&[7; MESSAGE]).await?;
            writer.flush().await?;
        }
        // The stream is ended with the last half.
        std::future::pending().await
    });
    let mut times = Vec::with_capacity(count);
    let mut message = [0; MESSAGE];
    for index in 0..count {
        let sent = start + PAUSE * index as u32;
        match timeout_at(limit, reader.read_exact(&mut message)).await {
            Ok(read) => drop(read?),
            Err(_) => {
                times.extend((index..count).map(|index| limit - (start + PAUSE * index as u32)));
                break;
            }
        }
        times.push(sent.elapsed());
    }
    let failed: Option<Result<io::Result<()>, _>> = tasks.try_join_next();
    if let Some(failed) = failed {
        failed??;
    }
    tasks.shutdown().await;
    Ok(times)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn messages_that_do_not_come_back_take_until_the_limit() {
        let (near, _middle) = tokio::io::duplex(1 << 20);
        let (far, _other) = tokio::io::duplex(1 << 20);
        let end = Instant::now() + Duration::from_secs(1);
        let times = round_trips((near, far), 50, end).await.unwrap();
        assert_eq!(times.len(), 50);
        assert_eq!(times[0], Duration::from_secs(6));
        assert_eq!(times[49], Duration::from_secs(6) - 49 * PAUSE);
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_count_until_the_end() {
        let (near, mut far) = tokio::io::duplex(1000);
        let mut writing = JoinSet::new();
        writing.spawn(async move {
            let mut near = near;
            for _ in 0..10 {
                near.write_all(&[0; 100]).await?;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Ok::<_, io::Error>(near)
        });
        let end = Instant::now() + Duration::from_millis(450);
        assert_eq!(read_until(&mut far, end).await.unwrap(), 500);
        let end = Instant::now() + Duration::from_secs(1);
        assert_eq!(read_until(&mut far, end).await.unwrap(), 500);
    }
}
