use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::opener::{Acceptor, Opener};

/// What the message takes that a used stream has carried in each direction, in bytes.
const MESSAGE: usize = 1024;

/// Tells how many bytes of the heap are in use: what a counting allocator is asked.
pub type Heap = fn() -> usize;

/// Opens and accepts `count` streams and keeps both ends. Returns the bytes of the heap that one
/// takes, its two handles included; first as opened, then after 1 KiB went over each and back.
///
/// # Errors
///
/// Those of opening, writing and reading.
pub async fn idle_streams<O: Opener, A: Acceptor>(
    opener: O,
    mut acceptor: A,
    count: usize,
    heap: Heap,
) -> io::Result<[f64; 2]> {
    let before = heap();
    let mut streams = Vec::with_capacity(count);
    for _ in 0..count {
        let near = opener.open().await?;
        let far = acceptor
            .accept()
            .await
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        streams.push((near, far));
    }
    let per_stream = || heap().saturating_sub(before) as f64 / count as f64;
    let unused = per_stream();

    let mut message = [7; MESSAGE];
    for (near, far) in &mut streams {
        near.write_all(&message).await?;
        far.read_exact(&mut message).await?;
        far.write_all(&message).await?;
        near.read_exact(&mut message).await?;
    }
    Ok([unused, per_stream()])
}
