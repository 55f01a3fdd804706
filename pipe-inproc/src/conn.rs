use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use pipe_core::backend::fmt_conn;
use pipe_core::{
    Addr, CloseReason, Conn, ConnState, ConnStats, Error, ErrorKind, PeerIdentity, Result,
};
use tokio::sync::watch;

use crate::conn_core::{ConnCore, NewConn, SideCore};
use crate::handle::Handle;
use crate::link::Link;
use crate::side::{PerSide, Side};
use crate::stream::InprocStream;
use crate::wire::Wire;

/// A connection within this process.
///
/// Its peer has no [identity](Conn::peer_identity): it is the same process. The dialer's address is a
/// name of its own that cannot be dialed; the two ends' addresses mirror each other.
#[derive(Clone)]
pub struct InprocConn(Arc<Handle>);

impl InprocConn {
    /// Makes a connection over this link and returns its two sides.
    pub(crate) fn pair(
        link: &Link,
        addrs: PerSide<Addr>,
        configs: PerSide<pipe_core::Config>,
        runtime: tokio::runtime::Handle,
    ) -> (Self, Self) {
        let conn = link.attach(|condition, number| {
            let wire = Wire::new(condition.profile, condition.up, number);
            ConnCore::new(NewConn {
                addrs,
                configs,
                wire,
                number,
                runtime,
            })
        });
        let handle = |side| {
            Self(Arc::new(Handle {
                conn: conn.clone(),
                side,
                link: link.clone(),
            }))
        };
        (handle(Side::Dialer), handle(Side::Listener))
    }

    /// Returns the link that this connection runs over.
    pub fn link(&self) -> Link {
        self.0.link.clone()
    }

    fn side(&self) -> &SideCore {
        &self.0.conn.sides[self.0.side]
    }
}

impl Conn for InprocConn {
    type Stream = InprocStream;

    async fn open_stream(&self) -> Result<InprocStream> {
        let Handle { conn, side, .. } = &*self.0;
        conn.check_open(*side)?;
        let slot = self.side().slots.acquire().await;
        conn.check_open(*side)?;
        // Slots are closed only when a check above fails too.
        let slot = slot.ok_or_else(|| Error::new(ErrorKind::Closed, "no more streams"))?;
        Ok(InprocStream::new(conn.open(*side, slot)?, self.0.clone()))
    }

    async fn accept_stream(&self) -> Result<InprocStream> {
        let side = self.side();
        let stream = side.status.accept(&side.backlog).await?;
        self.0.conn.accepted(self.0.side, &stream);
        Ok(InprocStream::new(stream, self.0.clone()))
    }

    async fn ping(&self) -> Result<Duration> {
        self.0.conn.ping(self.0.side).await
    }

    fn state(&self) -> watch::Receiver<ConnState> {
        self.side().status.watch()
    }

    fn stats(&self) -> ConnStats {
        self.0.conn.stats(self.0.side)
    }

    async fn drain(&self) -> Result<()> {
        let Handle { conn, side, .. } = &*self.0;
        let status = &self.side().status;
        if status.reason().is_none() {
            conn.announce_drain(*side);
        }
        let (is_drained, ended_idle) = (|| conn.is_drained(*side), || conn.ended_idle());
        let close = || conn.close(*side, 0, "");
        status
            .drained(&conn.idle, is_drained, close, ended_idle)
            .await
    }

    fn close(&self, code: u32, reason: &str) {
        self.0.conn.close(self.0.side, code, reason);
    }

    async fn closed(&self) -> CloseReason {
        self.side().status.ended().await.clone()
    }

    fn local_addr(&self) -> Addr {
        self.side().addr.clone()
    }

    fn remote_addr(&self) -> Addr {
        self.0.conn.sides[self.0.side.other()].addr.clone()
    }

    fn peer_identity(&self) -> Option<PeerIdentity> {
        None
    }
}

impl fmt::Debug for InprocConn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt_conn("InprocConn", self, f)
    }
}
