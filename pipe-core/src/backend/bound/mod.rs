//! Connections and streams over a session, for any carrier of their bytes.

mod conn;
mod conn_core;
mod control;
mod events;
mod stream;
mod stream_core;

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::ReadBuf;

pub use conn::BoundConn;
pub use conn_core::{ConnCore, DriverGuard};
pub use stream::{BoundRecvStream, BoundSendStream, BoundStream};
pub use stream_core::StreamCore;

/// Binds a session to the carrier of its streams. [`BoundConn`] and [`BoundStream`] do the rest, but for the task that
/// [sends](ConnCore::poll_output) and [receives](ConnCore::on_input) the frames of the session.
pub trait Binding: Sized + Send + Sync + 'static {
    /// The carrier of one stream, behind the lock of the stream. It is dropped once the stream is over at both sides, or
    /// the connection has ended.
    type Io: Send + 'static;

    /// Creates the carrier of a stream.
    fn io(&self) -> Self::Io;

    /// Notes that a stream was opened, by either side. No lock is held.
    fn on_stream(conn: &Arc<ConnCore<Self>>, stream: &StreamCore<Self>);

    /// Reads at least one byte. Pending as long as there is none; the task is woken by the carrier then, or by
    /// [`StreamCore::wake`].
    ///
    /// # Errors
    ///
    /// The carrier is lost: see [`ConnCore::on_lost`], which is called then.
    fn poll_read(
        io: &mut Self::Io,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<usize>>;

    /// Writes at least one byte; see [`poll_read`](Self::poll_read).
    ///
    /// # Errors
    ///
    /// As in [`poll_read`](Self::poll_read).
    fn poll_write(io: &mut Self::Io, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>>;
}
