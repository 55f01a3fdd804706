//! Windows of streams that grow with the path, over a byte stream of 1 Gbit/s with a round trip of 50 ms.

use std::time::Duration;

use pipe_core::{Config, Conn};
use pipe_mux::{Mux, MuxConn, MuxStream};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

/// How long a byte is under way.
const DELAY: Duration = Duration::from_millis(25);

/// How long a byte is sent for, in nanoseconds.
const BYTE: u32 = 8;

const ROUND_TRIP: Duration = Duration::from_millis(50);

/// The window of a stream that has not grown.
const WINDOW: usize = 256 * 1024;

/// Moves bytes one after another, each of which takes [`DELAY`], however many are under way.
fn delay(
    mut from: impl AsyncRead + Unpin + Send + 'static,
    mut to: impl AsyncWrite + Unpin + Send + 'static,
) {
    let (sender, mut receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut sent_at = Instant::now();
        loop {
            let mut bytes = Vec::with_capacity(64 * 1024);
            let is_end = !matches!(from.read_buf(&mut bytes).await, Ok(1..));
            let time = Duration::from_nanos(BYTE.into()) * bytes.len() as u32;
            sent_at = sent_at.max(Instant::now()) + time;
            if is_end || sender.send((sent_at + DELAY, bytes)).is_err() {
                return;
            }
        }
    });
    tokio::spawn(async move {
        while let Some((at, bytes)) = receiver.recv().await {
            sleep_until(at).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    });
}

fn delayed_pair() -> (DuplexStream, DuplexStream) {
    let [(here, near), (there, far)] = [duplex(64 * 1024), duplex(64 * 1024)];
    let (near, far) = (tokio::io::split(near), tokio::io::split(far));
    delay(near.0, far.1);
    delay(far.0, near.1);
    (here, there)
}

async fn pair(client: Config, server: Config) -> (MuxConn, MuxConn) {
    let (here, there) = delayed_pair();
    tokio::try_join!(Mux::client(here, client), Mux::server(there, server)).expect("a connection")
}

async fn stream_pair(client: &MuxConn, server: &MuxConn) -> (MuxStream, MuxStream) {
    tokio::try_join!(client.open_stream(), server.accept_stream()).expect("a stream")
}

/// Writes without an end.
fn flood(mut stream: MuxStream) {
    tokio::spawn(async move { while stream.write_all(&[7; 32 * 1024]).await.is_ok() {} });
}

/// Reads for so long. Returns how many bytes that were.
async fn read_for(stream: &mut MuxStream, time: Duration) -> usize {
    let until = Instant::now() + time;
    let mut buf = vec![0; 64 * 1024];
    let mut count = 0;
    while let Ok(read) = tokio::time::timeout_at(until, stream.read(&mut buf)).await {
        count += read.expect("bytes");
    }
    count
}

#[tokio::test(start_paused = true)]
async fn a_stream_over_a_long_path_outgrows_a_fixed_window_within_ten_round_trips() {
    // A message before the bulk, after which no read ends where credit is due.
    for first in [0, 1, 1000, 100_000] {
        let (client, server) = pair(Config::default(), Config::default()).await;
        let (mut ours, mut theirs) = stream_pair(&client, &server).await;
        let (written, read) =
            tokio::join!(async { ours.write_all(&vec![7; first]).await }, async {
                theirs.read_exact(&mut vec![0; first]).await
            },);
        written.expect("a message");
        read.expect("the message");
        flood(ours);
        let started = read_for(&mut theirs, 10 * ROUND_TRIP).await;
        let grown = read_for(&mut theirs, 2 * ROUND_TRIP).await;
        println!("{started} bytes in ten round trips, {grown} in the next two");
        assert!(started > 3 * 10 * WINDOW, "{started} bytes");
        assert!(grown > 16 * 2 * WINDOW, "{grown} bytes");
    }
}

/// Where the sender counts by itself: of a small window, and of one that all streams share.
#[tokio::test(start_paused = true)]
async fn windows_grow_where_the_sender_counts_by_itself() {
    let small = Config::default().with_stream_window(16 * 1024);
    let shared = Config::default().with_connection_window(8 << 20);
    for config in [small, shared] {
        let fixed = config.clone().with_window_growth(0);
        let mut counts = [0; 2];
        for (count, config) in counts.iter_mut().zip([config, fixed]) {
            let (client, server) = pair(Config::default(), config).await;
            let (ours, mut theirs) = stream_pair(&client, &server).await;
            flood(ours);
            *count = read_for(&mut theirs, 20 * ROUND_TRIP).await;
        }
        let [grown, fixed] = counts;
        println!("{grown} bytes, {fixed} with a fixed window");
        assert!(
            grown > 8 * fixed,
            "{grown} bytes, {fixed} with a fixed window"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_stream_has_grown_by_is_bounded_and_leaves_others_their_windows() {
    let growth = 2 << 20;
    let config = Config::default().with_window_growth(growth as u64);
    let (client, server) = pair(Config::default(), config).await;
    let mut streams = Vec::new();
    for _ in 0..4 {
        let (ours, mut theirs) = stream_pair(&client, &server).await;
        flood(ours);
        read_for(&mut theirs, 20 * ROUND_TRIP).await;
        streams.push(theirs);
    }
    // Nothing is read any more: each stream holds its window, and all of them the growth.
    sleep(20 * ROUND_TRIP).await;
    let held = client.stats().bytes_sent - server.stats().bytes_received;
    let windows = 4 * WINDOW as u64;
    let most = windows + growth as u64;
    assert!(
        (windows + WINDOW as u64..=most).contains(&held),
        "{held} bytes of at most {most}"
    );
    // They go on when they are read.
    for stream in &mut streams {
        let read = read_for(stream, 4 * ROUND_TRIP).await;
        assert!(read > 2 * WINDOW, "{read}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_not_read_keeps_its_window_over_a_long_path() {
    let (client, server) = pair(Config::default(), Config::default()).await;
    let (ours, _theirs) = stream_pair(&client, &server).await;
    flood(ours);
    sleep(40 * ROUND_TRIP).await;
    assert_eq!(client.stats().bytes_sent, WINDOW as u64);
}
