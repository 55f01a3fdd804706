use std::future::Future;
use std::time::Duration;

use tokio::sync::watch;

use crate::{Addr, CloseReason, ConnState, ConnStats, PeerIdentity, Result, Stream};

/// A connection to one peer, which carries any number of streams in both directions.
///
/// A `Conn` is a handle: clones are cheap and stand for the same connection. When the last handle
/// and the last stream of a side are dropped, that side closes with code 0 and an empty reason.
///
/// Every method may be called from any number of tasks at once.
pub trait Conn: Clone + Send + Sync + 'static {
    /// The streams of this connection.
    type Stream: Stream;

    /// Opens a stream. The peer's [`accept_stream`](Self::accept_stream) returns it soon, whether or
    /// not anything is written.
    ///
    /// When [`Config::max_streams`](crate::Config::max_streams) of the streams opened on this side
    /// are alive, the call waits until one of them is over.
    ///
    /// # Errors
    ///
    /// [`Closed`](crate::ErrorKind::Closed) once either side has closed the connection or is
    /// [draining](Self::drain) it; [`Failed`](crate::ErrorKind::Failed) once the peer is lost.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaks nothing; a stream that had become visible to the peer meanwhile is
    /// reset with code 0.
    fn open_stream(&self) -> impl Future<Output = Result<Self::Stream>> + Send;

    /// Waits for the next stream that the peer opened.
    ///
    /// Streams that are not accepted stay within the peer's stream limit, and do not block others.
    /// Any number of tasks may accept at once; each stream goes to one of them.
    ///
    /// # Errors
    ///
    /// [`Closed`](crate::ErrorKind::Closed) or [`Failed`](crate::ErrorKind::Failed) once the
    /// connection is over.
    ///
    /// # Cancel safety
    ///
    /// A stream is never lost: the next call returns the one that a dropped call would have returned.
    fn accept_stream(&self) -> impl Future<Output = Result<Self::Stream>> + Send;

    /// Pings the peer and returns the round-trip time. Always above zero.
    ///
    /// While the connection is [`Disconnected`](ConnState::Disconnected) the call waits.
    ///
    /// # Errors
    ///
    /// [`Closed`](crate::ErrorKind::Closed) or [`Failed`](crate::ErrorKind::Failed) once the
    /// connection is over.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop.
    fn ping(&self) -> impl Future<Output = Result<Duration>> + Send;

    /// Returns the state of the connection, to look at or to wait for.
    fn state(&self) -> watch::Receiver<ConnState>;

    /// Returns counters of the connection so far.
    fn stats(&self) -> ConnStats;

    /// Ends the connection in good order: no new streams on either side, those that are open run to
    /// their ends, then `close(0, "")`.
    ///
    /// Waits as long as a stream is open, which includes streams of the peer that are not accepted
    /// yet: continue to accept meanwhile, until [`Closed`](crate::ErrorKind::Closed). For a bound,
    /// put a timeout around it and [`close`](Self::close) after it.
    ///
    /// # Errors
    ///
    /// [`Closed`](crate::ErrorKind::Closed) when either side closed the connection before its
    /// streams were over, [`Failed`](crate::ErrorKind::Failed) when it was lost.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not take the announcement back, since the peer may have seen it.
    /// The call can be made again and goes on waiting.
    fn drain(&self) -> impl Future<Output = Result<()>> + Send;

    /// Ends the connection at once, with a code and a reason for the peer.
    ///
    /// All pending operations on both sides end with [`Closed`](crate::ErrorKind::Closed), and data
    /// that was not read may be lost: use [`drain`](Self::drain) to keep it. The first call wins;
    /// later ones have no effect. A reason longer than
    /// [`MAX_REASON_LEN`](crate::MAX_REASON_LEN) bytes is cut.
    fn close(&self, code: u32, reason: &str);

    /// Waits until the connection is over, and returns the reason. After the end it returns at
    /// once, for any number of callers.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop.
    fn closed(&self) -> impl Future<Output = CloseReason> + Send;

    /// Returns the address of this side.
    fn local_addr(&self) -> Addr;

    /// Returns the address of the peer, as seen from this side.
    fn remote_addr(&self) -> Addr;

    /// Returns the identity that the peer has proved, if the transport can tell.
    fn peer_identity(&self) -> Option<PeerIdentity>;
}
