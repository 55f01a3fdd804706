use std::future::pending;
use std::io;
use std::time::Duration;

use bytes::BytesMut;
use pipe_core::backend::{DriverGuard, HandshakeQueue, SessionConn};
use pipe_core::{CloseReason, Error, ErrorKind, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::{sleep_until, timeout};

use crate::sockets::{Conn, Sockets};

/// How long the last frames may take, and the peer's end behind them.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

// ANCHOR: driver
/// Serves the control socket of a connection.
pub(crate) struct Driver {
    conn: Conn,
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
    input: BytesMut,
    output: BytesMut,
    /// Accepts the sockets of streams, where the peer has dialed.
    sockets: Option<HandshakeQueue<()>>,
    _guard: DriverGuard<Sockets>,
}

impl Driver {
    pub(crate) fn new(conn: Conn, control: TcpStream, sockets: Option<HandshakeQueue<()>>) -> Self {
        let (reader, writer) = control.into_split();
        Self {
            _guard: conn.driver_guard(),
            conn,
            reader,
            writer,
            input: BytesMut::new(),
            output: BytesMut::new(),
            sockets,
        }
    }

    /// Waits for the peer's hello.
    pub(crate) async fn greet(&mut self) -> Result<()> {
        while !self.conn.is_greeted() {
            self.step().await?;
        }
        Ok(())
    }

    pub(crate) async fn run(mut self) {
        while self.conn.status.check().is_ok() {
            if let Err(error) = self.step().await {
                self.conn.end(&CloseReason::Failed(error));
            }
        }
        if !matches!(self.conn.status.reason(), Some(CloseReason::Failed(_))) {
            let _ = timeout(CLOSE_TIMEOUT, self.finish()).await;
        }
    }

    /// Does what comes next. Safe to drop.
    async fn step(&mut self) -> Result<()> {
        let deadline = self.conn.poll_output(&mut self.output)?;
        tokio::select! {
            read = self.reader.read_buf(&mut self.input) => match read.map_err(lost)? {
                0 => return Err(lost(io::ErrorKind::UnexpectedEof.into())),
                _ => self.conn.on_input(&mut self.input)?,
            },
            sent = self.writer.write_buf(&mut self.output), if !self.output.is_empty() => {
                sent.map_err(lost)?;
            }
            () = adopted(&self.sockets) => {}
            () = self.conn.has_output() => {}
            () = sleep_until(deadline) => self.conn.on_timeout(),
        }
        Ok(())
    }

    /// Sends the last frames, and waits for the peer's end: a socket that is closed with unread bytes takes back what
    /// it sent last.
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

/// Makes room in the queue of sockets.
async fn adopted(sockets: &Option<HandshakeQueue<()>>) {
    match sockets {
        Some(sockets) => drop(sockets.accept().await),
        None => pending().await,
    }
}

fn lost(error: io::Error) -> Error {
    let why = format!("the control socket is lost: {error}");
    Error::with_source(ErrorKind::Failed, why, error)
}
// ANCHOR_END: driver
