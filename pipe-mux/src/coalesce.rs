use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use futures::io::{AsyncRead, AsyncWrite};
use tokio::io::ReadBuf;
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::io::poll_read_buf;

use crate::go_away::GoAwayWatch;

/// How much may wait to be written, in bytes. More makes the writer wait for the socket.
const WRITE_HIGH: usize = 128 * 1024;

/// How much is read at once while much arrives, in bytes.
const READ_LARGE: usize = 64 * 1024;

/// How much is read at once otherwise, and kept while nothing arrives, in bytes.
const READ_SMALL: usize = 2 * 1024;

/// How long large buffers are kept after they were last needed.
const SPARE_AFTER: Duration = Duration::from_millis(50);

/// The adapter between a byte stream and a multiplexer that writes each frame in two pieces and
/// flushes after each.
///
/// `poll_flush` does nothing: what was written is sent when the multiplexer has nothing more to read,
/// that is, once in each turn of its task, or when much has gathered. Reads take in much at once. Buffers are as large as what they hold, and small
/// again soon after the stream falls idle.
pub(crate) struct Coalesce<T> {
    io: T,
    out: Vec<u8>,
    /// How much of the output has been sent.
    sent: usize,
    input: BytesMut,
    /// How much to read next.
    appetite: usize,
    /// Whether the buffers were needed at their size since the timer was set.
    needed: bool,
    /// Runs while the buffers are large.
    spare: Option<Pin<Box<Sleep>>>,
    /// Bytes that have arrived, ever; a sign of life.
    heard: Arc<AtomicU64>,
    pub(crate) watch: GoAwayWatch,
}

impl<T> Coalesce<T> {
    pub(crate) fn new(io: T, heard: Arc<AtomicU64>) -> Self {
        Self {
            io,
            watch: GoAwayWatch::default(),
            out: Vec::new(),
            sent: 0,
            input: BytesMut::new(),
            appetite: READ_SMALL,
            needed: false,
            spare: None,
            heard,
        }
    }

    /// Frees large buffers that have not been needed for a while.
    fn poll_spare(&mut self, cx: &mut Context<'_>) {
        if self.out.capacity() <= READ_SMALL && self.input.capacity() <= READ_SMALL {
            self.spare = None;
            return;
        }
        let spare = self
            .spare
            .get_or_insert_with(|| Box::pin(sleep(SPARE_AFTER)));
        while spare.as_mut().poll(cx).is_ready() {
            if !std::mem::take(&mut self.needed) {
                if self.out.is_empty() {
                    self.out = Vec::new();
                }
                if self.input.is_empty() {
                    self.input = BytesMut::new();
                    self.appetite = READ_SMALL;
                }
                self.spare = None;
                return;
            }
            spare.as_mut().reset(Instant::now() + SPARE_AFTER);
        }
    }
}

impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin> Coalesce<T> {
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.needed |= self.out.len() > READ_SMALL;
        while self.sent < self.out.len() {
            let sent = ready!(Pin::new(&mut self.io).poll_write(cx, &self.out[self.sent..]))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += sent;
        }
        self.out.clear();
        self.sent = 0;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    /// Fills the input. Ready with 0 at the end of the stream.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.input.reserve(self.appetite);
        let filled = poll_read_buf(Pin::new(&mut self.io), cx, &mut self.input);
        match filled {
            Poll::Pending => {
                // The turn is over: whatever was written sets out.
                if let Poll::Ready(Err(error)) = self.poll_send(cx) {
                    return Poll::Ready(Err(error));
                }
                self.poll_spare(cx);
                Poll::Pending
            }
            Poll::Ready(Ok(count)) => {
                self.heard.fetch_add(count as u64, Ordering::Relaxed);
                self.needed |= count > READ_SMALL;
                if count >= self.appetite {
                    self.appetite = READ_LARGE;
                }
                Poll::Ready(Ok(count))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
        }
    }
}

impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin> AsyncRead for Coalesce<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.input.is_empty() {
            // A large body goes straight to where it is wanted.
            if buf.len() >= READ_LARGE {
                let mut direct = ReadBuf::new(buf);
                if let Poll::Ready(read) = Pin::new(&mut this.io).poll_read(cx, &mut direct) {
                    let count = direct.filled().len();
                    this.heard.fetch_add(count as u64, Ordering::Relaxed);
                    return Poll::Ready(read.map(|()| count));
                }
            }
            if ready!(this.poll_fill(cx))? == 0 {
                return Poll::Ready(Ok(0));
            }
        }
        let count = this.input.len().min(buf.len());
        this.input.copy_to_slice(&mut buf[..count]);
        Poll::Ready(Ok(count))
    }
}

impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin> AsyncWrite for Coalesce<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.out.len() - self.sent + buf.len() > WRITE_HIGH {
            ready!(self.poll_send(cx))?;
        }
        // A socket that takes a part at a time would never leave the buffer empty.
        if self.sent >= WRITE_HIGH / 2 {
            let sent = std::mem::take(&mut self.sent);
            self.out.drain(..sent);
        }
        let start = self.out.len();
        self.out.extend_from_slice(buf);
        let this = &mut *self;
        this.watch.watch(&mut this.out[start..]);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let buf = bufs
            .iter()
            .find(|buf| !buf.is_empty())
            .map_or(&[][..], |buf| &**buf);
        self.poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Sends everything, ends the sending direction, and takes in what still comes until the peer's
    /// end: a socket that is closed with unread data would take back what it has sent last.
    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        ready!(Pin::new(&mut self.io).poll_shutdown(cx))?;
        loop {
            self.input.clear();
            if ready!(self.poll_fill(cx))? == 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, duplex};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_socket_that_takes_a_part_at_a_time_does_not_make_the_buffer_grow() {
        const FRAMES: usize = 2000;
        let (near, mut far) = duplex(10_000);
        let mut coalesce = Coalesce::new(near, Arc::default());
        // Data frames of yamux, each behind its header.
        let body = vec![7; 16 * 1024];
        let mut header = [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0];
        header[8..].copy_from_slice(&(body.len() as u32).to_be_bytes());
        let all = FRAMES * (header.len() + body.len());
        let reading = tokio::spawn(async move {
            let mut read = 0;
            let mut buf = vec![0; 4096];
            while read < all {
                read += far.read(&mut buf).await.unwrap();
            }
        });
        let mut most = 0;
        for _ in 0..FRAMES {
            for piece in [&header[..], &body] {
                let wrote = poll_fn(|cx| Pin::new(&mut coalesce).poll_write(cx, piece)).await;
                assert_eq!(wrote.unwrap(), piece.len());
            }
            most = most.max(coalesce.out.capacity());
        }
        poll_fn(|cx| coalesce.poll_send(cx)).await.unwrap();
        reading.await.unwrap();
        assert!(most <= 4 * WRITE_HIGH, "{most} B");
    }
}
