//! What waits before a byte stream of 10 Mbit/s that takes a few bytes at a time.

use std::time::Duration;

use pipe_core::{Config, Conn};
use pipe_mux::{Mux, MuxConn, MuxStream};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, duplex, split};
use tokio::time::{Instant, sleep};

/// How many bytes the byte stream holds in a direction: what a kernel cannot send yet.
const HELD: usize = 16 * 1024;

/// How many bytes it moves at once, and how often.
const PACKET: usize = 1250;
const EVERY: Duration = Duration::from_millis(1);

/// Moves bytes at the rate of the byte stream.
fn throttle(
    mut from: impl AsyncRead + Unpin + Send + 'static,
    mut to: impl AsyncWrite + Unpin + Send + 'static,
) {
    tokio::spawn(async move {
        let mut packet = [0; PACKET];
        while let Ok(count @ 1..) = from.read(&mut packet).await {
            sleep(EVERY).await;
            if to.write_all(&packet[..count]).await.is_err() {
                return;
            }
        }
    });
}

async fn pair() -> (MuxConn, MuxConn) {
    let [(here, near), (there, far)] = [duplex(HELD), duplex(HELD)];
    let (near, far) = (split(near), split(far));
    throttle(near.0, far.1);
    throttle(far.0, near.1);
    let config = Config::default;
    tokio::try_join!(Mux::client(here, config()), Mux::server(there, config()))
        .expect("a connection")
}

async fn stream_pair(client: &MuxConn, server: &MuxConn) -> (MuxStream, MuxStream) {
    tokio::try_join!(client.open_stream(), server.accept_stream()).expect("a stream")
}

#[tokio::test(start_paused = true)]
async fn a_message_beside_bulk_waits_for_little_of_it() {
    let (client, server) = pair().await;
    let (mut bulk, mut sink) = stream_pair(&client, &server).await;
    let (mut ours, mut theirs) = stream_pair(&client, &server).await;
    tokio::spawn(async move { while bulk.write_all(&[7; 64 * 1024]).await.is_ok() {} });
    let drain =
        tokio::spawn(async move { tokio::io::copy(&mut sink, &mut tokio::io::sink()).await });
    sleep(Duration::from_secs(2)).await;
    let mut longest = Duration::ZERO;
    for _ in 0..100 {
        let start = Instant::now();
        ours.write_all(&[1; 64]).await.expect("a message");
        theirs.read_exact(&mut [0; 64]).await.expect("the message");
        longest = longest.max(start.elapsed());
        sleep(Duration::from_millis(7)).await;
    }
    // What the byte stream holds takes 13 ms by itself.
    assert!(longest < Duration::from_millis(40), "{longest:?}");
    let moved = client.stats().bytes_sent;
    assert!(!drain.is_finished());
    assert!(moved > 3_000_000, "{moved} bytes in 2.7 s and more");
}
