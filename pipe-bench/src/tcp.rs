//! `tcp://` against the plain `yamux` crate over tokio's compatibility layer, and against TCP itself
//! with a socket for each stream.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use pipe_core::{Addr, Config, Listener, Transport};
use pipe_tcp::{MuxConn, TcpTransport};
use tokio::net::{TcpListener, TcpStream};

use crate::measure::{
    Calls, IdleConns, IdleStreams, LOADED_ROUND_TRIPS, LoadedMessages, Measure, Messages, Pair,
    ROUND_TRIPS, STREAMS, Transfers, rate, round_trip_time, streams_per_second,
};
use crate::yamux_crate::latest::{YamuxAcceptor, YamuxOpener, streams};
use crate::{Acceptor, ConnStreams, Figure, Flavor, Goal, Heap, Opener, SETTLE, Scenario};

/// The name of ours.
const OURS: &str = "pipewerks tcp";
const YAMUX: &str = "yamux crate";
const TCP: &str = "plain TCP";

/// Bytes of a whole transfer.
const BYTES: u64 = 512 * 1024 * 1024;

/// The size of large writes, in bytes.
const LARGE: usize = 64 * 1024;

/// The size of small writes, in bytes.
const SMALL: usize = 64;

/// What the transfer of small writes moves, in bytes.
const SMALL_BYTES: u64 = 16 * 1024 * 1024;

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
                rate().goal(Goal::RatioAtLeast(1.8)),
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
                rate().goal(Goal::RatioAtLeast(1.8)),
            ),
            Transfers {
                streams: 8,
                bytes: BYTES,
                write_len: LARGE,
            },
        ),
        contenders(
            scenario("64 B writes, 1 stream", rate()),
            Transfers {
                streams: 1,
                bytes: SMALL_BYTES,
                write_len: SMALL,
            },
        ),
        contenders(
            scenario(
                "64 B messages",
                round_trip_time().goal(Goal::RatioAtMost(0.75)),
            ),
            Messages {
                round_trips: ROUND_TRIPS,
            },
        ),
        contenders(
            scenario(
                "64 B messages beside a saturated stream",
                round_trip_time().goal(Goal::RatioAtMost(1.0)),
            ),
            LoadedMessages {
                round_trips: LOADED_ROUND_TRIPS,
            },
        ),
        contenders(
            scenario(
                "1 KiB echo streams, one after another",
                streams_per_second().goal(Goal::RatioAtLeast(1.3)),
            ),
            Calls {
                at_once: 1,
                streams: STREAMS,
            },
        ),
        contenders(
            scenario(
                "1 KiB echo streams, 100 at once",
                streams_per_second().goal(Goal::RatioAtLeast(2.2)),
            ),
            Calls {
                at_once: 100,
                streams: STREAMS,
            },
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
                settle: SETTLE,
            },
        ),
    ]
}

fn contenders(scenario: Scenario, measure: impl Measure) -> Scenario {
    scenario
        .contender(OURS, move || measure.run::<Ours>())
        .contender(YAMUX, move || measure.run::<Yamux>())
        .contender(TCP, move || measure.run::<Plain>())
}

/// Ours.
pub(crate) struct Ours;

impl Pair for Ours {
    type Opener = ConnStreams<MuxConn>;
    type Acceptor = ConnStreams<MuxConn>;

    async fn connect() -> io::Result<(Self::Opener, Self::Acceptor)> {
        let transport = TcpTransport::new().with_config(Config::default())?;
        let listener = transport.listen(&Addr::parse("tcp://127.0.0.1:0")?).await?;
        let addr = listener.local_addr();
        let (near, far) = tokio::try_join!(transport.dial(&addr), listener.accept())?;
        for end in [&near, &far] {
            let socket = end.inner::<TcpStream>();
            prepare(socket.ok_or_else(|| io::Error::other("no socket of tokio's"))?)?;
        }
        Ok((ConnStreams(near), ConnStreams(far)))
    }
}

/// The plain crate.
struct Yamux;

impl Pair for Yamux {
    type Opener = YamuxOpener;
    type Acceptor = YamuxAcceptor;

    async fn connect() -> io::Result<(YamuxOpener, YamuxAcceptor)> {
        let (near, far) = sockets().await?;
        Ok(streams(near, far))
    }
}

/// TCP with a connection for each stream.
pub(crate) struct Plain;

#[derive(Clone)]
pub(crate) struct PlainOpener(pub(crate) SocketAddr);

pub(crate) struct PlainAcceptor(pub(crate) Arc<TcpListener>);

impl Pair for Plain {
    type Opener = PlainOpener;
    type Acceptor = PlainAcceptor;

    async fn connect() -> io::Result<(PlainOpener, PlainAcceptor)> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        Ok((PlainOpener(addr), PlainAcceptor(Arc::new(listener))))
    }
}

impl Opener for PlainOpener {
    type Stream = TcpStream;

    async fn open(&self) -> io::Result<TcpStream> {
        let socket = TcpStream::connect(self.0).await?;
        prepare(&socket)?;
        Ok(socket)
    }
}

impl Acceptor for PlainAcceptor {
    type Stream = TcpStream;

    async fn accept(&mut self) -> Option<TcpStream> {
        let (socket, _) = self.0.accept().await.ok()?;
        prepare(&socket).ok()?;
        Some(socket)
    }
}

/// Both ends of a TCP connection.
pub(crate) async fn sockets() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    let (near, (far, _)) = tokio::try_join!(TcpStream::connect(addr), listener.accept())?;
    prepare(&near)?;
    prepare(&far)?;
    Ok((near, far))
}

/// Sets what all sockets have in common.
pub(crate) fn prepare(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    set_congestion(socket);
    Ok(())
}

/// Sets what all sockets have in common, besides what ours sets by itself.
pub(crate) fn set_congestion(socket: &TcpStream) {
    // Linux's own choice. Where the system is set to BBR, a timer paces each connection, also over
    // loopback, and that is then what is measured.
    #[cfg(target_os = "linux")]
    // A system without it treats all contenders alike.
    let _ = socket2::SockRef::from(socket).set_tcp_congestion(b"cubic");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::works;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_contender_does_the_work() {
        works::<Ours>().await;
        works::<Yamux>().await;
        works::<Plain>().await;
    }
}
