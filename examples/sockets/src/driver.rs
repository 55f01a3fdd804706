use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use pipe_core::backend::{Admission, HandshakeQueue};
use pipe_core::{CloseReason, Error, ErrorKind, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep_until, timeout};

use crate::acceptor::{Acceptor, Upgrade};
use crate::conn_inner::ConnInner;
use crate::stream_ref::StreamRef;

/// How long the last frames may take, and the peer's end behind them.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

// ANCHOR: driver
/// The task that serves the control socket of a connection.
pub(crate) struct Driver {
    conn: Arc<ConnInner>,
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
    input: BytesMut,
    output: BytesMut,
    /// The sockets of streams, where the peer has dialed.
    sockets: Option<HandshakeQueue<(StreamRef, TcpStream)>>,
}

impl Driver {
    /// Waits for the peer's hello.
    pub(crate) async fn greet(&mut self) -> Result<()> {
        while self.conn.lock().session.peer().is_none() {
            self.step().await?;
        }
        Ok(())
    }

    pub(crate) async fn run(mut self) {
        while self.conn.status.reason().is_none() {
            if let Err(error) = self.step().await {
                self.conn.end(CloseReason::Failed(error));
            }
        }
        if !matches!(self.conn.status.reason(), Some(CloseReason::Failed(_))) {
            let _ = timeout(CLOSE_TIMEOUT, self.finish()).await;
        }
    }

    /// Does what is next. Safe to drop.
    async fn step(&mut self) -> Result<()> {
        let deadline = self.conn.poll_output(&mut self.output)?;
        tokio::select! {
            read = self.reader.read_buf(&mut self.input) => {
                if read.map_err(lost)? == 0 {
                    return Err(lost(io::ErrorKind::UnexpectedEof.into()));
                }
                self.conn.on_input(&mut self.input)?;
            }
            sent = self.writer.write_buf(&mut self.output), if !self.output.is_empty() => {
                sent.map_err(lost)?;
            }
            accepted = next(&self.sockets) => {
                if let Ok((stream, socket)) = accepted {
                    stream.attach(socket);
                }
            }
            () = self.conn.work.notified() => {}
            () = sleep_until(deadline) => self.conn.on_timeout(),
        }
        Ok(())
    }

    /// Sends the last frames, and waits for the peer's end: a socket that is closed with unread bytes discards what it
    /// sent last.
    async fn finish(&mut self) -> Result<()> {
        while self.conn.poll_output(&mut self.output).is_ok() && !self.output.is_empty() {
            self.writer.write_all_buf(&mut self.output).await?;
        }
        self.writer.shutdown().await?;
        while self.reader.read_buf(&mut self.input).await? > 0 {
            self.input.clear();
        }
        Ok(())
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // Without the driver all that waits would wait for ever: its runtime is gone, or it has panicked.
        let why = "the task that drives the connection has stopped";
        let stopped = Error::new(ErrorKind::Failed, why);
        self.conn.end(CloseReason::Failed(stopped));
        self.conn.left.close();
    }
}
// ANCHOR_END: driver

// ANCHOR: sockets
impl Driver {
    /// Creates the driver of a connection, whose streams come to the listener.
    pub(crate) fn new(
        conn: Arc<ConnInner>,
        control: TcpStream,
        listener: Option<TcpListener>,
    ) -> Self {
        let sockets = listener.map(|listener| {
            let acceptor = Arc::new(Acceptor::new(listener, StreamUpgrade(conn.clone())));
            let (addr, admission) = (conn.addrs[0].clone(), Admission::default());
            HandshakeQueue::spawn(acceptor, addr, &conn.config, admission)
        });
        let (reader, writer) = control.into_split();
        Self {
            conn,
            reader,
            writer,
            input: BytesMut::new(),
            output: BytesMut::new(),
            sockets,
        }
    }
}

struct StreamUpgrade(Arc<ConnInner>);

impl Upgrade for StreamUpgrade {
    type Conn = (StreamRef, TcpStream);

    async fn upgrade(&self, mut socket: TcpStream) -> Result<Self::Conn> {
        let stream = self.0.identify(&mut socket).await?;
        socket.set_zero_linger()?;
        socket.write_u8(0).await?;
        Ok((stream, socket))
    }
}

/// Waits for the next socket of a stream.
async fn next(
    sockets: &Option<HandshakeQueue<(StreamRef, TcpStream)>>,
) -> Result<(StreamRef, TcpStream)> {
    match sockets {
        Some(sockets) => sockets.accept().await,
        None => pending().await,
    }
}
// ANCHOR_END: sockets

fn lost(error: io::Error) -> Error {
    let why = format!("the control socket is lost: {error}");
    Error::with_source(ErrorKind::Failed, why, error)
}
