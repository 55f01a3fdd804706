use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::conn_core::{Binding, ConnCore, ConnRef};
use super::stream::BoundStream;
use crate::backend::fmt_conn;
use crate::{Addr, CloseReason, Conn, ConnState, ConnStats, PeerIdentity, Result};

/// A connection over a session.
pub struct BoundConn<B: Binding>(Arc<ConnRef<B>>);

impl<B: Binding> BoundConn<B> {
    /// Creates the first handle of a connection.
    pub fn new(conn: Arc<ConnCore<B>>) -> Self {
        Self(Arc::new(ConnRef(conn)))
    }

    fn core(&self) -> &Arc<ConnCore<B>> {
        &self.0.0
    }
}

impl<B: Binding> Conn for BoundConn<B> {
    type Stream = BoundStream<B>;

    async fn open_stream(&self) -> Result<BoundStream<B>> {
        let stream = self.core().open().await?;
        Ok(BoundStream::new(stream, self.0.clone()))
    }

    async fn accept_stream(&self) -> Result<BoundStream<B>> {
        let stream = self.core().accept().await?;
        Ok(BoundStream::new(stream, self.0.clone()))
    }

    async fn ping(&self) -> Result<Duration> {
        self.core().ping().await
    }

    fn state(&self) -> watch::Receiver<ConnState> {
        self.core().status.watch()
    }

    fn stats(&self) -> ConnStats {
        self.core().stats()
    }

    async fn drain(&self) -> Result<()> {
        self.core().drain().await
    }

    fn close(&self, code: u32, reason: &str) {
        self.core().end(CloseReason::local(code, reason));
    }

    async fn closed(&self) -> CloseReason {
        self.core().status.ended().await.clone()
    }

    fn local_addr(&self) -> Addr {
        self.core().addrs[0].clone()
    }

    fn remote_addr(&self) -> Addr {
        self.core().addrs[1].clone()
    }

    fn peer_identity(&self) -> Option<PeerIdentity> {
        None
    }
}

impl<B: Binding> Clone for BoundConn<B> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<B: Binding> fmt::Debug for BoundConn<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt_conn("BoundConn", self, f)
    }
}
