use std::io;
use std::task::{Context, Poll};

use tokio::io::ReadBuf;

/// The carrier of one stream: how its bytes come and go.
pub trait StreamIo: Send + 'static {
    /// Reads at least one byte. Pending as long as there is none; the task is woken by the carrier then, or by
    /// [`StreamCore::wake`](super::StreamCore::wake).
    ///
    /// # Errors
    ///
    /// The carrier is lost: see [`ConnCore::on_lost`](super::ConnCore::on_lost), which is called then.
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>)
    -> Poll<io::Result<usize>>;

    /// Writes at least one byte; see [`poll_read`](Self::poll_read).
    ///
    /// # Errors
    ///
    /// As in [`poll_read`](Self::poll_read).
    fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>>;
}
