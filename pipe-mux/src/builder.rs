use std::any::Any;
use std::fmt;
use std::sync::Arc;

use pipe_core::{Addr, CloseReason, Config, Error, ErrorKind, PeerIdentity, Result};
use tokio::io::{AsyncRead, AsyncWrite, split};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::conn::MuxConn;
use crate::driver::Driver;
use crate::muxer::Muxer;
use crate::shared::{NewConn, Shared};
use crate::turns::DriverWaker;
use crate::wire::Wire;
use crate::yamux::{CONTROL, Limits, WINDOW, Yamux};

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
    /// The side that dialed. Both sides have to agree on who that is.
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

    /// The side that accepted.
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
    /// The configuration of this side. A window of a stream below the 256 KiB of yamux is counted over the
    /// control channel; a plain peer knows of none, and may fill 256 KiB.
    #[must_use]
    pub fn config(self, config: Config) -> Self {
        Self { config, ..self }
    }

    /// What is spoken.
    #[must_use]
    pub fn wire(self, wire: Wire) -> Self {
        Self { wire, ..self }
    }

    /// What the connection tells as its addresses: this side's and the peer's.
    #[must_use]
    pub fn addrs(self, local: Addr, remote: Addr) -> Self {
        Self {
            addrs: Some((local, remote)),
            ..self
        }
    }

    /// Who the peer has proved to be.
    #[must_use]
    pub fn identity(self, identity: Option<PeerIdentity>) -> Self {
        Self { identity, ..self }
    }

    /// What [`MuxConn::inner`] gives: the socket, say, for whoever needs it.
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

    /// As [`client`](Self::client), over two directions that come apart: a pair of pipes, or a socket of
    /// which both can be used at once, such as those of `pipe_net::SharedSocket::into_split`.
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

    /// As [`server`](Self::server), over two directions that come apart; see
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
        let limits = limits(&config, wire);
        let writer = Box::new(writer);
        let muxer = Yamux::new(
            reader,
            writer,
            client,
            limits,
            // Between two of ours, the control channel says what became of a stream.
            wire == Wire::Raw,
            waker.clone(),
        );
        let shared = Shared::new(NewConn {
            config,
            wire,
            local_addr,
            remote_addr,
            identity,
            inner,
            mux: muxer.handle(),
            driver: waker,
        });
        let conn = MuxConn::new(shared.clone());

        let (ready, hello) = oneshot::channel();
        let driver = Driver::new(muxer, shared.clone(), client, ready);
        tokio::spawn(driver.run());

        let greeted = match timeout(limit, hello).await {
            Ok(Ok(Ok(_))) => Ok(conn),
            Ok(Ok(Err(error))) => Err(error),
            Ok(Err(_)) => Err(shared.status.error().unwrap_or_else(|| {
                Error::new(ErrorKind::Failed, "the connection ended in its handshake")
            })),
            Err(_) => {
                let why = format!("the peer did not say hello within {limit:?}");
                let error = Error::new(ErrorKind::TimedOut, why);
                shared.end(&CloseReason::Failed(error.clone()));
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

/// What the peer may do, as this side's configuration has it.
fn limits(config: &Config, wire: Wire) -> Limits {
    let counts = wire == Wire::Pipe && !config.connection_window_is_ample();
    Limits {
        window: config.stream_window.max(WINDOW),
        stream_unread: match wire {
            Wire::Pipe => config.stream_window,
            Wire::Raw => u32::MAX,
        },
        // The peer takes a reset for the end of what it counts, and other streams may write before it
        // arrives.
        conn_unread: counts.then(|| {
            config
                .connection_window
                .saturating_add(config.stream_window.into())
        }),
        // Streams of both sides, the control stream, and those on their way out.
        max_streams: 8 * config.max_streams as usize + 64,
        control: (wire == Wire::Pipe).then_some(CONTROL),
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
