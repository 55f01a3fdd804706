use bytes::{Bytes, BytesMut};
use pipe_sctp::dcep::ppid;

use crate::engine::event::ChannelEvent;

/// Returns the protocol identifier of a message of a channel, and what of it SCTP carries, which has no empty
/// messages (RFC 8831, section 6.6).
pub(super) fn to_payload(is_text: bool, bytes: &Bytes) -> (u32, Bytes) {
    match (is_text, bytes.is_empty()) {
        (true, false) => (ppid::STRING, bytes.clone()),
        (false, false) => (ppid::BINARY, bytes.clone()),
        (true, true) => (ppid::STRING_EMPTY, Bytes::from_static(&[0])),
        (false, true) => (ppid::BINARY_EMPTY, Bytes::from_static(&[0])),
    }
}

/// Returns the message that a payload with this protocol identifier carries; `None` if it is of an unknown kind.
pub(super) fn to_message(ppid: u32, payload: Bytes) -> Option<ChannelEvent> {
    match ppid {
        ppid::STRING => Some(ChannelEvent::Text(BytesMut::from(payload))),
        ppid::BINARY => Some(ChannelEvent::Bytes(BytesMut::from(payload))),
        ppid::STRING_EMPTY => Some(ChannelEvent::Text(BytesMut::new())),
        ppid::BINARY_EMPTY => Some(ChannelEvent::Bytes(BytesMut::new())),
        _ => None,
    }
}
