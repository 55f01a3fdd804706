//! `inproc://` against [`tokio::io::duplex`].
//!
//! Where a connection is concerned, the alternative is what one would build from it: duplexes, one
//! end of each sent through a channel to a task that accepts them.

use std::io;

use pipe_core::{Addr, Config, Conn, Listener, Transport};
use pipe_inproc::{InprocConn, InprocStream, InprocTransport, Namespace};
use tokio::io::DuplexStream;
use tokio::sync::mpsc;

use crate::{
    Acceptor, ByteStream, ConnStreams, Environment, Figure, Flavor, Goal, Heap, Lane, Opener,
    Scenario, Transfer, echo_streams, extremes, idle_streams, round_trip,
};

/// The name of ours.
const OURS: &str = "pipewerks inproc";

/// The buffers of the duplexes, in bytes: as large as the window of our streams, then a smaller one.
const DUPLEXES: [usize; 2] = [256 * 1024, 64 * 1024];

/// What the speed scenarios of small writes move, in bytes.
const SMALL_WRITES: u64 = 128 * 1024 * 1024;

/// The size of small writes and messages, in bytes.
const SMALL: usize = 64;

/// How often a message goes to and fro.
const ROUND_TRIPS: u32 = 100_000;

/// How many streams are opened altogether.
const STREAMS: usize = 50_000;

/// How many streams are kept to count their memory.
const IDLE: usize = 10_000;

/// How much slower copies have to be at the unluckiest alignment for the goal there to mean anything.
const HUMP: f64 = 5.0;

/// How fast it is, on one flavor of runtime.
///
/// Ours copies in blocks that are fast at every alignment. The goal for unlucky buffers, several times
/// the speed of the alternative, stands only where the unluckiest plain copies are that much slower.
pub fn speed(flavor: Flavor, environment: &Environment) -> Vec<Scenario> {
    let copies = environment.copies;
    let mut unlucky = Figure::higher("unlucky buffers", "GB/s");
    if copies.lucky >= HUMP * copies.unlucky {
        unlucky = unlucky.goal(Goal::RatioAtLeast(HUMP));
    }
    let scenario = |name, figures| Scenario::new(name, flavor, figures);
    vec![
        for_pairs(
            scenario(
                "64 KiB writes",
                vec![
                    Figure::higher("lucky buffers", "GB/s").goal(Goal::RatioAtLeast(0.95)),
                    unlucky,
                ],
            ),
            LargeWrites,
        ),
        for_pairs(
            scenario(
                "64 B writes",
                vec![Figure::higher("rate", "MB/s").goal(Goal::RatioAtLeast(1.0))],
            ),
            SmallWrites,
        ),
        for_pairs(
            scenario(
                "64 B messages",
                vec![Figure::lower("round trip", "µs").goal(Goal::RatioAtMost(1.1))],
            ),
            Messages,
        ),
        streams(
            scenario(
                "1 KiB echo streams, one after another",
                vec![Figure::higher("streams", "1/s").goal(Goal::AtLeast(150_000.0))],
            ),
            1,
        ),
        streams(
            scenario(
                "1 KiB echo streams, 100 at once",
                vec![Figure::higher("streams", "1/s")],
            ),
            100,
        ),
    ]
}

/// How much memory an idle stream takes, both ends together.
///
/// `heap` has to count all of the program's, and nothing else may run meanwhile.
pub fn memory(heap: Heap) -> Scenario {
    let figures = vec![
        Figure::lower("never used", "B").goal(Goal::AtMost(600.0)),
        Figure::lower("after a 1 KiB echo", "B"),
    ];
    let mut scenario = Scenario::new("idle stream", Flavor::Current, figures).contender(
        OURS,
        move || async move {
            let (near, far) = connect(roomy()).await?;
            let idle = idle_streams(ConnStreams(near), ConnStreams(far), IDLE, heap).await?;
            Ok(idle.to_vec())
        },
    );
    for size in DUPLEXES {
        scenario = scenario.contender(duplex_name(size), move || async move {
            let (opener, acceptor) = duplexes(size);
            Ok(idle_streams(opener, acceptor, IDLE, heap).await?.to_vec())
        });
    }
    scenario
}

/// What to measure with one pair of connected streams.
trait Measure: Copy + Send + 'static {
    fn run<S: ByteStream>(
        self,
        near: S,
        far: S,
    ) -> impl Future<Output = io::Result<Vec<f64>>> + Send;
}

#[derive(Clone, Copy)]
struct LargeWrites;

#[derive(Clone, Copy)]
struct SmallWrites;

#[derive(Clone, Copy)]
struct Messages;

impl Measure for LargeWrites {
    async fn run<S: ByteStream>(self, near: S, far: S) -> io::Result<Vec<f64>> {
        let extremes = extremes(near, far).await?;
        Ok(vec![extremes.lucky / 1e9, extremes.unlucky / 1e9])
    }
}

impl Measure for SmallWrites {
    async fn run<S: ByteStream>(self, near: S, far: S) -> io::Result<Vec<f64>> {
        let transfer = Transfer::new(SMALL_WRITES, SMALL);
        let (_lane, rate) = Lane::new(near, far).run(transfer).await?;
        Ok(vec![rate / 1e6])
    }
}

impl Measure for Messages {
    async fn run<S: ByteStream>(self, near: S, far: S) -> io::Result<Vec<f64>> {
        let time = round_trip(near, far, SMALL, ROUND_TRIPS).await?;
        Ok(vec![time.as_secs_f64() * 1e6])
    }
}

/// Adds the contenders to a scenario that takes one pair of streams.
fn for_pairs(mut scenario: Scenario, measure: impl Measure) -> Scenario {
    scenario = scenario.contender(OURS, move || async move {
        let (near, far) = stream_pair().await?;
        measure.run(near, far).await
    });
    for size in DUPLEXES {
        scenario = scenario.contender(duplex_name(size), move || {
            let (near, far) = tokio::io::duplex(size);
            measure.run(near, far)
        });
    }
    scenario
}

/// Adds the contenders to a scenario that opens streams.
fn streams(mut scenario: Scenario, at_once: usize) -> Scenario {
    let each = STREAMS / at_once;
    scenario = scenario.contender(OURS, move || async move {
        let (near, far) = connect(Config::default()).await?;
        let rate = echo_streams(ConnStreams(near), ConnStreams(far), at_once, each).await?;
        Ok(vec![rate])
    });
    for size in DUPLEXES {
        scenario = scenario.contender(duplex_name(size), move || async move {
            let (opener, acceptor) = duplexes(size);
            Ok(vec![echo_streams(opener, acceptor, at_once, each).await?])
        });
    }
    scenario
}

fn duplex_name(size: usize) -> String {
    format!("duplex({} KiB)", size / 1024)
}

/// The default configuration, with room for all the idle streams.
fn roomy() -> Config {
    let streams = 2 * IDLE as u32;
    let config = Config::default().with_max_streams(streams);
    let all_windows = 2 * u64::from(streams) * u64::from(config.stream_window);
    config.with_connection_window(all_windows)
}

/// Both ends of a connection.
async fn connect(config: Config) -> io::Result<(InprocConn, InprocConn)> {
    let transport = InprocTransport::new()
        .with_namespace(Namespace::new())
        .with_config(config)?;
    let listener = transport.listen(&Addr::parse("inproc://bench")?).await?;
    let near = transport.dial(&listener.local_addr()).await?;
    let far = listener.accept().await?;
    Ok((near, far))
}

/// Both ends of a stream, which keeps its connection alive.
async fn stream_pair() -> io::Result<(InprocStream, InprocStream)> {
    let (near, far) = connect(Config::default()).await?;
    Ok((near.open_stream().await?, far.accept_stream().await?))
}

/// Opens duplexes, whose far ends a [`DuplexAcceptor`] accepts.
#[derive(Clone)]
struct DuplexOpener {
    size: usize,
    accepting: mpsc::Sender<DuplexStream>,
}

struct DuplexAcceptor(mpsc::Receiver<DuplexStream>);

fn duplexes(size: usize) -> (DuplexOpener, DuplexAcceptor) {
    let (accepting, accepted) = mpsc::channel(128);
    (DuplexOpener { size, accepting }, DuplexAcceptor(accepted))
}

impl Opener for DuplexOpener {
    type Stream = DuplexStream;

    async fn open(&self) -> io::Result<DuplexStream> {
        let (near, far) = tokio::io::duplex(self.size);
        self.accepting.send(far).await.map_err(io::Error::other)?;
        Ok(near)
    }
}

impl Acceptor for DuplexAcceptor {
    type Stream = DuplexStream;

    async fn accept(&mut self) -> Option<DuplexStream> {
        self.0.recv().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn streams_are_echoed_by_both_contenders() {
        for (at_once, each) in [(1, 100), (100, 3)] {
            let (near, far) = connect(Config::default()).await.unwrap();
            let ours = echo_streams(ConnStreams(near), ConnStreams(far), at_once, each);
            assert!(ours.await.unwrap() > 0.0);
            let (opener, acceptor) = duplexes(64 * 1024);
            assert!(echo_streams(opener, acceptor, at_once, each).await.unwrap() > 0.0);
        }
    }

    #[tokio::test]
    async fn idle_streams_are_counted_by_the_heap() {
        use std::sync::atomic::{AtomicUsize, Ordering};

        /// Grows by 1,000 bytes each time that it is asked.
        fn heap() -> usize {
            static HEAP: AtomicUsize = AtomicUsize::new(0);
            HEAP.fetch_add(1000, Ordering::Relaxed)
        }

        let (near, far) = connect(Config::default()).await.unwrap();
        let [unused, used] = idle_streams(ConnStreams(near), ConnStreams(far), 10, heap)
            .await
            .unwrap();
        assert_eq!((unused, used), (100.0, 200.0));
    }
}
