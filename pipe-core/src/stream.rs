use std::future::{Future, poll_fn};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::Result;

/// An ordered, reliable, flow-controlled stream of bytes in both directions.
///
/// Each direction ends by itself. `shutdown` (of [`AsyncWrite`]) ends the sending direction
/// cleanly; [`reset`](Self::reset) abandons it; [`stop`](Self::stop) asks the peer to stop sending.
/// A read gives `Ok(0)` only after the peer's `shutdown`, and then every time: a stream that was
/// cut short reads as an error.
///
/// A `shutdown` after the peer's stop succeeds, since no bytes are left to deliver.
/// [`SendStream::stopped`] returns whether that happened.
///
/// Dropping a stream before its `shutdown` resets it with code 0, and dropping it before the peer's
/// end was read stops the peer with code 0. After `shutdown`, dropping loses nothing as long as the
/// connection lives.
///
/// The errors of reads and writes are [`io::Error`](std::io::Error)s that carry an
/// [`Error`](crate::Error); [`Error::from_io`](crate::Error::from_io) takes it back out.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// The sending direction by itself.
    type SendHalf: SendStream;
    /// The receiving direction by itself.
    type RecvHalf: RecvStream;

    /// Returns the number of this stream, the same on both sides and unique in its connection.
    fn id(&self) -> u64;

    /// Abandons the sending direction: the peer's reads give [`Reset`](crate::ErrorKind::Reset) with
    /// this code, and what it has not read may be lost. The receiving direction goes on.
    ///
    /// No effect once the direction is shut down or reset.
    fn reset(&mut self, code: u32);

    /// Gives the receiving direction up: the peer's writes give
    /// [`Stopped`](crate::ErrorKind::Stopped) with this code, and so do reads on this side. The
    /// sending direction goes on.
    ///
    /// No effect once the direction has ended.
    fn stop(&mut self, code: u32);

    /// Takes the two directions apart, for use from different tasks. Dropping a half counts for its
    /// direction only.
    fn into_split(self) -> (Self::SendHalf, Self::RecvHalf);
}

/// The sending direction of a [`Stream`].
///
/// Dropping it before its `shutdown` resets it with code 0.
pub trait SendStream: AsyncWrite + Unpin + Send + 'static {
    /// Returns the number of the stream; see [`Stream::id`].
    fn id(&self) -> u64;

    /// Abandons this direction; see [`Stream::reset`].
    fn reset(&mut self, code: u32);

    /// Waits until this direction is of no more use: `Some(code)` when the peer has
    /// [stopped](Stream::stop) it, `None` when it was shut down and every byte has reached the peer.
    ///
    /// # Errors
    ///
    /// [`Reset`](crate::ErrorKind::Reset) when this side has reset the direction,
    /// [`Closed`](crate::ErrorKind::Closed) or [`Failed`](crate::ErrorKind::Failed) when the
    /// connection ended first.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop.
    fn stopped(&mut self) -> impl Future<Output = Result<Option<u32>>> + Send;

    /// Writes bytes from the front of the chunk and takes them off; ready once some are written.
    ///
    /// The default writes from the chunk's memory. A transport that can keep the chunk, and so saves a copy,
    /// overrides it.
    ///
    /// # Errors
    ///
    /// Those of a write.
    fn poll_write_chunk(&mut self, cx: &mut Context<'_>, chunk: &mut Bytes) -> Poll<Result<()>> {
        if chunk.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let count = ready!(Pin::new(self).poll_write(cx, chunk))?;
        chunk.advance(count);
        Poll::Ready(Ok(()))
    }

    /// Writes all bytes of the chunk, without a copy where the transport can.
    ///
    /// # Errors
    ///
    /// Those of a write.
    ///
    /// # Cancel safety
    ///
    /// As with `write_all`, some of the bytes may have been written.
    fn write_chunk(&mut self, mut chunk: Bytes) -> impl Future<Output = Result<()>> + Send {
        async move {
            while !chunk.is_empty() {
                poll_fn(|cx| self.poll_write_chunk(cx, &mut chunk)).await?;
            }
            Ok(())
        }
    }
}

/// The largest chunk that is made by a copy, in bytes.
const COPY: usize = 8 * 1024;

/// The receiving direction of a [`Stream`].
///
/// Dropping it before its end was read stops the peer with code 0.
pub trait RecvStream: AsyncRead + Unpin + Send + 'static {
    /// Returns the number of the stream; see [`Stream::id`].
    fn id(&self) -> u64;

    /// Gives this direction up; see [`Stream::stop`].
    fn stop(&mut self, code: u32);

    /// Reads from 1 to `max` bytes; ready with `None` at the end.
    ///
    /// The default copies. A transport that has the bytes in memory that it can give away overrides it.
    ///
    /// # Errors
    ///
    /// Those of a read.
    fn poll_read_chunk(&mut self, cx: &mut Context<'_>, max: usize) -> Poll<Result<Option<Bytes>>> {
        copied_chunk(max, |buf| {
            Pin::new(self).poll_read(cx, buf).map_err(Into::into)
        })
    }

    /// Waits for the next bytes of the stream, from 1 to `max` of them, without a copy where the transport can;
    /// `None` at the end.
    ///
    /// # Errors
    ///
    /// Those of a read.
    ///
    /// # Cancel safety
    ///
    /// No byte is lost.
    fn read_chunk(&mut self, max: usize) -> impl Future<Output = Result<Option<Bytes>>> + Send {
        poll_fn(move |cx| self.poll_read_chunk(cx, max))
    }
}

/// Reads a chunk of up to `max` bytes by a copy; ready with `None` at the end.
pub(crate) fn copied_chunk(
    max: usize,
    read: impl FnOnce(&mut ReadBuf<'_>) -> Poll<Result<()>>,
) -> Poll<Result<Option<Bytes>>> {
    let mut bytes = [MaybeUninit::uninit(); COPY];
    let mut buf = ReadBuf::uninit(&mut bytes[..max.min(COPY)]);
    ready!(read(&mut buf))?;
    let is_end = buf.filled().is_empty() && max > 0;
    Poll::Ready(Ok((!is_end).then(|| Bytes::copy_from_slice(buf.filled()))))
}
