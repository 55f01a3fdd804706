use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use pipe_core::backend::{Admission, Progress, dial_within};
use pipe_core::{
    Addr, Admit, Config, Error, ErrorKind, Incoming, PeerIdentity, Result, Transport,
    UnixCredentials, Wire,
};
use pipe_mux::{Acceptor, Mux, MuxBuilder, MuxConn, MuxListener};
use pipe_net::{SharedSocket, first_byte};
use tokio::net::UnixStream;

use crate::connect::connect;
use crate::listening::{Listening, listen, take_over};
use crate::place::{Place, SCHEME};

/// The transport of `unix:///path`: yamux over the stream sockets of this machine.
///
/// # Addresses
///
/// - `unix:///run/app.sock`: a socket file, by its absolute path. Bytes that have no place in a URL are
///   written `%20`, and a path has at most 107 bytes (103 on macOS and the BSDs). As in every URL,
///   segments of dots are resolved before the path is used.
/// - `unix:///@name`: a name in Linux's abstract namespace, without a file. `unix:///@` listens on a
///   fresh one. A file whose name begins with `@`, in the root directory, is `unix:///%40name`.
/// - `?wire=raw` speaks plain yamux to other implementations, see
///   [`pipe_mux`](pipe_mux#plain-yamux).
///
/// A dialer's socket has no name by itself. On Linux it gets an abstract one from the system, so
/// that each end's [`local_addr`](pipe_core::Conn::local_addr) is the other's
/// [`remote_addr`](pipe_core::Conn::remote_addr); it cannot be dialed. Elsewhere, and for foreign
/// peers without a name, the address is opaque, `unix://~1`: different for each connection, and at
/// the two ends.
///
/// # The socket file
///
/// A listener makes it, together with an empty `….lock` beside it, which it holds locked
/// (flock(2)). Closing or dropping the listener removes both, but a file that another program has
/// put in place of the socket stays. Where the process dies instead, the next listener finds the
/// lock free, detects that no listener answers at the socket, and replaces it; of several that do
/// so at once, one succeeds. Where a listener answers, or holds the lock, and where a file that is
/// no socket is in the way, listening fails with [`AddrInUse`](ErrorKind::AddrInUse), and nothing
/// is removed.
///
/// The lock binds only programs that check it. A foreign program that is between its `bind` and its
/// `listen` looks like one that has died, and so does, on macOS and the BSDs, one whose queue is
/// full.
///
/// # Permissions
///
/// On Linux, a process can connect if it may write to the socket file and pass its directories: by
/// the usual umask of 022 that is its owner, and root. [`with_mode`](Self::with_mode) sets it
/// explicitly. Abstract names have no permissions: every process in the same network namespace can
/// connect, and can take a name that is free. [`peer_identity`](pipe_core::Conn::peer_identity)
/// returns at both ends the credentials that the kernel recorded when the peer connected, or began
/// to listen.
///
/// # Waiting
///
/// A dial waits while the listener's queue is full, up to
/// [`Config::handshake_timeout`].
///
/// [`MuxConn::inner`] gives the [`UnixStream`] under a connection.
#[derive(Clone, Debug, Default)]
pub struct UnixTransport {
    config: Config,
    mode: Option<u32>,
    admission: Admission,
}

impl UnixTransport {
    /// Creates a transport with the default configuration.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the configuration. A plain peer (`wire=raw`) may fill a window of 256 KiB even where it
    /// sets less.
    ///
    /// # Errors
    ///
    /// [`ConfigInvalid`](ErrorKind::ConfigInvalid) when a setting is out of its range.
    pub fn with_config(self, config: Config) -> Result<Self> {
        config.validate()?;
        Ok(Self { config, ..self })
    }

    /// Sets the permissions of the socket files of listeners, such as `0o660`, independent of the
    /// umask. They are set before any connection is possible.
    ///
    /// The path is used twice for that, so the directory must not be one where others can replace
    /// files.
    ///
    /// # Errors
    ///
    /// [`ConfigInvalid`](ErrorKind::ConfigInvalid) for a mode above `0o777`.
    pub fn with_mode(self, mode: u32) -> Result<Self> {
        if mode > 0o777 {
            let why = format!("mode is 0o{mode:o}, but has to be from 0o0 to 0o777");
            return Err(Error::new(ErrorKind::ConfigInvalid, why));
        }
        Ok(Self {
            mode: Some(mode),
            ..self
        })
    }

    /// Sets a function that decides for each raw connection of the listeners, before the handshake,
    /// whether to accept it, by the peer's credentials. It must not block.
    #[must_use]
    pub fn with_admission(
        mut self,
        admit: impl Fn(&Incoming) -> Admit + Send + Sync + 'static,
    ) -> Self {
        self.admission = Admission::new(admit);
        self
    }

    /// Listens on a socket that listens already, such as one of systemd's (`listen_fds`). The address gives the options, and
    /// [`local_addr`](pipe_core::Listener::local_addr) has the socket's own path or name. Closing the listener closes the
    /// socket. Its file stays, and its permissions are as they are: both belong to what has made it.
    ///
    /// # Errors
    ///
    /// [`AddrUnsupported`](ErrorKind::AddrUnsupported) and [`AddrInvalid`](ErrorKind::AddrInvalid) as of
    /// [`listen`](Transport::listen); [`Io`](ErrorKind::Io) for a socket that does not listen, and for errors of the operating
    /// system.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn listen_on(
        &self,
        socket: std::os::unix::net::UnixListener,
        addr: &Addr,
    ) -> Result<MuxListener> {
        let on = Place::of(addr)?;
        self.listen_with(&on, take_over(addr, socket)?)
    }

    fn listen_with(&self, on: &Place, listening: Listening) -> Result<MuxListener> {
        let local = Place::addr_of(&listening.socket.local_addr()?, on.wire)?;
        let upgrade = UnixUpgrade {
            config: self.config.clone(),
            wire: on.wire,
            local: local.clone(),
        };
        Ok(MuxListener::new(
            UnixDoor(listening),
            upgrade,
            local,
            &self.config,
            self.admission.clone(),
        ))
    }
}

impl Transport for UnixTransport {
    type Conn = MuxConn;
    type Listener = MuxListener;

    fn schemes(&self) -> &[&'static str] {
        &[SCHEME]
    }

    async fn dial(&self, addr: &Addr) -> Result<MuxConn> {
        let to = Place::of(addr)?;
        let connect = async {
            let socket = connect(addr, &to).await?;
            let local = Place::addr_of(&socket.local_addr()?, to.wire)?;
            // The listener's own name may be another name for the same file.
            let remote = to.to_addr().unwrap_or_else(|| addr.clone());
            let (io, mux) = set_up(socket, &self.config, to.wire)?;
            let (reader, writer) = io.into_split();
            mux.addrs(local, remote).client_split(reader, writer).await
        };
        dial_within(addr, self.config.handshake_timeout, connect).await
    }

    async fn listen(&self, addr: &Addr) -> Result<MuxListener> {
        let on = Place::of(addr)?;
        self.listen_with(&on, listen(addr, &on, self.mode)?)
    }
}

struct UnixDoor(Listening);

struct UnixUpgrade {
    config: Config,
    wire: Wire,
    local: Addr,
}

impl Acceptor for UnixDoor {
    type Raw = UnixStream;
    type Upgrade = UnixUpgrade;

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Self::Raw>> {
        self.0.socket.poll_accept(cx).map_ok(|(socket, _)| socket)
    }

    fn incoming(socket: &UnixStream) -> Incoming {
        let identity = credentials(socket).ok().map(PeerIdentity::Unix);
        Incoming::unknown().with_identity(identity)
    }

    async fn upgrade(
        upgrade: &UnixUpgrade,
        socket: UnixStream,
        progress: &Progress,
    ) -> Result<MuxConn> {
        let UnixUpgrade {
            config,
            wire,
            local,
        } = upgrade;
        if *wire == Wire::Pipe {
            progress.first_byte(first_byte(&socket)).await?;
        }
        // The address from the accept lacks abstract names.
        let remote = Place::addr_of(&socket.peer_addr()?, *wire)?;
        let (io, mux) = set_up(socket, config, *wire)?;
        let (reader, writer) = io.into_split();
        mux.addrs(local.clone(), remote)
            .server_split(reader, writer)
            .await
    }
}

fn set_up(
    socket: UnixStream,
    config: &Config,
    wire: Wire,
) -> Result<(SharedSocket<UnixStream>, MuxBuilder)> {
    let identity = credentials(&socket)?;
    let socket = Arc::new(socket);
    let mux = Mux::builder()
        .config(config.clone())
        .wire(wire)
        .identity(Some(PeerIdentity::Unix(identity)))
        .inner(socket.clone());
    Ok((SharedSocket::new(socket), mux))
}

fn credentials(socket: &UnixStream) -> Result<UnixCredentials> {
    let peer = socket.peer_cred().map_err(|error| {
        let why = format!("the credentials of the peer are not available: {error}");
        Error::with_source(ErrorKind::Io, why, error)
    })?;
    // A process outside of this one's namespace, as in another container, is reported as 0.
    let pid = peer.pid().filter(|pid| *pid > 0);
    Ok(UnixCredentials::new(pid, peer.uid(), peer.gid()))
}
