use tokio::io::ReadBuf;

/// Size of a copy where the two ends are aligned unfavourably.
///
/// The C library copies larger blocks with `rep movsb`, which falls to a small fraction of its speed
/// on common processors when the destination lies a few bytes past the source modulo 4 KiB. Blocks of
/// this size are fast at every alignment, and cost a little where whole copies are fast too.
const BLOCK: usize = 2048;

/// The first allocation, in bytes.
const SMALLEST: usize = 64;

/// A ring of bytes whose memory grows with what it holds.
#[derive(Default)]
pub(crate) struct Ring {
    buf: Box<[u8]>,
    head: usize,
    len: usize,
}

impl Ring {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends `src`. The caller keeps the content within `limit`.
    #[inline]
    pub(crate) fn write(&mut self, src: &[u8], limit: usize) {
        let len = self.len + src.len();
        if len > self.buf.len() {
            self.grow(len.next_power_of_two().max(SMALLEST).min(limit.max(len)));
        }
        let capacity = self.buf.len();
        let mut tail = self.head + self.len;
        if tail >= capacity {
            tail -= capacity;
        }
        self.len = len;
        let room = capacity - tail;
        if src.len() <= room {
            copy(&mut self.buf[tail..tail + src.len()], src);
        } else {
            let (first, second) = src.split_at(room);
            copy(&mut self.buf[tail..], first);
            copy(&mut self.buf[..second.len()], second);
        }
    }

    /// Moves as much as there is room for into `dst`, and returns how much that was.
    #[inline]
    pub(crate) fn read(&mut self, dst: &mut ReadBuf<'_>) -> usize {
        let count = self.len.min(dst.remaining());
        let contiguous = self.buf.len() - self.head;
        if count <= contiguous {
            put(dst, &self.buf[self.head..self.head + count]);
            self.head += count;
        } else {
            put(dst, &self.buf[self.head..]);
            self.head = count - contiguous;
            put(dst, &self.buf[..self.head]);
        }
        self.len -= count;
        if self.len == 0 || self.head == self.buf.len() {
            self.head = 0;
        }
        count
    }

    /// Drops the content and gives the memory back.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    #[cold]
    fn grow(&mut self, capacity: usize) {
        let mut buf = vec![0; capacity].into_boxed_slice();
        let first = self.len.min(self.buf.len() - self.head);
        buf[..first].copy_from_slice(&self.buf[self.head..self.head + first]);
        buf[first..self.len].copy_from_slice(&self.buf[..self.len - first]);
        self.buf = buf;
        self.head = 0;
    }
}

#[inline]
fn copy(dst: &mut [u8], src: &[u8]) {
    if src.len() <= BLOCK || !is_unlucky(dst, src) {
        return dst.copy_from_slice(src);
    }
    for (dst, src) in dst.chunks_mut(BLOCK).zip(src.chunks(BLOCK)) {
        dst.copy_from_slice(src);
    }
}

#[inline]
fn put(dst: &mut ReadBuf<'_>, src: &[u8]) {
    // One byte, to learn where the buffer lies; the rest of it may not be initialised.
    if src.len() <= BLOCK || !is_unlucky(dst.initialize_unfilled_to(1), src) {
        return dst.put_slice(src);
    }
    for src in src.chunks(BLOCK) {
        dst.put_slice(src);
    }
}

/// Returns whether the destination lies up to 16 bytes past the source modulo 4 KiB.
#[inline]
fn is_unlucky(dst: &[u8], src: &[u8]) -> bool {
    let distance = dst.as_ptr().addr().wrapping_sub(src.as_ptr().addr()) % 4096;
    (1..=16).contains(&distance)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    #[test]
    fn it_holds_what_a_queue_would() {
        let mut rng = fastrand::Rng::with_seed(7);
        for limit in [1, 2, 63, 64, 65, 1000, 4096, 5000] {
            let mut ring = Ring::default();
            let mut model = VecDeque::new();
            let mut memory = vec![0; limit + 7];
            for _ in 0..2000 {
                let count = rng.usize(..=limit - ring.len);
                let bytes: Vec<u8> = std::iter::repeat_with(|| rng.u8(..)).take(count).collect();
                ring.write(&bytes, limit);
                model.extend(bytes);
                assert_eq!(ring.len, model.len());

                let room = rng.usize(..memory.len());
                let mut dst = ReadBuf::new(&mut memory[..room]);
                let count = ring.read(&mut dst);
                assert_eq!(count, room.min(model.len()));
                assert_eq!(dst.filled(), model.drain(..count).collect::<Vec<_>>());
                assert!(ring.buf.len() <= limit.max(SMALLEST));
            }
        }
    }

    #[test]
    fn copies_are_whole_at_every_alignment() {
        let src: Vec<u8> = (0..20_000).map(|i| (i % 251) as u8).collect();
        let mut memory = vec![0; 20_000 + 4096];
        for offset in 0..4096 {
            let dst = &mut memory[offset..offset + 9000];
            copy(dst, &src[..9000]);
            assert!(*dst == src[..9000]);
            let mut read = ReadBuf::new(dst);
            put(&mut read, &src[9000..18_000]);
            assert!(read.filled() == &src[9000..18_000]);
        }
    }

    #[test]
    fn its_memory_follows_its_content() {
        let mut ring = Ring::default();
        assert_eq!(ring.buf.len(), 0);
        ring.write(b"x", 1 << 18);
        assert_eq!(ring.buf.len(), SMALLEST);
        ring.write(&[0; 1000], 1 << 18);
        assert_eq!(ring.buf.len(), 1024);
        ring.clear();
        assert_eq!(ring.buf.len(), 0);
        assert!(ring.is_empty());
    }
}
