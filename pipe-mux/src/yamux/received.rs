use std::collections::VecDeque;

use bytes::{Buf, Bytes};

/// How small a piece may be that is kept where it was read, in bytes. A smaller one is copied, so that a
/// few bytes that nobody reads do not hold a whole buffer of the connection.
pub(super) const MIN_SLICE: usize = 16 * 1024;

/// How large the buffer of an empty queue may be, in bytes.
const SMALL: usize = 512;

/// What has come of a stream and was not read.
#[derive(Default)]
pub(super) struct Received {
    slices: VecDeque<Bytes>,
    /// Copied pieces, behind the slices.
    copied: Vec<u8>,
    /// How much of the copied pieces was read.
    read: usize,
}

impl Received {
    pub(super) fn push_slice(&mut self, slice: Bytes) {
        if self.read < self.copied.len() {
            let mut copied = Bytes::from(std::mem::take(&mut self.copied));
            copied.advance(self.read);
            self.slices.push_back(copied);
        } else {
            self.copied.clear();
        }
        self.read = 0;
        self.slices.push_back(slice);
    }

    pub(super) fn push_copy(&mut self, piece: &[u8]) {
        self.copied.extend_from_slice(piece);
    }

    /// Moves as much as there is into `buf`. Returns how much that was.
    pub(super) fn read(&mut self, buf: &mut [u8]) -> usize {
        let mut count = 0;
        while count < buf.len()
            && let Some(slice) = self.slices.front_mut()
        {
            let some = slice.len().min(buf.len() - count);
            slice.copy_to_slice(&mut buf[count..count + some]);
            count += some;
            if slice.is_empty() {
                self.slices.pop_front();
            }
        }
        let some = (self.copied.len() - self.read).min(buf.len() - count);
        buf[count..count + some].copy_from_slice(&self.copied[self.read..self.read + some]);
        self.read += some;
        if self.read == self.copied.len() && self.read > 0 {
            self.read = 0;
            self.copied.clear();
            if self.copied.capacity() > SMALL {
                self.copied = Vec::new();
            }
        }
        count + some
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pieces_come_out_in_their_order(
            steps in prop::collection::vec((any::<bool>(), 1_usize..40, 0_usize..60), 1..60),
        ) {
            let mut received = Received::default();
            let mut next = 0_u8;
            let mut due = VecDeque::<u8>::new();
            for (slice, len, read) in steps {
                let piece: Vec<u8> = (0..len).map(|_| { next = next.wrapping_add(1); next }).collect();
                due.extend(&piece);
                if slice {
                    received.push_slice(piece.into());
                } else {
                    received.push_copy(&piece);
                }
                let mut buf = vec![0; read];
                let count = received.read(&mut buf);
                prop_assert_eq!(count, read.min(due.len()));
                prop_assert!(due.drain(..count).eq(buf[..count].iter().copied()));
            }
            let mut rest = vec![0; due.len()];
            prop_assert_eq!(received.read(&mut rest), due.len());
            prop_assert!(due.into_iter().eq(rest));
        }
    }
}
