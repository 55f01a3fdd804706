//! The body of a file: its bytes, then their SHA-256.
//!
//! Both ends hash what passes through their hands. The sender's hash travels behind the bytes, and the
//! receiver compares it with its own. Memory use does not depend on the size of the file.

use std::fmt;
use std::io;

use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::progress::Progress;

/// A SHA-256.
pub(crate) type Digest = [u8; 32];

/// How many bytes are read, hashed and written at a time.
const BLOCK: usize = 128 * 1024;

/// Sends a body of `size` bytes from `file`, and returns its hash. More bytes in the file are left
/// out.
pub(crate) async fn send(
    file: &mut (impl AsyncRead + Unpin),
    stream: &mut (impl AsyncWrite + Unpin),
    size: u64,
    progress: &Progress,
) -> Result<Digest, CopyError> {
    let digest = copy(file, stream, size, progress).await?;
    stream.write_all(&digest).await.map_err(CopyError::Write)?;
    Ok(digest)
}

/// Receives a body of `size` bytes into `file`, and returns its hash.
///
/// # Errors
///
/// [`CopyError::Read`] with `InvalidData` when the sender hashed something else.
pub(crate) async fn receive(
    stream: &mut (impl AsyncRead + Unpin),
    file: &mut (impl AsyncWrite + Unpin),
    size: u64,
    progress: &Progress,
) -> Result<Digest, CopyError> {
    let digest = copy(stream, file, size, progress).await?;
    let mut sent: Digest = [0; 32];
    stream
        .read_exact(&mut sent)
        .await
        .map_err(CopyError::Read)?;
    if sent != digest {
        let error = io::Error::new(
            io::ErrorKind::InvalidData,
            "the SHA-256 of what was sent differs from that of what came",
        );
        return Err(CopyError::Read(error));
    }
    Ok(digest)
}

/// Copies `size` bytes, no less, and hashes them.
async fn copy(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    size: u64,
    progress: &Progress,
) -> Result<Digest, CopyError> {
    let mut block = vec![0; at_most(BLOCK, size)];
    let mut hash = Sha256::new();
    let mut left = size;
    while left > 0 {
        let len = at_most(block.len(), left);
        let read = from
            .read(&mut block[..len])
            .await
            .map_err(CopyError::Read)?;
        if read == 0 {
            let error = io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("it ended after {} of {size} bytes", size - left),
            );
            return Err(CopyError::Read(error));
        }
        let bytes = &block[..read];
        hash.update(bytes);
        to.write_all(bytes).await.map_err(CopyError::Write)?;
        left -= read as u64;
        progress.add(read as u64);
    }
    to.flush().await.map_err(CopyError::Write)?;
    Ok(hash.finalize().into())
}

/// The smaller of the two.
fn at_most(len: usize, size: u64) -> usize {
    usize::try_from(size).map_or(len, |size| size.min(len))
}

/// Which side a copy failed on.
#[derive(Debug)]
pub(crate) enum CopyError {
    /// What was copied from.
    Read(io::Error),
    /// What was copied to.
    Write(io::Error),
}

impl fmt::Display for CopyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Read(error) | Self::Write(error)) = self;
        error.fmt(f)
    }
}

impl std::error::Error for CopyError {}

#[cfg(test)]
mod tests {
    use super::*;

    async fn sent(bytes: &[u8]) -> Vec<u8> {
        let mut wire = Vec::new();
        let size = bytes.len() as u64;
        send(&mut &*bytes, &mut wire, size, &Progress::hidden())
            .await
            .unwrap();
        wire
    }

    #[tokio::test]
    async fn a_body_arrives_as_it_was_sent() {
        for len in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK] {
            let bytes: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
            let wire = sent(&bytes).await;
            let mut file = Vec::new();
            let digest = receive(&mut &wire[..], &mut file, len as u64, &Progress::hidden())
                .await
                .unwrap();
            assert_eq!(file, bytes);
            assert_eq!(digest, Digest::from(Sha256::digest(&bytes)));
        }
    }

    #[tokio::test]
    async fn a_changed_bit_is_noticed() {
        let mut wire = sent(&[0; 1000]).await;
        wire[500] ^= 1;
        let error = receive(&mut &wire[..], &mut Vec::new(), 1000, &Progress::hidden())
            .await
            .unwrap_err();
        assert!(error.to_string().starts_with("the SHA-256"), "{error}");
    }

    #[tokio::test]
    async fn a_short_file_is_noticed() {
        let error = send(&mut &[0; 10][..], &mut Vec::new(), 11, &Progress::hidden())
            .await
            .unwrap_err();
        assert!(matches!(error, CopyError::Read(_)));
        assert_eq!(error.to_string(), "it ended after 10 of 11 bytes");
    }
}
