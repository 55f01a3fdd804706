#![doc = include_str!("../README.md")]

use std::sync::LazyLock;

pub use pipe_core::{
    Addr, Admit, BoxConn, BoxListener, BoxRecvStream, BoxSendStream, BoxStream, BoxTransport,
    CloseReason, Config, Conn, ConnState, ConnStats, Error, ErrorKind, GrowthBudget, Incoming,
    Listener, MAX_REASON_LEN, OnDisconnect, PeerIdentity, RecvStream, Registry, Result, SendStream,
    Stream, Transport, UnixCredentials, Wire,
};
#[cfg(feature = "inproc")]
pub use pipe_inproc as inproc;
#[cfg(feature = "nats")]
pub use pipe_nats as nats;
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
#[cfg(feature = "ws")]
pub use pipe_ws as ws;

pub mod prelude;

/// Connects to the listener at `addr`, over the transport that its scheme names.
///
/// It goes through the [default registry](registry). A program with settings of its own builds a
/// [`Registry`] and dials through that. Of an [address that is a list](Addr#lists), it takes the first that connects: see
/// [`dial_any`].
///
/// # Errors
///
/// Those of [`Transport::dial`], and [`AddrInvalid`](ErrorKind::AddrInvalid) when `addr` is no
/// address. When no address of a list connects, the error names each.
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

/// Connects to the first of several addresses of a peer that can be reached, the preferred one first.
///
/// It is [`dial`] of the [list](Addr::list) of these addresses. They are tried in their order, each 250 ms after the one
/// before, or at once when one has failed (RFC 8305, section 5): so a network that drops UDP costs a quarter of a
/// second, and nothing the next time, since the address that connected is tried first for ten minutes.
/// [`Conn::remote_addr`] tells which one it was. The [registry](Registry#lists-of-addresses) says the rest.
///
/// # Errors
///
/// - [`AddrInvalid`](ErrorKind::AddrInvalid) when one of them is no address, for no address at all, and for more than
///   [`Addr::MAX_LIST`];
/// - when none connects, an error that names each address with its own error. Its kind is that of the one that came
///   furthest: [`Refused`](ErrorKind::Refused) goes before [`TimedOut`](ErrorKind::TimedOut), say.
///
/// # Cancel safety
///
/// Dropping the future ends all attempts and leaves nothing behind.
///
/// # Examples
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// use pipewerks::prelude::*;
///
/// let listener = pipewerks::listen("inproc://second").await?;
/// let conn = pipewerks::dial_any(["inproc://first", "inproc://second"]).await?;
/// assert_eq!(conn.remote_addr(), listener.local_addr());
/// let conn = pipewerks::dial("inproc://first,inproc://second").await?; // the same as text
/// assert_eq!(conn.remote_addr(), listener.local_addr());
/// # Ok::<(), pipewerks::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub async fn dial_any<I>(addrs: I) -> Result<BoxConn>
where
    I: IntoIterator,
    I::Item: TryInto<Addr>,
    <I::Item as TryInto<Addr>>::Error: Into<Error>,
{
    let list = Addr::list(addrs)?;
    registry().dial(&list).await
}

/// Listens on `addr`, over the transport that its scheme names.
///
/// It goes through the [default registry](registry). [`Listener::local_addr`] of what it returns can
/// be dialed as it is. On an [address that is a list](Addr#lists), it listens on all of it: see [`listen_all`].
///
/// # Errors
///
/// Those of [`Transport::listen`], and [`AddrInvalid`](ErrorKind::AddrInvalid) when `addr` is no
/// address. Of a list, the error names the address that failed.
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

/// Listens on several addresses at once, as one listener.
///
/// It is [`listen`] on the [list](Addr::list) of these addresses. [`accept`](Listener::accept) takes the connections that
/// come over any of them, in turn, so that one that is flooded does not starve the others.
/// [`local_addr`](Listener::local_addr) is the list of their addresses, and can be dialed as it is.
///
/// A peer that [dials a list](dial_any) may get through to two addresses at the same time. It keeps one connection, and the
/// other is closed at once, with code 0 and no reason: a server sees a peer that leaves before it opens a stream.
///
/// When one of the listeners ends by itself, `accept` gives an error of kind [`Failed`](ErrorKind::Failed) once, and the
/// others go on. When the last one has ended, each `accept` gives its error.
///
/// # Errors
///
/// - [`AddrInvalid`](ErrorKind::AddrInvalid) when one of them is no address, for no address at all, and for more than
///   [`Addr::MAX_LIST`];
/// - those of [`Transport::listen`], naming the address that failed. None is bound then.
///
/// # Cancel safety
///
/// Dropping the future leaves nothing bound.
///
/// # Examples
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// use pipewerks::prelude::*;
///
/// let listener = pipewerks::listen_all(["inproc://one", "inproc://two"]).await?;
/// assert_eq!(listener.local_addr().to_string(), "inproc://one,inproc://two");
/// for addr in ["inproc://one", "inproc://two"] {
///     let (conn, accepted) = tokio::try_join!(pipewerks::dial(addr), listener.accept())?;
///     assert_eq!(accepted.local_addr(), conn.remote_addr());
/// }
/// # Ok::<(), pipewerks::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub async fn listen_all<I>(addrs: I) -> Result<BoxListener>
where
    I: IntoIterator,
    I::Item: TryInto<Addr>,
    <I::Item as TryInto<Addr>>::Error: Into<Error>,
{
    let list = Addr::list(addrs)?;
    registry().listen(&list).await
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
        #[cfg(feature = "ws")]
        let registry = registry.with(ws::WsTransport::new());
        #[cfg(feature = "nats")]
        let registry = registry.with(nats::NatsTransport::new());
        #[cfg(all(unix, feature = "unix"))]
        let registry = registry.with(unix::UnixTransport::new());
        #[cfg(feature = "quic")]
        let registry = registry
            .with(quic::QuicTransport::new())
            .with(quic::WtTransport::new());
        #[cfg(feature = "webrtc")]
        let registry = {
            let signaling = registry.clone();
            registry.with(webrtc::WebRtcTransport::new(signaling))
        };
        #[cfg(feature = "whip")]
        let registry = registry.with(webrtc::WhipTransport::new());
        registry
    });
    &DEFAULT
}
