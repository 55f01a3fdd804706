//! Attacks through the public traits.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::join_all;
use pipe_core::{Conn, Stream, Transport};
use tokio::io::AsyncWriteExt;
use tokio::task::yield_now;
use tokio::time::timeout;

use super::attack::{Arms, CONNS, again_and_again};
use super::victim::{ECHO, HOLD};

/// Runs the same over connections of the public traits.
async fn with_conns<F>(arms: Arc<Arms>, attack: impl Fn(Arc<Arms>, pipe_core::BoxConn) -> F)
where
    F: Future<Output = io::Result<()>>,
{
    let attack = &attack;
    again_and_again(arms, CONNS, |arms| async move {
        let conn = arms.transport.dial(&arms.addr).await?;
        arms.tally.conns.fetch_add(1, Ordering::Relaxed);
        attack(arms.clone(), conn).await
    })
    .await;
}

pub(super) async fn opens_and_drops(arms: Arc<Arms>) {
    with_conns(arms, |arms, conn| async move {
        loop {
            let mut stream = conn.open_stream().await?;
            stream.reset(7);
            stream.stop(7);
            arms.tally.batches.fetch_add(1, Ordering::Relaxed);
        }
    })
    .await;
}

pub(super) async fn writes_and_never_reads(arms: Arc<Arms>) {
    with_conns(arms, |arms, conn| async move {
        let bytes = vec![1; 16 * 1024];
        let write = || async {
            let mut stream = conn.open_stream().await?;
            stream.write_all(&[ECHO]).await?;
            loop {
                stream.write_all(&bytes).await?;
                arms.tally.batches.fetch_add(1, Ordering::Relaxed);
            }
        };
        let writers: Vec<io::Result<()>> = join_all((0..arms.max_streams).map(|_| write())).await;
        writers.into_iter().collect()
    })
    .await;
}

pub(super) async fn dials_and_drops(arms: Arc<Arms>) {
    with_conns(arms, |arms, _conn| async move {
        arms.tally.batches.fetch_add(1, Ordering::Relaxed);
        Ok(())
    })
    .await;
}

pub(super) async fn one_byte_writes(arms: Arc<Arms>) {
    with_conns(arms, |arms, conn| async move {
        let write = || async {
            let mut stream = conn.open_stream().await?;
            stream.write_all(&[HOLD]).await?;
            loop {
                stream.write_all(&[1]).await?;
                stream.flush().await?;
                arms.tally.batches.fetch_add(1, Ordering::Relaxed);
                yield_now().await;
            }
        };
        let writers: Vec<io::Result<()>> = join_all((0..arms.max_streams).map(|_| write())).await;
        writers.into_iter().collect()
    })
    .await;
}

pub(super) async fn pings_at_once(arms: Arc<Arms>) {
    with_conns(arms, |arms, conn| async move {
        loop {
            let pings = join_all((0..64).map(|_| conn.ping())).await;
            pings.into_iter().collect::<Result<Vec<_>, _>>()?;
            arms.tally.batches.fetch_add(1, Ordering::Relaxed);
        }
    })
    .await;
}

pub(super) async fn holds_all_streams(arms: Arc<Arms>) {
    with_conns(arms, |arms, conn| async move {
        let mut held = Vec::new();
        // More opens than there are places: the last ones wait.
        while let Ok(stream) = timeout(Duration::from_millis(200), conn.open_stream()).await {
            let mut stream = stream?;
            stream.write_all(&[HOLD]).await?;
            held.push(stream);
            arms.tally.batches.fetch_add(1, Ordering::Relaxed);
        }
        conn.closed().await;
        Ok(())
    })
    .await;
}

pub(super) async fn closes_in_the_middle(arms: Arc<Arms>) {
    with_conns(arms, |arms, conn| async move {
        let mut stream = conn.open_stream().await?;
        stream.write_all(&[ECHO]).await?;
        stream.write_all(&[1; 8 * 1024]).await?;
        conn.close(7, "enough");
        arms.tally.batches.fetch_add(1, Ordering::Relaxed);
        Ok(())
    })
    .await;
}
