//! The streams that are in use.

use std::collections::HashMap;
use std::sync::Arc;

use pipe_core::backend::StreamSlot;

use crate::stream_core::StreamCore;

/// Streams that this side opened and that are in use at either side, and accepted ones that are in use
/// here.
#[derive(Default)]
pub(super) struct Table {
    /// Streams by their numbers, which a peer may choose to collide in a hash without a key.
    pub(super) entries: HashMap<u64, Entry>,
    /// Number of streams that this side opened.
    pub(super) ours: usize,
    /// Number of streams that this side's application is not done with.
    pub(super) in_use: usize,
    /// Number of streams of each side so far.
    pub(super) opened: u64,
    pub(super) accepted: u64,
}

pub(super) struct Entry {
    pub(super) core: Arc<StreamCore>,
    /// Held as long as a stream that this side opened is in use at either side.
    pub(super) _slot: Option<StreamSlot>,
    /// Whether this side's application is done with both directions.
    pub(super) done: bool,
    /// Whether the peer's application is. Never set for streams of the peer.
    pub(super) peer_done: bool,
}

impl Table {
    /// Returns the number of streams.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns the number of streams that this side opened.
    pub(super) fn ours(&self) -> usize {
        self.ours
    }

    /// Returns the number of streams that this side's application is not done with.
    pub(super) fn in_use(&self) -> usize {
        self.in_use
    }

    /// Returns the number of streams that this side has opened altogether, and the peer.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.opened, self.accepted)
    }

    pub(super) fn get(&self, id: u64) -> Option<&Arc<StreamCore>> {
        self.entries.get(&id).map(|entry| &entry.core)
    }

    pub(super) fn cores(&self) -> Vec<Arc<StreamCore>> {
        self.entries
            .values()
            .map(|entry| entry.core.clone())
            .collect()
    }

    /// Takes a stream in. One that this side opened has a slot.
    pub(super) fn insert(&mut self, core: Arc<StreamCore>, slot: Option<StreamSlot>) {
        if core.ours {
            self.ours += 1;
            self.opened += 1;
        } else {
            self.accepted += 1;
        }
        self.in_use += 1;
        let entry = Entry {
            _slot: slot,
            done: false,
            peer_done: false,
            core,
        };
        self.entries.insert(entry.core.id, entry);
    }
}
