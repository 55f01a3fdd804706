use std::sync::Arc;

use crate::credit::Credit;
use crate::stream_core::StreamCore;

/// A message of one side to the other.
///
/// The side that sends it has made the change in its own half of the state already; the other half
/// changes when it arrives.
pub(crate) enum Event {
    /// The sender opened this stream.
    Open(Arc<StreamCore>),
    /// Bytes of the sender's direction.
    Data(Arc<StreamCore>, Box<[u8]>),
    /// The sender's direction ends here.
    End(Arc<StreamCore>),
    /// The sender abandons its direction.
    Reset(Arc<StreamCore>, u32),
    /// The sender gives the receiver's direction up.
    Stop(Arc<StreamCore>, u32),
    /// The sender has read bytes of the receiver's direction.
    Credit(Arc<StreamCore>, Credit),
    /// Requests the answer to a ping; the token comes back.
    Ping(u64),
    Pong(u64),
    /// The sender opens no more streams, and asks the peer to open none.
    Drain,
    /// The sender opens no more streams, in answer to a drain.
    Drained,
    /// The sender has closed the connection.
    Close(u32, Arc<str>),
    /// The sender has no such connection any more.
    Gone,
}

impl Event {
    /// Returns about how many bytes it would take on a network.
    pub(crate) fn size(&self) -> usize {
        const HEADER: usize = 12;
        HEADER
            + match self {
                Self::Data(_, bytes) => bytes.len(),
                Self::Ping(_) | Self::Pong(_) => 64,
                Self::Close(_, reason) => reason.len(),
                _ => 0,
            }
    }
}
