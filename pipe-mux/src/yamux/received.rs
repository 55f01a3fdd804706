use std::collections::VecDeque;
use std::mem;

use bytes::{Buf, Bytes, BytesMut};

/// Minimum size of a piece that is kept in its read buffer, in bytes: half of a large read, so that
/// a kept buffer is at least half used. A smaller piece is copied.
pub(crate) const MIN_SLICE: usize = 32 * 1024;

/// The capacity of the first block of an empty queue, and the largest that it keeps, in bytes.
const MIN_BLOCK: usize = 512;

/// The capacity of a block at most, in bytes.
const MAX_BLOCK: usize = 16 * 1024;

/// Bytes of a stream that have come and were not read.
///
/// Memory is at most twice the unread bytes, one block that was read in part, and the smallest block.
#[derive(Default)]
pub(crate) struct Received {
    pieces: VecDeque<Piece>,
    len: usize,
}

enum Piece {
    /// Slice of a read buffer.
    Slice(Bytes),
    /// Copied together. Only the last piece grows.
    Block { bytes: Vec<u8>, read: usize },
}

impl Received {
    /// Returns how many bytes are there.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Takes `count` bytes from the front of `input`.
    pub(crate) fn take(&mut self, input: &mut BytesMut, count: usize) {
        self.len += count;
        if count >= MIN_SLICE {
            if self.len == count {
                // A block that was kept for small pieces.
                self.pieces.clear();
            }
            self.pieces
                .push_back(Piece::Slice(input.split_to(count).freeze()));
            return;
        }
        self.copy(&input[..count]);
        input.advance(count);
    }

    fn copy(&mut self, mut from: &[u8]) {
        let mut capacity = MIN_BLOCK;
        if let Some(Piece::Block { bytes, read }) = self.pieces.back_mut() {
            if *read == bytes.len() {
                bytes.clear();
                *read = 0;
            }
            let (now, later) = from.split_at(from.len().min(bytes.capacity() - bytes.len()));
            bytes.extend_from_slice(now);
            from = later;
            capacity = (2 * bytes.capacity()).min(MAX_BLOCK);
        }
        while !from.is_empty() {
            let (now, later) = from.split_at(from.len().min(MAX_BLOCK));
            let mut bytes = Vec::with_capacity(now.len().max(capacity));
            bytes.extend_from_slice(now);
            self.pieces.push_back(Piece::Block { bytes, read: 0 });
            from = later;
        }
    }

    /// Hands out up to `most` bytes in pieces. Returns how many that were.
    pub(crate) fn read(&mut self, most: usize, mut put: impl FnMut(&[u8])) -> usize {
        let mut count = 0;
        while count < most
            && let Some(piece) = self.pieces.front_mut()
        {
            let room = most - count;
            let (some, over) = match piece {
                Piece::Slice(slice) => {
                    let some = slice.len().min(room);
                    put(&slice[..some]);
                    slice.advance(some);
                    (some, slice.is_empty())
                }
                Piece::Block { bytes, read } => {
                    let some = (bytes.len() - *read).min(room);
                    put(&bytes[*read..*read + some]);
                    *read += some;
                    (some, *read == bytes.len())
                }
            };
            count += some;
            if over {
                self.pop();
                if some == 0 {
                    // An empty block is all that there is.
                    break;
                }
            }
        }
        self.len -= count;
        count
    }

    /// Takes up to `most` bytes of the first piece, without a copy where it is large.
    pub(crate) fn take_chunk(&mut self, most: usize) -> Option<Bytes> {
        let (chunk, is_over) = match self.pieces.front_mut()? {
            Piece::Slice(slice) => {
                let chunk = slice.split_to(slice.len().min(most));
                (chunk, slice.is_empty())
            }
            Piece::Block { bytes, read } => {
                let end = *read + (bytes.len() - *read).min(most);
                let chunk = Bytes::copy_from_slice(&bytes[*read..end]);
                *read = end;
                (chunk, *read == bytes.len())
            }
        };
        if is_over {
            self.pop();
        }
        self.len -= chunk.len();
        (!chunk.is_empty()).then_some(chunk)
    }

    /// Drops the first piece, which was read to its end. A small block stays if nothing is behind it.
    fn pop(&mut self) {
        if self.pieces.len() == 1
            && let Some(Piece::Block { bytes, read }) = self.pieces.front_mut()
            && bytes.capacity() <= MIN_BLOCK
        {
            bytes.clear();
            *read = 0;
            return;
        }
        self.pieces.pop_front();
        if self.pieces.is_empty() && self.pieces.capacity() > 4 {
            self.pieces = VecDeque::new();
        }
    }

    /// Drops everything. Returns how many bytes that was.
    pub(crate) fn clear(&mut self) -> usize {
        self.pieces = VecDeque::new();
        mem::take(&mut self.len)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    impl Received {
        fn read_into(&mut self, buf: &mut [u8]) -> usize {
            let mut filled = 0;
            self.read(buf.len(), |piece| {
                buf[filled..filled + piece.len()].copy_from_slice(piece);
                filled += piece.len();
            })
        }

        /// Returns the memory that the pieces hold, counting a slice as the half of a large read
        /// that it may be.
        fn held(&self) -> usize {
            let pieces = self.pieces.iter().map(|piece| match piece {
                Piece::Slice(slice) => 2 * slice.len().max(MIN_SLICE),
                Piece::Block { bytes, .. } => bytes.capacity(),
            });
            pieces.sum()
        }
    }

    #[test]
    fn a_reader_that_is_never_done_holds_only_what_is_unread() {
        let mut received = Received::default();
        let mut buf = vec![0; 8000];
        for _ in 0..10_000 {
            let mut frame = BytesMut::from(&[7; 8000][..]);
            received.take(&mut frame, 8000);
            if received.len() > 64 * 1024 {
                assert_eq!(received.read_into(&mut buf), 8000);
                assert!(
                    received.held() <= 2 * received.len() + MAX_BLOCK,
                    "{}",
                    received.held()
                );
            }
            if received.len() > 100 * 1024 {
                received.read_into(&mut buf);
            }
        }
    }

    #[test]
    fn one_byte_at_a_time_is_packed() {
        let mut received = Received::default();
        for _ in 0..100_000 {
            received.take(&mut BytesMut::from(&b"x"[..]), 1);
        }
        assert!(received.held() <= 200_000, "{}", received.held());
    }

    #[test]
    fn an_empty_queue_is_small() {
        let mut received = Received::default();
        let mut buf = vec![0; 100_000];
        for len in [1, 600, 20_000, 40_000, 90_000] {
            received.take(&mut BytesMut::from(&vec![1; len][..]), len);
            assert_eq!(received.read_into(&mut buf), len);
            assert!(received.held() <= MIN_BLOCK);
            assert_eq!(received.read_into(&mut buf), 0);
        }
    }

    proptest! {
        #[test]
        fn pieces_come_out_in_their_order(
            steps in prop::collection::vec((0_usize..4, 1_usize..40, 0_usize..60_000), 1..60),
        ) {
            let mut received = Received::default();
            let mut next = 0_u8;
            let mut due = VecDeque::<u8>::new();
            for (size, len, read) in steps {
                let len = len * [1, 37, 1000, MIN_SLICE / 20][size];
                let mut piece: BytesMut = (0..len).map(|_| { next = next.wrapping_mul(5).wrapping_add(1); next }).collect();
                due.extend(&piece);
                received.take(&mut piece, len);
                prop_assert!(piece.is_empty());
                prop_assert_eq!(received.len(), due.len());
                if let Some(chunk) = received.take_chunk(read / 3 + 1) {
                    prop_assert!(chunk.len() <= read / 3 + 1);
                    prop_assert!(due.drain(..chunk.len()).eq(chunk));
                } else {
                    prop_assert!(due.is_empty());
                }
                let mut buf = vec![0; read];
                let count = received.read_into(&mut buf);
                prop_assert_eq!(count, read.min(due.len()));
                prop_assert!(due.drain(..count).eq(buf[..count].iter().copied()));
                prop_assert!(received.held() <= 2 * due.len() + 2 * 60_000 + MAX_BLOCK);
            }
            let mut rest = vec![0; due.len()];
            prop_assert_eq!(received.read_into(&mut rest), due.len());
            prop_assert!(due.into_iter().eq(rest));
        }
    }
}
