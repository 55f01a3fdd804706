use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use pipe_core::Addr;
use tokio::time::sleep;

/// Makes peers that say on the wire what no honest peer would.
///
/// An attack is written once, in moves; an attacker says them on one wire. Without one, a target is attacked
/// through the public traits alone.
pub trait Attacker: Send + Sync + 'static {
    /// Connects to a listener, and says nothing yet beyond what connects.
    fn connect<'a>(
        &'a self,
        addr: &'a Addr,
        reading: Reading,
    ) -> BoxFuture<'a, io::Result<Box<dyn Peer>>>;

    /// Connects as far as the listener has to keep something for it, and says nothing. The future that it gives
    /// holds the connection, and is over once the listener has let go of it.
    fn knock<'a>(&'a self, addr: &'a Addr) -> BoxFuture<'a, io::Result<Held>> {
        let connecting = self.connect(addr, Reading::Discards);
        async move { Ok(held(connecting.await?)) }.boxed()
    }

    /// Begins a handshake, from another source than those that are innocent, and never ends it; otherwise as
    /// [`knock`](Self::knock).
    fn stall<'a>(&'a self, addr: &'a Addr) -> BoxFuture<'a, io::Result<Held>> {
        let _ = addr;
        async { Err(io::ErrorKind::Unsupported.into()) }.boxed()
    }

    /// Offers a connection that can be reached at these addresses alone, all of them named by the way that the
    /// wire has for it, and none of which answers. The future that it gives holds the attempt, and is over
    /// once the listener has let go of it.
    fn name_candidates<'a>(
        &'a self,
        addr: &'a Addr,
        candidates: &'a [SocketAddr],
    ) -> BoxFuture<'a, io::Result<Held>> {
        let _ = (addr, candidates);
        async { Err(io::ErrorKind::Unsupported.into()) }.boxed()
    }

    /// Returns the number on the wire of the `n`-th stream that a dialer opens for its application, from 0.
    fn number(&self, n: u64) -> u64;

    /// Returns why the wire cannot carry out a move, if it cannot. An attack that needs it is skipped.
    fn lacks(&self, kind: MoveKind) -> Option<&'static str> {
        match kind {
            MoveKind::Candidates => Some(NO_CANDIDATES),
            MoveKind::Stall => Some("its handshake is not known"),
            _ => None,
        }
    }
}

/// Holds an attempt to connect until the listener has let go of it.
pub type Held = BoxFuture<'static, ()>;

/// Holds a connection that says no more.
pub fn held(mut peer: Box<dyn Peer>) -> Held {
    async move {
        while peer.flush().await.is_ok() {
            sleep(Duration::from_millis(100)).await;
        }
    }
    .boxed()
}

/// Why most wires cannot carry out [`MoveKind::Candidates`].
pub const NO_CANDIDATES: &str = "a listener sends nothing to addresses that its peer names";

/// Whether a peer reads what it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// It reads all that comes, and discards it.
    Discards,
    /// It reads nothing, ever.
    Never,
}

/// One connection of an [`Attacker`].
///
/// Dropping it cuts the connection.
pub trait Peer: Send {
    /// Ends the handshake as an honest peer does.
    fn greet(&mut self) -> BoxFuture<'_, io::Result<()>>;

    /// Encodes or queues a move.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](io::ErrorKind::Unsupported) for a move that [`Attacker::lacks`] names; any other error
    /// says that the connection has ended.
    fn make(&mut self, action: Move<'_>) -> io::Result<()>;

    /// Sends what was made so far. It may wait as long as the other side takes nothing.
    ///
    /// # Errors
    ///
    /// Any error says that the connection has ended.
    fn flush(&mut self) -> BoxFuture<'_, io::Result<()>>;

    /// Returns how many bytes wait for [`flush`](Self::flush), roughly.
    fn pending(&self) -> usize;
}

/// Something that a peer says. Streams are those that the dialer opens, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Move<'a> {
    /// Opens a stream.
    Open(u64),
    /// Sends bytes on a stream, whatever its window.
    Data(u64, &'a [u8]),
    /// Ends the peer's direction of a stream cleanly, after so many bytes in all.
    End(u64, u64),
    /// Abandons the peer's direction of a stream.
    Reset(u64),
    /// Wants no more of the other direction of a stream.
    Stop(u64),
    /// Says that so many more bytes of the other direction were read.
    Credit(u64, u32),
    /// Says that the peer's application is done with a stream.
    Done(u64),
    /// Says that the other direction of a stream was read to its end.
    Taken(u64),
    /// Asks for a sign of life.
    Ping,
    /// Sends the smallest valid unit of the multiplexer below that asks for nothing.
    Idle,
    /// Asks the multiplexer below for a sign of life.
    MuxPing,
    /// Sends bytes on the control channel as they are.
    Control(&'a [u8]),
}

/// The kinds of [`Move`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MoveKind {
    /// [`Move::Data`] beyond the window, and on streams that were not opened or have ended.
    Excess,
    /// [`Move::Open`] with a number that was used before, out of order, or beyond the limit.
    Number,
    /// [`Move::Stop`].
    Stop,
    /// Messages about streams that do not exist.
    Unknown,
    /// [`Move::Ping`].
    Ping,
    /// [`Move::Idle`] and [`Move::MuxPing`].
    Mux,
    /// [`Move::Credit`].
    Credit,
    /// [`Move::Control`].
    Control,
    /// Anything before [`Peer::greet`].
    Early,
    /// [`Attacker::name_candidates`].
    Candidates,
    /// [`Attacker::knock`].
    Silence,
    /// [`Attacker::stall`].
    Stall,
}
