use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use futures::FutureExt;
use parking_lot::Mutex;
use pipe_proto::{Carrier, DrainMode};
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex,
};
use tokio::task::JoinHandle;

use super::{Binding, BoundConn, BoundStream, ConnCore, DriverGuard, StreamCore, StreamIo};
use crate::backend::SessionConn;
use crate::{
    Addr, CloseReason, Config, Conn, ConnState, Error, ErrorKind, Result, SendStream, Stream,
};

/// The pipes of the streams, which the first side to know of a stream makes.
#[derive(Clone, Default)]
struct Pipes(Arc<Mutex<HashMap<u64, DuplexStream>>>);

enum Pipe {
    Awaited,
    Open {
        pipe: DuplexStream,
        most_bufs: usize,
    },
}

impl Binding for Pipes {
    type Io = Pipe;

    fn io(&self) -> Pipe {
        Pipe::Awaited
    }

    fn on_stream(conn: &Arc<ConnCore<Self>>, stream: &StreamCore<Pipe>) {
        let mut pipes = conn.binding().0.lock();
        let pipe = pipes.remove(&stream.id).unwrap_or_else(|| {
            let (ours, theirs) = duplex(1 << 20);
            pipes.insert(stream.id, theirs);
            ours
        });
        let most_bufs = 0;
        stream.with_io(|io| *io = Pipe::Open { pipe, most_bufs });
        stream.wake();
    }
}

impl StreamIo for Pipe {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<usize>> {
        let Self::Open { pipe, .. } = self else {
            return Poll::Pending;
        };
        let before = buf.filled().len();
        ready!(Pin::new(pipe).poll_read(cx, buf))?;
        match buf.filled().len() - before {
            0 => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            count => Poll::Ready(Ok(count)),
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Self::Open { pipe, most_bufs } = self else {
            return Poll::Pending;
        };
        *most_bufs = bufs.len().max(*most_bufs);
        Pin::new(pipe).poll_write_vectored(cx, bufs)
    }
}

/// Two connections, and the task that carries the frames of one to the other.
struct Pair {
    cores: [Arc<ConnCore<Pipes>>; 2],
    conns: [BoundConn<Pipes>; 2],
    driver: JoinHandle<()>,
}

impl Pair {
    async fn new(config: &Config) -> Self {
        let pipes = Pipes::default();
        let addrs = ["test://a", "test://b"].map(|addr| addr.parse::<Addr>().unwrap());
        let core = |local_bit: u64| {
            let carrier = Carrier {
                local_bit,
                opens_by_frame: true,
                has_orphans: false,
                ends_natively: false,
                drain: DrainMode::AtOnce,
                is_plain: false,
            };
            ConnCore::new(pipes.clone(), carrier, config, addrs.clone())
        };
        let cores = [core(1), core(0)];
        let guards = cores.each_ref().map(ConnCore::driver_guard);
        let driver = tokio::spawn(drive(cores.clone(), guards));
        let conns = cores.clone().map(BoundConn::new);
        for conn in &conns {
            conn.ping().await.unwrap();
        }
        Self {
            cores,
            conns,
            driver,
        }
    }

    /// Opens a stream, and returns its two ends.
    async fn stream(&self) -> [BoundStream<Pipes>; 2] {
        let [here, there] = &self.conns;
        let opened = here.open_stream().await.unwrap();
        [opened, there.accept_stream().await.unwrap()]
    }
}

async fn drive(cores: [Arc<ConnCore<Pipes>>; 2], _guards: [DriverGuard<Pipes>; 2]) {
    let [a, b] = &cores;
    while let Ok(()) = exchange(a, b).and_then(|()| exchange(b, a)) {
        if cores.iter().all(|core| core.status.check().is_err()) {
            return;
        }
        tokio::select! {
            () = a.has_output() => {}
            () = b.has_output() => {}
        }
    }
}

fn exchange(from: &ConnCore<Pipes>, to: &Arc<ConnCore<Pipes>>) -> Result<()> {
    let mut bytes = BytesMut::new();
    from.poll_output(&mut bytes)?;
    to.on_input(&mut bytes).inspect_err(|error| {
        to.end(&CloseReason::Failed(error.clone()));
    })
}

/// Lets the tasks run that are ready.
async fn let_others_run() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn bytes_and_a_clean_end_reach_the_other_side() {
    let pair = Pair::new(&Config::default()).await;
    let [mut here, mut there] = pair.stream().await;
    here.write_all(b"a question").await.unwrap();
    here.shutdown().await.unwrap();
    let mut read = Vec::new();
    there.read_to_end(&mut read).await.unwrap();
    assert_eq!(read, b"a question");
    let (mut send, _recv) = here.into_split();
    assert_eq!(send.stopped().await.unwrap(), None);
    drop((send, _recv, there));
    let (drained, closed) = tokio::join!(pair.conns[0].drain(), pair.conns[1].closed());
    drained.unwrap();
    assert_eq!(closed.code(), Some(0));
    let stats = pair.conns[1].stats();
    assert_eq!((stats.bytes_received, stats.streams_open), (10, 0));
}

#[tokio::test]
async fn a_vectored_write_reaches_the_carrier_in_one_piece_within_the_window() {
    let window = 64 * 1024;
    let config = Config::default().with_stream_window(window);
    let pair = Pair::new(&config).await;
    let [mut here, mut there] = pair.stream().await;
    let large = vec![7; window as usize];
    let bufs = [&b"head"[..], b"", &large].map(IoSlice::new);
    assert!(here.is_write_vectored());
    let written = here.write_vectored(&bufs).await.unwrap();
    assert_eq!(written, window as usize);
    let stream = pair.cores[0].stream(here.id()).await.unwrap();
    let most = stream.with_io(|io| match io {
        Pipe::Open { most_bufs, .. } => *most_bufs,
        Pipe::Awaited => 0,
    });
    assert_eq!(most, Some(3));
    // The window is full.
    assert!(here.write(b"more").now_or_never().is_none());
    let mut read = vec![0; window as usize];
    there.read_exact(&mut read).await.unwrap();
    assert_eq!(&read[..8], b"head\x07\x07\x07\x07");
    assert_eq!(here.write(b"more").await.unwrap(), 4);
}

#[tokio::test]
async fn a_reset_and_a_stop_reach_the_other_side_with_their_codes() {
    let pair = Pair::new(&Config::default()).await;
    let [mut here, mut there] = pair.stream().await;
    here.reset(5);
    let error = Error::from(there.read_u8().await.unwrap_err());
    assert_eq!((error.kind(), error.code()), (ErrorKind::Reset, Some(5)));
    here.stop(6);
    let (mut send, _recv) = there.into_split();
    assert_eq!(send.stopped().await.unwrap(), Some(6));
    let error = Error::from(send.write_u8(0).await.unwrap_err());
    assert_eq!((error.kind(), error.code()), (ErrorKind::Stopped, Some(6)));
}

#[tokio::test]
async fn a_carrier_that_is_lost_ends_the_connection_unless_its_stream_is_over() {
    let pair = Pair::new(&Config::default()).await;
    let lose = |pair: &Pair, id| {
        let core = pair.cores[1].clone();
        async move {
            let stream = core.stream(id).await.unwrap();
            stream.with_io(|io| *io = Pipe::Awaited);
        }
    };
    // Both directions have ended, so that nothing is missing.
    let [mut here, mut there] = pair.stream().await;
    there.reset(1);
    there.stop(2);
    lose(&pair, there.id()).await;
    let error = Error::from(here.read_u8().await.unwrap_err());
    assert_eq!(error.kind(), ErrorKind::Reset);
    assert_eq!(*pair.conns[0].state().borrow(), ConnState::Connected);

    let [mut here, there] = pair.stream().await;
    lose(&pair, there.id()).await;
    let error = Error::from(here.read_u8().await.unwrap_err());
    assert_eq!(error.kind(), ErrorKind::Failed, "{error}");
    assert!(error.to_string().contains("lost its carrier"), "{error}");
}

#[tokio::test]
async fn bytes_behind_the_end_break_the_protocol() {
    let pair = Pair::new(&Config::default()).await;
    let [mut here, mut there] = pair.stream().await;
    let stream = pair.cores[0].stream(here.id()).await.unwrap();
    here.write_all(b"abc").await.unwrap();
    stream.with_io(|io| {
        if let Pipe::Open { pipe, .. } = io {
            pipe.write_all(b"too much").now_or_never();
        }
    });
    here.shutdown().await.unwrap();
    let_others_run().await;
    let error = Error::from(there.read_to_end(&mut Vec::new()).await.unwrap_err());
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
    let reason = pair.conns[1].closed().await;
    assert!(matches!(reason, CloseReason::Failed(_)), "{reason:?}");
}

#[tokio::test]
async fn what_waits_ends_with_the_task_that_drives_the_connection() {
    let pair = Pair::new(&Config::default().with_max_streams(1)).await;
    let [mut here, _there] = pair.stream().await;
    let conn = pair.conns[0].clone();
    let (open, accept) = (conn.open_stream(), conn.accept_stream());
    let waiting = async { tokio::join!(here.read_u8(), open, accept, conn.closed()) };
    let mut waiting = std::pin::pin!(waiting);
    assert!(waiting.as_mut().now_or_never().is_none());
    pair.driver.abort();
    let (read, open, accept, closed) = waiting.await;
    let errors = [
        Error::from(read.unwrap_err()),
        open.unwrap_err(),
        accept.unwrap_err(),
        Error::closed(&closed),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Failed, "{error}");
    }
}

#[tokio::test]
async fn dropping_the_last_handle_closes_the_connection() {
    let pair = Pair::new(&Config::default()).await;
    let [here, there] = pair.conns;
    drop(here);
    let reason = there.closed().await;
    assert!(
        matches!(reason, CloseReason::Remote { code: 0, .. }),
        "{reason:?}"
    );
}
