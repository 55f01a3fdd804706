use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::incoming::Incoming;
use super::progress::Progress;
use crate::Result;

/// Maximum number of raw connections whose peers have sent nothing. They cost a socket and little
/// more, and do not count as handshakes, so that an honest peer among them need not wait.
pub const MAX_SILENT: usize = 512;

/// Accepts raw connections and upgrades them, for a [`HandshakeQueue`](super::HandshakeQueue).
pub trait Accept: Send + Sync + 'static {
    /// A connection before its handshake. A drop closes it.
    type Raw: Send + 'static;
    /// Connection after the upgrade.
    type Conn: Send + 'static;

    /// Minimum time that a raw connection is kept until its handshake [begins](Progress::begin):
    /// long enough to look at the bytes that came with it. With [`MAX_SILENT`] of them, a newcomer
    /// waits for it.
    const FIRST_LOOK: Duration = Duration::from_millis(1);
    /// Minimum time that a handshake is kept after its peer sent a message: enough for a peer that
    /// makes progress to send the next one.
    const GRACE: Duration = Duration::from_millis(50);

    /// Waits for the next raw connection.
    ///
    /// # Errors
    ///
    /// [`Closed`](crate::ErrorKind::Closed) or [`Failed`](crate::ErrorKind::Failed) when none will come any more, which
    /// ends the listener. After any other error, as of too many open files, it is called again a little
    /// later.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may lose no raw connection but by closing it.
    fn accept(&self) -> impl Future<Output = Result<Self::Raw>> + Send;

    /// Returns the data known about the peer of a raw connection.
    fn incoming(&self, raw: &Self::Raw) -> Incoming;

    /// Makes a connection of a raw one. It is given up after [`Config::handshake_timeout`](crate::Config::handshake_timeout), and where a
    /// newcomer needs its place: the future is dropped then.
    fn handshake(
        self: Arc<Self>,
        raw: Self::Raw,
        progress: Progress,
    ) -> impl Future<Output = Result<Self::Conn>> + Send;

    /// Refuses a raw connection that is not admitted. A drop by default.
    fn refuse(&self, raw: Self::Raw) {
        drop(raw);
    }

    /// Stops to listen, at once. [`accept`](Self::accept) is not called any more.
    fn close(&self);
}
