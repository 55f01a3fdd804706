use std::io;
use std::task::{Context, Poll};

use pipe_core::Result;

/// A multiplexer: many flow-controlled byte streams over one. The seam behind which another can take
/// yamux's place.
///
/// One task owns it and polls it; its streams and handles may be used from any task.
pub(crate) trait Muxer: Send + Unpin + 'static {
    type Stream: MuxerStream;
    type Handle: MuxerHandle<Stream = Self::Stream>;

    /// What opens streams.
    fn handle(&self) -> Self::Handle;

    /// What happens next, or `None` once the peer has ended the connection. Everything else that
    /// arrives is taken in while this is polled.
    fn poll_next(&mut self, cx: &mut Context<'_>)
    -> Poll<Result<Option<MuxerEvent<Self::Stream>>>>;

    /// Sends what is under way. It has to be polled before the task waits.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>>;

    /// Sends what is under way, ends the connection, and waits for the peer to do so.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Starts a turn of the task: what one turn takes in is bounded.
    fn begin_turn(&mut self);

    /// Whether this turn is over, so that other tasks run before more is taken in.
    fn has_rest(&self) -> bool;

    /// Whether something of a stream has come before the peer's hello. Nothing more is taken in then.
    fn waits_for_hello(&self) -> bool;

    /// Notes that the peer has introduced itself, so that its streams are taken in.
    fn greet(&mut self);

    /// Notes that the peer has broken the rules: what it still sends is hardly read.
    fn condemn(&mut self);

    /// How many bytes have arrived, ever.
    fn heard(&self) -> u64;
}

/// News of a [`Muxer`].
pub(crate) enum MuxerEvent<S> {
    /// The peer has opened a stream.
    Stream(S),
    /// The peer has cut the stream of this number.
    Reset(u64),
    /// The peer has answered a ping.
    Pong(u32),
    /// The peer takes no more streams.
    GoAway,
    /// Streams can be opened again.
    Room,
}

/// Acts on a [`Muxer`] from any task.
pub(crate) trait MuxerHandle: Clone + Send + Sync + 'static {
    type Stream;

    /// Opens a stream. The peer does not see it before [`MuxerStream::announce`] or something sent.
    /// `None` while too many wait for the peer's answer; [`Room`](MuxerEvent::Room) tells when one can be
    /// opened.
    fn open(&self) -> Result<Option<Self::Stream>>;

    /// Asks the peer for an answer.
    fn ping(&self, value: u32);
}

/// A stream of a [`Muxer`]. A drop gives both directions up, unless both have ended.
///
/// Reads and writes fail once the peer has cut the stream. After the end of the connection reads wait
/// and writes fail.
pub(crate) trait MuxerStream: Send + Unpin + 'static {
    /// The number of the stream, the same on both sides; odd for those opened by the client.
    fn id(&self) -> u64;

    /// Shows an opened stream to the peer, or an accepted one that it was taken.
    fn announce(&mut self);

    /// Ready with 0 at the end of the peer's direction.
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>>;

    fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>>;

    /// Ends the sending direction.
    fn finish(&mut self);

    /// Whether the peer has cut the stream before the end of its direction, so that there is nothing more
    /// to read.
    fn is_reset(&self) -> bool;
}
