use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use pipe_core::backend::wire::random_ping;
use pipe_core::{
    Addr, CloseReason, Conn, ConnState, ConnStats, Error, ErrorKind, PeerIdentity, Result,
};
use tokio::sync::watch;

use crate::handle::Handle;
use crate::opening::Opening;
use crate::pings;
use crate::shared::Shared;
use crate::stream::MuxStream;
use crate::wire::Wire;

/// A connection over one byte stream.
#[derive(Clone)]
pub struct MuxConn(Arc<Handle>);

impl MuxConn {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self(Arc::new(Handle(shared)))
    }

    /// What is under the connection, if it is a `T`: a `TcpStream` under `tcp://` and `tls://`, a
    /// `UnixStream` under `unix://`. To look at and to set options on; reading, writing or shutting it
    /// down breaks the connection.
    pub fn inner<T: 'static>(&self) -> Option<&T> {
        self.shared().inner_io.as_ref()?.downcast_ref()
    }

    fn shared(&self) -> &Shared {
        &self.0.0
    }
}

impl Conn for MuxConn {
    type Stream = MuxStream;

    async fn open_stream(&self) -> Result<MuxStream> {
        let shared = self.shared();
        shared.check_open()?;
        let slot = shared.slots.acquire().await;
        shared.check_open()?;
        let over = || Error::new(ErrorKind::Closed, "no more streams");
        let slot = slot.ok_or_else(over)?;
        let stream = match shared.open(slot) {
            Opening::Done(stream) => stream,
            Opening::UnderWay(mut wait) => {
                let opened = wait.stream().await;
                opened.ok_or_else(|| shared.status.error().unwrap_or_else(over))?
            }
        };
        Ok(MuxStream::new(stream, self.0.clone()))
    }

    async fn accept_stream(&self) -> Result<MuxStream> {
        let shared = self.shared();
        shared.status.check()?;
        match shared.backlog.pop().await {
            Some(stream) => {
                shared.accept(&stream);
                Ok(MuxStream::new(stream, self.0.clone()))
            }
            None => Err(Error::closed(shared.status.ended().await)),
        }
    }

    async fn ping(&self) -> Result<Duration> {
        let shared = self.shared();
        shared.status.check()?;
        let mut bytes = random_ping()?;
        if shared.wire == Wire::Raw {
            // The ping of yamux carries less.
            let value = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            bytes = pings::from_value(value);
        }
        let measured = shared.pings.measure(bytes, |bytes| shared.send_ping(bytes));
        measured.await.ok_or_else(|| {
            let ended = shared.status.error();
            ended.unwrap_or_else(|| Error::new(ErrorKind::Failed, "no answer came"))
        })
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
        loop {
            let news = shared.idle.notified();
            match shared.status.reason() {
                None if shared.is_drained() => shared.close(0, ""),
                None => news.await,
                Some(reason) if reason.code() == Some(0) && shared.ended_idle() => {
                    // So that a program may end now. There are no permits: this waits for the close.
                    let _ = shared.left.acquire().await;
                    return Ok(());
                }
                Some(reason) => return Err(Error::closed(reason)),
            }
        }
    }

    fn close(&self, code: u32, reason: &str) {
        self.shared().close(code, reason);
    }

    async fn closed(&self) -> CloseReason {
        self.shared().status.ended().await.clone()
    }

    fn local_addr(&self) -> Addr {
        self.shared().local_addr.clone()
    }

    fn remote_addr(&self) -> Addr {
        self.shared().remote_addr.clone()
    }

    fn peer_identity(&self) -> Option<PeerIdentity> {
        self.shared().identity.clone()
    }
}

impl fmt::Debug for MuxConn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MuxConn")
            .field("local_addr", &self.local_addr())
            .field("remote_addr", &self.remote_addr())
            .field("state", &self.shared().status.state())
            .finish_non_exhaustive()
    }
}
