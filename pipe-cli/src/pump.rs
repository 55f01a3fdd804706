//! Bytes between a stream and something of this machine, one direction at a time.

use std::future::pending;
use std::io;

use pipewerks::{BoxRecvStream, BoxSendStream, Error, ErrorKind, RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Size of a read, in bytes.
pub(crate) const CHUNK: usize = 64 * 1024;

/// The end of a direction, if not an error.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The source ended, and the end was passed on.
    Clean,
    /// The receiver stopped the stream, with this code.
    Unwanted(u32),
}

/// The error, and the side of the pump where it occurred.
#[derive(Debug)]
pub(crate) enum PumpError {
    /// An error on this machine.
    Local(io::Error),
    /// An error of the stream.
    Stream(Error),
}

/// Copies all bytes to the stream, and then the end. It detects a stop of the receiver also while
/// the source is idle.
pub(crate) async fn into_stream<R>(from: &mut R, to: &mut BoxSendStream) -> Result<Ended, PumpError>
where
    R: AsyncRead + Unpin,
{
    let mut buffer = vec![0; CHUNK];
    loop {
        let read = tokio::select! {
            biased;
            read = from.read(&mut buffer) => read.map_err(PumpError::Local)?,
            code = unwanted(to) => return Ok(Ended::Unwanted(code.map_err(PumpError::Stream)?)),
        };
        let written = match read {
            0 => to.shutdown().await,
            read => to.write_all(&buffer[..read]).await,
        };
        match written.map_err(Error::from) {
            Ok(()) if read == 0 => return Ok(Ended::Clean),
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Stopped => {
                return Ok(Ended::Unwanted(error.code().unwrap_or_default()));
            }
            Err(error) => return Err(PumpError::Stream(error)),
        }
    }
}

/// Passes everything of the stream on, and then the end.
pub(crate) async fn from_stream<W>(from: &mut BoxRecvStream, to: &mut W) -> Result<Ended, PumpError>
where
    W: AsyncWrite + Unpin,
{
    let mut buffer = vec![0; CHUNK];
    loop {
        let read = from.read(&mut buffer).await;
        let read = read.map_err(|error| PumpError::Stream(error.into()))?;
        let written = match read {
            0 => to.shutdown().await,
            read => write(to, &buffer[..read]).await,
        };
        match written {
            Ok(()) if read == 0 => return Ok(Ended::Clean),
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                from.stop(0);
                return Ok(Ended::Unwanted(0));
            }
            Err(error) => return Err(PumpError::Local(error)),
        }
    }
}

async fn write<W: AsyncWrite + Unpin>(to: &mut W, bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes).await?;
    to.flush().await
}

/// Waits until the receiver stops the stream. Pending for ever on a transport that cannot tell.
pub(crate) async fn unwanted(stream: &mut BoxSendStream) -> pipewerks::Result<u32> {
    match stream.stopped().await {
        Ok(Some(code)) => Ok(code),
        Err(error) if error.kind() != ErrorKind::Unsupported => Err(error),
        _ => pending().await,
    }
}
