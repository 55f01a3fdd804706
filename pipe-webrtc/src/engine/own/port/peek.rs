use stun_types::message::TransactionId;

use crate::engine::own::stun::transaction;

/// Length of the header of a message, and of that of an attribute, in bytes (RFC 8489, sections 5 and 14).
const HEADER: usize = 20;
const ATTRIBUTE_HEADER: usize = 4;

const USERNAME: u16 = 0x0006;

/// The part of a message of STUN that tells the connection it is for. Nothing of it is proved.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Peeked<'a> {
    /// A request to the author of this user fragment (RFC 8445, section 7.2.2).
    Request {
        ufrag: &'a [u8],
    },
    /// A response to the request of this transaction.
    Response(TransactionId),
    Indication,
}

/// Reads a datagram as a message of STUN, without copying or verifying anything. Returns `None` for anything
/// else, and for a request without a user name.
pub(super) fn peek(datagram: &[u8]) -> Option<Peeked<'_>> {
    let id = transaction(datagram)?;
    // Bits 4 and 8 of the type are the class (RFC 8489, section 5).
    match (datagram[0] & 1, datagram[1] & 0x10) {
        (0, 0) => {
            let name = username(datagram)?;
            let end = name.iter().position(|byte| *byte == b':')?;
            Some(Peeked::Request {
                ufrag: &name[..end],
            })
        }
        (0, _) => Some(Peeked::Indication),
        _ => Some(Peeked::Response(id)),
    }
}

/// Returns the transaction of a request.
pub(super) fn request(datagram: &[u8]) -> Option<TransactionId> {
    let id = transaction(datagram)?;
    (datagram[0] & 1 == 0 && datagram[1] & 0x10 == 0).then_some(id)
}

fn username(message: &[u8]) -> Option<&[u8]> {
    let mut rest = message.get(HEADER..)?;
    loop {
        let (header, after) = rest.split_first_chunk::<ATTRIBUTE_HEADER>()?;
        let kind = u16::from_be_bytes([header[0], header[1]]);
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if kind == USERNAME {
            return after.get(..length);
        }
        rest = after.get(length.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use stun_types::message::MessageClass;

    use super::*;
    use crate::engine::own::stun::{BINDING, LIFETIME, USERNAME, Writer};

    fn message(class: MessageClass, username: Option<&[u8]>) -> (TransactionId, Vec<u8>) {
        let id = TransactionId::generate();
        // One of a length that needs padding comes first.
        let mut writer = Writer::new(class, BINDING, id).bytes(LIFETIME, b"12345");
        if let Some(username) = username {
            writer = writer.bytes(USERNAME, username);
        }
        (id, writer.finish(None))
    }

    #[test]
    fn a_request_names_its_receiver_and_a_response_its_request() {
        let (id, bytes) = message(MessageClass::Request, Some(b"ours:theirs"));
        assert_eq!(peek(&bytes), Some(Peeked::Request { ufrag: b"ours" }));
        assert_eq!(request(&bytes), Some(id));
        for class in [MessageClass::Success, MessageClass::Error] {
            let (id, bytes) = message(class, None);
            assert_eq!(peek(&bytes), Some(Peeked::Response(id)));
            assert_eq!(request(&bytes), None);
        }
        let (_, bytes) = message(MessageClass::Indication, Some(b"ours:theirs"));
        assert_eq!(peek(&bytes), Some(Peeked::Indication));
        assert_eq!(request(&bytes), None);
    }

    #[test]
    fn a_request_without_two_fragments_is_for_no_connection() {
        for username in [None, Some(&b""[..]), Some(b"ours")] {
            let (_, bytes) = message(MessageClass::Request, username);
            assert_eq!(peek(&bytes), None);
        }
        assert_eq!(peek(b""), None);
        assert_eq!(peek(&[0; 20]), None, "the magic cookie is absent");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(mut bytes in prop::collection::vec(any::<u8>(), 20..300)) {
            let length = (bytes.len() - 20) as u16;
            bytes[0] &= 3;
            bytes[2..4].copy_from_slice(&length.to_be_bytes());
            bytes[4..8].copy_from_slice(&[0x21, 0x12, 0xa4, 0x42]);
            let _ = peek(&bytes);
            prop_assert!(peek(&bytes[..19]).is_none());
        }
    }
}
