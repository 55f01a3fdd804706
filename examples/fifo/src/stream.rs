use std::io;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use rustix::io::Errno;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest, ReadBuf};
use tokio::net::unix::pipe::{Receiver, Sender};

use crate::call::Call;
use crate::files::{PairFiles, open_receiver, open_sender};

/// The byte that a listener sends once it has both FIFOs open.
const OPEN: u8 = b'!';

// ANCHOR: stream
/// A byte stream over two FIFOs, one for each direction: what a socket is elsewhere.
#[derive(Debug)]
pub struct FifoStream {
    call: Call,
    recv: Receiver,
    /// None after the shutdown.
    send: Option<Sender>,
}
// ANCHOR_END: stream

impl FifoStream {
    // ANCHOR: connect
    /// Connects to the listener whose FIFO is at the path. Dropping the future leaves nothing behind.
    pub async fn connect(door: &Path) -> io::Result<Self> {
        let call = open_sender(door)?;
        let files = PairFiles::make(door)?;
        // Both ends of both, so that no read looks like the end before the listener is there. All are
        // closed before the files are removed, so a late listener may find files without a dialer.
        let mut recv = open_receiver(&files.down)?;
        let listeners_send = open_sender(&files.down)?;
        let listeners_recv = open_receiver(&files.up)?;
        let send = open_sender(&files.up)?;

        let line = files.call.line();
        loop {
            call.writable().await?;
            match call.try_write(line.as_bytes()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => {
                    written?;
                    break;
                }
            }
        }
        tokio::select! {
            biased;
            byte = recv.read_u8() => {
                if byte? != OPEN {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "its answer is strange"));
                }
            }
            // The pipe breaks when its last reader goes.
            gone = call.ready(Interest::ERROR) => {
                gone?;
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
        }
        drop((listeners_send, listeners_recv));
        Ok(Self {
            call: files.call,
            recv,
            send: Some(send),
        })
    }
    // ANCHOR_END: connect

    // ANCHOR: answer
    /// Answers a call to the listener whose FIFO is at the path.
    pub async fn answer(door: &Path, call: Call) -> io::Result<Self> {
        // From here on the files are not needed, whether this goes well or not.
        let files = PairFiles::of(door, call);
        let recv = open_receiver(&files.up)?;
        if !has_writer(&recv)? {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        let mut send = open_sender(&files.down)?;
        send.write_u8(OPEN).await?;
        Ok(Self {
            call,
            recv,
            send: Some(send),
        })
    }
    // ANCHOR_END: answer

    /// The call that it began with, which tells it from others.
    pub fn call(&self) -> Call {
        self.call
    }
}

// ANCHOR: writer
/// Tells whether the other end of a FIFO is open. A FIFO that had no writer when it was opened does not
/// report the end until one has come and gone (poll(2) knows of no hang-up before), but a read does.
fn has_writer(recv: &Receiver) -> io::Result<bool> {
    match rustix::io::read(recv, &mut [0; 1]) {
        Ok(0) => Ok(false),
        Err(Errno::AGAIN) => Ok(true),
        // A dialer waits for the answer before it sends.
        Ok(_) => Err(io::ErrorKind::InvalidData.into()),
        Err(error) => Err(error.into()),
    }
}
// ANCHOR_END: writer

// ANCHOR: io
impl AsyncRead for FifoStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.recv).poll_read(cx, buf)
    }
}

impl AsyncWrite for FifoStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.send {
            Some(send) => Pin::new(send).poll_write(cx, buf),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// The reader of a FIFO is told of the end when the last writer closes it.
    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.send = None;
        Poll::Ready(Ok(()))
    }
}
// ANCHOR_END: io
