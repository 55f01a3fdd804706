use std::io;
use std::task::{Context, Poll};

use pipe_core::Result;

/// A multiplexer: many flow-controlled byte streams over one. The seam behind which another can take
/// yamux's place.
///
/// One task owns it and polls it; its streams may be used from any task.
pub(crate) trait Muxer: Send + Unpin + 'static {
    type Stream: MuxerStream;

    /// Opens a stream. Its peer may not see it before [`MuxerStream::poll_announce`].
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<Result<Self::Stream>>;

    /// The next stream of the peer, or `None` once the peer has ended the connection. Everything else
    /// of the connection moves on while this is polled.
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Self::Stream>>>;

    /// Sends what is under way and ends the connection.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// A stream of a [`Muxer`].
///
/// After an end of the connection, reads may give an end and writes an error before the task that
/// owns the muxer knows of it.
pub(crate) trait MuxerStream: Send + Unpin + 'static {
    /// The number of the stream, the same on both sides; odd for those opened by the client.
    fn id(&self) -> u64;

    /// Shows an opened stream to the peer, or an accepted one that it was taken.
    fn poll_announce(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>>;

    fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>>;

    /// Ends the sending direction.
    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Whether the stream was cut in both directions, by the peer or with the connection.
    fn is_cut(&self) -> bool;

    /// Cuts both directions, unless this side's has ended.
    fn reset(self);
}
