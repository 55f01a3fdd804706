//! A byte stream that takes whatever is written to it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

use crate::frames::{Frames, empty_credit};

/// A socket behind a queue without a bound.
pub(crate) struct Queue {
    socket: OwnedReadHalf,
    queue: Option<UnboundedSender<Vec<u8>>>,
    /// None once it was seen to have ended.
    writer: Option<JoinHandle<()>>,
    /// Where each frame that comes is credited by itself.
    credits: Option<Credits>,
}

#[derive(Default)]
struct Credits {
    incoming: Frames,
    outgoing: Frames,
    /// They wait for the end of a frame that is written in pieces.
    waiting: Vec<u32>,
}

impl Queue {
    pub(crate) fn new(socket: TcpStream, credits: bool) -> Self {
        let (socket, output) = socket.into_split();
        let (queue, queued) = unbounded_channel();
        Self {
            socket,
            queue: Some(queue),
            writer: Some(tokio::spawn(write(output, queued))),
            credits: credits.then(Credits::default),
        }
    }

    fn push(&self, bytes: Vec<u8>) -> io::Result<()> {
        let queue = self.queue.as_ref().ok_or(io::ErrorKind::BrokenPipe)?;
        queue
            .send(bytes)
            .map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn credit(&mut self) -> io::Result<()> {
        let Some(credits) = &mut self.credits else {
            return Ok(());
        };
        if !credits.outgoing.is_between() {
            return Ok(());
        }
        for stream in std::mem::take(&mut credits.waiting) {
            self.push(empty_credit(stream))?;
        }
        Ok(())
    }
}

async fn write(mut output: OwnedWriteHalf, mut queued: UnboundedReceiver<Vec<u8>>) {
    while let Some(bytes) = queued.recv().await {
        if output.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

impl AsyncRead for Queue {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.socket).poll_read(cx, buf))?;
        if let Some(credits) = &mut self.credits {
            let streams = credits.incoming.follow(&buf.filled()[before..]);
            credits.waiting.extend(streams);
            // A connection that is over takes no more.
            let _ = self.credit();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Queue {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.push(buf.to_vec())?;
        if let Some(credits) = &mut self.credits {
            credits.outgoing.follow(buf);
        }
        self.credit()?;
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.queue = None;
        // The socket's direction ends with the task.
        if let Some(writer) = &mut self.writer {
            let _ = ready!(Pin::new(writer).poll(cx));
            self.writer = None;
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        if let Some(writer) = &self.writer {
            writer.abort();
        }
    }
}
