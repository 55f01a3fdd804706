//! Bytes to send, and the check that they arrived.

use fastrand::Rng;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

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
pub(crate) async fn send_all(writer: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) {
    send(writer, bytes).await;
    if let Err(e) = writer.shutdown().await {
        panic!("shutting down after {} bytes failed: {e:?}", bytes.len());
    }
}

/// Writes all of it. Panics at an error.
pub(crate) async fn send(writer: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) {
    if let Err(e) = writer.write_all(bytes).await {
        panic!("writing {} bytes failed: {e:?}", bytes.len());
    }
}

/// Reads as many bytes as expected, and panics at the first that differs, at an early end and at an
/// error.
pub(crate) async fn expect_bytes(reader: &mut (impl AsyncRead + Unpin), expected: &[u8]) {
    let mut chunk = vec![0; CHUNK.min(expected.len())];
    let mut at = 0;
    while at < expected.len() {
        let want = chunk.len().min(expected.len() - at);
        let total = expected.len();
        let n = match reader.read(&mut chunk[..want]).await {
            Ok(0) => panic!("the stream ended after {at} of {total} bytes"),
            Ok(n) => n,
            Err(e) => panic!("reading failed after {at} of {total} bytes: {e:?}"),
        };
        expect_equal(&chunk[..n], &expected[at..at + n], at);
        at += n;
    }
}

/// Panics unless the stream has ended: the next read gives `Ok(0)`.
pub(crate) async fn expect_end(reader: &mut (impl AsyncRead + Unpin)) {
    let mut byte = [0];
    match reader.read(&mut byte).await {
        Ok(0) => {}
        Ok(_) => panic!(
            "more bytes came than were sent; the first is {:#04x}",
            byte[0]
        ),
        Err(e) => panic!("the stream should have ended, but reading failed: {e:?}"),
    }
}

/// Reads what is expected, and then the end.
pub(crate) async fn expect_all(reader: &mut (impl AsyncRead + Unpin), expected: &[u8]) {
    expect_bytes(reader, expected).await;
    expect_end(reader).await;
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
