//! Bytes to send, and the check that they arrived.

use std::panic::Location;

use fastrand::Rng;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::waits::Wait;

/// The largest piece that a check reads at once.
const CHUNK: usize = 64 * 1024;

/// Random bytes, always the same for a seed and an index.
pub(crate) fn random(seed: u64, index: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    // Spreads the indices over the seeds (the multiplier of Knuth's MMIX generator).
    let seed = seed ^ index.wrapping_mul(6_364_136_223_846_793_005);
    Rng::with_seed(seed).fill(&mut bytes);
    bytes
}

/// Writes all of it, and then the end. Panics at an error.
#[track_caller]
pub(crate) fn send_all<W: AsyncWrite + Unpin>(
    writer: &mut W,
    bytes: &[u8],
) -> impl Future<Output = ()> {
    let place = Location::caller();
    async move {
        send_at(writer, bytes, place).await;
        let _wait = Wait::begin("a shutdown", place);
        if let Err(e) = writer.shutdown().await {
            let len = bytes.len();
            panic!("shutting down after {len} bytes failed, at {place}: {e:?}");
        }
    }
}

/// Writes all of it. Panics at an error.
#[track_caller]
pub(crate) fn send<W: AsyncWrite + Unpin>(
    writer: &mut W,
    bytes: &[u8],
) -> impl Future<Output = ()> {
    send_at(writer, bytes, Location::caller())
}

async fn send_at<W: AsyncWrite + Unpin>(
    writer: &mut W,
    bytes: &[u8],
    place: &'static Location<'static>,
) {
    let wait = Wait::begin("a write", place);
    let mut at = 0;
    while at < bytes.len() {
        wait.bytes(at, bytes.len());
        let total = bytes.len();
        match writer.write(&bytes[at..]).await {
            Ok(0) => panic!("a write took nothing after {at} of {total} bytes, at {place}"),
            Ok(n) => at += n,
            Err(e) => panic!("writing failed after {at} of {total} bytes, at {place}: {e:?}"),
        }
    }
}

/// Reads as many bytes as expected, and panics at the first that differs, at an early end and at an
/// error.
#[track_caller]
pub(crate) fn expect_bytes<R: AsyncRead + Unpin>(
    reader: &mut R,
    expected: &[u8],
) -> impl Future<Output = ()> {
    expect_bytes_at(reader, expected, Location::caller())
}

async fn expect_bytes_at<R: AsyncRead + Unpin>(
    reader: &mut R,
    expected: &[u8],
    place: &'static Location<'static>,
) {
    let wait = Wait::begin("a read", place);
    let mut chunk = vec![0; CHUNK.min(expected.len())];
    let mut at = 0;
    while at < expected.len() {
        let want = chunk.len().min(expected.len() - at);
        let total = expected.len();
        wait.bytes(at, total);
        let n = match reader.read(&mut chunk[..want]).await {
            Ok(0) => panic!("the stream ended after {at} of {total} bytes, at {place}"),
            Ok(n) => n,
            Err(e) => panic!("reading failed after {at} of {total} bytes, at {place}: {e:?}"),
        };
        expect_equal(&chunk[..n], &expected[at..at + n], at);
        at += n;
    }
}

/// Panics unless the stream has ended: the next read gives `Ok(0)`.
#[track_caller]
pub(crate) fn expect_end<R: AsyncRead + Unpin>(reader: &mut R) -> impl Future<Output = ()> {
    expect_end_at(reader, Location::caller())
}

async fn expect_end_at<R: AsyncRead + Unpin>(reader: &mut R, place: &'static Location<'static>) {
    let _wait = Wait::begin("the end of a stream", place);
    let mut byte = [0];
    match reader.read(&mut byte).await {
        Ok(0) => {}
        Ok(_) => {
            let first = byte[0];
            panic!("more bytes came than were sent, at {place}; the first is {first:#04x}");
        }
        Err(e) => panic!("the stream should have ended, at {place}, but reading failed: {e:?}"),
    }
}

/// Reads what is expected, and then the end.
#[track_caller]
pub(crate) fn expect_all<R: AsyncRead + Unpin>(
    reader: &mut R,
    expected: &[u8],
) -> impl Future<Output = ()> {
    let place = Location::caller();
    async move {
        expect_bytes_at(reader, expected, place).await;
        expect_end_at(reader, place).await;
    }
}

/// Panics at the first byte that differs; `at` is where the pieces stand in the whole.
pub(crate) fn expect_equal(got: &[u8], expected: &[u8], at: usize) {
    if got != expected {
        let i = got
            .iter()
            .zip(expected)
            .position(|(a, b)| a != b)
            .unwrap_or_else(|| got.len().min(expected.len()));
        panic!("byte {} differs from what was sent", at + i);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_depends_on_seed_and_index_only() {
        assert_eq!(random(1, 2, 100), random(1, 2, 100));
        assert_eq!(random(1, 2, 100)[..50], random(1, 2, 50));
        assert_ne!(random(1, 2, 100), random(1, 3, 100));
        assert_ne!(random(1, 2, 100), random(2, 2, 100));
    }

    #[tokio::test]
    async fn the_whole_payload_passes() {
        let sent = random(1, 0, 3 * CHUNK + 5);
        expect_all(&mut sent.as_slice(), &sent).await;
    }

    #[tokio::test]
    #[should_panic(expected = "ended after 9 of 10 bytes")]
    async fn a_missing_byte_is_noticed() {
        let sent = random(1, 0, 10);
        expect_bytes(&mut &sent[..9], &sent).await;
    }

    #[tokio::test]
    #[should_panic(expected = "byte 70000 differs")]
    async fn a_changed_byte_is_noticed() {
        let sent = random(1, 0, 80_000);
        let mut got = sent.clone();
        got[70_000] ^= 1;
        expect_bytes(&mut got.as_slice(), &sent).await;
    }

    #[tokio::test]
    #[should_panic(expected = "more bytes came than were sent")]
    async fn a_byte_too_many_is_noticed() {
        let sent = random(1, 0, 10);
        expect_all(&mut sent.as_slice(), &sent[..9]).await;
    }
}
