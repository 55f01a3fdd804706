//! The state cookie (RFC 9260, section 5.1.3): what an INIT ACK gives to the peer to keep.

use crate::{
    chunk::init::{Features, Init},
    wire::{Put, Reader},
};
use siphasher::sip128::{Hasher128, SipHasher24};
use std::{hash::Hasher, time::Duration};

/// How long a cookie is valid (RFC 9260, section 16: Valid.Cookie.Life).
pub(crate) const LIFETIME: Duration = Duration::from_secs(60);

const MAC: usize = 16;

/// Authenticates cookies. Inside DTLS a cookie only returns to its own association, so that a keyed
/// hash suffices.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CookieKey {
    pub(crate) key: (u64, u64),
}

/// What is needed to set up an association, or to compare it with one that stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cookie {
    pub(crate) local_tag: u32,
    pub(crate) local_initial_tsn: u32,
    /// The tags of the association that stood when the cookie was made, or zero.
    pub(crate) tie_tags: (u32, u32),
    /// Since the association was created.
    pub(crate) created: Duration,
    pub(crate) peer: Peer,
}

/// What an INIT or INIT ACK tells about the peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) tag: u32,
    pub(crate) initial_tsn: u32,
    pub(crate) window: u32,
    pub(crate) outbound_streams: u16,
    pub(crate) inbound_streams: u16,
    pub(crate) features: Features,
}

impl From<&Init> for Peer {
    fn from(init: &Init) -> Self {
        Self {
            tag: init.tag,
            initial_tsn: init.initial_tsn,
            window: init.window,
            outbound_streams: init.outbound_streams,
            inbound_streams: init.inbound_streams,
            features: init.features,
        }
    }
}

impl CookieKey {
    fn mac(&self, bytes: &[u8]) -> [u8; MAC] {
        let mut hasher = SipHasher24::new_with_keys(self.key.0, self.key.1);
        hasher.write(bytes);
        hasher.finish128().as_bytes()
    }

    pub(crate) fn seal(&self, cookie: &Cookie) -> Vec<u8> {
        let mut buf = Vec::with_capacity(64);
        buf.put_u32(cookie.local_tag);
        buf.put_u32(cookie.local_initial_tsn);
        buf.put_u32(cookie.tie_tags.0);
        buf.put_u32(cookie.tie_tags.1);
        buf.put_u64(u64::try_from(cookie.created.as_micros()).unwrap_or(u64::MAX));
        buf.put_u32(cookie.peer.tag);
        buf.put_u32(cookie.peer.initial_tsn);
        buf.put_u32(cookie.peer.window);
        buf.put_u16(cookie.peer.outbound_streams);
        buf.put_u16(cookie.peer.inbound_streams);
        buf.put_u32(cookie.peer.features.to_bits());
        let mac = self.mac(&buf);
        buf.put(&mac);
        buf
    }

    /// Returns the cookie in `bytes` if this key made it.
    pub(crate) fn open(&self, bytes: &[u8]) -> Option<Cookie> {
        let (content, mac) = bytes.split_at_checked(bytes.len().checked_sub(MAC)?)?;
        if self.mac(content) != mac {
            return None;
        }
        let mut reader = Reader::new(content);
        Some(Cookie {
            local_tag: reader.u32()?,
            local_initial_tsn: reader.u32()?,
            tie_tags: (reader.u32()?, reader.u32()?),
            created: Duration::from_micros(reader.u64()?),
            peer: Peer {
                tag: reader.u32()?,
                initial_tsn: reader.u32()?,
                window: reader.u32()?,
                outbound_streams: reader.u16()?,
                inbound_streams: reader.u16()?,
                features: Features::from_bits(reader.u32()?),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_own_unchanged_cookie_is_opened() {
        let cookie = Cookie {
            local_tag: 1,
            local_initial_tsn: 2,
            tie_tags: (3, 4),
            created: Duration::from_micros(5),
            peer: Peer {
                tag: 6,
                initial_tsn: 7,
                window: 8,
                outbound_streams: 9,
                inbound_streams: 10,
                features: Features {
                    ack_delay: Some(3),
                    reconfig: true,
                    ..Features::default()
                },
            },
        };
        let key = CookieKey { key: (1, 2) };
        let mut sealed = key.seal(&cookie);
        assert_eq!(key.open(&sealed), Some(cookie));
        assert_eq!(CookieKey { key: (1, 3) }.open(&sealed), None);
        for at in 0..sealed.len() {
            sealed[at] ^= 1;
            assert_eq!(key.open(&sealed), None);
            sealed[at] ^= 1;
            assert_eq!(key.open(&sealed[..at]), None);
        }
    }
}
