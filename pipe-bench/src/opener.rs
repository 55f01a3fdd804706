use std::future::Future;
use std::io;

use pipe_core::Conn;
use tokio::io::{AsyncRead, AsyncWrite};

/// Anything that bytes go into and come out of.
pub trait ByteStream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> ByteStream for S {}

/// The side that opens streams. Clones open streams to the same [`Acceptor`].
pub trait Opener: Clone + Send + 'static {
    /// The near ends.
    type Stream: ByteStream;

    /// Opens a stream.
    ///
    /// # Errors
    ///
    /// When the acceptor is gone.
    fn open(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

/// The side that accepts streams.
pub trait Acceptor: Send + 'static {
    /// The far ends.
    type Stream: ByteStream;

    /// Waits for the next stream. `None` once the openers are gone.
    fn accept(&mut self) -> impl Future<Output = Option<Self::Stream>> + Send;
}

/// One side of a connection, as [`Opener`] or [`Acceptor`].
#[derive(Clone, Debug)]
pub struct ConnStreams<C>(pub C);

impl<C: Conn> Opener for ConnStreams<C> {
    type Stream = C::Stream;

    async fn open(&self) -> io::Result<C::Stream> {
        Ok(self.0.open_stream().await?)
    }
}

impl<C: Conn> Acceptor for ConnStreams<C> {
    type Stream = C::Stream;

    async fn accept(&mut self) -> Option<C::Stream> {
        self.0.accept_stream().await.ok()
    }
}
