use std::future::Future;

use crate::{Addr, Conn, Result};

/// Dials addresses of its schemes, and listens on them.
///
/// A transport is cheap to share behind an `Arc` and holds the settings of its connections. They
/// keep the [contract](crate#the-contract), the same for every transport.
///
/// An implementation may write `async fn` for the methods that return a future; the future has to
/// be `Send`, so that generic code can spawn it.
pub trait Transport: Send + Sync + 'static {
    /// The connections that this transport makes, on both sides.
    type Conn: Conn;
    /// Listener of this transport.
    type Listener: Listener<Conn = Self::Conn>;

    /// Returns the address schemes that this transport serves, such as `["tcp", "tls"]`.
    fn schemes(&self) -> &[&'static str];

    /// Connects to the listener at `addr`.
    ///
    /// Returns once the connection can carry streams: names are resolved and handshakes are over.
    ///
    /// # Errors
    ///
    /// - [`AddrUnsupported`](crate::ErrorKind::AddrUnsupported) for a scheme that is not among
    ///   [`schemes`](Self::schemes), and [`AddrInvalid`](crate::ErrorKind::AddrInvalid) for an
    ///   address that makes no sense to this transport, both before any I/O;
    /// - [`Refused`](crate::ErrorKind::Refused) where no listener is,
    ///   [`Unreachable`](crate::ErrorKind::Unreachable) where no path leads,
    ///   [`TimedOut`](crate::ErrorKind::TimedOut) after
    ///   [`Config::handshake_timeout`](crate::Config::handshake_timeout);
    /// - [`Handshake`](crate::ErrorKind::Handshake) or
    ///   [`Unauthenticated`](crate::ErrorKind::Unauthenticated) when the peer speaks something else
    ///   or has another identity.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the attempt and leaves nothing behind.
    fn dial(&self, addr: &Addr) -> impl Future<Output = Result<Self::Conn>> + Send;

    /// Starts to listen on `addr`.
    ///
    /// Where the address leaves a choice (port 0, no name), the transport makes it, and
    /// [`Listener::local_addr`] returns the outcome.
    ///
    /// # Errors
    ///
    /// [`AddrInUse`](crate::ErrorKind::AddrInUse) when a listener is there already;
    /// [`AddrUnsupported`](crate::ErrorKind::AddrUnsupported) and
    /// [`AddrInvalid`](crate::ErrorKind::AddrInvalid) as in [`dial`](Self::dial).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves nothing bound.
    fn listen(&self, addr: &Addr) -> impl Future<Output = Result<Self::Listener>> + Send;
}

/// Accepts the connections of a transport.
///
/// Dropping a listener closes it.
pub trait Listener: Send + Sync + 'static {
    /// The connections that this listener accepts.
    type Conn: Conn;

    /// Waits for the next connection.
    ///
    /// Handshakes run concurrently in the background, so a peer that stalls or fails in its own
    /// neither delays others nor ends the listener. Any number of tasks may accept at once; each
    /// connection goes to one of them.
    ///
    /// # Errors
    ///
    /// [`Closed`](crate::ErrorKind::Closed) once the listener is closed: at once, also for calls
    /// that were waiting.
    ///
    /// # Cancel safety
    ///
    /// A connection is never lost: the next call returns the one that a dropped call would have returned.
    fn accept(&self) -> impl Future<Output = Result<Self::Conn>> + Send;

    /// Returns the address of this listener, complete: it can be dialed as it is.
    fn local_addr(&self) -> Addr;

    /// Stops listening and frees the address.
    ///
    /// Calls of [`accept`](Self::accept) end with `Closed`, new dials are refused, connections that
    /// wait to be accepted are closed, and accepted ones live on. Closing again has no effect.
    fn close(&self);
}
