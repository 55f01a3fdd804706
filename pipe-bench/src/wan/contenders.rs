//! What connects over an emulated path.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use pipe_core::{Addr, Listener, Transport};
use pipe_quic::quinn::{TransportConfig, VarInt};
use pipe_quic::{QuicConn, QuicTransport};
use pipe_tcp::{MuxConn, TcpTransport, TlsTransport};
use tokio::net::{TcpListener, TcpStream};

use super::byte_streams::ByteStreams;
use super::datagrams::Datagrams;
use super::emulator::Emulator;
use super::path::Path;
use crate::quic::{Ends, Quinn};
use crate::tcp::{PlainAcceptor, PlainOpener, prepare};
use crate::{Acceptor, ConnStreams, Opener, yamux_crate};

/// How a contender connects over a path.
pub(super) trait Contender: Send + 'static {
    type Opener: Opener + Sync;
    type Acceptor: Acceptor;

    /// Both ends of a new connection.
    fn connect(
        path: Path,
    ) -> impl Future<Output = io::Result<Connected<Self::Opener, Self::Acceptor>>> + Send;
}

/// Both ends of a connection, and what is between them.
pub(super) struct Connected<O, A> {
    pub(super) opener: O,
    pub(super) acceptor: A,
    pub(super) emulator: Emulator,
}

/// TCP with a connection for each stream.
pub(super) struct Plain;

impl Contender for Plain {
    type Opener = PlainOpener;
    type Acceptor = PlainAcceptor;

    async fn connect(path: Path) -> io::Result<Connected<PlainOpener, PlainAcceptor>> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let between = ByteStreams::spawn(&path, listener.local_addr()?)?;
        Ok(Connected {
            opener: PlainOpener(between.addr),
            acceptor: PlainAcceptor(Arc::new(listener)),
            emulator: between.emulator,
        })
    }
}

/// The two ends of a TCP connection.
async fn sockets(path: Path) -> io::Result<(TcpStream, TcpStream, Emulator)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let between = ByteStreams::spawn(&path, listener.local_addr()?)?;
    let connecting = TcpStream::connect(between.addr);
    let (near, (far, _)) = tokio::try_join!(connecting, listener.accept())?;
    prepare(&near)?;
    prepare(&far)?;
    Ok((near, far, between.emulator))
}

/// The plain crate of today.
pub(super) struct Yamux;

impl Contender for Yamux {
    type Opener = yamux_crate::latest::YamuxOpener;
    type Acceptor = yamux_crate::latest::YamuxAcceptor;

    async fn connect(path: Path) -> io::Result<Connected<Self::Opener, Self::Acceptor>> {
        let (near, far, emulator) = sockets(path).await?;
        let (opener, acceptor) = yamux_crate::latest::streams(near, far);
        Ok(Connected {
            opener,
            acceptor,
            emulator,
        })
    }
}

/// The plain crate of the version before.
pub(super) struct Yamux013;

impl Contender for Yamux013 {
    type Opener = yamux_crate::v0_13::YamuxOpener;
    type Acceptor = yamux_crate::v0_13::YamuxAcceptor;

    async fn connect(path: Path) -> io::Result<Connected<Self::Opener, Self::Acceptor>> {
        let (near, far, emulator) = sockets(path).await?;
        let (opener, acceptor) = yamux_crate::v0_13::streams(near, far);
        Ok(Connected {
            opener,
            acceptor,
            emulator,
        })
    }
}

/// `tcp://`.
pub(super) struct Tcp;

impl Contender for Tcp {
    type Opener = ConnStreams<MuxConn>;
    type Acceptor = ConnStreams<MuxConn>;

    async fn connect(path: Path) -> io::Result<Connected<Self::Opener, Self::Acceptor>> {
        over_byte_streams(TcpTransport::new(), "tcp", path).await
    }
}

/// `tls://`.
pub(super) struct Tls;

impl Contender for Tls {
    type Opener = ConnStreams<MuxConn>;
    type Acceptor = ConnStreams<MuxConn>;

    async fn connect(path: Path) -> io::Result<Connected<Self::Opener, Self::Acceptor>> {
        over_byte_streams(TlsTransport::new(), "tls", path).await
    }
}

async fn over_byte_streams<T: Transport<Conn = MuxConn>>(
    transport: T,
    scheme: &str,
    path: Path,
) -> io::Result<Connected<ConnStreams<MuxConn>, ConnStreams<MuxConn>>> {
    let listener = transport.listen(&any(scheme)?).await?;
    let addr = listener.local_addr();
    let between = ByteStreams::spawn(&path, target(&addr)?)?;
    let dialed = through(&addr, between.addr)?;
    let (near, far) = tokio::try_join!(transport.dial(&dialed), listener.accept())?;
    for end in [&near, &far] {
        let socket = end.inner::<TcpStream>();
        prepare(socket.ok_or_else(|| io::Error::other("no socket of tokio's"))?)?;
    }
    Ok(Connected {
        opener: ConnStreams(near),
        acceptor: ConnStreams(far),
        emulator: between.emulator,
    })
}

/// `quic://`.
pub(super) struct Quic;

impl Contender for Quic {
    type Opener = ConnStreams<QuicConn>;
    type Acceptor = ConnStreams<QuicConn>;

    async fn connect(path: Path) -> io::Result<Connected<Self::Opener, Self::Acceptor>> {
        let transport = QuicTransport::new();
        let listener = transport.listen(&any("quic")?).await?;
        let addr = listener.local_addr();
        let between = to_far(&path, target(&addr)?)?;
        let dialed = through(&addr, between.addrs[0])?;
        let (near, far) = tokio::try_join!(transport.dial(&dialed), listener.accept())?;
        Ok(Connected {
            opener: ConnStreams(near),
            acceptor: ConnStreams(far),
            emulator: between.emulator,
        })
    }
}

/// quinn as it comes.
pub(super) struct QuinnDefaults;

impl Contender for QuinnDefaults {
    type Opener = Quinn;
    type Acceptor = Quinn;

    async fn connect(path: Path) -> io::Result<Connected<Quinn, Quinn>> {
        quinn(TransportConfig::default(), None, path).await
    }
}

/// quinn with windows of twice what the path holds, and with large socket buffers.
pub(super) struct QuinnMatched;

impl Contender for QuinnMatched {
    type Opener = Quinn;
    type Acceptor = Quinn;

    async fn connect(path: Path) -> io::Result<Connected<Quinn, Quinn>> {
        let window = (2 * path.capacity()).max(256 * 1024);
        let receive = VarInt::try_from(window).map_err(io::Error::other)?;
        let mut transport = TransportConfig::default();
        transport
            .stream_receive_window(receive)
            .receive_window(receive)
            .send_window(window);
        quinn(transport, Some(4 * 1024 * 1024), path).await
    }
}

async fn quinn(
    transport: TransportConfig,
    buffer: Option<usize>,
    path: Path,
) -> io::Result<Connected<Quinn, Quinn>> {
    let ends = Ends::new(transport, buffer)?;
    let between = to_far(&path, ends.local_addr()?)?;
    let (opener, acceptor) = ends.connect_to(between.addrs[0]).await?;
    Ok(Connected {
        opener,
        acceptor,
        emulator: between.emulator,
    })
}

/// A path for datagrams to this end.
fn to_far(path: &Path, far: SocketAddr) -> io::Result<Datagrams> {
    let between = Datagrams::spawn(path)?;
    // Nothing was sent yet.
    let _ = between.ends[1].set(far);
    Ok(between)
}

/// The address to listen on any port of loopback.
fn any(scheme: &str) -> io::Result<Addr> {
    Ok(Addr::parse(&format!("{scheme}://127.0.0.1:0"))?)
}

/// The socket that a listener has.
fn target(addr: &Addr) -> io::Result<SocketAddr> {
    let port = addr.port().ok_or(io::ErrorKind::AddrNotAvailable)?;
    Ok((Ipv4Addr::LOCALHOST, port).into())
}

/// The same address with another port.
fn through(addr: &Addr, port: SocketAddr) -> io::Result<Addr> {
    let own = format!(
        "{}:{}",
        addr.host().unwrap_or_default(),
        target(addr)?.port()
    );
    Ok(Addr::parse(&addr.as_str().replacen(
        &own,
        &port.to_string(),
        1,
    ))?)
}
