use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use bytes::Bytes;
use stun_types::message::{
    IntegrityAlgorithm, IntegrityKey, LongTermKeyCredentials, MessageClass, TransactionId,
};

use crate::engine::own::stun::{
    ALLOCATE, CHANNEL_BIND, CHANNEL_NUMBER, CREATE_PERMISSION, LIFETIME, NONCE, REALM, REFRESH,
    REQUESTED_ADDRESS_FAMILY, REQUESTED_TRANSPORT, Timer, USERNAME, Writer, XOR_PEER_ADDRESS,
};

/// UDP as the transport of an allocation (RFC 8656, section 18.7).
const UDP: [u8; 4] = [17, 0, 0, 0];

/// IPv6 as the family of an allocation (RFC 8656, section 18.6).
const IPV6: [u8; 4] = [2, 0, 0, 0];

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Allocation,
    /// Lifetime in seconds; 0 ends the allocation.
    Refresh(u32),
    Permission(IpAddr),
    Channel(u16, SocketAddr),
}

/// A request that waits for its answer.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) asked: Asked,
    pub(super) transaction: TransactionId,
    pub(super) payload: Bytes,
    pub(super) timer: Timer,
    /// Whether it carries credentials.
    pub(super) is_signed: bool,
    /// Number of times that the server has refused its nonce.
    pub(super) stale: u32,
}

impl Request {
    pub(super) fn new(
        asked: Asked,
        family: Family,
        auth: Option<&Auth>,
        start: Instant,
        is_stream: bool,
    ) -> Self {
        let transaction = TransactionId::generate();
        Self {
            asked,
            transaction,
            payload: write(asked, family, auth, transaction).into(),
            timer: Timer::new(start, is_stream),
            is_signed: auth.is_some(),
            stale: 0,
        }
    }
}

/// The family of a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    /// As the server chooses, which is IPv4 (RFC 8656, section 7.2).
    Default,
    Ipv6 {
        /// Whether the server has refused IPv4.
        is_second: bool,
    },
}

/// What the server has to see in requests (RFC 8489, section 9.2). Its debug output leaves the key out.
pub(super) struct Auth {
    username: String,
    realm: String,
    nonce: String,
    pub(super) key: IntegrityKey,
}

impl Auth {
    pub(super) fn new(username: &str, password: &str, realm: String, nonce: String) -> Self {
        let [name, word] = [username, password].map(str::to_owned);
        let credentials = LongTermKeyCredentials::new(name, word, realm.clone());
        Self {
            username: username.to_owned(),
            realm,
            nonce,
            key: credentials.make_key(IntegrityAlgorithm::Sha1),
        }
    }

    pub(super) fn realm(&self) -> &str {
        &self.realm
    }
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth")
            .field("username", &self.username)
            .field("realm", &self.realm)
            .finish_non_exhaustive()
    }
}

fn write(asked: Asked, family: Family, auth: Option<&Auth>, transaction: TransactionId) -> Vec<u8> {
    let request = |method| Writer::new(MessageClass::Request, method, transaction);
    let mut writer = match asked {
        Asked::Allocation => {
            let writer = request(ALLOCATE).bytes(REQUESTED_TRANSPORT, &UDP);
            match family {
                Family::Default => writer,
                Family::Ipv6 { .. } => writer.bytes(REQUESTED_ADDRESS_FAMILY, &IPV6),
            }
        }
        Asked::Refresh(lifetime) => request(REFRESH).bytes(LIFETIME, &lifetime.to_be_bytes()),
        Asked::Permission(peer) => {
            let peer = SocketAddr::new(peer, 0);
            request(CREATE_PERMISSION).xor_addr(XOR_PEER_ADDRESS, peer)
        }
        Asked::Channel(number, peer) => {
            let [high, low] = number.to_be_bytes();
            request(CHANNEL_BIND)
                .bytes(CHANNEL_NUMBER, &[high, low, 0, 0])
                .xor_addr(XOR_PEER_ADDRESS, peer)
        }
    };
    if let Some(auth) = auth {
        writer = writer
            .bytes(USERNAME, auth.username.as_bytes())
            .bytes(REALM, auth.realm.as_bytes())
            .bytes(NONCE, auth.nonce.as_bytes());
    }
    writer.finish(auth.map(|auth| &auth.key))
}
