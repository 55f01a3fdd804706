use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use pipe_core::backend::{fmt_conn, random_ping};
use pipe_core::{
    Addr, CloseReason, Config, Conn, ConnState, ConnStats, Error, ErrorKind, PeerIdentity, Result,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::conn_inner::{ConnInner, StreamPort};
use crate::driver::Driver;
use crate::stream::SocketsStream;

/// The first bytes of a control socket.
const MAGIC: &[u8; 9] = b"sockets/1";

/// A connection: one control socket, and a socket for each stream.
#[derive(Clone)]
pub struct SocketsConn(Arc<ConnRef>);

/// A reference that the handles and streams of a connection share: dropping the last one closes it.
pub(crate) struct ConnRef(Arc<ConnInner>);

impl Deref for ConnRef {
    type Target = Arc<ConnInner>;

    fn deref(&self) -> &Arc<ConnInner> {
        &self.0
    }
}

impl Drop for ConnRef {
    fn drop(&mut self) {
        self.end(CloseReason::local(0, ""));
    }
}

impl SocketsConn {
    // ANCHOR: handshake
    /// Connects over a socket as the side that dialed.
    pub(crate) async fn dial(mut socket: TcpStream, config: &Config) -> Result<Self> {
        socket.set_nodelay(true)?;
        socket.write_all(MAGIC).await?;
        let mut at = socket.peer_addr()?;
        at.set_port(socket.read_u16().await?);
        let mut token = [0; 16];
        socket.read_exact(&mut token).await?;
        Self::start(socket, config, StreamPort { at, token }, None).await
    }

    /// Connects over a socket as the side that listens.
    pub(crate) async fn accept(mut socket: TcpStream, config: &Config) -> Result<Self> {
        let mut magic = [0; MAGIC.len()];
        socket.read_exact(&mut magic).await?;
        if magic != *MAGIC {
            let why = "the peer does not speak sockets/1";
            return Err(Error::new(ErrorKind::Handshake, why));
        }
        let mut at = socket.local_addr()?;
        at.set_port(0);
        let listener = TcpListener::bind(at).await?;
        let at = listener.local_addr()?;
        let mut token = [0; 16];
        token.copy_from_slice(&random_ping()?[..16]);
        socket.write_u16(at.port()).await?;
        socket.write_all(&token).await?;
        Self::start(socket, config, StreamPort { at, token }, Some(listener)).await
    }

    async fn start(
        socket: TcpStream,
        config: &Config,
        port: StreamPort,
        listener: Option<TcpListener>,
    ) -> Result<Self> {
        let (local, remote) = (socket.local_addr()?, socket.peer_addr()?);
        let conn = ConnInner::new(config, [local, remote], port, listener.is_none())?;
        let mut driver = Driver::new(conn.clone(), socket, listener);
        driver.greet().await?;
        tokio::spawn(driver.run());
        Ok(Self(Arc::new(ConnRef(conn))))
    }
    // ANCHOR_END: handshake
}

// ANCHOR: conn
impl Conn for SocketsConn {
    type Stream = SocketsStream;

    async fn open_stream(&self) -> Result<SocketsStream> {
        let stream = self.0.open().await?;
        Ok(SocketsStream::new(stream, self.0.clone()))
    }

    async fn accept_stream(&self) -> Result<SocketsStream> {
        let stream = self.0.status.accept(&self.0.backlog).await?;
        self.0.on_accepted(&stream);
        Ok(SocketsStream::new(stream, self.0.clone()))
    }

    async fn ping(&self) -> Result<Duration> {
        self.0.ping().await
    }

    fn state(&self) -> watch::Receiver<ConnState> {
        self.0.status.watch()
    }

    fn stats(&self) -> ConnStats {
        self.0.lock().session.totals().into()
    }

    async fn drain(&self) -> Result<()> {
        let conn = &*self.0;
        conn.drain();
        let (is_drained, ended_idle) = (
            || conn.lock().session.is_drained(),
            || conn.lock().session.ended_idle(),
        );
        let close = || conn.end(CloseReason::local(0, ""));
        let drained = conn
            .status
            .drained(&conn.idle, is_drained, close, ended_idle);
        drained.await?;
        // There are no permits: this waits until the driver has said the last, so that a program may end.
        let _ = conn.left.acquire().await;
        Ok(())
    }

    fn close(&self, code: u32, reason: &str) {
        self.0.end(CloseReason::local(code, reason));
    }

    async fn closed(&self) -> CloseReason {
        self.0.status.ended().await.clone()
    }

    fn local_addr(&self) -> Addr {
        self.0.addrs[0].clone()
    }

    fn remote_addr(&self) -> Addr {
        self.0.addrs[1].clone()
    }

    fn peer_identity(&self) -> Option<PeerIdentity> {
        None
    }
}
// ANCHOR_END: conn

impl fmt::Debug for SocketsConn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt_conn("SocketsConn", self, f)
    }
}
