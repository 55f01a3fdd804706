//! `ws://` against the `yamux` crate over messages of tokio-tungstenite, against its own multiplexer over these, and
//! against `tcp://`.

use std::io;

use pipe_core::{Addr, Config, Listener, Transport};
use pipe_mux::Mux;
use pipe_ws::{MuxConn, WsCarrier, WsTransport};
use tokio::net::TcpStream;
use tokio_tungstenite::{accept_async, client_async};

use crate::cells::{Amounts, Contenders, cells};
use crate::measure::{IdleConns, IdleStreams, Measure, Pair, STREAMS, Transfers, rate};
use crate::messages::Messages as PlainMessages;
use crate::tcp::{Ours, prepare, sockets};
use crate::yamux_crate::latest::{YamuxAcceptor, YamuxOpener, streams};
use crate::{ConnStreams, Figure, Flavor, Heap, SETTLE, Scenario};

/// The name of ours.
const OURS: &str = "pipewerks ws";
const TUNGSTENITE: &str = "tungstenite, yamux crate";
const OURS_OVER_TUNGSTENITE: &str = "tungstenite, pipe-mux";
const TCP: &str = "pipewerks tcp";

/// Bytes of a whole transfer.
const BYTES: u64 = 512 * 1024 * 1024;

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
    let amounts = Amounts {
        bytes: BYTES,
        streams: STREAMS,
        streams_at_once: STREAMS,
    };
    let mut scenarios = cells::<Against>(flavor, &amounts);
    scenarios.push(Against::enter(
        Scenario::new("64 B writes, 1 stream", flavor, vec![rate()]),
        Transfers {
            streams: 1,
            bytes: SMALL_BYTES,
            write_len: SMALL,
        },
    ));
    scenarios
}

/// How much memory idle streams and connections take, both ends together.
///
/// `heap` has to count all of the program's, and nothing else may run meanwhile.
pub fn memory(heap: Heap) -> Vec<Scenario> {
    let streams = vec![
        Figure::lower("never used", "B"),
        Figure::lower("after a 1 KiB echo", "B"),
    ];
    let conns = vec![
        Figure::lower("never used", "B"),
        Figure::lower("after 1 MiB", "B"),
    ];
    vec![
        Against::enter(
            Scenario::new("idle stream", Flavor::Current, streams),
            IdleStreams { heap, count: IDLE },
        ),
        Against::enter(
            Scenario::new("idle connection", Flavor::Current, conns),
            IdleConns {
                heap,
                count: IDLE_CONNS,
                settle: SETTLE,
            },
        ),
    ]
}

struct Against;

impl Contenders for Against {
    fn enter(scenario: Scenario, measure: impl Measure) -> Scenario {
        scenario
            .contender(OURS, move || measure.run::<Ws>())
            .contender(TUNGSTENITE, move || measure.run::<Tungstenite>())
            .contender(OURS_OVER_TUNGSTENITE, move || {
                measure.run::<OursOverTungstenite>()
            })
            .contender(TCP, move || measure.run::<Ours>())
    }
}

/// Ours.
struct Ws;

impl Pair for Ws {
    type Opener = ConnStreams<MuxConn>;
    type Acceptor = ConnStreams<MuxConn>;

    async fn connect() -> io::Result<(Self::Opener, Self::Acceptor)> {
        let transport = WsTransport::new();
        let listener = transport.listen(&Addr::parse("ws://127.0.0.1:0")?).await?;
        let addr = listener.local_addr();
        let (near, far) = tokio::try_join!(transport.dial(&addr), listener.accept())?;
        for end in [&near, &far] {
            let socket = end.inner::<WsCarrier>().and_then(WsCarrier::socket);
            prepare(socket.ok_or_else(|| io::Error::other("no socket of tokio's"))?)?;
        }
        Ok((ConnStreams(near), ConnStreams(far)))
    }
}

/// The plain crates.
struct Tungstenite;

impl Pair for Tungstenite {
    type Opener = YamuxOpener;
    type Acceptor = YamuxAcceptor;

    async fn connect() -> io::Result<(YamuxOpener, YamuxAcceptor)> {
        let (near, far) = plain_messages().await?;
        Ok(streams(near, far))
    }
}

/// Our multiplexer over messages of tungstenite.
struct OursOverTungstenite;

impl Pair for OursOverTungstenite {
    type Opener = ConnStreams<MuxConn>;
    type Acceptor = ConnStreams<MuxConn>;

    async fn connect() -> io::Result<(Self::Opener, Self::Acceptor)> {
        let (near, far) = plain_messages().await?;
        let (near, far) = tokio::try_join!(
            Mux::client(near, Config::default()),
            Mux::server(far, Config::default()),
        )?;
        Ok((ConnStreams(near), ConnStreams(far)))
    }
}

/// Both ends of a WebSocket of tungstenite.
async fn plain_messages() -> io::Result<(PlainMessages<TcpStream>, PlainMessages<TcpStream>)> {
    let (near, far) = sockets().await?;
    let dial = async {
        let dialed = client_async("ws://localhost/", near).await;
        dialed.map(|(socket, _)| socket)
    };
    let (near, far) = tokio::try_join!(dial, accept_async(far)).map_err(io::Error::other)?;
    Ok((PlainMessages::new(near), PlainMessages::new(far)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::works;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_contender_does_the_work() {
        works::<Ws>().await;
        works::<Tungstenite>().await;
        works::<OursOverTungstenite>().await;
    }
}
