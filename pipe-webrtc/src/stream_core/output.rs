use bytes::BytesMut;
use pipe_core::backend::proto::StreamFrame;

/// Maximum number of bytes of a stream that wait to be put into messages.
pub(super) const SEND_BUFFER: usize = 128 * 1024;

/// The next thing to send of a stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Output {
    Text(StreamFrame),
    Bytes(BytesMut),
    /// A message of a plain channel, and whether it is text.
    Message(BytesMut, bool),
    /// A plain channel is to be closed: at once, or when all of it has arrived.
    Close {
        at_once: bool,
    },
    /// There are bytes, but too many are in flight.
    Blocked,
}

/// The messages to the peer that are pending. There is at most one of each, so that a stream's part
/// of the queue is bounded.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Owed {
    pub(super) open: bool,
    pub(super) stop: Option<u32>,
    pub(super) taken: bool,
    pub(super) end: bool,
    pub(super) reset: Option<u32>,
    pub(super) done: bool,
}
