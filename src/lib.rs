#![doc = include_str!("../README.md")]

use std::sync::LazyLock;

pub use pipe_core::{
    Addr, Admit, BoxConn, BoxListener, BoxRecvStream, BoxSendStream, BoxStream, BoxTransport,
    CloseReason, Config, Conn, ConnState, ConnStats, Error, ErrorKind, Incoming, Listener,
    MAX_REASON_LEN, OnDisconnect, PeerIdentity, RecvStream, Registry, Result, SendStream, Stream,
    Transport, UnixCredentials, Wire,
};
#[cfg(feature = "inproc")]
pub use pipe_inproc as inproc;
#[cfg(feature = "quic")]
pub use pipe_quic as quic;
#[cfg(feature = "tcp")]
pub use pipe_tcp as tcp;
#[cfg(feature = "tls")]
pub use pipe_tcp::tls;
#[cfg(all(unix, feature = "unix"))]
pub use pipe_unix as unix;
#[cfg(feature = "webrtc")]
pub use pipe_webrtc as webrtc;

pub mod prelude;

/// Connects to the listener at `addr`, over the transport that its scheme names.
///
/// It goes through the [default registry](registry). A program with settings of its own builds a
/// [`Registry`] and dials through that.
///
/// # Errors
///
/// Those of [`Transport::dial`], and [`AddrInvalid`](ErrorKind::AddrInvalid) when `addr` is no
/// address.
///
/// # Cancel safety
///
/// Dropping the future ends the attempt and leaves nothing behind.
///
/// # Examples
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// use pipewerks::prelude::*;
///
/// let listener = pipewerks::listen("inproc://greeter").await?;
/// let conn = pipewerks::dial("inproc://greeter").await?;
/// assert_eq!(conn.remote_addr(), listener.local_addr());
/// # Ok::<(), pipewerks::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub async fn dial<A>(addr: A) -> Result<BoxConn>
where
    A: TryInto<Addr>,
    A::Error: Into<Error>,
{
    let addr = addr.try_into().map_err(Into::into)?;
    registry().dial(&addr).await
}

/// Listens on `addr`, over the transport that its scheme names.
///
/// It goes through the [default registry](registry). [`Listener::local_addr`] of what it returns can
/// be dialed as it is.
///
/// # Errors
///
/// Those of [`Transport::listen`], and [`AddrInvalid`](ErrorKind::AddrInvalid) when `addr` is no
/// address.
///
/// # Cancel safety
///
/// Dropping the future leaves nothing bound.
pub async fn listen<A>(addr: A) -> Result<BoxListener>
where
    A: TryInto<Addr>,
    A::Error: Into<Error>,
{
    let addr = addr.try_into().map_err(Into::into)?;
    registry().listen(&addr).await
}

/// The registry behind [`dial`] and [`listen`]: every transport among the enabled features, with its
/// default settings.
pub fn registry() -> &'static Registry {
    static DEFAULT: LazyLock<Registry> = LazyLock::new(|| {
        let registry = Registry::new();
        #[cfg(feature = "inproc")]
        let registry = registry.with(inproc::InprocTransport::new());
        #[cfg(feature = "tcp")]
        let registry = registry.with(tcp::TcpTransport::new());
        #[cfg(feature = "tls")]
        let registry = registry.with(tls::TlsTransport::new());
        #[cfg(all(unix, feature = "unix"))]
        let registry = registry.with(unix::UnixTransport::new());
        #[cfg(feature = "quic")]
        let registry = registry.with(quic::QuicTransport::new());
        #[cfg(feature = "webrtc")]
        let registry = {
            let signaling = registry.clone();
            registry.with(webrtc::WebRtcTransport::new(signaling))
        };
        registry
    });
    &DEFAULT
}
