use std::io;
use std::path::PathBuf;
use std::task::{Context, Poll};

use pipe_core::backend::{Admission, Progress};
use pipe_core::{Addr, Config, Error, ErrorKind, Incoming, Result, Transport};
use pipe_mux::{Acceptor, Mux, MuxConn, MuxListener};
use rustix::io::Errno;
use tokio::time::timeout;

use crate::address::{SCHEME, path_of};
use crate::call::Call;
use crate::listener::FifoListener;
use crate::stream::FifoStream;

// ANCHOR: transport
/// The transport of `fifo:///path`: yamux over named pipes.
///
/// A listener makes a FIFO at the path, and a dialer makes two more beside it for each connection,
/// whose names are gone once it stands. Only processes of the same user can open them.
#[derive(Clone, Debug, Default)]
pub struct FifoTransport {
    config: Config,
}

impl FifoTransport {
    /// With the default configuration.
    pub fn new() -> Self {
        Self::default()
    }

    /// Uses this configuration.
    pub fn with_config(self, config: Config) -> Result<Self> {
        config.validate()?;
        Ok(Self { config })
    }
}

impl Transport for FifoTransport {
    type Conn = MuxConn;
    type Listener = MuxListener;

    fn schemes(&self) -> &[&'static str] {
        &[SCHEME]
    }

    async fn dial(&self, addr: &Addr) -> Result<MuxConn> {
        let path = path_of(addr)?;
        let limit = self.config.handshake_timeout;
        let connect = async {
            let stream = FifoStream::connect(&path).await;
            let stream = stream.map_err(|error| not_connected(addr, error))?;
            let local = dialer_addr(addr, stream.call());
            let mux = Mux::builder().config(self.config.clone());
            mux.addrs(local, addr.clone()).client(stream).await
        };
        timeout(limit, connect).await.unwrap_or_else(|_| {
            let why = format!("{addr} made no connection within {limit:?}");
            Err(Error::new(ErrorKind::TimedOut, why))
        })
    }

    async fn listen(&self, addr: &Addr) -> Result<MuxListener> {
        let path = path_of(addr)?;
        let listener = FifoListener::bind(&path).map_err(|error| not_bound(addr, error))?;
        let upgrade = FifoUpgrade {
            config: self.config.clone(),
            path,
            addr: addr.clone(),
        };
        let door = FifoDoor(listener);
        let admission = Admission::default();
        Ok(MuxListener::new(
            door,
            upgrade,
            addr.clone(),
            &self.config,
            admission,
        ))
    }
}
// ANCHOR_END: transport

// ANCHOR: acceptor
struct FifoDoor(FifoListener);

struct FifoUpgrade {
    config: Config,
    path: PathBuf,
    addr: Addr,
}

impl Acceptor for FifoDoor {
    type Raw = Call;
    type Upgrade = FifoUpgrade;

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Call>> {
        self.0.poll_accept(cx)
    }

    fn incoming(_: &Call) -> Incoming {
        Incoming::unknown()
    }

    async fn upgrade(upgrade: &FifoUpgrade, call: Call, progress: &Progress) -> Result<MuxConn> {
        let FifoUpgrade { config, path, addr } = upgrade;
        let stream = FifoStream::answer(path, call).await?;
        progress.begin().await;
        let remote = dialer_addr(addr, call);
        let mux = Mux::builder().config(config.clone());
        mux.addrs(addr.clone(), remote).server(stream).await
    }
}

/// What both ends call the dialer's end. It cannot be dialed.
fn dialer_addr(listener: &Addr, call: Call) -> Addr {
    listener.clone().with_param("call", &call.to_string())
}
// ANCHOR_END: acceptor

// ANCHOR: errors
fn not_connected(addr: &Addr, error: io::Error) -> Error {
    let (kind, what) = match (Errno::from_io_error(&error), error.kind()) {
        (Some(Errno::NOENT), _) => (ErrorKind::Refused, "there is no such file"),
        (Some(Errno::NXIO | Errno::PIPE), _) | (_, io::ErrorKind::ConnectionRefused) => {
            (ErrorKind::Refused, "there is no listener")
        }
        (_, io::ErrorKind::InvalidInput) => (ErrorKind::Refused, "the file is no FIFO"),
        (_, io::ErrorKind::InvalidData) => {
            (ErrorKind::Handshake, "it does not answer as a listener")
        }
        (Some(Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG), _) => {
            (ErrorKind::Unreachable, "its path leads nowhere")
        }
        _ => (ErrorKind::Io, "the system reports an error"),
    };
    Error::with_source(kind, format!("could not connect to {addr}: {what}"), error)
}

fn not_bound(addr: &Addr, error: io::Error) -> Error {
    let (kind, what) = match error.kind() {
        io::ErrorKind::AddrInUse => (ErrorKind::AddrInUse, "there is a listener already"),
        io::ErrorKind::InvalidInput => (ErrorKind::AddrInUse, "the file is no FIFO"),
        io::ErrorKind::NotFound => (ErrorKind::Io, "its directory does not exist"),
        _ => (ErrorKind::Io, "the system reports an error"),
    };
    Error::with_source(kind, format!("could not listen on {addr}: {what}"), error)
}
// ANCHOR_END: errors
