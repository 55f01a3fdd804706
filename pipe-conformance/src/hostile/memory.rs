//! Attacks on the memory for streams that are not read.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pipe_core::{BoxConn, BoxStream, Conn, Transport};
use tokio::io::AsyncWriteExt;
use tokio::task::yield_now;
use tokio::time::sleep;

use super::attack::{Arms, again_and_again};
use super::peer::{Move, Reading};
use super::setting::{CROWD, STRANGERS};
use super::victim::{HOLD, SINK};

/// How many bytes a small message has.
const SMALL: usize = 100;

/// How many bytes a piece of a full window has.
const LARGE: usize = 16 * 1024;

/// How many bytes are read beside each byte that is not: as much as senders let the system join to one receive.
const BESIDE: usize = 16 * 1024;

/// How many bytes each stream has that lie unread beside those that are read.
const FEW: usize = 24;

pub(super) async fn a_thousand_streams_of_single_bytes(arms: Arc<Arms>) {
    fill_windows(arms, CROWD, Order::InTurn, 1).await;
}

pub(super) async fn a_thousand_streams_of_small_messages(arms: Arc<Arms>) {
    fill_windows(arms, CROWD, Order::InTurn, SMALL).await;
}

pub(super) async fn a_thousand_full_windows(arms: Arc<Arms>) {
    fill_windows(arms, CROWD, Order::OneByOne, LARGE).await;
}

pub(super) async fn a_thousand_streams_beside_one_that_is_read(arms: Arc<Arms>) {
    send_beside(arms, CROWD).await;
}

pub(super) async fn a_stranger_sends_single_bytes(arms: Arc<Arms>) {
    fill_windows(arms, STRANGERS, Order::InTurn, 1).await;
}

pub(super) async fn a_stranger_sends_small_messages(arms: Arc<Arms>) {
    fill_windows(arms, STRANGERS, Order::InTurn, SMALL).await;
}

pub(super) async fn a_stranger_fills_windows(arms: Arc<Arms>) {
    fill_windows(arms, STRANGERS, Order::OneByOne, LARGE).await;
}

pub(super) async fn a_stranger_sends_beside_what_is_read(arms: Arc<Arms>) {
    send_beside(arms, STRANGERS).await;
}

/// In which order streams get their pieces.
#[derive(Clone, Copy)]
enum Order {
    /// One piece each, again and again: all streams have as many bytes in the end.
    InTurn,
    /// Each as much as its window takes: the first streams have all bytes in the end.
    OneByOne,
}

/// Opens all streams, sends as many bytes on them as the connection's window takes, in pieces of this size, and
/// keeps the connection up.
async fn fill_windows(arms: Arc<Arms>, conns: usize, order: Order, piece: usize) {
    let bytes = vec![1; piece];
    let bytes = &bytes;
    again_and_again(arms, conns, |arms| async move {
        let mut peer = arms.peer(Reading::Discards).await?;
        let streams = arms.max_streams;
        for stream in 0..streams {
            peer.make(Move::Open(stream))?;
            peer.make(Move::Data(stream, &[HOLD]))?;
            arms.send_batch(&mut *peer).await?;
        }
        // The byte that chooses the handler is read, but a transport may return credit later.
        let mut left = arms.window - streams as usize;
        let window = arms.stream_window - 1;
        let turns = match order {
            Order::InTurn => 1,
            Order::OneByOne => window / piece,
        };
        let mut rounds = 0;
        while left >= piece && rounds + turns <= window / piece {
            rounds += turns;
            for stream in 0..streams {
                for _ in 0..turns {
                    if left < piece {
                        break;
                    }
                    left -= piece;
                    peer.make(Move::Data(stream, bytes))?;
                    arms.send_batch(&mut *peer).await?;
                }
            }
        }
        arms.send(&mut *peer).await?;
        loop {
            peer.flush().await?;
            sleep(Duration::from_millis(50)).await;
            // A sign of life.
            peer.make(Move::Data(0, &[]))?;
        }
    })
    .await;
}

/// Sends bytes one by one on streams that are not read, with many between them on one that is. Memory that holds both
/// is held for the few.
async fn send_beside(arms: Arc<Arms>, conns: usize) {
    again_and_again(arms, conns, |arms| async move {
        let conn = arms.transport.dial(&arms.addr).await?;
        arms.tally.conns.fetch_add(1, Ordering::Relaxed);
        let mut read = open(&conn, SINK).await?;
        let mut unread = Vec::new();
        for _ in 1..arms.max_streams {
            unread.push(open(&conn, HOLD).await?);
        }
        let beside = vec![1; BESIDE];
        for _ in 0..FEW {
            for stream in &mut unread {
                stream.write_all(&[1]).await?;
                stream.flush().await?;
                read.write_all(&beside).await?;
                arms.tally.batches.fetch_add(1, Ordering::Relaxed);
                yield_now().await;
            }
        }
        read.flush().await?;
        conn.closed().await;
        Ok(())
    })
    .await;
}

/// Opens a stream, with the byte that chooses its handler.
async fn open(conn: &BoxConn, handler: u8) -> io::Result<BoxStream> {
    let mut stream = conn.open_stream().await?;
    stream.write_all(&[handler]).await?;
    stream.flush().await?;
    Ok(stream)
}
