use std::net::SocketAddr;

use parking_lot::Mutex;
use rtc::stun::attributes::ATTR_NONCE;
use rtc::stun::error_code::{CODE_UNAUTHORIZED, ErrorCodeAttribute};
use rtc::stun::message::{
    CLASS_ERROR_RESPONSE, Getter, METHOD_ALLOCATE, Message, MessageType, TransactionId,
};

use super::super::refusals;

/// Finds refusals among the datagrams at one socket.
#[derive(Debug, Default)]
pub(super) struct RefusalWatch {
    /// Servers that have requested credentials, and the request that each rejected.
    asked: Mutex<Vec<(SocketAddr, TransactionId)>>,
}

impl RefusalWatch {
    /// Returns the reason why the server at this address gives no relay, if the datagram holds one
    /// (RFC 8656, section 7.4).
    pub(super) fn inspect(&self, from: SocketAddr, datagram: &[u8]) -> Option<String> {
        let refusal = MessageType::new(METHOD_ALLOCATE, CLASS_ERROR_RESPONSE).value();
        if !datagram.starts_with(&refusal.to_be_bytes()) {
            return None;
        }
        let mut message = Message::new();
        message.raw = datagram.to_vec();
        message.decode().ok()?;
        let mut why = ErrorCodeAttribute::default();
        why.get_from(&message).ok()?;
        if why.code == CODE_UNAUTHORIZED
            && message.contains(ATTR_NONCE)
            && self.is_challenge(from, message.transaction_id)
        {
            return None;
        }
        let reason = String::from_utf8_lossy(&why.reason);
        let words: String = reason
            .chars()
            .filter(|c| !c.is_control())
            .take(64)
            .collect();
        let code = why.code.0;
        Some(format!(
            "the TURN server {from} refuses with {code} ({words})"
        ))
    }

    /// Returns whether a 401 requests credentials, which the first request of the engine never has.
    /// The answer to the second one refuses them (RFC 8489, section 9.2.5).
    fn is_challenge(&self, from: SocketAddr, request: TransactionId) -> bool {
        let mut asked = self.asked.lock();
        match asked.iter().find(|(server, _)| *server == from) {
            Some((_, first)) => *first == request,
            None if asked.len() < refusals::MAX_REASONS => {
                asked.push((from, request));
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rtc::stun::attributes::ATTR_REALM;
    use rtc::stun::error_code::{CODE_ALLOC_QUOTA_REACHED, ErrorCode};
    use rtc::stun::message::Setter;
    use rtc::stun::textattrs::TextAttribute;

    fn answer(request: u8, code: ErrorCode) -> Vec<u8> {
        let mut message = Message::new();
        let parts: [Box<dyn Setter>; 5] = [
            Box::new(TransactionId([request; 12])),
            Box::new(MessageType::new(METHOD_ALLOCATE, CLASS_ERROR_RESPONSE)),
            Box::new(ErrorCodeAttribute {
                code,
                reason: b"No\r\nWay".to_vec(),
            }),
            Box::new(TextAttribute::new(ATTR_NONCE, "nonce".into())),
            Box::new(TextAttribute::new(ATTR_REALM, "realm".into())),
        ];
        message.build(&parts).unwrap();
        message.raw.to_vec()
    }

    #[test]
    fn the_second_request_is_the_one_that_is_refused() {
        let watch = RefusalWatch::default();
        let server = "192.0.2.1:3478".parse().unwrap();
        let other = "192.0.2.2:3478".parse().unwrap();
        let asked = answer(1, CODE_UNAUTHORIZED);
        assert_eq!(watch.inspect(server, &asked), None);
        assert_eq!(watch.inspect(server, &asked), None);
        assert_eq!(watch.inspect(other, &answer(3, CODE_UNAUTHORIZED)), None);
        let why = watch.inspect(server, &answer(2, CODE_UNAUTHORIZED));
        let expected = "the TURN server 192.0.2.1:3478 refuses with 401 (NoWay)";
        assert_eq!(why.as_deref(), Some(expected));
    }

    #[test]
    fn other_refusals_count_at_once_and_garbage_never() {
        let watch = RefusalWatch::default();
        let server = "[2001:db8::1]:3478".parse().unwrap();
        let full = answer(1, CODE_ALLOC_QUOTA_REACHED);
        let why = watch.inspect(server, &full).unwrap();
        assert!(why.contains("486"), "{why}");
        for end in 0..full.len() {
            assert_eq!(watch.inspect(server, &full[..end]), None);
        }
    }
}
