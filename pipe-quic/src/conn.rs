use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use pipe_core::backend::fmt_conn;
use pipe_core::{
    Addr, CloseReason, Conn, ConnState, ConnStats, Error, ErrorKind, PeerIdentity, Result,
};
use tokio::sync::watch;

use crate::early_data::EarlyData;
use crate::handle::Handle;
use crate::shared::Shared;
use crate::stream::QuicStream;

/// A connection over QUIC.
#[derive(Clone)]
pub struct QuicConn(Arc<Handle>);

impl QuicConn {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self(Arc::new(Handle(shared)))
    }

    /// Returns quinn's connection, to look at: its path, its statistics, keying material. Opening
    /// or accepting its streams breaks the connection.
    pub fn quinn(&self) -> &quinn::Connection {
        &self.shared().quinn
    }

    /// Returns quinn's endpoint under the connection, which may have others: to see its socket's
    /// address, or to move to another socket ([`rebind`](quinn::Endpoint::rebind)), which
    /// connections survive. None once the connection is over.
    pub fn endpoint(&self) -> Option<quinn::Endpoint> {
        self.shared().endpoint()
    }

    /// Returns whether the connection was used before its handshake was over, and whether that is
    /// over by now.
    pub fn early_data(&self) -> EarlyData {
        self.shared().early()
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
        let shared = self.shared();
        loop {
            let news = shared.idle.notified();
            if shared.early() != EarlyData::Pending {
                return Ok(());
            }
            shared.status.check()?;
            news.await;
        }
    }

    fn shared(&self) -> &Shared {
        &self.0.0
    }
}

impl Conn for QuicConn {
    type Stream = QuicStream;

    async fn open_stream(&self) -> Result<QuicStream> {
        let shared = self.shared();
        let Some(slot) = shared.slots.acquire().await else {
            shared.check_open()?;
            return Err(Error::new(ErrorKind::Closed, "no more streams"));
        };
        let opened = match shared.quinn.open_bi().now_or_never() {
            Some(opened) => opened,
            None => tokio::select! {
                biased;
                _ = shared.status.ended() => return Err(shared.error()),
                opened = shared.quinn.open_bi() => opened,
            },
        };
        let pair = opened.map_err(|error| shared.lost(&error))?;
        let (core, recv) = shared.insert_opened(pair, slot)?;
        Ok(QuicStream::opened(core, recv, self.0.clone()))
    }

    async fn accept_stream(&self) -> Result<QuicStream> {
        let (pair, core) = self.shared().accept().await?;
        Ok(QuicStream::accepted(pair, core, self.0.clone()))
    }

    async fn ping(&self) -> Result<Duration> {
        self.shared().ping().await
    }

    fn state(&self) -> watch::Receiver<ConnState> {
        self.shared().status.watch()
    }

    fn stats(&self) -> ConnStats {
        self.shared().stats()
    }

    async fn drain(&self) -> Result<()> {
        let shared = self.shared();
        if shared.status.reason().is_none() {
            shared.announce_drain();
        }
        let (is_drained, ended_idle) = (|| shared.is_drained(), || shared.ended_idle());
        let close = || shared.close(0, "");
        let (status, idle) = (&shared.status, &shared.idle);
        let drained = status.drained(idle, is_drained, close, ended_idle);
        drained.await?;
        if let Some(CloseReason::Local { .. }) = shared.status.reason() {
            // A program that ends right after a drain would not send its close. The driver bounds the wait.
            shared.quinn.closed().await;
        }
        Ok(())
    }

    fn close(&self, code: u32, reason: &str) {
        self.shared().close(code, reason);
    }

    async fn closed(&self) -> CloseReason {
        self.shared().status.ended().await.clone()
    }

    fn local_addr(&self) -> Addr {
        self.shared().local_addr()
    }

    fn remote_addr(&self) -> Addr {
        self.shared().remote_addr()
    }

    fn peer_identity(&self) -> Option<PeerIdentity> {
        self.shared().identity()
    }
}

impl fmt::Debug for QuicConn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt_conn("QuicConn", self, f)
    }
}
