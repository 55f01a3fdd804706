use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// The length of a yamux header.
const HEADER: usize = 12;

/// The type of the frame that ends a yamux connection.
const GO_AWAY: u8 = 3;

/// The type of the frames that have a body.
const DATA: u8 = 0;

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

impl GoAwayWatch {
    /// What it has seen, now and later.
    pub(crate) fn seen(&self) -> GoAway {
        self.seen.clone()
    }

    /// Takes note of bytes that leave, in any pieces.
    pub(crate) fn watch(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.body > 0 {
                let skip = self.body.min(bytes.len());
                self.body -= skip;
                bytes = &bytes[skip..];
                continue;
            }
            let take = (HEADER - self.have).min(bytes.len());
            self.header[self.have..self.have + take].copy_from_slice(&bytes[..take]);
            self.have += take;
            bytes = &bytes[take..];
            if self.have == HEADER {
                self.have = 0;
                self.take_header();
            }
        }
    }

    fn take_header(&mut self) {
        let [_, kind, .., a, b, c, d] = self.header;
        let length = u32::from_be_bytes([a, b, c, d]);
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
        watch.watch(&wire);
        assert_eq!(watch.seen().code(), None);
        watch.watch(&frame(GO_AWAY, 2));
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
            for piece in wire.chunks(size) {
                assert_eq!(seen.code(), None);
                watch.watch(piece);
            }
            assert_eq!(seen.code(), Some(1), "in pieces of {size}");
        }
    }

    #[test]
    fn a_normal_end_is_none() {
        let mut watch = GoAwayWatch::default();
        watch.watch(&frame(GO_AWAY, 0));
        assert_eq!(watch.seen().code(), None);
    }
}
