//! The transport of `undefended://`: yamux over TCP, with a fault.

use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};

use pipe_conformance::{Fixture, Setup};
use pipe_core::backend::{Admission, Progress};
use pipe_core::{Addr, Config, Incoming, Result, Transport};
use pipe_mux::{Acceptor, Mux, MuxConn, MuxListener};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::keeping::Keeping;
use crate::queue::Queue;

const SCHEME: &str = "undefended";

/// How much of its output a listener leaves to the system.
const SEND_BUFFER: u32 = 16 * 1024;

/// A defence that a listener lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// What is written is queued for as long as the peer does not take it.
    OutputIsQueuedWithoutBound,
    /// Each frame is answered with credit, as if nothing was merged, and that is queued as above.
    EachFrameIsCredited,
    /// `max_streams` means a thousand times as many.
    StreamsAreUnlimited,
    /// The windows are a thousand times as large.
    WindowsAreUnlimited,
    /// What was received is kept three times beside the windows.
    BytesAreKept,
}

impl Fault {
    /// The configuration of a listener with the fault.
    fn config(self, config: Config) -> Config {
        match self {
            Self::StreamsAreUnlimited => {
                let most = 1000 * config.max_streams;
                config.with_max_streams(most)
            }
            Self::WindowsAreUnlimited => {
                let (stream, all) = (1000 * config.stream_window, 1000 * config.connection_window);
                config
                    .with_stream_window(stream)
                    .with_connection_window(all)
            }
            _ => config,
        }
    }
}

/// The fixture of a faulty transport.
pub(crate) struct Undefended(pub(crate) Fault);

impl Fixture for Undefended {
    type Transport = UndefendedTransport;

    fn name(&self) -> &str {
        match self.0 {
            Fault::None => "none",
            Fault::OutputIsQueuedWithoutBound => "output",
            Fault::EachFrameIsCredited => "credit",
            Fault::StreamsAreUnlimited => "streams",
            Fault::WindowsAreUnlimited => "windows",
            Fault::BytesAreKept => "kept",
        }
    }

    fn setup(&self, config: Config) -> Result<Setup<UndefendedTransport>> {
        config.validate()?;
        let fault = self.0;
        Ok(Setup::new(UndefendedTransport { fault, config }))
    }

    fn listen_addr(&self) -> Addr {
        addr_of(SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    fn vacant_addr(&self) -> Addr {
        self.listen_addr()
    }
}

pub(crate) struct UndefendedTransport {
    fault: Fault,
    config: Config,
}

impl Transport for UndefendedTransport {
    type Conn = MuxConn;
    type Listener = MuxListener;

    fn schemes(&self) -> &[&'static str] {
        &[SCHEME]
    }

    async fn dial(&self, addr: &Addr) -> Result<MuxConn> {
        let socket = TcpStream::connect(socket_addr(addr)?).await?;
        socket.set_nodelay(true)?;
        Mux::client(socket, self.config.clone()).await
    }

    async fn listen(&self, addr: &Addr) -> Result<MuxListener> {
        let socket = TcpSocket::new_v4()?;
        socket.set_send_buffer_size(SEND_BUFFER)?;
        socket.bind(socket_addr(addr)?)?;
        let door = Door(socket.listen(1024)?);
        let local = addr_of(door.0.local_addr()?);
        let config = self.fault.config(self.config.clone());
        let upgrade = (self.fault, config.clone());
        let admission = Admission::default();
        Ok(MuxListener::new(door, upgrade, local, &config, admission))
    }
}

struct Door(TcpListener);

impl Acceptor for Door {
    type Raw = TcpStream;
    type Upgrade = (Fault, Config);

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<TcpStream>> {
        self.0.poll_accept(cx).map_ok(|(socket, _)| socket)
    }

    fn incoming(_: &TcpStream) -> Incoming {
        Incoming::unknown()
    }

    async fn upgrade(
        (fault, config): &(Fault, Config),
        socket: TcpStream,
        progress: &Progress,
    ) -> Result<MuxConn> {
        socket.set_nodelay(true)?;
        progress.begin().await;
        let config = config.clone();
        match fault {
            Fault::OutputIsQueuedWithoutBound => {
                Mux::server(Queue::new(socket, false), config).await
            }
            Fault::EachFrameIsCredited => Mux::server(Queue::new(socket, true), config).await,
            Fault::BytesAreKept => Mux::server(Keeping::new(socket), config).await,
            _ => Mux::server(socket, config).await,
        }
    }
}

pub(crate) fn socket_addr(addr: &Addr) -> io::Result<SocketAddr> {
    let text = format!(
        "{}:{}",
        addr.host().unwrap_or_default(),
        addr.port().unwrap_or_default()
    );
    text.parse().map_err(io::Error::other)
}

fn addr_of(addr: SocketAddr) -> Addr {
    let text = format!("{SCHEME}://{addr}");
    text.parse().expect("an address")
}
