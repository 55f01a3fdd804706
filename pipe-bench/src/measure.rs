//! What is measured over anything that gives streams.

use std::io;
use std::pin::Pin;
use std::time::{Duration, Instant};

use futures::future::poll_fn;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::task::JoinSet;

use crate::{
    Acceptor, Figure, Heap, Lane, Opener, Transfer, echo_streams, idle_conns, idle_streams,
    round_trip, round_trip_beside,
};

/// The size of small messages, in bytes.
const SMALL: usize = 64;

/// How often a message goes to and fro.
pub(crate) const ROUND_TRIPS: u32 = 20_000;

/// How often beside a saturated stream.
pub(crate) const LOADED_ROUND_TRIPS: u32 = 1_000;

/// How many streams are opened altogether.
pub(crate) const STREAMS: usize = 10_000;

/// How fast streams carry bytes.
pub(crate) fn rate() -> Figure {
    Figure::higher("rate", "MB/s")
}

/// How long a message is on its way to and fro.
pub(crate) fn round_trip_time() -> Figure {
    Figure::lower("round trip", "µs")
}

/// How often streams are opened, used and ended.
pub(crate) fn streams_per_second() -> Figure {
    Figure::higher("streams", "1/s")
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

/// Both ends of so many streams.
pub(crate) async fn stream_pairs<O: Opener, A: Acceptor>(
    opener: &O,
    acceptor: &mut A,
    count: usize,
) -> io::Result<Vec<(O::Stream, A::Stream)>> {
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
        let start = Instant::now();
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

/// Streams that are opened, used for 1 KiB to and fro, and ended.
#[derive(Clone, Copy)]
pub(crate) struct Calls {
    pub(crate) at_once: usize,
    pub(crate) streams: usize,
}

impl Measure for Calls {
    async fn run<P: Pair>(self) -> io::Result<Vec<f64>> {
        let (opener, acceptor) = P::connect().await?;
        let each = self.streams / self.at_once;
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
    pub(crate) settle: Duration,
}

impl Measure for IdleConns {
    async fn run<P: Pair>(self) -> io::Result<Vec<f64>> {
        let idle = idle_conns(P::connect, self.count, self.settle, self.heap).await?;
        Ok(idle.to_vec())
    }
}

/// Whether a contender does the work: streams carry bytes and messages, and are ended.
#[cfg(test)]
pub(crate) async fn works<P: Pair>() {
    let transfers = Transfers {
        streams: 3,
        bytes: 3 << 20,
        write_len: 64 * 1024,
    };
    assert!(transfers.run::<P>().await.unwrap()[0] > 0.0);
    let loaded = LoadedMessages { round_trips: 10 };
    assert!(loaded.run::<P>().await.unwrap()[0] > 0.0);
    let calls = Calls {
        at_once: 10,
        streams: 50,
    };
    assert!(calls.run::<P>().await.unwrap()[0] > 0.0);
}
