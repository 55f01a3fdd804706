//! `tcp://` against the plain `yamux` crate over tokio's compatibility layer, and against TCP itself
//! with a socket for each stream.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::Poll;

use futures::future::poll_fn;
use pipe_core::{Addr, Config, Listener, Transport};
use pipe_tcp::{MuxConn, TcpTransport};
use tokio::io::AsyncWrite;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt, TokioAsyncReadCompatExt};
use yamux::{Connection, Mode};

use crate::{
    Acceptor, ConnStreams, Figure, Flavor, Goal, Heap, Lane, Opener, Scenario, Transfer,
    echo_streams, idle_conns, idle_streams, round_trip, round_trip_beside,
};

/// The name of ours.
const OURS: &str = "pipewerks tcp";
const YAMUX: &str = "yamux crate";
const TCP: &str = "plain TCP";

/// What a transfer moves altogether, in bytes.
const BYTES: u64 = 512 * 1024 * 1024;

/// The size of large writes, in bytes.
const LARGE: usize = 64 * 1024;

/// The size of small writes and messages, in bytes.
const SMALL: usize = 64;

/// What the transfer of small writes moves, in bytes.
const SMALL_BYTES: u64 = 16 * 1024 * 1024;

/// How often a message goes to and fro.
pub(crate) const ROUND_TRIPS: u32 = 20_000;

/// How often beside a saturated stream.
pub(crate) const LOADED_ROUND_TRIPS: u32 = 1_000;

/// How many streams are opened altogether.
const STREAMS: usize = 10_000;

/// How many streams are kept to count their memory; the plain crate stops at 256 without an answer.
const IDLE: usize = 200;

/// How many connections are kept to count their memory.
const IDLE_CONNS: usize = 100;

/// How fast it is, on one flavor of runtime.
pub fn speed(flavor: Flavor) -> Vec<Scenario> {
    let scenario = |name: &str, figure| Scenario::new(name, flavor, vec![figure]);
    vec![
        contenders(
            scenario(
                "64 KiB writes, 1 stream",
                Figure::higher("rate", "MB/s").goal(Goal::RatioAtLeast(1.8)),
            ),
            Transfers {
                streams: 1,
                bytes: BYTES,
                write_len: LARGE,
            },
        ),
        contenders(
            scenario(
                "64 KiB writes, 8 streams",
                Figure::higher("rate", "MB/s").goal(Goal::RatioAtLeast(1.8)),
            ),
            Transfers {
                streams: 8,
                bytes: BYTES,
                write_len: LARGE,
            },
        ),
        contenders(
            scenario("64 B writes, 1 stream", Figure::higher("rate", "MB/s")),
            Transfers {
                streams: 1,
                bytes: SMALL_BYTES,
                write_len: SMALL,
            },
        ),
        contenders(
            scenario(
                "64 B messages",
                Figure::lower("round trip", "µs").goal(Goal::RatioAtMost(0.75)),
            ),
            Messages {
                round_trips: ROUND_TRIPS,
            },
        ),
        contenders(
            scenario(
                "64 B messages beside a saturated stream",
                Figure::lower("round trip", "µs").goal(Goal::RatioAtMost(1.0)),
            ),
            LoadedMessages {
                round_trips: LOADED_ROUND_TRIPS,
            },
        ),
        contenders(
            scenario(
                "1 KiB echo streams, one after another",
                Figure::higher("streams", "1/s").goal(Goal::RatioAtLeast(1.3)),
            ),
            Streams { at_once: 1 },
        ),
        contenders(
            scenario(
                "1 KiB echo streams, 100 at once",
                Figure::higher("streams", "1/s").goal(Goal::RatioAtLeast(2.2)),
            ),
            Streams { at_once: 100 },
        ),
    ]
}

/// How much memory idle streams and connections take, both ends together.
///
/// `heap` has to count all of the program's, and nothing else may run meanwhile.
pub fn memory(heap: Heap) -> Vec<Scenario> {
    let streams = vec![
        Figure::lower("never used", "B").goal(Goal::AtMost(2560.0)),
        Figure::lower("after a 1 KiB echo", "B"),
    ];
    let conns = vec![
        Figure::lower("never used", "B").goal(Goal::AtMost(40960.0)),
        Figure::lower("after 1 MiB", "B"),
    ];
    vec![
        contenders(
            Scenario::new("idle stream", Flavor::Current, streams),
            IdleStreams { heap, count: IDLE },
        ),
        contenders(
            Scenario::new("idle connection", Flavor::Current, conns),
            IdleConns {
                heap,
                count: IDLE_CONNS,
            },
        ),
    ]
}

/// Something to measure over anything that gives streams.
pub(crate) trait Measure: Copy + Send + Sync + 'static {
    fn run<P: Pair>(self) -> impl Future<Output = io::Result<Vec<f64>>> + Send;
}

/// How a contender connects.
pub(crate) trait Pair: Send + 'static {
    type Opener: Opener + Sync;
    type Acceptor: Acceptor;

    /// Both ends of a new connection.
    fn connect() -> impl Future<Output = io::Result<(Self::Opener, Self::Acceptor)>> + Send;
}

fn contenders(scenario: Scenario, measure: impl Measure) -> Scenario {
    scenario
        .contender(OURS, move || measure.run::<Ours>())
        .contender(YAMUX, move || measure.run::<Yamux>())
        .contender(TCP, move || measure.run::<Plain>())
}

/// Both ends of so many streams.
pub(crate) async fn stream_pairs<O: Opener, A: Acceptor>(
    opener: &O,
    acceptor: &mut A,
    count: usize,
) -> io::Result<Vec<(O::Stream, A::Stream)>> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let mut pairs = Vec::with_capacity(count);
    for _ in 0..count {
        let opening = async {
            let mut near = opener.open().await?;
            // The plain crate shows a stream with its first byte only.
            near.write_u8(1).await?;
            Ok::<_, io::Error>(near)
        };
        let accepting = async {
            let far = acceptor.accept().await;
            let mut far = far.ok_or(io::ErrorKind::UnexpectedEof)?;
            far.read_u8().await?;
            Ok(far)
        };
        pairs.push(tokio::try_join!(opening, accepting)?);
    }
    Ok(pairs)
}

#[derive(Clone, Copy)]
pub(crate) struct Transfers {
    pub(crate) streams: usize,
    pub(crate) bytes: u64,
    pub(crate) write_len: usize,
}

impl Measure for Transfers {
    async fn run<P: Pair>(self) -> io::Result<Vec<f64>> {
        let (opener, mut acceptor) = P::connect().await?;
        let pairs = stream_pairs(&opener, &mut acceptor, self.streams).await?;
        let each = Transfer::new(self.bytes / self.streams as u64, self.write_len);
        let mut lanes = JoinSet::new();
        let start = std::time::Instant::now();
        for (near, far) in pairs {
            lanes.spawn(Lane::new(near, far).run(each));
        }
        let mut done = Vec::new();
        while let Some(lane) = lanes.join_next().await {
            done.push(lane??);
        }
        Ok(vec![
            self.bytes as f64 / start.elapsed().as_secs_f64() / 1e6,
        ])
    }
}

#[derive(Clone, Copy)]
pub(crate) struct Messages {
    pub(crate) round_trips: u32,
}

impl Measure for Messages {
    async fn run<P: Pair>(self) -> io::Result<Vec<f64>> {
        let (opener, mut acceptor) = P::connect().await?;
        let mut pairs = stream_pairs(&opener, &mut acceptor, 1).await?;
        let (near, far) = pairs.remove(0);
        let time = round_trip(near, far, SMALL, self.round_trips).await?;
        Ok(vec![time.as_secs_f64() * 1e6])
    }
}

#[derive(Clone, Copy)]
pub(crate) struct LoadedMessages {
    pub(crate) round_trips: u32,
}

impl Measure for LoadedMessages {
    async fn run<P: Pair>(self) -> io::Result<Vec<f64>> {
        let (opener, mut acceptor) = P::connect().await?;
        let mut pairs = stream_pairs(&opener, &mut acceptor, 2).await?;
        let (messages, load) = (pairs.remove(0), pairs.remove(0));
        let time = round_trip_beside(messages, load, SMALL, self.round_trips).await?;
        Ok(vec![time.as_secs_f64() * 1e6])
    }
}

#[derive(Clone, Copy)]
pub(crate) struct Streams {
    pub(crate) at_once: usize,
}

impl Measure for Streams {
    async fn run<P: Pair>(self) -> io::Result<Vec<f64>> {
        let (opener, acceptor) = P::connect().await?;
        let each = STREAMS / self.at_once;
        Ok(vec![
            echo_streams(opener, acceptor, self.at_once, each).await?,
        ])
    }
}

#[derive(Clone, Copy)]
pub(crate) struct IdleStreams {
    pub(crate) heap: Heap,
    pub(crate) count: usize,
}

impl Measure for IdleStreams {
    async fn run<P: Pair>(self) -> io::Result<Vec<f64>> {
        let (opener, mut acceptor) = P::connect().await?;
        // The first stream pays for what is shared by all.
        let _first = stream_pairs(&opener, &mut acceptor, 1).await?;
        let opener = Announced(opener);
        Ok(idle_streams(opener, acceptor, self.count, self.heap)
            .await?
            .to_vec())
    }
}

/// Shows streams to the peer at once, which the plain crate does with the first write only.
#[derive(Clone)]
struct Announced<O>(O);

impl<O: Opener + Sync> Opener for Announced<O> {
    type Stream = O::Stream;

    async fn open(&self) -> io::Result<O::Stream> {
        let mut stream = self.0.open().await?;
        poll_fn(|cx| Pin::new(&mut stream).poll_write(cx, &[])).await?;
        Ok(stream)
    }
}

#[derive(Clone, Copy)]
pub(crate) struct IdleConns {
    pub(crate) heap: Heap,
    pub(crate) count: usize,
}

impl Measure for IdleConns {
    async fn run<P: Pair>(self) -> io::Result<Vec<f64>> {
        let idle = idle_conns(P::connect, self.count, self.heap).await?;
        Ok(idle.to_vec())
    }
}

/// Ours.
struct Ours;

impl Pair for Ours {
    type Opener = ConnStreams<MuxConn>;
    type Acceptor = ConnStreams<MuxConn>;

    async fn connect() -> io::Result<(Self::Opener, Self::Acceptor)> {
        let transport = TcpTransport::new().with_config(Config::default())?;
        let listener = transport.listen(&Addr::parse("tcp://127.0.0.1:0")?).await?;
        let addr = listener.local_addr();
        let (near, far) = tokio::try_join!(transport.dial(&addr), listener.accept())?;
        Ok((ConnStreams(near), ConnStreams(far)))
    }
}

/// The plain crate, as its documentation shows it: a task that polls the connection, and streams
/// through the compatibility layer.
struct Yamux;

#[derive(Clone)]
struct YamuxOpener(mpsc::Sender<oneshot::Sender<yamux::Stream>>);

struct YamuxAcceptor(mpsc::Receiver<yamux::Stream>);

impl Pair for Yamux {
    type Opener = YamuxOpener;
    type Acceptor = YamuxAcceptor;

    async fn connect() -> io::Result<(YamuxOpener, YamuxAcceptor)> {
        let (near, far) = sockets().await?;
        let (opens, opening) = mpsc::channel(128);
        let (_no_opens, never) = mpsc::channel(1);
        let (ignored, _) = mpsc::channel(1);
        let (accepts, accepted) = mpsc::channel(512);
        let config = yamux::Config::default;
        let near = Connection::new(near.compat(), config(), Mode::Client);
        let far = Connection::new(far.compat(), config(), Mode::Server);
        tokio::spawn(drive(near, opening, ignored));
        tokio::spawn(drive(far, never, accepts));
        Ok((YamuxOpener(opens), YamuxAcceptor(accepted)))
    }
}

/// Polls a connection until it ends or its user is gone.
async fn drive(
    mut conn: Connection<Compat<TcpStream>>,
    mut opens: mpsc::Receiver<oneshot::Sender<yamux::Stream>>,
    accepts: mpsc::Sender<yamux::Stream>,
) {
    let mut opening: Option<oneshot::Sender<yamux::Stream>> = None;
    let is_server = !accepts.is_closed();
    poll_fn(|cx| {
        loop {
            if opening.is_none()
                && let Poll::Ready(next) = opens.poll_recv(cx)
            {
                match next {
                    Some(open) => opening = Some(open),
                    None if is_server => {}
                    None => return Poll::Ready(()),
                }
            }
            if opening.is_some()
                && let Poll::Ready(stream) = conn.poll_new_outbound(cx)
            {
                let (Some(open), Ok(stream)) = (opening.take(), stream) else {
                    return Poll::Ready(());
                };
                // Whoever asked may be gone.
                let _ = open.send(stream);
                continue;
            }
            match conn.poll_next_inbound(cx) {
                Poll::Ready(Some(Ok(stream))) => {
                    if accepts.try_send(stream).is_err() {
                        return Poll::Ready(());
                    }
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await;
}

impl Opener for YamuxOpener {
    type Stream = Compat<yamux::Stream>;

    async fn open(&self) -> io::Result<Self::Stream> {
        let (open, opened) = oneshot::channel();
        self.0.send(open).await.map_err(io::Error::other)?;
        Ok(opened.await.map_err(io::Error::other)?.compat())
    }
}

impl Acceptor for YamuxAcceptor {
    type Stream = Compat<yamux::Stream>;

    async fn accept(&mut self) -> Option<Self::Stream> {
        Some(self.0.recv().await?.compat())
    }
}

/// TCP with a connection for each stream.
struct Plain;

#[derive(Clone)]
struct PlainOpener(SocketAddr);

struct PlainAcceptor(TcpListener);

impl Pair for Plain {
    type Opener = PlainOpener;
    type Acceptor = PlainAcceptor;

    async fn connect() -> io::Result<(PlainOpener, PlainAcceptor)> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        Ok((PlainOpener(addr), PlainAcceptor(listener)))
    }
}

impl Opener for PlainOpener {
    type Stream = TcpStream;

    async fn open(&self) -> io::Result<TcpStream> {
        let socket = TcpStream::connect(self.0).await?;
        socket.set_nodelay(true)?;
        Ok(socket)
    }
}

impl Acceptor for PlainAcceptor {
    type Stream = TcpStream;

    async fn accept(&mut self) -> Option<TcpStream> {
        let (socket, _) = self.0.accept().await.ok()?;
        socket.set_nodelay(true).ok()?;
        Some(socket)
    }
}

/// Both ends of a TCP connection.
async fn sockets() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    let (near, (far, _)) = tokio::try_join!(TcpStream::connect(addr), listener.accept())?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    Ok((near, far))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn works<P: Pair>() {
        let transfers = Transfers {
            streams: 3,
            bytes: 3 << 20,
            write_len: LARGE,
        };
        assert!(transfers.run::<P>().await.unwrap()[0] > 0.0);
        let loaded = LoadedMessages { round_trips: 100 };
        assert!(loaded.run::<P>().await.unwrap()[0] > 0.0);
        let (opener, acceptor) = P::connect().await.unwrap();
        assert!(echo_streams(opener, acceptor, 10, 5).await.unwrap() > 0.0);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_contender_does_the_work() {
        works::<Ours>().await;
        works::<Yamux>().await;
        works::<Plain>().await;
    }
}
