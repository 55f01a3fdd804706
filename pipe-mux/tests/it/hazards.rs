//! What plain yamux does to its users, each with the proof that a connection of this crate does not.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{join_all, try_join_all};
use pipe_core::{CloseReason, Config, Conn, ConnState, Error, ErrorKind, SendStream, Stream};
use pipe_mux::{Mux, MuxConn, MuxStream};
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::task::{JoinHandle, unconstrained, yield_now};
use tokio::time::{sleep, timeout};

/// More than anything here takes; the time is virtual wherever nothing happens.
const LIMIT: Duration = Duration::from_secs(20);

/// The window of a yamux stream.
const WINDOW: usize = 256 * 1024;

async fn pair_with(config: Config) -> (MuxConn, MuxConn) {
    let (here, there) = duplex(64 * 1024);
    tokio::try_join!(
        Mux::client(here, config.clone()),
        Mux::server(there, config)
    )
    .expect("a connection")
}

async fn pair() -> (MuxConn, MuxConn) {
    pair_with(Config::default()).await
}

async fn stream_pair(client: &MuxConn, server: &MuxConn) -> (MuxStream, MuxStream) {
    tokio::try_join!(client.open_stream(), server.accept_stream()).expect("a stream")
}

fn error_of<T: std::fmt::Debug>(result: io::Result<T>) -> Error {
    let error = result.expect_err("an error");
    Error::from_io(&error).cloned().expect("a pipe error")
}

/// Writes until it fails.
fn flood(mut stream: MuxStream) -> JoinHandle<Error> {
    tokio::spawn(async move {
        loop {
            if let Err(error) = stream.write_all(&[7; 4096]).await {
                break Error::from_io(&error).cloned().expect("a pipe error");
            }
        }
    })
}

// Yamux: a reset reads as a clean end.
#[tokio::test]
async fn a_peer_that_breaks_off_in_the_handshake_is_a_failed_handshake() {
    for begin in [&b""[..], &[0]] {
        let (here, mut there) = duplex(1024);
        let breaking_off = async {
            there.write_all(begin).await.expect("room");
            drop(there);
        };
        let (dialed, ()) = tokio::join!(Mux::client(here, Config::default()), breaking_off);
        let error = dialed.expect_err("no connection");
        assert_eq!(error.kind(), ErrorKind::Handshake, "{error}");
        assert!(error.to_string().contains("broke off"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_reset_is_no_end() {
    let (client, server) = pair().await;
    for shut_before in [false, true] {
        let (mut ours, mut theirs) = stream_pair(&client, &server).await;
        if shut_before {
            theirs.shutdown().await.unwrap();
        }
        ours.write_all(b"half of it").await.unwrap();
        ours.reset(9);
        let mut bytes = Vec::new();
        let error = error_of(theirs.read_to_end(&mut bytes).await);
        assert_eq!((error.kind(), error.code()), (ErrorKind::Reset, Some(9)));
    }
}

// Yamux: the loss of the connection reads as a clean end, with or without an own end before.
#[tokio::test(start_paused = true)]
async fn the_loss_of_the_connection_is_no_end() {
    for shut_before in [false, true] {
        let (here, there) = duplex(64 * 1024);
        let (cable, far) = duplex(64 * 1024);
        let link = tokio::spawn(splice(there, cable));
        let (client, server) = tokio::try_join!(
            Mux::client(here, Config::default()),
            Mux::server(far, Config::default())
        )
        .unwrap();
        let (mut ours, mut theirs) = stream_pair(&client, &server).await;
        ours.write_all(b"half of it").await.unwrap();
        theirs.read_exact(&mut [0; 10]).await.unwrap();
        if shut_before {
            theirs.shutdown().await.unwrap();
        }
        let reading = tokio::spawn(async move { theirs.read(&mut [0; 1]).await });
        yield_now().await;
        link.abort();
        let error = error_of(timeout(LIMIT, reading).await.unwrap().unwrap());
        assert_eq!(error.kind(), ErrorKind::Failed);
        assert!(matches!(server.closed().await, CloseReason::Failed(_)));
    }
}

/// Joins two byte streams until it is dropped, which ends both.
async fn splice(mut a: DuplexStream, mut b: DuplexStream) {
    let _ = tokio::io::copy_bidirectional(&mut a, &mut b).await;
}

// Yamux: a writer whose peer has dropped the stream hangs once its credit is used.
#[tokio::test(start_paused = true)]
async fn writing_to_a_dropped_stream_ends() {
    let (client, server) = pair().await;
    let (ours, theirs) = stream_pair(&client, &server).await;
    let writing = flood(ours);
    yield_now().await;
    drop(theirs);
    let error = timeout(LIMIT, writing).await.unwrap().unwrap();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Stopped, Some(0)));
}

// Yamux: the stream beyond the limit ends the connection.
#[tokio::test(start_paused = true)]
async fn a_stream_beyond_the_limit_waits() {
    let (client, server) = pair_with(Config::default().with_max_streams(3)).await;
    for (opener, other) in [(&client, &server), (&server, &client)] {
        let mut streams = try_join_all((0..3).map(|_| opener.open_stream()))
            .await
            .unwrap();
        let waiting = tokio::spawn({
            let opener = opener.clone();
            async move { opener.open_stream().await }
        });
        // The connection is well, and the open is not served.
        opener.ping().await.unwrap();
        assert!(!waiting.is_finished());
        let mut taken = other.accept_stream().await.unwrap();
        taken.shutdown().await.unwrap();
        let mut gone = streams.swap_remove(0);
        gone.shutdown().await.unwrap();
        drop((gone, taken));
        timeout(LIMIT, waiting).await.unwrap().unwrap().unwrap();
    }
}

// Yamux: opens block once 256 streams have no ACK, which the peer sends with its first write.
#[tokio::test(start_paused = true)]
async fn a_thousand_streams_open_before_the_first_is_accepted() {
    let (client, server) = pair_with(Config::default().with_max_streams(1000)).await;
    let opening = try_join_all((0..1000).map(|_| client.open_stream()));
    let streams = timeout(LIMIT, opening).await.unwrap().unwrap();
    assert_eq!(streams.len(), 1000);
    let seen = async {
        while server.stats().streams_open < 1000 {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(LIMIT, seen).await.unwrap();
}

// A stream that comes for an open which was given up is reset, as if it had been dropped.
#[tokio::test(start_paused = true)]
async fn a_stream_that_comes_after_its_open_was_given_up_is_reset() {
    // Beyond these, an open waits for the peer's answers, and its stream comes from the driver.
    const AT_ONCE: u64 = 256;
    let (client, server) = pair_with(Config::default().with_max_streams(1000)).await;
    let mut opened = Vec::new();
    for _ in 0..AT_ONCE {
        let open = unconstrained(client.open_stream()).now_or_never();
        opened.push(open.expect("an open at once").unwrap());
    }
    let mut waiting = Box::pin(unconstrained(client.open_stream()));
    assert!(futures::poll!(&mut waiting).is_pending());
    let comes = async {
        while client.stats().streams_opened == AT_ONCE {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(LIMIT, comes).await.expect("the stream of the open");
    drop(waiting);
    for _ in 0..AT_ONCE {
        server.accept_stream().await.unwrap();
    }
    let mut given_up = timeout(LIMIT, server.accept_stream())
        .await
        .expect("the last stream")
        .unwrap();
    let read = timeout(LIMIT, given_up.read(&mut [0; 1])).await;
    let error = error_of(read.expect("the end of the stream"));
    assert_eq!((error.kind(), error.code()), (ErrorKind::Reset, Some(0)));
}

// Yamux: a stream is opened by its first write.
#[tokio::test(start_paused = true)]
async fn a_stream_is_seen_before_its_first_write() {
    let (client, server) = pair().await;
    let ours = client.open_stream().await.unwrap();
    let mut theirs = timeout(LIMIT, server.accept_stream())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(ours.id(), theirs.id());
    // And the accepting side may be the one that speaks first.
    theirs.write_all(b"after you").await.unwrap();
    let (_send, mut recv) = ours.into_split();
    recv.read_exact(&mut [0; 9]).await.unwrap();
}

// Yamux: a read into an empty buffer never returns.
#[tokio::test(start_paused = true)]
async fn a_read_into_an_empty_buffer_returns() {
    let (client, server) = pair().await;
    let (mut ours, _theirs) = stream_pair(&client, &server).await;
    let read = timeout(LIMIT, ours.read(&mut [])).await.unwrap();
    assert_eq!(read.unwrap(), 0);
}

// Yamux: its close wakes no reader.
#[tokio::test(start_paused = true)]
async fn a_close_wakes_whoever_waits_on_both_sides() {
    let (client, server) = pair().await;
    let (ours, theirs) = stream_pair(&client, &server).await;
    let (more_ours, more_theirs) = stream_pair(&client, &server).await;
    let reads = [ours, theirs].map(|mut stream| {
        tokio::spawn(async move { error_of(stream.read(&mut [0; 1]).await).kind() })
    });
    let writes = [more_ours, more_theirs].map(flood);
    // Both writers are at the end of their credit.
    while client.stats().bytes_sent < WINDOW as u64 || server.stats().bytes_sent < WINDOW as u64 {
        yield_now().await;
    }
    client.close(3, "enough");
    for read in timeout(LIMIT, join_all(reads)).await.unwrap() {
        assert_eq!(read.unwrap(), ErrorKind::Closed);
    }
    for write in timeout(LIMIT, join_all(writes)).await.unwrap() {
        assert_eq!(write.unwrap().kind(), ErrorKind::Closed);
    }
    assert_eq!(server.closed().await.code(), Some(3));
}

// Yamux: its GoAway ends everything at once.
#[tokio::test(start_paused = true)]
async fn a_drain_waits_for_what_is_under_way() {
    let (client, server) = pair().await;
    let (mut ours, mut theirs) = stream_pair(&client, &server).await;
    let draining = tokio::spawn({
        let server = server.clone();
        async move { server.drain().await }
    });
    yield_now().await;
    // The answer comes behind the word of the drain.
    client.ping().await.unwrap();
    let refused = client.open_stream().await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Closed);
    let text = vec![b'x'; 3 * WINDOW];
    let writing = async {
        ours.write_all(&text).await?;
        ours.shutdown().await
    };
    let mut received = Vec::new();
    let (written, read) = tokio::join!(writing, theirs.read_to_end(&mut received));
    written.unwrap();
    read.unwrap();
    assert!(received == text);
    theirs.shutdown().await.unwrap();
    assert_eq!(ours.read(&mut [0; 1]).await.unwrap(), 0);
    drop((ours, theirs));
    timeout(LIMIT, draining).await.unwrap().unwrap().unwrap();
    assert_eq!(client.closed().await.code(), Some(0));
}

// Yamux: an unread stream is backed by a window that may grow without bound.
#[tokio::test(start_paused = true)]
async fn a_window_stays_as_it_is_after_much_traffic() {
    let (client, server) = pair().await;
    let (mut ours, mut theirs) = stream_pair(&client, &server).await;
    for _ in 0..32 {
        let bytes = vec![1; WINDOW];
        let mut received = vec![0; WINDOW];
        let (written, read) =
            tokio::join!(ours.write_all(&bytes), theirs.read_exact(&mut received));
        written.unwrap();
        read.unwrap();
    }
    let before = client.stats().bytes_sent;
    let writing = flood(ours);
    // The time passes only when nobody can do anything more.
    sleep(Duration::from_secs(1)).await;
    let under_way = client.stats().bytes_sent - before;
    assert!(!writing.is_finished());
    // Yamux returns credit in halves of the window where it takes no time.
    let window = WINDOW as u64;
    assert!((window / 2..=window).contains(&under_way), "{under_way}");
}

// Yamux: the task that polls the connection must not wait for a consumer.
#[tokio::test(start_paused = true)]
async fn unread_streams_hold_up_neither_their_siblings_nor_a_ping() {
    let (client, server) = pair().await;
    let mut stalled = Vec::new();
    for _ in 0..8 {
        let (ours, theirs) = stream_pair(&client, &server).await;
        stalled.push((flood(ours), theirs));
    }
    let (mut ours, mut theirs) = stream_pair(&client, &server).await;
    let moving = async {
        let bytes = vec![5; 4 * WINDOW];
        let mut received = vec![0; 4 * WINDOW];
        let (written, read) =
            tokio::join!(ours.write_all(&bytes), theirs.read_exact(&mut received));
        written.unwrap();
        read.unwrap();
        client.ping().await.unwrap();
        server.ping().await.unwrap();
    };
    timeout(LIMIT, moving).await.unwrap();
}

// Yamux: every frame is two writes to the socket, and a flush.
#[tokio::test(start_paused = true)]
async fn what_is_written_in_one_turn_leaves_in_one_write() {
    let writes = Arc::new(AtomicUsize::new(0));
    let (here, there) = duplex(1 << 20);
    let counted = Counted {
        inner: here,
        writes: writes.clone(),
    };
    let (client, server) = tokio::try_join!(
        Mux::client(counted, Config::default()),
        Mux::server(there, Config::default())
    )
    .unwrap();
    let (mut ours, mut theirs) = stream_pair(&client, &server).await;
    client.ping().await.unwrap();
    let before = writes.load(Ordering::Relaxed);
    // The current-thread runtime gives the driver its turn only when this task waits.
    for _ in 0..8 {
        ours.write_all(&[3; 100]).await.unwrap();
    }
    theirs.read_exact(&mut [0; 800]).await.unwrap();
    assert_eq!(writes.load(Ordering::Relaxed) - before, 1);
}

/// Counts the writes.
struct Counted {
    inner: DuplexStream,
    writes: Arc<AtomicUsize>,
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, buf);
        if written.is_ready() {
            self.writes.fetch_add(1, Ordering::Relaxed);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

// Yamux: a stream that is dropped unfinished leaves its peer's data without a reader, and the credit
// that it used is gone.
#[tokio::test(start_paused = true)]
async fn dropped_streams_give_their_credit_back() {
    let config = Config::default()
        .with_max_streams(4)
        .with_stream_window(64 * 1024)
        .with_connection_window(128 * 1024);
    let (client, server) = pair_with(config).await;
    for _ in 0..100 {
        let (mut ours, theirs) = stream_pair(&client, &server).await;
        ours.write_all(&[1; 32 * 1024]).await.unwrap();
        drop(theirs);
        let stopped = timeout(LIMIT, SendStream::stopped(&mut ours.into_split().0)).await;
        assert_eq!(stopped.unwrap().unwrap(), Some(0));
    }
}

// A process that ends once it has drained must not take its last words along.
#[cfg(unix)]
#[tokio::test]
async fn a_drain_has_sent_its_close_when_it_returns() {
    let (here, there) = std::os::unix::net::UnixStream::pair().unwrap();
    let socket = |socket: std::os::unix::net::UnixStream| {
        socket.set_nonblocking(true).unwrap();
        tokio::net::UnixStream::from_std(socket).unwrap()
    };
    // Its runtime is gone right after the drain.
    let leaving = std::thread::spawn(move || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().build().unwrap().block_on(async {
            let conn = Mux::client(socket(here), Config::default()).await.unwrap();
            conn.drain().await.unwrap();
        });
    });
    let server = Mux::server(socket(there), Config::default()).await.unwrap();
    let reason = timeout(LIMIT, server.closed()).await.unwrap();
    assert!(
        matches!(reason, CloseReason::Remote { code: 0, .. }),
        "{reason}"
    );
    leaving.join().unwrap();
}

// Ours: an open whose stream was shown by a write before the driver came, and then one that nobody uses.
#[tokio::test(start_paused = true)]
async fn a_stream_that_nobody_uses_is_seen_after_one_that_was_written_at_once() {
    let (client, server) = pair().await;
    for _ in 0..3 {
        let mut written = client.open_stream().await.unwrap();
        written.write_all(b"at once").await.unwrap();
        server.accept_stream().await.unwrap();
        let unused = client.open_stream().await.unwrap();
        let seen = timeout(LIMIT, server.accept_stream()).await.unwrap();
        assert_eq!(seen.unwrap().id(), unused.id());
    }
}

/// A connection over a socket of this machine, of which each side has a runtime of its own.
fn pair_of_runtimes(config: Config) -> (Runtime, MuxConn, Runtime, MuxConn) {
    let runtime = || {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap()
    };
    let (here, there) = (runtime(), runtime());
    let listener = there.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let addr = listener.local_addr().unwrap();
    let accepting = there.spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        Mux::server(socket, Config::default()).await.unwrap()
    });
    let dialing = here.spawn(async move {
        let socket = TcpStream::connect(addr).await.unwrap();
        Mux::client(socket, config).await.unwrap()
    });
    let client = here.block_on(dialing).unwrap();
    let server = there.block_on(accepting).unwrap();
    (here, client, there, server)
}

#[test]
fn the_end_of_its_runtime_ends_a_connection_and_all_that_waits() {
    let (here, client, there, server) = pair_of_runtimes(Config::default());
    there.block_on(async {
        let (mut ours, _theirs) = stream_pair(&client, &server).await;
        let failed = |error: Error| assert_eq!(error.kind(), ErrorKind::Failed, "{error}");
        let waiting = [
            tokio::spawn(async move { failed(error_of(ours.read(&mut [0; 1]).await)) }),
            tokio::spawn({
                let client = client.clone();
                async move { failed(client.accept_stream().await.unwrap_err()) }
            }),
            tokio::spawn({
                let client = client.clone();
                async move {
                    assert!(matches!(client.closed().await, CloseReason::Failed(_)));
                }
            }),
        ];
        yield_now().await;
        here.shutdown_background();
        for waiting in waiting {
            timeout(LIMIT, waiting).await.expect("in time").unwrap();
        }
        assert_eq!(*client.state().borrow(), ConnState::Failed);
        failed(client.open_stream().await.unwrap_err());
        failed(client.ping().await.unwrap_err());
        failed(client.drain().await.unwrap_err());
        // The peer hears of it as of any loss.
        let reason = timeout(LIMIT, server.closed()).await.expect("in time");
        assert!(matches!(reason, CloseReason::Failed(_)), "{reason:?}");
    });
    there.shutdown_background();
}

#[test]
fn the_absence_of_this_process_is_no_silence_of_the_peer() {
    let config = Config::default()
        .with_keep_alive(Duration::from_millis(200))
        .with_disconnected_after(Duration::from_millis(500))
        .with_failed_after(Duration::from_secs(1));
    let (here, client, there, server) = pair_of_runtimes(config);
    let (mut ours, mut theirs) = there.block_on(async { stream_pair(&client, &server).await });
    let watch = client.state();
    // Nothing of this side runs, as when the process is stopped: its only worker is busy.
    let (stop, stopped) = std::sync::mpsc::channel();
    here.spawn(async move {
        stop.send(()).unwrap();
        std::thread::sleep(Duration::from_secs(3));
    });
    stopped.recv().unwrap();
    there.block_on(async {
        theirs.write_all(b"are you there?").await.unwrap();
    });
    let echoed = here.block_on(async {
        here.spawn(async move {
            let mut text = [0; 14];
            ours.read_exact(&mut text).await.unwrap();
            (text, ours)
        })
        .await
        .unwrap()
    });
    assert_eq!(&echoed.0, b"are you there?");
    assert_ne!(*watch.borrow(), ConnState::Failed);
    here.shutdown_background();
    there.shutdown_background();
}
