use bytes::BytesMut;
use pipe_core::backend::proto::StreamFrame;

/// Maximum number of bytes of a stream that wait to be put into messages.
pub(super) const SEND_BUFFER: usize = 128 * 1024;

/// The next thing to send of a stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// A frame, and how many bytes count against the peer's connection window no more.
    Frame(StreamFrame, u32),
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
