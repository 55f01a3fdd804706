//! STUN messages (RFC 8489) with what servers need of them, and the times of a request.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::{Duration, Instant};

use stun_types::attribute::{
    AttributeType, ErrorCode, MappedSocketAddr, RawAttribute, XorSocketAddr,
};
use stun_types::message::{
    IntegrityAlgorithm, IntegrityKey, Message, MessageClass, MessageType, MessageWriteVec, Method,
    TransactionId,
};
use stun_types::prelude::{AttributeFromRaw, AttributeStaticType, MessageWrite, MessageWriteExt};

/// Length of a header, and of that of an attribute, in bytes.
const HEADER: usize = 20;
const ATTRIBUTE_HEADER: usize = 4;

const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

/// Maximum length of the text of an error that is shown, in characters.
const MAX_REASON: usize = 128;

/// Attributes (RFC 8489, section 18.3, and RFC 8656, section 18).
pub(super) const MAPPED_ADDRESS: AttributeType = AttributeType::new(0x0001);
pub(super) const USERNAME: AttributeType = AttributeType::new(0x0006);
pub(super) const CHANNEL_NUMBER: AttributeType = AttributeType::new(0x000c);
pub(super) const LIFETIME: AttributeType = AttributeType::new(0x000d);
pub(super) const XOR_PEER_ADDRESS: AttributeType = AttributeType::new(0x0012);
pub(super) const DATA: AttributeType = AttributeType::new(0x0013);
pub(super) const REALM: AttributeType = AttributeType::new(0x0014);
pub(super) const NONCE: AttributeType = AttributeType::new(0x0015);
pub(super) const XOR_RELAYED_ADDRESS: AttributeType = AttributeType::new(0x0016);
pub(super) const REQUESTED_ADDRESS_FAMILY: AttributeType = AttributeType::new(0x0017);
pub(super) const REQUESTED_TRANSPORT: AttributeType = AttributeType::new(0x0019);
pub(super) const XOR_MAPPED_ADDRESS: AttributeType = AttributeType::new(0x0020);
pub(super) const ALTERNATE_DOMAIN: AttributeType = AttributeType::new(0x8003);
pub(super) const ALTERNATE_SERVER: AttributeType = AttributeType::new(0x8023);

/// Methods (RFC 8656, section 17).
pub(super) const BINDING: Method = Method::new(0x001);
pub(super) const ALLOCATE: Method = Method::new(0x003);
pub(super) const REFRESH: Method = Method::new(0x004);
pub(super) const SEND: Method = Method::new(0x006);
pub(super) const DATA_METHOD: Method = Method::new(0x007);
pub(super) const CREATE_PERMISSION: Method = Method::new(0x008);
pub(super) const CHANNEL_BIND: Method = Method::new(0x009);

/// A message to be written. Attributes that do not fit a message are left out.
pub(super) struct Writer {
    message: MessageWriteVec,
    transaction: TransactionId,
}

impl Writer {
    pub(super) fn new(class: MessageClass, method: Method, transaction: TransactionId) -> Self {
        let kind = MessageType::from_class_method(class, method);
        Self {
            message: Message::builder(kind, transaction, MessageWriteVec::new()),
            transaction,
        }
    }

    pub(super) fn bytes(mut self, kind: AttributeType, value: &[u8]) -> Self {
        // It fails for attributes after those that end a message, and for too long ones.
        if let Err(error) = self.message.add_attribute(&RawAttribute::new(kind, value)) {
            tracing::debug!(%error, "an attribute of STUN is left out");
        }
        self
    }

    pub(super) fn xor_addr(self, kind: AttributeType, addr: SocketAddr) -> Self {
        let value = XorSocketAddr::new(addr, self.transaction);
        let raw = value.to_raw(kind);
        self.bytes(kind, &raw.value)
    }

    /// Ends the message with a FINGERPRINT, after a MESSAGE-INTEGRITY if there is a key.
    pub(super) fn finish(mut self, key: Option<&IntegrityKey>) -> Vec<u8> {
        let sha1 = IntegrityAlgorithm::Sha1;
        let signed = match key {
            Some(key) => self.message.add_message_integrity_with_key(key, sha1),
            None => Ok(()),
        };
        if let Err(error) = signed.and_then(|()| self.message.add_fingerprint()) {
            tracing::debug!(%error, "a message of STUN is not complete");
        }
        self.message.finish()
    }
}

/// A message that was received.
#[derive(Debug)]
pub(super) struct Received<'a> {
    message: Message<'a>,
}

impl<'a> Received<'a> {
    /// Parses a whole datagram, or an element of a stream.
    pub(super) fn parse(packet: &'a [u8]) -> Option<Self> {
        transaction(packet)?;
        let message = Message::from_bytes(packet).ok()?;
        Some(Self { message })
    }

    pub(super) fn class(&self) -> MessageClass {
        self.message.class()
    }

    pub(super) fn method(&self) -> Method {
        self.message.method()
    }

    pub(super) fn transaction(&self) -> TransactionId {
        self.message.transaction_id()
    }

    /// Returns where the value of an attribute is within the message.
    pub(super) fn range(&self, kind: AttributeType) -> Option<Range<usize>> {
        let (offset, attribute) = self.message.raw_attribute_and_offset(kind)?;
        let start = offset + ATTRIBUTE_HEADER;
        Some(start..start + attribute.value.len())
    }

    pub(super) fn text(&self, kind: AttributeType) -> Option<String> {
        let attribute = self.message.raw_attribute(kind)?;
        String::from_utf8(attribute.value.to_vec()).ok()
    }

    pub(super) fn number(&self, kind: AttributeType) -> Option<u32> {
        let attribute = self.message.raw_attribute(kind)?;
        Some(u32::from_be_bytes((*attribute.value).try_into().ok()?))
    }

    pub(super) fn xor_addr(&self, kind: AttributeType) -> Option<SocketAddr> {
        self.xor_addrs(kind).next()
    }

    /// Returns all addresses of a kind.
    pub(super) fn xor_addrs(&self, kind: AttributeType) -> impl Iterator<Item = SocketAddr> {
        let attributes = self.message.iter_attributes();
        let of_kind = attributes.filter(move |(_, attribute)| attribute.header.get_type() == kind);
        let transaction = self.transaction();
        of_kind.filter_map(move |(_, attribute)| {
            let addr = XorSocketAddr::from_raw(&attribute).ok()?;
            Some(addr.addr(transaction))
        })
    }

    /// Returns an address that is not obfuscated.
    pub(super) fn addr(&self, kind: AttributeType) -> Option<SocketAddr> {
        let attribute = self.message.raw_attribute(kind)?;
        Some(MappedSocketAddr::from_raw(&attribute).ok()?.addr())
    }

    /// Returns the code of an error and its reason, if it has one.
    pub(super) fn error(&self) -> Option<(u16, String)> {
        let attribute = self.message.raw_attribute(ErrorCode::TYPE)?;
        let error = ErrorCode::from_raw_ref(&attribute).ok()?;
        let shown = error.reason().chars().filter(|c| !c.is_control());
        Some((error.code(), shown.take(MAX_REASON).collect()))
    }

    /// Returns whether its author has the key: `None` if it proves nothing.
    pub(super) fn is_signed_with(&self, key: &IntegrityKey) -> Option<bool> {
        const INTEGRITY: AttributeType = AttributeType::new(0x0008);
        self.message.raw_attribute(INTEGRITY)?;
        Some(self.message.validate_integrity_with_key(key).is_ok())
    }
}

/// Returns the transaction of a datagram that is as a whole one message of STUN by its header (RFC
/// 8489, section 5).
pub(super) fn transaction(packet: &[u8]) -> Option<TransactionId> {
    let (header, attributes) = packet.split_first_chunk::<HEADER>()?;
    let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if header[0] > 3 || header[4..8] != MAGIC_COOKIE || length != attributes.len() {
        return None;
    }
    let mut id = [0; 16];
    id[4..].copy_from_slice(&header[8..]);
    Some(u128::from_be_bytes(id).into())
}

/// The first interval between transmissions, their number, and how many intervals the last one waits
/// (RFC 8489, section 6.2.1).
const RTO: Duration = Duration::from_millis(500);
const TRANSMISSIONS: u32 = 7;
const LAST_WAIT: u32 = 16;

/// The time from the first transmission to the end of the wait.
const TIMEOUT: Duration = Duration::from_millis(39_500);

/// The times at which a request is sent, and given up.
#[derive(Debug)]
pub(super) struct Timer {
    transmissions: u32,
    limit: u32,
    interval: Duration,
    due: Instant,
}

/// What a [`Timer`] asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fired {
    Send,
    GiveUp,
}

impl Timer {
    /// Begins at `start`. A request over a stream is sent once (RFC 8489, section 6.2.2).
    pub(super) fn new(start: Instant, is_stream: bool) -> Self {
        Self {
            transmissions: 0,
            limit: if is_stream { 1 } else { TRANSMISSIONS },
            interval: RTO,
            due: start,
        }
    }

    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// Returns what is due at `now`, if anything is.
    pub(super) fn fire(&mut self, now: Instant) -> Option<Fired> {
        if now < self.due {
            return None;
        }
        if self.transmissions == self.limit {
            return Some(Fired::GiveUp);
        }
        self.transmissions += 1;
        let wait = match self.transmissions {
            _ if self.limit == 1 => TIMEOUT,
            last if last == self.limit => RTO * LAST_WAIT,
            _ => self.interval,
        };
        self.due = now + wait;
        self.interval *= 2;
        Some(Fired::Send)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use stun_types::message::LongTermKeyCredentials;

    use super::*;

    fn key(password: &str) -> IntegrityKey {
        let [user, password, realm] = ["user", password, "realm"].map(str::to_owned);
        LongTermKeyCredentials::new(user, password, realm).make_key(IntegrityAlgorithm::Sha1)
    }

    #[test]
    fn what_is_written_is_read() {
        let id = TransactionId::generate();
        let [v4, v6] = ["192.0.2.1:5", "[2001:db8::1]:6"].map(|addr| addr.parse().unwrap());
        let bytes = Writer::new(MessageClass::Request, ALLOCATE, id)
            .xor_addr(XOR_PEER_ADDRESS, v4)
            .xor_addr(XOR_RELAYED_ADDRESS, v6)
            .bytes(LIFETIME, &600_u32.to_be_bytes())
            .bytes(REALM, b"realm")
            .bytes(DATA, b"12345")
            .finish(Some(&key("secret")));
        let read = Received::parse(&bytes).unwrap();
        assert_eq!(
            (read.class(), read.method()),
            (MessageClass::Request, ALLOCATE)
        );
        assert_eq!(read.transaction(), id);
        assert_eq!(transaction(&bytes), Some(id));
        assert_eq!(read.xor_addr(XOR_PEER_ADDRESS), Some(v4));
        assert_eq!(read.xor_addr(XOR_RELAYED_ADDRESS), Some(v6));
        assert_eq!(read.number(LIFETIME), Some(600));
        assert_eq!(read.text(REALM).as_deref(), Some("realm"));
        assert_eq!(&bytes[read.range(DATA).unwrap()], b"12345");
        assert_eq!(read.number(DATA), None);
        assert_eq!(read.is_signed_with(&key("secret")), Some(true));
        assert_eq!(read.is_signed_with(&key("other")), Some(false));
        let plain = Writer::new(MessageClass::Request, BINDING, id).finish(None);
        let read = Received::parse(&plain).unwrap();
        assert_eq!(read.is_signed_with(&key("secret")), None);
    }

    #[test]
    fn a_request_goes_out_seven_times_and_is_given_up_after_39_s() {
        let start = Instant::now();
        let mut timer = Timer::new(start, false);
        let mut sent = Vec::new();
        loop {
            let now = timer.due();
            assert_eq!(timer.fire(now - Duration::from_nanos(1)), None);
            let at = (now - start).as_millis();
            match timer.fire(now) {
                Some(Fired::Send) => sent.push(at),
                other => {
                    assert_eq!((other, at), (Some(Fired::GiveUp), 39_500));
                    break;
                }
            }
        }
        assert_eq!(sent, [0, 500, 1500, 3500, 7500, 15_500, 31_500]);
        let mut timer = Timer::new(start, true);
        assert_eq!(timer.fire(start), Some(Fired::Send));
        assert_eq!(timer.due(), start + TIMEOUT);
        assert_eq!(timer.fire(start + TIMEOUT), Some(Fired::GiveUp));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_message_or_not(
            mut bytes in prop::collection::vec(any::<u8>(), 0..300), well_formed in any::<bool>(),
        ) {
            if well_formed && bytes.len() >= HEADER {
                let length = (bytes.len() - HEADER) as u16;
                bytes[0] &= 3;
                bytes[2..4].copy_from_slice(&length.to_be_bytes());
                bytes[4..8].copy_from_slice(&MAGIC_COOKIE);
            }
            if let Some(read) = Received::parse(&bytes) {
                let _ = (read.class(), read.method(), read.error(), read.text(REALM));
                let _ = (read.xor_addr(XOR_PEER_ADDRESS), read.addr(ALTERNATE_SERVER));
                let _ = (read.is_signed_with(&key("secret")), read.number(LIFETIME));
                if let Some(range) = read.range(DATA) {
                    prop_assert!(bytes.get(range).is_some());
                }
            }
        }
    }
}
