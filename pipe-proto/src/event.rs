use std::error::Error;
use std::fmt;
use std::time::Duration;

use crate::frame::Hello;

/// An event that the caller has to act on.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<S, P> {
    /// The peer said what it allows. Streams may be opened.
    Hello(Hello),
    /// Tasks that wait for a stream have to look again.
    Wake {
        /// The stream.
        stream: S,
        /// The one that reads.
        reader: bool,
        /// The one that writes.
        writer: bool,
    },
    /// So many bytes count against the peer's connection window no more.
    Room(u64),
    /// A stream of this side counts against the peer's limit no more.
    SlotFreed(S),
    /// Nothing of a stream is under way at either side.
    Retired(S),
    /// The last stream is over, or a drain went on.
    Idle,
    /// A ping was answered.
    Pong {
        /// What waits for it.
        waiter: P,
        /// The round trip.
        round_trip: Duration,
    },
    /// No pings are answered any more.
    PingsEnded(Vec<P>),
    /// A [keep-alive](crate::Session::keep_alive) is due.
    KeepAlive,
    /// Streams that were opened have to become visible to the peer now.
    Announce,
    /// The peer was silent for too long; it may come back.
    Disconnected,
    /// The peer is back.
    Reconnected,
    /// The peer is lost.
    Failed,
    /// The peer opens no more streams and wants none.
    Draining,
    /// The peer received so many more bytes of streams.
    Received(u64),
    /// The peer closed the connection.
    Closed {
        /// The application's code.
        code: u32,
        /// How many messages it sent on the channels of streams.
        messages: u64,
        /// The application's reason.
        reason: String,
    },
}

/// Why no stream can be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpenError {
    /// The connection ended.
    Ended,
    /// This side drains the connection.
    Draining,
    /// The peer drains the connection.
    DrainedByPeer,
}

/// Counts of what went over a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Totals {
    /// Bytes that the application wrote to all streams.
    pub bytes_sent: u64,
    /// Bytes that the application read of all streams.
    pub bytes_read: u64,
    /// Streams that this side opened.
    pub opened: u64,
    /// Streams of the peer that the application took.
    pub accepted: u64,
    /// Streams that are not over.
    pub open: u64,
    /// The last round trip of a ping.
    pub last_round_trip: Option<Duration>,
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ended => "the connection ended",
            Self::Draining => "this side is draining the connection",
            Self::DrainedByPeer => "the peer is draining the connection",
        })
    }
}

impl Error for OpenError {}
