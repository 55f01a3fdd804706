use std::io;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::opener::ByteStream;
use crate::page_buffer::PageBuffer;

/// The size of the writes of a load, in bytes.
const LOAD: usize = 64 * 1024;

/// How much of the load has to be through before anything is measured, in bytes.
const LOAD_BEFORE: usize = 8 << 20;

/// Sends a message of `len` bytes to and fro between two tasks, `times` times. Returns the mean time
/// of a round trip.
///
/// # Errors
///
/// Those of the writes and reads.
pub async fn round_trip<A, B>(
    mut near: A,
    mut far: B,
    len: usize,
    times: u32,
) -> io::Result<Duration>
where
    A: ByteStream,
    B: ByteStream,
{
    let echo = tokio::spawn(async move {
        let mut message = vec![0; len];
        for _ in 0..times {
            far.read_exact(&mut message).await?;
            far.write_all(&message).await?;
            far.flush().await?;
        }
        Ok::<_, io::Error>(far)
    });
    let call = tokio::spawn(async move {
        let mut message = vec![0; len];
        let start = Instant::now();
        for _ in 0..times {
            near.write_all(&message).await?;
            near.flush().await?;
            near.read_exact(&mut message).await?;
        }
        Ok::<_, io::Error>((near, start.elapsed()))
    });
    let (_near, time) = call.await??;
    let _far = echo.await??;
    Ok(time / times.max(1))
}

/// As [`round_trip`], while another pair of streams carries as much as it can from its first end to
/// its second.
///
/// # Errors
///
/// Those of the writes and reads, of the load as well.
pub async fn round_trip_beside<A, B, C, D>(
    messages: (A, B),
    load: (C, D),
    len: usize,
    times: u32,
) -> io::Result<Duration>
where
    A: ByteStream,
    B: ByteStream,
    C: ByteStream,
    D: ByteStream,
{
    let (mut writer, mut reader) = load;
    let mut load = JoinSet::new();
    load.spawn(async move {
        let mut block = PageBuffer::new(LOAD);
        loop {
            writer.write_all(&block.at(0)[..LOAD]).await?;
        }
    });
    let (started, under_way) = oneshot::channel();
    load.spawn(async move {
        let mut block = PageBuffer::new(LOAD);
        let mut started = Some(started);
        let mut left = LOAD_BEFORE;
        loop {
            let count = reader.read(block.at(0)).await?;
            if count == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
            }
            left = left.saturating_sub(count);
            if left == 0
                && let Some(started) = started.take()
            {
                // The other side may have given up.
                let _ = started.send(());
            }
        }
    });
    under_way.await.map_err(io::Error::other)?;
    let (near, far) = messages;
    let time = round_trip(near, far, len, times).await;
    if let Some(ended) = load.try_join_next() {
        ended??;
    }
    load.shutdown().await;
    time
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_message_comes_back() {
        let (a, b) = tokio::io::duplex(16);
        assert!(round_trip(a, b, 64, 10).await.unwrap() > Duration::ZERO);
    }

    #[tokio::test]
    async fn a_peer_that_is_gone_is_an_error() {
        let (a, b) = tokio::io::duplex(16);
        drop(b);
        let (b, _far) = tokio::io::duplex(16);
        assert!(round_trip(a, b, 64, 10).await.is_err());
    }
}
