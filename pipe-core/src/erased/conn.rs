use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

use crate::{Addr, BoxStream, CloseReason, Conn, ConnState, ConnStats, PeerIdentity, Result};

/// Any [`Conn`], chosen at run time. Clones are cheap and stand for the same connection.
#[derive(Clone)]
pub struct BoxConn(Arc<dyn DynConn>);

#[async_trait]
trait DynConn: Send + Sync {
    async fn open_stream(&self) -> Result<BoxStream>;
    async fn accept_stream(&self) -> Result<BoxStream>;
    async fn ping(&self) -> Result<Duration>;
    fn state(&self) -> watch::Receiver<ConnState>;
    fn stats(&self) -> ConnStats;
    async fn drain(&self) -> Result<()>;
    fn close(&self, code: u32, reason: &str);
    async fn closed(&self) -> CloseReason;
    fn local_addr(&self) -> Addr;
    fn remote_addr(&self) -> Addr;
    fn peer_identity(&self) -> Option<PeerIdentity>;
    fn as_any(&self) -> &dyn Any;
}

#[async_trait]
impl<C: Conn> DynConn for C {
    async fn open_stream(&self) -> Result<BoxStream> {
        Conn::open_stream(self).await.map(BoxStream::new)
    }

    async fn accept_stream(&self) -> Result<BoxStream> {
        Conn::accept_stream(self).await.map(BoxStream::new)
    }

    async fn ping(&self) -> Result<Duration> {
        Conn::ping(self).await
    }

    fn state(&self) -> watch::Receiver<ConnState> {
        Conn::state(self)
    }

    fn stats(&self) -> ConnStats {
        Conn::stats(self)
    }

    async fn drain(&self) -> Result<()> {
        Conn::drain(self).await
    }

    fn close(&self, code: u32, reason: &str) {
        Conn::close(self, code, reason);
    }

    async fn closed(&self) -> CloseReason {
        Conn::closed(self).await
    }

    fn local_addr(&self) -> Addr {
        Conn::local_addr(self)
    }

    fn remote_addr(&self) -> Addr {
        Conn::remote_addr(self)
    }

    fn peer_identity(&self) -> Option<PeerIdentity> {
        Conn::peer_identity(self)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl BoxConn {
    /// Erases the type of a connection.
    pub fn new(conn: impl Conn) -> Self {
        super::already(conn).unwrap_or_else(|conn| Self(Arc::new(conn)))
    }

    /// Returns the connection inside, if it is a `C`: the way to methods of one transport.
    pub fn downcast_ref<C: Conn>(&self) -> Option<&C> {
        self.0.as_any().downcast_ref()
    }
}

impl Conn for BoxConn {
    type Stream = BoxStream;

    async fn open_stream(&self) -> Result<BoxStream> {
        self.0.open_stream().await
    }

    async fn accept_stream(&self) -> Result<BoxStream> {
        self.0.accept_stream().await
    }

    async fn ping(&self) -> Result<Duration> {
        self.0.ping().await
    }

    fn state(&self) -> watch::Receiver<ConnState> {
        self.0.state()
    }

    fn stats(&self) -> ConnStats {
        self.0.stats()
    }

    async fn drain(&self) -> Result<()> {
        self.0.drain().await
    }

    fn close(&self, code: u32, reason: &str) {
        self.0.close(code, reason);
    }

    async fn closed(&self) -> CloseReason {
        self.0.closed().await
    }

    fn local_addr(&self) -> Addr {
        self.0.local_addr()
    }

    fn remote_addr(&self) -> Addr {
        self.0.remote_addr()
    }

    fn peer_identity(&self) -> Option<PeerIdentity> {
        self.0.peer_identity()
    }
}

impl fmt::Debug for BoxConn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoxConn")
            .field("local_addr", &self.0.local_addr())
            .field("remote_addr", &self.0.remote_addr())
            .finish()
    }
}
