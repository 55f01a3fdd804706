//! `quic://` against quinn itself: with the same settings, which shows what the contract costs, and with
//! quinn's defaults.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Instant;

use pipe_core::{Addr, Config, Listener, Transport};
use pipe_quic::quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use pipe_quic::quinn::{
    ClientConfig, Connection, Endpoint, EndpointConfig, RecvStream, SendStream, ServerConfig,
    TokioRuntime, TransportConfig, VarInt,
};
use pipe_quic::{Identity, Profile, QuicConn, QuicListener, QuicTransport, TlsOptions};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Join, join};

use crate::cells::{Amounts, Contenders, cells};
use crate::measure::{Measure, Pair};
use crate::{
    Acceptor, ConnStreams, Figure, Flavor, Goal, Heap, Opener, SETTLE, Scenario, connect_times,
    idle_conns, idle_streams,
};

/// The name of ours.
const OURS: &str = "pipewerks quic";
const LOOPBACK: &str = "pipewerks, Loopback profile";
const SAME: &str = "quinn, same settings";
const DEFAULTS: &str = "quinn, its defaults";
const OWN_SOCKET: &str = "pipewerks, a socket for each";

pub(crate) const AMOUNTS: Amounts = Amounts {
    bytes: 128 * 1024 * 1024,
    streams: 20_000,
    streams_at_once: 50_000,
};

/// How many connections are made one after another.
const CONNS: usize = 200;

/// How many streams are kept to count their memory; quinn's defaults allow 100.
const IDLE: usize = 90;

/// How many connections are kept to count their memory.
const IDLE_CONNS: usize = 100;

/// How fast it is, on one flavor of runtime.
pub fn speed(flavor: Flavor) -> Vec<Scenario> {
    let mut scenarios = cells::<Against>(flavor, &AMOUNTS);
    scenarios.push(
        Scenario::new(
            "connections with a byte to and fro",
            flavor,
            vec![Figure::higher("connections", "1/s").goal(Goal::RatioAtLeast(0.9))],
        )
        .contender(OURS, move || alone(flavor, || conns_of_ours(shared())))
        .contender(SAME, move || alone(flavor, || conns_of_quinn(same)))
        .contender(DEFAULTS, move || {
            alone(flavor, || conns_of_quinn(|| Ok(TransportConfig::default())))
        })
        .contender(OWN_SOCKET, move || {
            alone(flavor, || conns_of_ours(own_sockets()))
        }),
    );
    scenarios
}

/// How much memory idle streams and connections take, both ends together. The connections share two
/// sockets, except where each dial has its own: that takes 2 MB of quinn's heap to receive into, of which the
/// system gives only what is used.
///
/// `heap` has to count all of the program's, and nothing else may run meanwhile.
pub fn memory(heap: Heap) -> Vec<Scenario> {
    let streams = vec![
        Figure::lower("never used", "B"),
        Figure::lower("after a 1 KiB echo", "B"),
    ];
    let conns = vec![
        Figure::lower("never used", "B").goal(Goal::RatioAtMost(1.2)),
        Figure::lower("after 1 MiB", "B").goal(Goal::RatioAtMost(1.2)),
    ];
    vec![
        Scenario::new("idle stream", Flavor::Current, streams)
            .contender(OURS, move || {
                alone(Flavor::Current, move || {
                    idle_streams_of(Ours::connect(), heap)
                })
            })
            .contender(SAME, move || {
                alone(Flavor::Current, move || {
                    idle_streams_of(shown(Same::connect()), heap)
                })
            })
            .contender(DEFAULTS, move || {
                alone(Flavor::Current, move || {
                    idle_streams_of(shown(Defaults::connect()), heap)
                })
            }),
        Scenario::new("idle connection", Flavor::Current, conns)
            .contender(OURS, move || {
                alone(Flavor::Current, move || idle_conns_of_ours(shared(), heap))
            })
            .contender(SAME, move || {
                alone(Flavor::Current, move || idle_conns_of_quinn(same, heap))
            })
            .contender(DEFAULTS, move || {
                let defaults = || Ok(TransportConfig::default());
                alone(Flavor::Current, move || idle_conns_of_quinn(defaults, heap))
            })
            .contender(OWN_SOCKET, move || {
                alone(Flavor::Current, move || {
                    idle_conns_of_ours(own_sockets(), heap)
                })
            }),
    ]
}

/// Runs on a runtime of its own, so that whatever connections do after their end is over with it and is not
/// counted for the next contender.
pub(crate) async fn alone<F: Future<Output = io::Result<Vec<f64>>>>(
    flavor: Flavor,
    measure: impl FnOnce() -> F + Send + 'static,
) -> io::Result<Vec<f64>> {
    let run = move || flavor.runtime()?.block_on(measure());
    tokio::task::spawn_blocking(run).await?
}

/// Makes connections one after another.
async fn conns_per_second<O: Opener, A: Acceptor, F: Future<Output = io::Result<(O, A)>>>(
    connect: impl Fn() -> F,
) -> io::Result<Vec<f64>> {
    let start = Instant::now();
    connect_times(connect, CONNS).await?;
    Ok(vec![CONNS as f64 / start.elapsed().as_secs_f64()])
}

async fn conns_of_ours(dialing: QuicTransport) -> io::Result<Vec<f64>> {
    let ends = OurEnds::new(dialing).await?;
    conns_per_second(|| ends.connect()).await
}

async fn conns_of_quinn(transport: fn() -> io::Result<TransportConfig>) -> io::Result<Vec<f64>> {
    let ends = Ends::new(transport()?, Some(4 * 1024 * 1024))?;
    conns_per_second(|| ends.connect()).await
}

async fn idle_streams_of<O: Opener + Sync, A: Acceptor>(
    connect: impl Future<Output = io::Result<(O, A)>> + Send,
    heap: Heap,
) -> io::Result<Vec<f64>> {
    let (opener, mut acceptor) = connect.await?;
    // The first stream pays for what is shared by all.
    let _first = (opener.open().await?, acceptor.accept().await);
    let idle = idle_streams(opener, acceptor, IDLE, heap).await?;
    Ok(idle.to_vec())
}

async fn idle_conns_of_ours(dialing: QuicTransport, heap: Heap) -> io::Result<Vec<f64>> {
    let ends = OurEnds::new(dialing).await?;
    let connect = || ends.connect();
    Ok(idle_conns(connect, IDLE_CONNS, SETTLE, heap)
        .await?
        .to_vec())
}

async fn idle_conns_of_quinn(
    transport: fn() -> io::Result<TransportConfig>,
    heap: Heap,
) -> io::Result<Vec<f64>> {
    let ends = Ends::new(transport()?, None)?;
    let connect = || shown(ends.connect());
    Ok(idle_conns(connect, IDLE_CONNS, SETTLE, heap)
        .await?
        .to_vec())
}

struct Against;

impl Contenders for Against {
    fn enter(scenario: Scenario, measure: impl Measure) -> Scenario {
        scenario
            .contender(OURS, move || measure.run::<Ours>())
            .contender(SAME, move || measure.run::<Same>())
            .contender(DEFAULTS, move || measure.run::<Defaults>())
            .contender(LOOPBACK, move || measure.run::<Loopback>())
    }
}

/// Ours.
pub(crate) struct Ours;

/// Ours, for the loopback device.
struct Loopback;

impl Pair for Ours {
    type Opener = ConnStreams<QuicConn>;
    type Acceptor = ConnStreams<QuicConn>;

    async fn connect() -> io::Result<(Self::Opener, Self::Acceptor)> {
        ours(Profile::Wan).await
    }
}

impl Pair for Loopback {
    type Opener = ConnStreams<QuicConn>;
    type Acceptor = ConnStreams<QuicConn>;

    async fn connect() -> io::Result<(Self::Opener, Self::Acceptor)> {
        ours(Profile::Loopback).await
    }
}

async fn ours(profile: Profile) -> io::Result<(ConnStreams<QuicConn>, ConnStreams<QuicConn>)> {
    let transport = QuicTransport::new().with_profile(profile);
    let listener = transport
        .listen(&Addr::parse("quic://127.0.0.1:0")?)
        .await?;
    let addr = listener.local_addr();
    let (near, far) = tokio::try_join!(transport.dial(&addr), listener.accept())?;
    Ok((ConnStreams(near), ConnStreams(far)))
}

/// A listener of ours, and what dials it.
struct OurEnds {
    listener: QuicListener,
    dialing: QuicTransport,
}

impl OurEnds {
    async fn new(dialing: QuicTransport) -> io::Result<Self> {
        let any = Addr::parse("quic://127.0.0.1:0")?;
        let listener = QuicTransport::new().listen(&any).await?;
        Ok(Self { listener, dialing })
    }

    /// Both sides of a connection.
    async fn connect(&self) -> io::Result<(ConnStreams<QuicConn>, ConnStreams<QuicConn>)> {
        let addr = self.listener.local_addr();
        let (near, far) = tokio::try_join!(self.dialing.dial(&addr), self.listener.accept())?;
        Ok((ConnStreams(near), ConnStreams(far)))
    }
}

/// What dials from one socket, as `pipewerks::dial` does.
fn shared() -> QuicTransport {
    QuicTransport::new()
}

fn own_sockets() -> QuicTransport {
    QuicTransport::new().with_socket_per_dial(true)
}

/// quinn with our settings.
struct Same;

/// quinn as it comes.
struct Defaults;

impl Pair for Same {
    type Opener = Quinn;
    type Acceptor = Quinn;

    async fn connect() -> io::Result<(Quinn, Quinn)> {
        let ends = Ends::new(same()?, Some(4 * 1024 * 1024))?;
        ends.connect().await
    }
}

/// Our settings.
pub(crate) fn same() -> io::Result<TransportConfig> {
    let config = Config::default();
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(config.max_streams.into())
        .stream_receive_window(config.stream_window.into())
        .receive_window(VarInt::try_from(config.connection_window).map_err(io::Error::other)?)
        .send_window(config.connection_window);
    Ok(transport)
}

impl Pair for Defaults {
    type Opener = Quinn;
    type Acceptor = Quinn;

    async fn connect() -> io::Result<(Quinn, Quinn)> {
        Ends::new(TransportConfig::default(), None)?.connect().await
    }
}

/// One side of a connection of quinn, with the endpoint that keeps it alive.
#[derive(Clone)]
pub(crate) struct Quinn {
    pub(crate) conn: Connection,
    _endpoint: Endpoint,
}

/// Two endpoints of quinn, with the same cryptography as ours.
pub(crate) struct Ends {
    accepting: Endpoint,
    dialing: Endpoint,
    client: ClientConfig,
}

impl Ends {
    pub(crate) fn new(transport: TransportConfig, buffer: Option<usize>) -> io::Result<Self> {
        Self::with_protocol(b"x", transport, buffer)
    }

    /// The same with this protocol (ALPN).
    pub(crate) fn with_protocol(
        alpn: &[u8],
        transport: TransportConfig,
        buffer: Option<usize>,
    ) -> io::Result<Self> {
        let transport = Arc::new(transport);
        let (tls, identity) = (TlsOptions::new(), Identity::self_signed(["localhost"])?);
        let server = tls.server_config(&identity, &[alpn])?;
        let server = QuicServerConfig::try_from(server).map_err(io::Error::other)?;
        let mut server = ServerConfig::with_crypto(Arc::new(server));
        server.transport_config(transport.clone());
        let client = tls.client_config(Some(identity.sha256()), &[alpn])?;
        let client = QuicClientConfig::try_from(client).map_err(io::Error::other)?;
        let mut client = ClientConfig::new(Arc::new(client));
        client.transport_config(transport);
        Ok(Self {
            accepting: endpoint(Some(server), buffer)?,
            dialing: endpoint(None, buffer)?,
            client,
        })
    }

    /// Both sides of a connection.
    pub(crate) async fn connect(&self) -> io::Result<(Quinn, Quinn)> {
        self.connect_to(self.local_addr()?).await
    }

    /// Where connections are accepted.
    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.accepting.local_addr()
    }

    /// Both sides of a connection that is dialed at this address, from which it has to come.
    pub(crate) async fn connect_to(&self, to: SocketAddr) -> io::Result<(Quinn, Quinn)> {
        let client = self.client.clone();
        let dial = async {
            let connecting = self.dialing.connect_with(client, to, "localhost");
            Ok::<_, io::Error>(connecting.map_err(io::Error::other)?.await?)
        };
        let accept = async {
            let incoming = self.accepting.accept().await;
            Ok(incoming.ok_or(io::ErrorKind::UnexpectedEof)?.await?)
        };
        let (near, far) = tokio::try_join!(dial, accept)?;
        let near = Quinn {
            conn: near,
            _endpoint: self.dialing.clone(),
        };
        let far = Quinn {
            conn: far,
            _endpoint: self.accepting.clone(),
        };
        Ok((near, far))
    }
}

/// The same connection, with streams that the peer sees when they are opened.
async fn shown(
    connect: impl Future<Output = io::Result<(Quinn, Quinn)>> + Send,
) -> io::Result<(Shown, Shown)> {
    let (near, far) = connect.await?;
    Ok((Shown(near), Shown(far)))
}

/// Sends and takes a first byte of each stream, with which quinn shows it to the peer.
#[derive(Clone)]
struct Shown(Quinn);

impl Opener for Shown {
    type Stream = Join<RecvStream, SendStream>;

    async fn open(&self) -> io::Result<Self::Stream> {
        let mut stream = self.0.open().await?;
        stream.write_u8(1).await?;
        Ok(stream)
    }
}

impl Acceptor for Shown {
    type Stream = Join<RecvStream, SendStream>;

    async fn accept(&mut self) -> Option<Self::Stream> {
        let mut stream = self.0.accept().await?;
        stream.read_u8().await.ok()?;
        Some(stream)
    }
}

fn endpoint(server: Option<ServerConfig>, buffer: Option<usize>) -> io::Result<Endpoint> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    if let Some(size) = buffer {
        SockRef::from(&socket).set_recv_buffer_size(size)?;
        SockRef::from(&socket).set_send_buffer_size(size)?;
    }
    Endpoint::new(
        EndpointConfig::default(),
        server,
        socket,
        Arc::new(TokioRuntime),
    )
}

impl Opener for Quinn {
    type Stream = Join<RecvStream, SendStream>;

    async fn open(&self) -> io::Result<Self::Stream> {
        let (send, recv) = self.conn.open_bi().await?;
        Ok(join(recv, send))
    }
}

impl Acceptor for Quinn {
    type Stream = Join<RecvStream, SendStream>;

    async fn accept(&mut self) -> Option<Self::Stream> {
        let (send, recv) = self.conn.accept_bi().await.ok()?;
        Some(join(recv, send))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::works;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_contender_does_the_work() {
        works::<Ours>().await;
        works::<Loopback>().await;
        works::<Same>().await;
        works::<Defaults>().await;
    }
}
