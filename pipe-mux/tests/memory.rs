//! What an idle connection and an idle stream hold on the heap, both ends together.

use std::alloc::System;
use std::time::Duration;

use pipe_core::{Config, Conn};
use pipe_mux::{Mux, MuxConn};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

/// What an idle connection may hold, in bytes.
const MOST_CONN: usize = 40 * 1024;

/// What a slow reader's connection may hold, both ends together: a window and the buffers of a busy
/// connection.
const MOST_SLOW: usize = 2 * 256 * 1024 + 512 * 1024;

#[global_allocator]
static HEAP: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn held() -> usize {
    let stats = HEAP.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

/// Waits until nothing is freed any more.
async fn settled() {
    let mut before = usize::MAX;
    while held() < before {
        before = held();
        sleep(Duration::from_millis(300)).await;
    }
}

async fn connect(listener: &TcpListener) -> (MuxConn, MuxConn) {
    let addr = listener.local_addr().unwrap();
    let (here, (there, _)) = tokio::try_join!(TcpStream::connect(addr), listener.accept()).unwrap();
    for socket in [&here, &there] {
        socket.set_nodelay(true).unwrap();
    }
    tokio::try_join!(
        Mux::client(here, Config::default()),
        Mux::server(there, Config::default())
    )
    .unwrap()
}

/// What is held at most for a reader that is always a little behind, while much passes, in small writes.
async fn held_for_a_slow_reader(client: &MuxConn, server: &MuxConn) -> usize {
    let (mut ours, mut theirs) =
        tokio::try_join!(client.open_stream(), server.accept_stream()).unwrap();
    let piece = vec![1; 8000];
    let mut buf = vec![0; 8000];
    for _ in 0..8 {
        ours.write_all(&piece).await.unwrap();
    }
    let before = held();
    let mut most = 0;
    for _ in 0..5000 {
        ours.write_all(&piece).await.unwrap();
        theirs.read_exact(&mut buf).await.unwrap();
        most = most.max(held().saturating_sub(before));
    }
    most
}

// The only test of this file: another would count against it.
#[tokio::test]
async fn idle_connections_and_streams_are_small() {
    const CONNS: usize = 50;
    const STREAMS: usize = 200;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut conns = vec![connect(&listener).await];
    let mut streams = Vec::with_capacity(4 * STREAMS);

    let before = held();
    conns.reserve(CONNS);
    for _ in 0..CONNS {
        let (client, server) = connect(&listener).await;
        // A connection that has carried much holds no more than one that has carried nothing.
        let (mut ours, mut theirs) =
            tokio::try_join!(client.open_stream(), server.accept_stream()).unwrap();
        let bytes = vec![1; 1 << 20];
        let mut received = Vec::with_capacity(1 << 20);
        let sending = async {
            ours.write_all(&bytes).await.unwrap();
            ours.shutdown().await.unwrap();
        };
        tokio::join!(sending, async {
            theirs.read_to_end(&mut received).await.unwrap();
            theirs.shutdown().await.unwrap();
        });
        ours.read_to_end(&mut received).await.unwrap();
        drop((ours, theirs));
        for conn in [&client, &server] {
            while conn.stats().streams_open > 0 {
                tokio::task::yield_now().await;
            }
            conn.ping().await.unwrap();
        }
        conns.push((client, server));
    }
    // Large buffers are freed soon after the bytes have stopped.
    settled().await;
    let conn = (held() - before) / CONNS;

    let (client, server) = &conns[0];
    let before = held();
    for _ in 0..STREAMS {
        let (ours, theirs) =
            tokio::try_join!(client.open_stream(), server.accept_stream()).unwrap();
        streams.push(ours);
        streams.push(theirs);
    }
    client.ping().await.unwrap();
    let stream = (held() - before) / STREAMS;

    let slow = held_for_a_slow_reader(client, server).await;
    println!("an idle connection: {conn} B; an idle stream: {stream} B; a slow reader: {slow} B");
    assert!(slow <= MOST_SLOW, "a slow reader holds {slow} B");
    assert!(conn <= MOST_CONN, "an idle connection holds {conn} B");
    assert!(stream <= 2560, "an idle stream holds {stream} B");
}
