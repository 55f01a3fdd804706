use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::opener::{Acceptor, Opener};

/// What the message takes that a used stream has carried in each direction, in bytes.
const MESSAGE: usize = 1024;

/// How long connections get to put away what they do not need, in a runtime that has nothing else to do.
pub const SETTLE: Duration = Duration::from_millis(200);

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

/// Makes `count` connections and keeps both ends. Returns the bytes of the heap that one takes; first
/// as connected, then after 1 MiB went over a stream of each, whose both ends are gone again, and `settle` has
/// passed.
///
/// # Errors
///
/// Those of connecting, opening, writing and reading.
pub async fn idle_conns<O, A, F>(
    connect: impl Fn() -> F,
    count: usize,
    settle: Duration,
    heap: Heap,
) -> io::Result<[f64; 2]>
where
    O: Opener,
    A: Acceptor,
    F: Future<Output = io::Result<(O, A)>>,
{
    const BULK: usize = 1 << 20;
    let mut bytes = vec![7; BULK];
    let mut conns = Vec::with_capacity(count);
    // The first pays for what is shared by all.
    let first = connect().await?;
    let before = heap();
    for _ in 0..count {
        conns.push(connect().await?);
    }
    let per_conn = || heap().saturating_sub(before) as f64 / count as f64;
    let unused = per_conn();
    for (opener, acceptor) in &mut conns {
        let sending = async {
            let mut near = opener.open().await?;
            near.write_all(&bytes).await?;
            near.shutdown().await?;
            near.read_u8().await?;
            Ok::<_, io::Error>(())
        };
        let mut received = vec![0; BULK];
        let receiving = async {
            let far = acceptor.accept().await;
            let mut far = far.ok_or(io::ErrorKind::UnexpectedEof)?;
            far.read_exact(&mut received).await?;
            far.write_u8(1).await?;
            far.shutdown().await
        };
        tokio::try_join!(sending, receiving)?;
        bytes = received;
    }
    // Whatever is put away in the background is put away by then.
    tokio::time::sleep(settle).await;
    let used = per_conn();
    drop(first);
    Ok([unused, used])
}
