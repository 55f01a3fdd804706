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

    println!("an idle connection: {conn} B; an idle stream: {stream} B");
    assert!(conn <= MOST_CONN, "an idle connection holds {conn} B");
    assert!(stream <= 2560, "an idle stream holds {stream} B");
}
