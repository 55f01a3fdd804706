use std::any::Any;
use std::fmt;
use std::sync::Arc;

use pipe_core::backend::SessionConn;
use pipe_core::{Addr, CloseReason, Config, Error, ErrorKind, PeerIdentity, Result, Wire};
use tokio::io::{AsyncRead, AsyncWrite, split};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::conn::MuxConn;
use crate::conn_inner::{ConnInner, NewConn};
use crate::driver::Driver;
use crate::turns::DriverWaker;
use crate::yamux::{Limits, Output, WINDOW};

/// The scheme of the addresses of a connection that has none.
const SCHEME: &str = "mux";

/// Turns byte streams into connections.
///
/// Small writes leave at once and in one piece. A TCP socket needs `set_nodelay(true)` for that: without
/// it the system holds them back for some 40 ms.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// use pipe_core::{Config, Conn};
/// use pipe_mux::Mux;
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// let (here, there) = tokio::io::duplex(64 * 1024);
/// let (client, server) = tokio::try_join!(
///     Mux::client(here, Config::default()),
///     Mux::server(there, Config::default()),
/// )?;
///
/// let mut stream = client.open_stream().await?;
/// stream.write_all(b"hello").await?;
/// stream.shutdown().await?;
///
/// let mut text = String::new();
/// server.accept_stream().await?.read_to_string(&mut text).await?;
/// assert_eq!(text, "hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Mux(());

/// A connection in the making; see [`Mux::builder`].
#[derive(Clone)]
pub struct MuxBuilder {
    config: Config,
    wire: Wire,
    addrs: Option<(Addr, Addr)>,
    identity: Option<PeerIdentity>,
    inner: Option<Arc<dyn Any + Send + Sync>>,
}

impl Mux {
    /// Connects as the side that dialed. The two sides have to take opposite roles.
    ///
    /// # Errors
    ///
    /// [`ConfigInvalid`](ErrorKind::ConfigInvalid); [`Handshake`](ErrorKind::Handshake) when the peer
    /// speaks something else; [`TimedOut`](ErrorKind::TimedOut) after
    /// [`Config::handshake_timeout`]; [`Failed`](ErrorKind::Failed) when the byte stream ends first.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the byte stream.
    pub async fn client<T>(io: T, config: Config) -> Result<MuxConn>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        Self::builder().config(config).client(io).await
    }

    /// Connects as the side that accepted.
    ///
    /// # Errors
    ///
    /// As in [`client`](Self::client).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the byte stream.
    pub async fn server<T>(io: T, config: Config) -> Result<MuxConn>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        Self::builder().config(config).server(io).await
    }

    /// Starts from the defaults.
    pub fn builder() -> MuxBuilder {
        MuxBuilder {
            config: Config::default(),
            wire: Wire::default(),
            addrs: None,
            identity: None,
            inner: None,
        }
    }
}

impl MuxBuilder {
    /// Sets the configuration of this side. A stream window below the 256 KiB of yamux is counted
    /// over the control channel; a plain peer does not support that, and may fill 256 KiB.
    #[must_use]
    pub fn config(self, config: Config) -> Self {
        Self { config, ..self }
    }

    /// Sets the protocol.
    #[must_use]
    pub fn wire(self, wire: Wire) -> Self {
        Self { wire, ..self }
    }

    /// Sets the addresses that the connection reports: this side's and the peer's.
    #[must_use]
    pub fn addrs(self, local: Addr, remote: Addr) -> Self {
        Self {
            addrs: Some((local, remote)),
            ..self
        }
    }

    /// Sets the identity that the peer has proved.
    #[must_use]
    pub fn identity(self, identity: Option<PeerIdentity>) -> Self {
        Self { identity, ..self }
    }

    /// Sets the value that [`MuxConn::inner`] returns, such as the socket.
    #[must_use]
    pub fn inner(self, inner: Arc<dyn Any + Send + Sync>) -> Self {
        Self {
            inner: Some(inner),
            ..self
        }
    }

    /// Makes the connection as the side that dialed; see [`Mux::client`].
    ///
    /// # Errors
    ///
    /// As in [`Mux::client`].
    pub async fn client<T>(self, io: T) -> Result<MuxConn>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (reader, writer) = split(io);
        self.client_split(reader, writer).await
    }

    /// Makes the connection as the side that accepted; see [`Mux::server`].
    ///
    /// # Errors
    ///
    /// As in [`Mux::client`].
    pub async fn server<T>(self, io: T) -> Result<MuxConn>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (reader, writer) = split(io);
        self.server_split(reader, writer).await
    }

    /// Connects as [`client`](Self::client) does, over two separate directions: a pair of pipes, or a socket
    /// that is read and written at once, such as the halves of
    /// `pipe_net::SharedSocket::into_split`.
    ///
    /// # Errors
    ///
    /// As in [`Mux::client`].
    pub async fn client_split<R, W>(self, reader: R, writer: W) -> Result<MuxConn>
    where
        R: AsyncRead + Unpin + Send + 'static,
        W: AsyncWrite + Unpin + Send + 'static,
    {
        self.connect(reader, writer, true).await
    }

    /// Connects as [`server`](Self::server) does, over two separate directions; see
    /// [`client_split`](Self::client_split).
    ///
    /// # Errors
    ///
    /// As in [`Mux::client`].
    pub async fn server_split<R, W>(self, reader: R, writer: W) -> Result<MuxConn>
    where
        R: AsyncRead + Unpin + Send + 'static,
        W: AsyncWrite + Unpin + Send + 'static,
    {
        self.connect(reader, writer, false).await
    }

    async fn connect<R, W>(self, reader: R, writer: W, client: bool) -> Result<MuxConn>
    where
        R: AsyncRead + Unpin + Send + 'static,
        W: AsyncWrite + Unpin + Send + 'static,
    {
        let Self {
            config,
            wire,
            addrs,
            identity,
            inner,
        } = self;
        config.validate()?;
        let peer = addrs.as_ref().map(|(_, remote)| remote.clone());
        let (local_addr, remote_addr) = match addrs {
            Some(addrs) => addrs,
            None => (Addr::opaque(SCHEME)?, Addr::opaque(SCHEME)?),
        };
        let limit = config.handshake_timeout;
        let waker = DriverWaker::new();
        let conn = ConnInner::new(NewConn {
            limits: limits(&config, wire),
            config,
            wire,
            is_client: client,
            local_addr,
            remote_addr,
            identity,
            inner,
            output: Output::new(Box::new(writer), waker.clone()),
            driver: waker,
        });
        let handle = MuxConn::new(conn.clone());

        let (ready, hello) = oneshot::channel();
        let driver = Driver::new(reader, conn.clone(), client, ready);
        tokio::spawn(driver.run());

        let greeted = match timeout(limit, hello).await {
            Ok(Ok(Ok(()))) => Ok(handle),
            Ok(Ok(Err(error))) => Err(error),
            Ok(Err(_)) => Err(conn.status.error().unwrap_or_else(|| {
                Error::new(ErrorKind::Failed, "the connection ended in its handshake")
            })),
            Err(_) => {
                let why = format!("the peer sent no hello within {limit:?}");
                let error = Error::new(ErrorKind::TimedOut, why);
                conn.end(&CloseReason::Failed(error.clone()));
                Err(error)
            }
        };
        greeted.map_err(|error| match peer {
            Some(peer) => {
                let what = format!("no connection with {peer}: {error}");
                Error::with_source(error.kind(), what, error)
            }
            None => error,
        })
    }
}

/// Returns the bounds of the peer, from this side's configuration.
fn limits(config: &Config, wire: Wire) -> Limits {
    let counts = wire == Wire::Pipe && !config.connection_window_is_ample();
    Limits {
        window: config.stream_window.max(WINDOW),
        stream_unread: match wire {
            Wire::Pipe => config.stream_window,
            Wire::Raw => u32::MAX,
        },
        // A reset removes the bytes from the peer's counts, and other streams may write before it
        // arrives.
        conn_unread: counts.then(|| {
            config
                .connection_window
                .saturating_add(config.stream_window.into())
        }),
    }
}

impl fmt::Debug for MuxBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MuxBuilder")
            .field("config", &self.config)
            .field("wire", &self.wire)
            .field("addrs", &self.addrs)
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}
