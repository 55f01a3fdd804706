use std::io;

use tokio::net::TcpStream;

use crate::{Acceptor, Opener};

/// The window of a stream where it does not grow by itself, in bytes.
pub(super) const WINDOW: u32 = 4 * 1024 * 1024;

/// The window of a connection where it does not grow by itself, in bytes.
pub(super) const CONN_WINDOW: u32 = 16 * 1024 * 1024;

/// The size of a frame where that is a setting, in bytes.
pub(super) const FRAME: u32 = 64 * 1024;

/// How many streams a peer may have open at once, where that is a setting.
pub(super) const STREAMS_AT_ONCE: u32 = 1024;

/// A multiplexer of one TCP connection.
pub(super) trait Rival: Send + 'static {
    type Opener: Opener + Sync;
    type Acceptor: Acceptor;

    /// Both ends over the two sockets of a connection, ready for streams.
    fn over(
        near: TcpStream,
        far: TcpStream,
    ) -> impl Future<Output = io::Result<(Self::Opener, Self::Acceptor)>> + Send;
}
