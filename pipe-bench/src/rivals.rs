//! `tcp://` against other crates that carry many streams over one TCP connection, and against TCP itself with a socket
//! for each stream.
//!
//! Each is used by its own public API, with the settings that its documentation gives to programs that move much: the
//! crates whose windows grow keep their defaults, the others get windows of 4 MiB for a stream and 16 MiB
//! for a connection.

mod h2;
mod muxado;
mod qmux;
mod rival;
mod zmux;

use std::io;
use std::marker::PhantomData;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pipe_core::{Addr, BoxConn, Config, Listener, Transport};
use pipe_tcp::{MuxListener, TcpTransport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use self::rival::Rival;
use crate::measure::{
    Calls, IdleConns, LOADED_ROUND_TRIPS, LoadedMessages, Measure, Messages, Pair, ROUND_TRIPS,
    STREAMS, Transfers, rate, round_trip_time, stream_pairs, streams_per_second,
};
use crate::tcp::{Plain, PlainAcceptor, PlainOpener, prepare, set_congestion};
use crate::yamux_crate::latest::{YamuxAcceptor, YamuxOpener, streams};
use crate::{
    Acceptor, ConnStreams, Figure, Flavor, Goal, Heap, Opener, Scenario, connect_times,
    idle_streams,
};

const OURS: &str = "pipewerks tcp";
const ZMUX: &str = "zmux";
const QMUX: &str = "qmux";
const MUXADO: &str = "muxado";
const H2: &str = "h2";
const YAMUX: &str = "yamux crate";
const TCP: &str = "plain TCP";

/// The other multiplexers. Plain TCP is shown beside them.
const RIVALS: [&str; 5] = [ZMUX, QMUX, MUXADO, H2, YAMUX];

/// Bytes of a whole transfer.
const BYTES: u64 = 512 * 1024 * 1024;

/// The size of writes, in bytes.
const WRITE: usize = 64 * 1024;

/// How many connections are made one after another.
const CONNS: usize = 500;

/// How many streams are kept to count their memory; some crates allow no more than 256 by default.
const IDLE: usize = 200;

/// How many connections are kept to count their memory.
const IDLE_CONNS: usize = 100;

/// How long connections get to put away what they do not need: some crates keep their buffers for a second.
const SETTLE: Duration = Duration::from_millis(1500);

/// How fast it is, on one flavor of runtime.
pub fn speed(flavor: Flavor) -> Vec<Scenario> {
    let scenario = |name: &str, figure| Scenario::new(name, flavor, vec![ahead(figure)]);
    let transfers = |streams| Transfers {
        streams,
        bytes: BYTES,
        write_len: WRITE,
    };
    let calls = |at_once| Calls {
        at_once,
        streams: STREAMS,
    };
    let messages = Messages {
        round_trips: ROUND_TRIPS,
    };
    let loaded = LoadedMessages {
        round_trips: LOADED_ROUND_TRIPS,
    };
    let conns = Figure::higher("connections", "1/s");
    vec![
        contenders(scenario("64 KiB writes, 1 stream", rate()), transfers(1)),
        contenders(scenario("64 KiB writes, 8 streams", rate()), transfers(8)),
        contenders(scenario("64 B messages", round_trip_time()), messages),
        contenders(
            scenario("64 B messages beside a saturated stream", round_trip_time()),
            loaded,
        ),
        contenders(
            scenario(
                "1 KiB echo streams, one after another",
                streams_per_second(),
            ),
            calls(1),
        ),
        contenders(
            scenario("1 KiB echo streams, 100 at once", streams_per_second()),
            calls(100),
        ),
        contenders(
            scenario("connections, one after another", conns),
            Connects { count: CONNS },
        ),
    ]
}

/// How much memory idle streams and connections take, both ends together.
///
/// `heap` has to count all of the program's, and nothing else may run meanwhile.
pub fn memory(heap: Heap) -> Vec<Scenario> {
    let streams = vec![
        ahead(Figure::lower("after a byte", "B")),
        ahead(Figure::lower("after a 1 KiB echo", "B")),
    ];
    let conns = vec![
        ahead(Figure::lower("never used", "B")),
        ahead(Figure::lower("after 1 MiB", "B")),
    ];
    let count = IDLE;
    vec![
        contenders(
            Scenario::new("idle stream", Flavor::Current, streams),
            IdleUsedStreams { heap, count },
        ),
        contenders(
            Scenario::new("idle connection", Flavor::Current, conns),
            IdleConns {
                heap,
                count: IDLE_CONNS,
                settle: SETTLE,
            },
        ),
    ]
}

/// Ours is to be ahead of each of the others.
fn ahead(figure: Figure) -> Figure {
    let goals = RIVALS.map(|rival| Goal::AheadOf(rival.to_owned()));
    goals.into_iter().fold(figure, Figure::goal)
}

fn contenders(scenario: Scenario, measure: impl MeasureHost) -> Scenario {
    scenario
        .contender(OURS, move || measure.run_host::<Ours>())
        .contender(ZMUX, move || measure.run_host::<Over<zmux::Zmux>>())
        .contender(QMUX, move || measure.run_host::<Over<qmux::Qmux>>())
        .contender(MUXADO, move || measure.run_host::<Over<muxado::Muxado>>())
        .contender(H2, move || measure.run_host::<Over<h2::H2>>())
        .contender(YAMUX, move || measure.run_host::<Over<Yamux>>())
        .contender(TCP, move || measure.run_host::<Plain>())
}

/// A contender whose connections share a listener.
trait Host: Pair {
    type Listener: Send + Sync;

    fn listen() -> impl Future<Output = io::Result<Self::Listener>> + Send;

    /// Both ends of a new connection to the listener.
    fn connect_to(
        listener: &Self::Listener,
    ) -> impl Future<Output = io::Result<(Self::Opener, Self::Acceptor)>> + Send;
}

/// Something to measure over a listener or over any connection.
trait MeasureHost: Copy + Send + Sync + 'static {
    fn run_host<H: Host>(self) -> impl Future<Output = io::Result<Vec<f64>>> + Send;
}

impl<M: Measure> MeasureHost for M {
    fn run_host<H: Host>(self) -> impl Future<Output = io::Result<Vec<f64>>> + Send {
        self.run::<H>()
    }
}

/// Connections to one listener, each with a byte to and fro.
#[derive(Clone, Copy)]
struct Connects {
    count: usize,
}

impl MeasureHost for Connects {
    async fn run_host<H: Host>(self) -> io::Result<Vec<f64>> {
        let listener = H::listen().await?;
        let start = Instant::now();
        connect_times(|| H::connect_to(&listener), self.count).await?;
        Ok(vec![self.count as f64 / start.elapsed().as_secs_f64()])
    }
}

/// Idle streams that a byte went over: some crates show a stream to the peer with its first byte only.
#[derive(Clone, Copy)]
struct IdleUsedStreams {
    heap: Heap,
    count: usize,
}

impl Measure for IdleUsedStreams {
    async fn run<P: Pair>(self) -> io::Result<Vec<f64>> {
        let (opener, mut acceptor) = P::connect().await?;
        // The first stream pays for what is shared by all.
        let _first = stream_pairs(&opener, &mut acceptor, 1).await?;
        let idle = idle_streams(Used(opener), Used(acceptor), self.count, self.heap).await?;
        Ok(idle.to_vec())
    }
}

/// Opens and accepts streams that a byte went over.
#[derive(Clone)]
struct Used<E>(E);

impl<O: Opener + Sync> Opener for Used<O> {
    type Stream = O::Stream;

    async fn open(&self) -> io::Result<O::Stream> {
        let mut stream = self.0.open().await?;
        stream.write_u8(1).await?;
        Ok(stream)
    }
}

impl<A: Acceptor> Acceptor for Used<A> {
    type Stream = A::Stream;

    async fn accept(&mut self) -> Option<A::Stream> {
        let mut stream = self.0.accept().await?;
        stream.read_u8().await.ok()?;
        Some(stream)
    }
}

/// Ours, as `pipewerks::dial` gives it: behind the interface that all transports share.
struct Ours;

impl Pair for Ours {
    type Opener = ConnStreams<BoxConn>;
    type Acceptor = ConnStreams<BoxConn>;

    async fn connect() -> io::Result<(Self::Opener, Self::Acceptor)> {
        let listener = Self::listen().await?;
        Self::connect_to(&listener).await
    }
}

impl Host for Ours {
    type Listener = (TcpTransport, MuxListener);

    async fn listen() -> io::Result<Self::Listener> {
        let transport = TcpTransport::new().with_config(Config::default())?;
        let listener = transport.listen(&Addr::parse("tcp://127.0.0.1:0")?).await?;
        Ok((transport, listener))
    }

    async fn connect_to(
        (transport, listener): &Self::Listener,
    ) -> io::Result<(Self::Opener, Self::Acceptor)> {
        let addr = listener.local_addr();
        let (near, far) = tokio::try_join!(transport.dial(&addr), listener.accept())?;
        for end in [&near, &far] {
            let socket = end.inner::<TcpStream>();
            set_congestion(socket.ok_or_else(|| io::Error::other("no socket of tokio's"))?);
        }
        let [near, far] = [near, far].map(|end| ConnStreams(BoxConn::new(end)));
        Ok((near, far))
    }
}

/// A rival over TCP.
struct Over<R>(PhantomData<fn() -> R>);

impl<R: Rival> Pair for Over<R> {
    type Opener = R::Opener;
    type Acceptor = R::Acceptor;

    async fn connect() -> io::Result<(R::Opener, R::Acceptor)> {
        let listener = Self::listen().await?;
        Self::connect_to(&listener).await
    }
}

impl<R: Rival> Host for Over<R> {
    type Listener = TcpListener;

    async fn listen() -> io::Result<TcpListener> {
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await
    }

    async fn connect_to(listener: &TcpListener) -> io::Result<(R::Opener, R::Acceptor)> {
        let addr = listener.local_addr()?;
        let (near, (far, _)) = tokio::try_join!(TcpStream::connect(addr), listener.accept())?;
        prepare(&near)?;
        prepare(&far)?;
        R::over(near, far).await
    }
}

/// The yamux crate, with its defaults: its windows grow by themselves.
struct Yamux;

impl Rival for Yamux {
    type Opener = YamuxOpener;
    type Acceptor = YamuxAcceptor;

    async fn over(near: TcpStream, far: TcpStream) -> io::Result<(YamuxOpener, YamuxAcceptor)> {
        Ok(streams(near, far))
    }
}

impl Host for Plain {
    type Listener = Arc<TcpListener>;

    async fn listen() -> io::Result<Arc<TcpListener>> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        Ok(Arc::new(listener))
    }

    async fn connect_to(listener: &Arc<TcpListener>) -> io::Result<(PlainOpener, PlainAcceptor)> {
        let opener = PlainOpener(listener.local_addr()?);
        Ok((opener, PlainAcceptor(listener.clone())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::works;

    async fn contender_works<H: Host>() {
        works::<H>().await;
        let conns = Connects { count: 3 };
        assert!(conns.run_host::<H>().await.unwrap()[0] > 0.0);
        let idle = IdleUsedStreams {
            heap: || 0,
            count: 110,
        };
        assert_eq!(idle.run::<H>().await.unwrap(), [0.0, 0.0]);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_contender_does_the_work() {
        contender_works::<Ours>().await;
        contender_works::<Over<zmux::Zmux>>().await;
        contender_works::<Over<qmux::Qmux>>().await;
        contender_works::<Over<muxado::Muxado>>().await;
        contender_works::<Over<h2::H2>>().await;
        contender_works::<Over<Yamux>>().await;
        contender_works::<Plain>().await;
    }
}
