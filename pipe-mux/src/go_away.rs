use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;

/// The length of a yamux header.
const HEADER: usize = 12;

/// The type of the frame that ends a yamux connection.
const GO_AWAY: u8 = 3;

/// The type of the frames that have a body.
const DATA: u8 = 0;

/// The flags of the end of a direction, and of a reset.
const FIN: u8 = 4;
const RST: u8 = 8;

/// Watches the frames that leave for the one with which yamux gives a connection up.
///
/// When the peer breaks the rules, the yamux crate sends a GoAway with the error and then carries on
/// as if nothing had been, so this is the only place where it can be seen.
#[derive(Default)]
pub(crate) struct GoAwayWatch {
    header: [u8; HEADER],
    /// How much of the header has been seen.
    have: usize,
    /// How much of the body is still to come.
    body: usize,
    seen: GoAway,
    resets: Resets,
}

/// The streams that are being reset.
///
/// When a stream is dropped whose peer has ended its direction, the yamux crate says that this side's
/// has ended, too, although it was cut short. That word is changed into a reset on its way out.
///
/// It holds as many streams as there may be at once. Beyond that the oldest is forgotten: it had been
/// reset by the peer at the same moment, so that nothing was said of it.
#[derive(Clone, Default)]
pub(crate) struct Resets {
    ids: Arc<Mutex<BTreeSet<u32>>>,
    limit: usize,
}

/// Where a [`GoAwayWatch`] tells what it has seen.
#[derive(Clone, Default)]
pub(crate) struct GoAway(Arc<AtomicU32>);

impl GoAway {
    /// The error code of a GoAway that has left; a normal end has none.
    pub(crate) fn code(&self) -> Option<u32> {
        let code = self.0.load(Ordering::Relaxed);
        (code != 0).then_some(code)
    }
}

impl Resets {
    /// This stream is about to be dropped unfinished.
    pub(crate) fn add(&self, id: u32) {
        let mut ids = self.ids.lock();
        ids.insert(id);
        if ids.len() > self.limit {
            ids.pop_first();
        }
    }
}

impl GoAwayWatch {
    /// Where to tell which of up to `limit` streams are reset.
    pub(crate) fn resets(&mut self, limit: usize) -> Resets {
        self.resets.limit = limit;
        self.resets.clone()
    }

    /// What it has seen, now and later.
    pub(crate) fn seen(&self) -> GoAway {
        self.seen.clone()
    }

    /// Takes note of bytes that leave, in any pieces. The yamux crate writes each header in one.
    pub(crate) fn watch(&mut self, mut bytes: &mut [u8]) {
        while !bytes.is_empty() {
            if self.body > 0 {
                let skip = self.body.min(bytes.len());
                self.body -= skip;
                bytes = &mut bytes[skip..];
                continue;
            }
            let take = (HEADER - self.have).min(bytes.len());
            let (piece, rest) = bytes.split_at_mut(take);
            self.header[self.have..self.have + take].copy_from_slice(piece);
            self.have += take;
            bytes = rest;
            if self.have == HEADER {
                self.have = 0;
                self.take_header(piece);
            }
        }
    }

    fn take_header(&mut self, header: &mut [u8]) {
        let [_, kind, _, flags, s, t, u, v, a, b, c, d] = self.header;
        let length = u32::from_be_bytes([a, b, c, d]);
        if kind == DATA && flags & (FIN | RST) != 0 && header.len() == HEADER {
            let id = u32::from_be_bytes([s, t, u, v]);
            if self.resets.ids.lock().remove(&id) {
                header[3] = flags & !FIN | RST;
            }
        }
        match kind {
            DATA => self.body = length as usize,
            GO_AWAY => self.seen.0.store(length, Ordering::Relaxed),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, length: u32) -> Vec<u8> {
        let mut frame = vec![0, kind, 0, 0, 0, 0, 0, 1];
        frame.extend(length.to_be_bytes());
        frame
    }

    #[test]
    fn a_go_away_is_found_behind_data_that_looks_like_one() {
        let mut wire = frame(DATA, 24);
        wire.extend(frame(GO_AWAY, 1));
        wire.extend(frame(GO_AWAY, 1));
        wire.extend(frame(2, 7));
        let mut watch = GoAwayWatch::default();
        watch.watch(&mut wire);
        assert_eq!(watch.seen().code(), None);
        watch.watch(&mut frame(GO_AWAY, 2));
        assert_eq!(watch.seen().code(), Some(2));
    }

    #[test]
    fn pieces_of_any_size_do() {
        let mut wire = frame(DATA, 5);
        wire.extend([3; 5]);
        wire.extend(frame(1, 9));
        wire.extend(frame(GO_AWAY, 1));
        for size in 1..wire.len() {
            let mut watch = GoAwayWatch::default();
            let seen = watch.seen();
            for piece in wire.clone().chunks_mut(size) {
                assert_eq!(seen.code(), None);
                watch.watch(piece);
            }
            assert_eq!(seen.code(), Some(1), "in pieces of {size}");
        }
    }

    #[test]
    fn a_normal_end_is_none() {
        let mut watch = GoAwayWatch::default();
        watch.watch(&mut frame(GO_AWAY, 0));
        assert_eq!(watch.seen().code(), None);
    }
    #[test]
    fn the_end_of_a_stream_that_is_reset_leaves_as_a_reset() {
        let end = |id: u8| [0, DATA, 0, FIN, 0, 0, 0, id, 0, 0, 0, 0];
        let mut watch = GoAwayWatch::default();
        watch.resets(2).add(3);
        let mut wire = [end(1), end(3), end(3)].concat();
        watch.watch(&mut wire);
        let flags: Vec<_> = wire.chunks(HEADER).map(|header| header[3]).collect();
        assert_eq!(flags, [FIN, RST, FIN]);
    }

    #[test]
    fn no_more_resets_are_kept_than_there_are_streams() {
        let mut watch = GoAwayWatch::default();
        let resets = watch.resets(2);
        (1..=3).for_each(|id| resets.add(id));
        assert_eq!(*resets.ids.lock(), BTreeSet::from([2, 3]));
    }
}
