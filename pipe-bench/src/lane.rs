use std::io;
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::page_buffer::PageBuffer;

/// How long the buffers of a lane are, in bytes: the largest write and read.
const BUFFER: usize = 64 * 1024;

/// A writer and a reader that are connected, each with a page-aligned buffer.
#[derive(Debug)]
pub struct Lane<W, R> {
    writer: W,
    reader: R,
    from: PageBuffer,
    to: PageBuffer,
}

/// What to move over a [`Lane`], and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// How many bytes altogether.
    pub bytes: u64,
    /// How many bytes a write takes at most. Up to 64 KiB; a read always takes up to 64 KiB.
    pub write_len: usize,
    /// Where in its page the buffer begins that is written.
    pub write_offset: usize,
    /// Where in its page the buffer begins that is read into.
    pub read_offset: usize,
}

impl Transfer {
    /// So many bytes in writes of at most `write_len`, with both buffers at the start of a page.
    pub fn new(bytes: u64, write_len: usize) -> Self {
        Self {
            bytes,
            write_len,
            write_offset: 0,
            read_offset: 0,
        }
    }
}

impl<W, R> Lane<W, R>
where
    W: AsyncWrite + Unpin + Send + 'static,
    R: AsyncRead + Unpin + Send + 'static,
{
    /// A lane from `writer` to `reader`.
    pub fn new(writer: W, reader: R) -> Self {
        Self {
            writer,
            reader,
            from: PageBuffer::new(BUFFER),
            to: PageBuffer::new(BUFFER),
        }
    }

    /// Moves bytes from a task that writes to a task that reads. Returns the lane, for more, and the
    /// bytes a second.
    ///
    /// # Errors
    ///
    /// Those of the writes and reads, and `UnexpectedEof` when there is nothing more to read.
    ///
    /// # Panics
    ///
    /// If the transfer is out of its bounds.
    pub async fn run(self, transfer: Transfer) -> io::Result<(Self, f64)> {
        let Self {
            mut writer,
            mut reader,
            mut from,
            mut to,
        } = self;
        let start = Instant::now();
        let writing = tokio::spawn(async move {
            let block = &from.at(transfer.write_offset)[..transfer.write_len];
            let mut left = transfer.bytes;
            while left > 0 {
                let len = left.min(block.len() as u64);
                writer.write_all(&block[..len as usize]).await?;
                left -= len;
            }
            writer.flush().await?;
            Ok::<_, io::Error>((writer, from))
        });
        let reading = tokio::spawn(async move {
            let block = to.at(transfer.read_offset);
            let mut left = transfer.bytes;
            while left > 0 {
                let read = reader.read(block).await? as u64;
                if read == 0 {
                    return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
                }
                left -= read;
            }
            Ok((reader, to, start.elapsed()))
        });
        let (reader, to, time) = reading.await??;
        let (writer, from) = writing.await??;
        let lane = Self {
            writer,
            reader,
            from,
            to,
        };
        Ok((lane, transfer.bytes as f64 / time.as_secs_f64()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_moves_what_it_was_told_to_and_goes_on() {
        let (a, b) = tokio::io::duplex(1000);
        let mut lane = Lane::new(a, b);
        for bytes in [1, 64, 100_001] {
            let (next, rate) = lane.run(Transfer::new(bytes, 64)).await.unwrap();
            assert!(rate > 0.0);
            lane = next;
        }
    }

    #[tokio::test]
    async fn a_writer_that_is_gone_is_an_error() {
        let (a, b) = tokio::io::duplex(1000);
        drop(a);
        let (_far, writer) = tokio::io::duplex(1000);
        let error = Lane::new(writer, b)
            .run(Transfer::new(10, 10))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
