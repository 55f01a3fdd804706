use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use pipe_core::backend::fmt_conn;
use pipe_core::{
    Addr, CloseReason, Conn, ConnState, ConnStats, Error, ErrorKind, PeerIdentity, Result,
};
use tokio::sync::watch;

use crate::conn_inner::ConnInner;
use crate::conn_ref::ConnRef;
use crate::opening::Opening;
use crate::stream::MuxStream;

/// A connection over one byte stream.
#[derive(Clone)]
pub struct MuxConn(Arc<ConnRef>);

impl MuxConn {
    pub(crate) fn new(inner: Arc<ConnInner>) -> Self {
        Self(Arc::new(ConnRef(inner)))
    }

    /// Returns the object under the connection, if it is a `T`: a `TcpStream` under `tcp://` and
    /// `tls://`, a `UnixStream` under `unix://`. Use it to read and set options; reading, writing
    /// or shutting it down breaks the connection.
    pub fn inner<T: 'static>(&self) -> Option<&T> {
        self.conn().inner_io.as_ref()?.downcast_ref()
    }

    fn conn(&self) -> &ConnInner {
        &self.0.0
    }
}

impl Conn for MuxConn {
    type Stream = MuxStream;

    async fn open_stream(&self) -> Result<MuxStream> {
        let conn = self.conn();
        conn.check_open()?;
        let over = || Error::new(ErrorKind::Closed, "no more streams");
        let Some(slot) = conn.slots.acquire().await else {
            conn.check_open()?;
            return Err(over());
        };
        let stream = match conn.open(slot)? {
            Opening::Done(stream) => stream,
            Opening::Waits(mut wait) => {
                let opened = wait.stream().await;
                opened.ok_or_else(|| conn.error().unwrap_or_else(over))?
            }
        };
        Ok(MuxStream::new(stream, self.0.clone()))
    }

    async fn accept_stream(&self) -> Result<MuxStream> {
        let conn = self.conn();
        let stream = conn.status.accept(&conn.backlog).await?;
        conn.on_accepted(&stream);
        Ok(MuxStream::new(stream, self.0.clone()))
    }

    async fn ping(&self) -> Result<Duration> {
        self.conn().ping().await
    }

    fn state(&self) -> watch::Receiver<ConnState> {
        self.conn().status.watch()
    }

    fn stats(&self) -> ConnStats {
        self.conn().stats()
    }

    async fn drain(&self) -> Result<()> {
        let conn = self.conn();
        if conn.status.reason().is_none() {
            conn.drain();
        }
        let (is_drained, ended_idle) = (|| conn.is_drained(), || conn.ended_idle());
        let close = || conn.close(0, "");
        let (status, idle) = (&conn.status, &conn.idle);
        let drained = status.drained(idle, is_drained, close, ended_idle);
        drained.await?;
        // So that a program may end now. There are no permits: this waits for the close.
        let _ = conn.left.acquire().await;
        Ok(())
    }

    fn close(&self, code: u32, reason: &str) {
        self.conn().close(code, reason);
    }

    async fn closed(&self) -> CloseReason {
        self.conn().status.ended().await.clone()
    }

    fn local_addr(&self) -> Addr {
        self.conn().local_addr.clone()
    }

    fn remote_addr(&self) -> Addr {
        self.conn().remote_addr.clone()
    }

    fn peer_identity(&self) -> Option<PeerIdentity> {
        self.conn().identity.clone()
    }
}

impl fmt::Debug for MuxConn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt_conn("MuxConn", self, f)
    }
}
