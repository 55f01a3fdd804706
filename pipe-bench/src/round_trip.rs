use std::io;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::opener::ByteStream;

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
