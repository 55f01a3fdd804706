//! Plain yamux with the `yamux` crate in the same process, in both roles.

use std::future::poll_fn;
use std::time::Duration;

use futures::future::join_all;
use futures::io::{AsyncReadExt as _, AsyncWriteExt as _};
use pipe_core::{CloseReason, Config, Conn, Error, ErrorKind, RecvStream as _, Stream};
use pipe_mux::{Mux, MuxConn, Wire};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::compat::TokioAsyncReadCompatExt;
use yamux::{Connection, Mode};

const LIMIT: Duration = Duration::from_secs(30);

/// More than a window, and no multiple of anything.
const MUCH: usize = 1_000_003;

/// A connection of the crate, driven by a task of its own.
struct Crate {
    opens: mpsc::UnboundedSender<oneshot::Sender<yamux::Stream>>,
    accepted: mpsc::UnboundedReceiver<yamux::Stream>,
    closing: mpsc::UnboundedSender<()>,
}

impl Crate {
    fn new(io: DuplexStream, mode: Mode) -> Self {
        let mut connection = Connection::new(io.compat(), yamux::Config::default(), mode);
        let (opens, mut wanted) = mpsc::unbounded_channel::<oneshot::Sender<yamux::Stream>>();
        let (accept, accepted) = mpsc::unbounded_channel();
        let (closing, mut close) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    Some(()) = close.recv() => {
                        let _ = poll_fn(|cx| connection.poll_close(cx)).await;
                        return;
                    }
                    Some(done) = wanted.recv() => {
                        let stream = poll_fn(|cx| connection.poll_new_outbound(cx)).await;
                        let _ = done.send(stream.expect("a stream"));
                    }
                    next = poll_fn(|cx| connection.poll_next_inbound(cx)) => match next {
                        Some(Ok(stream)) => drop(accept.send(stream)),
                        _ => return,
                    },
                }
            }
        });
        Self {
            opens,
            accepted,
            closing,
        }
    }

    async fn open(&self) -> yamux::Stream {
        let (done, opened) = oneshot::channel();
        self.opens.send(done).expect("a connection");
        opened.await.expect("a stream")
    }
}

/// Runs a test with the crate as the server, and as the client.
async fn with_the_crate<F: Future<Output = ()>>(test: impl Fn(MuxConn, Crate) -> F) {
    for ours_dials in [true, false] {
        let (here, there) = duplex(64 * 1024);
        let mux = Mux::builder().wire(Wire::Raw);
        let (conn, mode) = if ours_dials {
            (mux.client(here).await.unwrap(), Mode::Server)
        } else {
            (mux.server(here).await.unwrap(), Mode::Client)
        };
        let work = test(conn, Crate::new(there, mode));
        timeout(LIMIT, work).await.expect("an end in time");
    }
}

fn pattern(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + i / 251 + seed) as u8).collect()
}

#[tokio::test]
async fn streams_of_both_sides_move_much_both_ways() {
    with_the_crate(|conn, mut other| async move {
        let mut echoes = Vec::new();
        let mut streams = Vec::new();
        for seed in 0..8 {
            if seed % 2 == 0 {
                streams.push((seed, conn.open_stream().await.unwrap()));
                echoes.push(other.accepted.recv().await.unwrap());
            } else {
                let mut stream = other.open().await;
                // The crate opens a stream with its first write.
                let _: usize = stream.write(&[]).await.unwrap();
                echoes.push(stream);
                streams.push((seed, conn.accept_stream().await.unwrap()));
            }
        }
        for echo in echoes {
            tokio::spawn(async move {
                let (reader, mut writer) = echo.split();
                futures::io::copy(reader, &mut writer).await.unwrap();
                writer.close().await.unwrap();
            });
        }
        join_all(streams.into_iter().map(|(seed, stream)| async move {
            let sent = pattern(seed, MUCH);
            let (mut send, mut recv) = stream.into_split();
            let mut received = Vec::new();
            let writing = async {
                send.write_all(&sent).await?;
                send.shutdown().await
            };
            let (written, read) = tokio::join!(writing, recv.read_to_end(&mut received));
            written.unwrap();
            read.unwrap();
            assert!(received == sent, "stream {seed} came back changed");
        }))
        .await;
    })
    .await;
}

#[tokio::test]
async fn a_stream_that_the_crate_drops_is_reset_and_stopped() {
    with_the_crate(|conn, mut other| async move {
        let mut stream = conn.open_stream().await.unwrap();
        stream.write_all(b"half").await.unwrap();
        drop(other.accepted.recv().await.unwrap());
        let error: Error = stream.read(&mut [0]).await.unwrap_err().into();
        assert_eq!((error.kind(), error.code()), (ErrorKind::Reset, Some(0)));
        let error: Error = stream.write(b"more").await.unwrap_err().into();
        assert_eq!((error.kind(), error.code()), (ErrorKind::Stopped, Some(0)));
        // The connection goes on.
        let mut next = conn.open_stream().await.unwrap();
        next.write_all(b"next").await.unwrap();
        let mut theirs = other.accepted.recv().await.unwrap();
        theirs.read_exact(&mut [0; 4]).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_stream_that_is_stopped_reads_as_an_end_at_the_crate() {
    with_the_crate(|conn, mut other| async move {
        let mut stream = conn.open_stream().await.unwrap();
        stream.write_all(b"half").await.unwrap();
        let mut theirs = other.accepted.recv().await.unwrap();
        theirs.read_exact(&mut [0; 4]).await.unwrap();
        let (send, mut recv) = stream.into_split();
        recv.stop(3);
        drop(send);
        // The crate does not tell a reset from an end, and does not take more.
        assert_eq!(theirs.read(&mut [0]).await.unwrap(), 0);
        while theirs.write_all(&[0; 1024]).await.is_ok() {}
    })
    .await;
}

#[tokio::test]
async fn an_own_reset_ends_both_directions_at_once() {
    with_the_crate(|conn, mut other| async move {
        let mut stream = conn.open_stream().await.unwrap();
        stream.write_all(b"half").await.unwrap();
        let mut theirs = other.accepted.recv().await.unwrap();
        theirs.read_exact(&mut [0; 4]).await.unwrap();
        // The crate waits for more, and sends nothing.
        let waiting = tokio::spawn(async move { theirs.read(&mut [0]).await });
        stream.reset(5);
        let error: Error = stream.read(&mut [0]).await.unwrap_err().into();
        assert_eq!(error.kind(), ErrorKind::Reset);
        assert_eq!(waiting.await.unwrap().unwrap(), 0);
        drop(stream);
        while conn.stats().streams_open > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_stream_beyond_the_limit_is_refused_and_the_others_go_on() {
    const LIMIT: u32 = 4;
    let (here, there) = duplex(64 * 1024);
    let config = Config::default().with_max_streams(LIMIT);
    let conn = Mux::builder()
        .wire(Wire::Raw)
        .config(config)
        .server(here)
        .await
        .unwrap();
    let other = Crate::new(there, Mode::Client);
    let mut pairs = Vec::new();
    for _ in 0..LIMIT {
        let mut theirs = other.open().await;
        theirs.write_all(b"hello").await.unwrap();
        pairs.push((theirs, conn.accept_stream().await.unwrap()));
    }
    let mut refused = other.open().await;
    // Whether the write or the read finds it out is a matter of time.
    let _ = refused.write_all(b"hello").await;
    assert!(matches!(refused.read(&mut [0]).await, Ok(0) | Err(_)));
    for (theirs, ours) in &mut pairs {
        let mut text = [0; 5];
        ours.read_exact(&mut text).await.unwrap();
        ours.write_all(&text).await.unwrap();
        theirs.read_exact(&mut text).await.unwrap();
        assert_eq!(&text, b"hello");
    }
}

#[tokio::test]
async fn pings_are_answered_and_a_close_of_the_crate_is_told() {
    with_the_crate(|conn, other| async move {
        conn.ping().await.unwrap();
        other.closing.send(()).unwrap();
        let reason = conn.closed().await;
        assert!(
            matches!(reason, CloseReason::Remote { code: 0, .. }),
            "{reason}"
        );
    })
    .await;
}

#[tokio::test]
async fn a_window_above_that_of_yamux_is_given() {
    const WINDOW: u32 = 1 << 20;
    let (here, there) = duplex(64 * 1024);
    let config = Config::default().with_stream_window(WINDOW);
    let conn = Mux::builder().wire(Wire::Raw).config(config);
    let conn = conn.client(here).await.unwrap();
    let mut other = Crate::new(there, Mode::Server);
    let mut ours = conn.open_stream().await.unwrap();
    ours.write_all(b"x").await.unwrap();
    let mut theirs = other.accepted.recv().await.unwrap();
    // All of it goes out while nobody reads.
    let sent = pattern(0, WINDOW as usize);
    timeout(LIMIT, theirs.write_all(&sent))
        .await
        .unwrap()
        .unwrap();
    let mut received = vec![0; sent.len()];
    ours.read_exact(&mut received).await.unwrap();
    assert!(received == sent);
}

/// A frame of yamux with its body.
fn frame(kind: u8, flags: u16, stream: u32, length: u32, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![0, kind];
    frame.extend(flags.to_be_bytes());
    frame.extend(stream.to_be_bytes());
    frame.extend(length.to_be_bytes());
    frame.extend(body);
    frame
}

#[tokio::test]
async fn a_reset_behind_the_end_takes_nothing_of_what_came() {
    const SYN: u16 = 1;
    const FIN: u16 = 4;
    const RST: u16 = 8;
    let (here, mut there) = duplex(64 * 1024);
    let conn = Mux::builder().wire(Wire::Raw).server(here).await.unwrap();
    let frames = [
        frame(0, SYN, 1, 5, b"whole"),
        frame(0, FIN, 1, 0, b""),
        frame(0, RST, 1, 0, b""),
        frame(2, SYN, 0, 7, b""),
    ];
    there.write_all(&frames.concat()).await.unwrap();
    // The acknowledgement of the stream, and the answer to the ping behind all of it.
    timeout(LIMIT, there.read_exact(&mut [0; 24]))
        .await
        .unwrap()
        .unwrap();
    let mut stream = conn.accept_stream().await.unwrap();
    let mut bytes = Vec::new();
    let read = timeout(LIMIT, stream.read_to_end(&mut bytes)).await;
    read.unwrap().unwrap();
    assert_eq!(bytes, b"whole");
    let error: Error = stream.write(b"more").await.unwrap_err().into();
    assert_eq!(error.kind(), ErrorKind::Stopped);
}
