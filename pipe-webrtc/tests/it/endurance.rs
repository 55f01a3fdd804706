//! What has to go well every time. By default a few rounds of each; with `PIPE_SOAK` set, as many as
//! are promised (`ci/soak-webrtc`).

use std::time::Instant;

use pipe_core::{Conn, Listener, Transport};
use pipe_webrtc::WebRtcConn;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::common::{pair, random, soon, stream, transport};

fn rounds(usual: usize, soak: usize) -> usize {
    if std::env::var_os("PIPE_SOAK").is_some() {
        soak
    } else {
        usual
    }
}

/// Writes and shuts down, and drops the stream at once.
async fn write_and_leave(conn: &WebRtcConn, data: &[u8]) {
    let mut opened = conn.open_stream().await.expect("an open");
    opened.write_all(data).await.expect("a write");
    opened.shutdown().await.expect("a shutdown");
}

async fn read_all(conn: &WebRtcConn, data: &[u8]) {
    let mut accepted = conn.accept_stream().await.expect("an accept");
    let mut all = Vec::with_capacity(data.len());
    accepted.read_to_end(&mut all).await.expect("a read");
    assert!(all == data, "{} of {} bytes", all.len(), data.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_dropped_after_its_shutdown_arrives_whole() {
    let (here, there) = pair(&transport()).await;
    let data = random(1 << 20);
    let (rounds, start) = (rounds(50, 1000), Instant::now());
    for round in 0..rounds {
        let (from, to) = if round % 2 == 0 {
            (&here, &there)
        } else {
            (&there, &here)
        };
        let both = async { tokio::join!(write_and_leave(from, &data), read_all(to, &data)) };
        soon(&format!("round {round}"), both).await;
    }
    println!(
        "{rounds} of {rounds} arrived whole, in {:.1?}",
        start.elapsed()
    );
}

/// The engine loses what was sent before a close.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_written_before_a_drain_arrives_whole() {
    let transport = transport();
    let listener = transport.listen(&"webrtc+inproc://".parse().unwrap()).await;
    let listener = listener.expect("a listener");
    let addr = listener.local_addr();
    let data = random(1 << 20);
    let (rounds, start) = (rounds(20, 1000), Instant::now());
    for round in 0..rounds {
        let both = async { tokio::try_join!(transport.dial(&addr), listener.accept()) };
        let pair = soon(&format!("connection {round}"), both).await;
        let (mut here, mut there) = pair.expect("a connection");
        if round % 2 == 1 {
            std::mem::swap(&mut here, &mut there);
        }
        let send = async {
            write_and_leave(&here, &data).await;
            here.drain().await.expect("a drain");
            drop(here);
        };
        let both = async { tokio::join!(send, read_all(&there, &data)) };
        soon(&format!("the drain in round {round}"), both).await;
        assert_eq!(soon("the end", there.closed()).await.code(), Some(0));
    }
    println!(
        "{rounds} of {rounds} arrived whole, in {:.1?}",
        start.elapsed()
    );
}

/// More streams than there are ids of channels.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_in_a_row_go_on_for_ever() {
    let (here, there) = pair(&transport()).await;
    let (rounds, start) = (rounds(2_000, 70_000), Instant::now());
    for round in 0..rounds {
        let (mut opened, mut accepted) = stream(&here, &there).await;
        let number = round as u32;
        let exchange = async {
            opened.write_u32(number).await.expect("a write");
            opened.shutdown().await.expect("a shutdown");
            assert_eq!(accepted.read_u32().await.expect("a read"), number);
            accepted.write_u32(!number).await.expect("a write");
            accepted.shutdown().await.expect("a shutdown");
            assert_eq!(opened.read_u32().await.expect("a read"), !number);
        };
        soon(&format!("stream {round}"), exchange).await;
    }
    println!("{rounds} streams in a row, in {:.1?}", start.elapsed());
}
