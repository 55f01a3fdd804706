use std::collections::HashMap;
use std::sync::Arc;

use super::channel_state::ChannelState;
use crate::engine::channel_info::ChannelInfo;
use crate::engine::event::ChannelEvent;

/// The largest id of a channel (RFC 8832, section 6).
const MAX_ID: u16 = 65_534;

/// The data channels of a connection, by key and by id.
#[derive(Debug, Default)]
pub(super) struct Channels {
    all: HashMap<usize, Entry>,
    ids: HashMap<u16, usize>,
    next_key: usize,
    /// Keys of the channels that wait for the association.
    waiting: Vec<usize>,
    /// The lowest bit of the ids that this side gives, once its role in DTLS is known.
    parity: Option<u16>,
    /// No free id of this side is lower.
    lowest: u16,
}

/// A channel.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) inner: Arc<ChannelState>,
    pub(super) id: Option<u16>,
    /// Whether both sides agreed on the id beforehand.
    pub(super) is_negotiated: bool,
    /// Whether the peer has not yet answered the opening of this side.
    pub(super) is_unanswered: bool,
    /// The direction of this side, and the other one.
    pub(super) outgoing: Direction,
    pub(super) incoming: Direction,
}

/// The state of one direction of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Open,
    /// This side has asked for its reset.
    Resetting,
    Reset,
}

impl Channels {
    /// Adds a channel of this side. It waits until an id can be given, unless it has one.
    pub(super) fn add(
        &mut self,
        info: ChannelInfo,
        negotiated: Option<u16>,
    ) -> Option<Arc<ChannelState>> {
        if let Some(id) = negotiated
            && self.ids.contains_key(&id)
        {
            return None;
        }
        let inner = self.insert(info, negotiated, negotiated.is_some());
        self.waiting.push(inner.key());
        Some(inner)
    }

    /// Adds a channel that the peer has opened; `None` if its id is in use, or one that this side gives.
    pub(super) fn add_remote(&mut self, info: ChannelInfo, id: u16) -> Option<Arc<ChannelState>> {
        let is_own = self.parity.is_none_or(|parity| id & 1 == parity);
        if is_own || id > MAX_ID || self.ids.contains_key(&id) {
            return None;
        }
        Some(self.insert(info, Some(id), false))
    }

    fn insert(
        &mut self,
        info: ChannelInfo,
        id: Option<u16>,
        is_negotiated: bool,
    ) -> Arc<ChannelState> {
        let key = self.next_key;
        self.next_key += 1;
        let inner = ChannelState::new(key, info);
        self.all.insert(
            key,
            Entry {
                inner: inner.clone(),
                id,
                is_negotiated,
                is_unanswered: false,
                outgoing: Direction::Open,
                incoming: Direction::Open,
            },
        );
        if let Some(id) = id {
            self.ids.insert(id, key);
        }
        inner
    }

    /// Sets the role in DTLS, of which the ids depend (RFC 8832, section 6): a client's are even.
    pub(super) fn set_role(&mut self, is_client: bool) {
        let parity = u16::from(!is_client);
        self.parity = Some(parity);
        self.lowest = parity;
    }

    /// Gives ids to the channels that wait, as far as there are any. Returns their keys.
    pub(super) fn take_waiting(&mut self) -> Vec<usize> {
        let mut ready = Vec::new();
        for key in std::mem::take(&mut self.waiting) {
            let Some(entry) = self.all.get(&key) else {
                continue;
            };
            if entry.id.is_none() {
                let Some(id) = self.free_id() else {
                    self.waiting.push(key);
                    continue;
                };
                self.ids.insert(id, key);
                if let Some(entry) = self.all.get_mut(&key) {
                    entry.id = Some(id);
                    entry.is_unanswered = true;
                }
            }
            ready.push(key);
        }
        ready
    }

    /// Returns the lowest free id of this side.
    fn free_id(&mut self) -> Option<u16> {
        let mut id = self.lowest;
        self.parity?;
        while self.ids.contains_key(&id) {
            id = id.checked_add(2).filter(|id| *id <= MAX_ID)?;
        }
        self.lowest = id;
        Some(id)
    }

    /// Returns whether another channel of this side gets an id.
    pub(super) fn has_free_id(&mut self) -> bool {
        self.parity.is_none() || self.free_id().is_some()
    }

    pub(super) fn get(&self, key: usize) -> Option<&Entry> {
        self.all.get(&key)
    }

    pub(super) fn get_mut(&mut self, key: usize) -> Option<&mut Entry> {
        self.all.get_mut(&key)
    }

    pub(super) fn by_id(&self, id: u16) -> Option<&Entry> {
        self.all.get(self.ids.get(&id)?)
    }

    pub(super) fn by_id_mut(&mut self, id: u16) -> Option<&mut Entry> {
        self.all.get_mut(self.ids.get(&id)?)
    }

    /// Returns whether a message with this id is of the next channel: the peer has reset the direction of the one
    /// before, and has not yet answered the reset of this side.
    pub(super) fn is_early(&self, id: u16) -> bool {
        let entry = self.by_id(id);
        entry.is_some_and(|entry| entry.incoming == Direction::Reset)
    }

    /// Removes a channel both of whose directions are over, so that its id is free (RFC 8831, section 6.7).
    pub(super) fn remove_if_over(&mut self, key: usize) {
        let Some(entry) = self.all.get(&key) else {
            return;
        };
        if entry.outgoing != Direction::Reset || entry.incoming != Direction::Reset {
            return;
        }
        if let Some(id) = entry.id {
            self.ids.remove(&id);
            if self.parity == Some(id & 1) {
                self.lowest = self.lowest.min(id);
            }
        }
        entry.inner.end();
        self.all.remove(&key);
    }

    /// Removes a channel that never had an id.
    pub(super) fn forget(&mut self, key: usize) {
        if let Some(entry) = self.all.remove(&key) {
            entry.inner.push(ChannelEvent::Closed);
            entry.inner.end();
        }
        self.waiting.retain(|waiting| *waiting != key);
    }

    /// Ends all channels: the transport under them is over.
    pub(super) fn close_all(&mut self) {
        for entry in self.all.values_mut() {
            if entry.incoming == Direction::Open {
                entry.incoming = Direction::Reset;
                entry.inner.push(ChannelEvent::Closed);
            }
        }
    }

    /// Ends the events of all channels.
    pub(super) fn end(&mut self) {
        for (_, entry) in self.all.drain() {
            entry.inner.end();
        }
        self.ids.clear();
        self.waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info() -> ChannelInfo {
        ChannelInfo::default()
    }

    #[test]
    fn ids_are_of_the_role_and_used_again_after_both_directions_are_reset() {
        let mut channels = Channels::default();
        let fixed = channels.add(info(), Some(2)).unwrap();
        assert!(channels.add(info(), Some(2)).is_none());
        let [a, b] = [(); 2].map(|()| channels.add(info(), None).unwrap());
        channels.set_role(true);
        let ready = channels.take_waiting();
        assert_eq!(ready, [fixed.key(), a.key(), b.key()]);
        let id = |channels: &Channels, key| channels.get(key).unwrap().id.unwrap();
        assert_eq!((id(&channels, a.key()), id(&channels, b.key())), (0, 4));

        let entry = channels.get_mut(a.key()).unwrap();
        entry.outgoing = Direction::Reset;
        channels.remove_if_over(a.key());
        let c = channels.add(info(), None).unwrap();
        channels.take_waiting();
        assert_eq!(id(&channels, c.key()), 6, "half a close");
        channels.get_mut(a.key()).unwrap().incoming = Direction::Reset;
        channels.remove_if_over(a.key());
        let d = channels.add(info(), None).unwrap();
        channels.take_waiting();
        assert_eq!(id(&channels, d.key()), 0);
    }

    #[test]
    fn the_peer_gives_ids_of_its_role_that_are_free() {
        let mut channels = Channels::default();
        assert!(channels.add_remote(info(), 1).is_none());
        channels.set_role(true);
        channels.add(info(), Some(3)).unwrap();
        for (id, is_taken) in [
            (1, true),
            (1, false),
            (2, false),
            (3, false),
            (65_535, false),
        ] {
            assert_eq!(channels.add_remote(info(), id).is_some(), is_taken, "{id}");
        }
    }

    #[test]
    fn a_channel_waits_where_no_id_is_free() {
        let mut channels = Channels::default();
        channels.set_role(false);
        for _ in 0..=(MAX_ID / 2) {
            channels.add(info(), None).unwrap();
        }
        let given = channels.take_waiting().len();
        assert_eq!(given, usize::from(MAX_ID / 2));
        assert!(!channels.has_free_id());
        let entry = channels.by_id_mut(7).unwrap();
        (entry.outgoing, entry.incoming) = (Direction::Reset, Direction::Reset);
        let key = entry.inner.key();
        channels.remove_if_over(key);
        assert!(channels.has_free_id());
        assert_eq!(channels.take_waiting().len(), 1);
    }
}
