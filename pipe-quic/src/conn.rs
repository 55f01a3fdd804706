use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use pipe_core::backend::fmt_conn;
use pipe_core::{
    Addr, CloseReason, Conn, ConnState, ConnStats, Error, ErrorKind, PeerIdentity, Result,
};
use tokio::sync::watch;

use crate::conn_inner::ConnInner;
use crate::early_data::EarlyData;
use crate::handle::Handle;
use crate::stream::QuicStream;

/// A connection over QUIC.
#[derive(Clone)]
pub struct QuicConn(Arc<Handle>);

impl QuicConn {
    pub(crate) fn new(inner: Arc<ConnInner>) -> Self {
        Self(Arc::new(Handle(inner)))
    }

    /// Returns quinn's connection, to look at: its path, its statistics, keying material. Opening
    /// or accepting its streams breaks the connection.
    pub fn quinn(&self) -> &quinn::Connection {
        &self.inner().quinn
    }

    /// Returns quinn's endpoint under the connection, which may have others: to see its socket's
    /// address, or to move to another socket ([`rebind`](quinn::Endpoint::rebind)), which
    /// connections survive. None once the connection is over.
    pub fn endpoint(&self) -> Option<quinn::Endpoint> {
        self.inner().ends.endpoint.lock().clone()
    }

    /// Returns whether the connection was used before its handshake was over, and whether that is
    /// over by now.
    pub fn early_data(&self) -> EarlyData {
        self.inner().early()
    }

    /// Waits until the handshake is over at this side: from then on
    /// [`early_data`](Self::early_data) is not [`Pending`](EarlyData::Pending). Returns at once
    /// where early data was not used.
    ///
    /// A listener calls it before it performs an action for a stream that must not be repeated.
    /// Safe to cancel.
    ///
    /// # Errors
    ///
    /// The error that the connection ended with before: [`Refused`](ErrorKind::Refused) when the
    /// listener has not accepted the early data.
    pub async fn confirmed(&self) -> Result<()> {
        let conn = self.inner();
        loop {
            let news = conn.idle.notified();
            if conn.early() != EarlyData::Pending {
                return Ok(());
            }
            conn.status.check()?;
            news.await;
        }
    }

    fn inner(&self) -> &ConnInner {
        &self.0.0
    }
}

impl Conn for QuicConn {
    type Stream = QuicStream;

    async fn open_stream(&self) -> Result<QuicStream> {
        let conn = self.inner();
        let Some(slot) = conn.slots.acquire().await else {
            conn.check_open()?;
            return Err(Error::new(ErrorKind::Closed, "no more streams"));
        };
        let opened = match conn.quinn.open_bi().now_or_never() {
            Some(opened) => opened,
            None => tokio::select! {
                biased;
                _ = conn.status.ended() => return Err(conn.error()),
                opened = conn.quinn.open_bi() => opened,
            },
        };
        let pair = opened.map_err(|error| conn.lost(&error))?;
        let stream = conn.open(pair, slot)?;
        Ok(QuicStream::new(stream, self.0.clone()))
    }

    async fn accept_stream(&self) -> Result<QuicStream> {
        let stream = self.inner().accept().await?;
        Ok(QuicStream::new(stream, self.0.clone()))
    }

    async fn ping(&self) -> Result<Duration> {
        self.inner().ping().await
    }

    fn state(&self) -> watch::Receiver<ConnState> {
        self.inner().status.watch()
    }

    fn stats(&self) -> ConnStats {
        self.inner().stats()
    }

    async fn drain(&self) -> Result<()> {
        let conn = self.inner();
        if conn.status.reason().is_none() {
            conn.drain();
        }
        let (is_drained, ended_idle) = (|| conn.is_drained(), || conn.ended_idle());
        let close = || conn.close(0, "");
        let (status, idle) = (&conn.status, &conn.idle);
        let drained = status.drained(idle, is_drained, close, ended_idle);
        drained.await?;
        if let Some(CloseReason::Local { .. }) = conn.status.reason() {
            // A program that ends right after a drain would not send its close. The driver bounds the wait.
            conn.quinn.closed().await;
        }
        Ok(())
    }

    fn close(&self, code: u32, reason: &str) {
        self.inner().close(code, reason);
    }

    async fn closed(&self) -> CloseReason {
        self.inner().status.ended().await.clone()
    }

    fn local_addr(&self) -> Addr {
        self.inner().ends.local_addr(&self.inner().quinn)
    }

    fn remote_addr(&self) -> Addr {
        self.inner().ends.remote_addr(&self.inner().quinn)
    }

    fn peer_identity(&self) -> Option<PeerIdentity> {
        self.inner().identity.clone()
    }
}

impl fmt::Debug for QuicConn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt_conn("QuicConn", self, f)
    }
}
