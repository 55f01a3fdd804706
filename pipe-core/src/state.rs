use std::fmt;
use std::time::Duration;

/// The state of a connection.
///
/// `Connected` and `Disconnected` may alternate; `Failed` and `Closed` are final.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConnState {
    /// The peer answers.
    Connected,
    /// No packet came from the peer for
    /// [`Config::disconnected_after`](crate::Config::disconnected_after). The connection may
    /// recover.
    Disconnected,
    /// No packet came from the peer for [`Config::failed_after`](crate::Config::failed_after), or
    /// the connection is known to be lost. Every operation ends with
    /// [`Failed`](crate::ErrorKind::Failed).
    Failed,
    /// One of the sides closed the connection.
    Closed,
}

impl ConnState {
    /// Returns whether no other state can follow.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Failed | Self::Closed)
    }
}

impl fmt::Display for ConnState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connected => "connected",
            Self::Disconnected => "disconnected",
            Self::Failed => "failed",
            Self::Closed => "closed",
        })
    }
}

/// Counters of a connection, counted on this side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnStats {
    /// Bytes written to streams, as accepted from the application.
    pub bytes_sent: u64,
    /// Bytes read from streams, as handed to the application.
    pub bytes_received: u64,
    /// Streams opened by this side, ever.
    pub streams_opened: u64,
    /// Streams opened by the peer that this side has accepted, ever.
    pub streams_accepted: u64,
    /// Streams that are alive now, those that wait to be accepted included.
    pub streams_open: u64,
    /// The last round trip measured by a ping, if there was one.
    pub last_round_trip: Option<Duration>,
}
