use std::collections::VecDeque;
use std::io::IoSliceMut;

use quinn::udp::RecvMeta;

/// The datagrams of a receive that joined more of them (GRO) than there were buffers.
///
/// quinn (0.11) copies a buffer as a whole, and the data of every frame in it keeps that copy: one byte of a stream that is
/// not read would hold 64 KiB. So each datagram gets a buffer of its own.
#[derive(Debug, Default)]
pub(crate) struct Joined {
    /// Those that wait for the next receive. Bounded by what one receive brings.
    waiting: VecDeque<(Vec<u8>, RecvMeta)>,
}

impl Joined {
    /// Moves datagrams that wait to the buffers, and returns how many.
    pub(crate) fn take(&mut self, bufs: &mut [IoSliceMut<'_>], metas: &mut [RecvMeta]) -> usize {
        let mut count = 0;
        for (buf, meta) in bufs.iter_mut().zip(metas) {
            let Some((datagram, its)) = self.waiting.pop_front() else {
                break;
            };
            // The buffers are all of one size.
            buf[..datagram.len()].copy_from_slice(&datagram);
            *meta = its;
            count += 1;
        }
        count
    }

    /// Gives each datagram of the first `count` buffers a buffer of its own, in the same order. Returns how many
    /// buffers are used then; the datagrams that found none wait.
    pub(crate) fn part(
        &mut self,
        bufs: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
        count: usize,
    ) -> usize {
        let room = bufs.len().min(metas.len());
        let total: usize = metas[..count].iter().map(datagrams).sum();
        if total == count {
            return count;
        }
        let mut at = 0;
        for (buf, meta) in bufs.iter().zip(metas.iter()).take(count) {
            for n in 0..datagrams(meta) {
                if at >= room {
                    let (start, its) = datagram(meta, n);
                    let bytes = buf[start..start + its.len].to_vec();
                    self.waiting.push_back((bytes, its));
                }
                at += 1;
            }
        }
        // From the last to the first: the buffer that a datagram moves to has been emptied.
        for from in (0..count).rev() {
            let meta = metas[from];
            for n in (0..datagrams(&meta)).rev() {
                at -= 1;
                if at >= room {
                    continue;
                }
                let (start, its) = datagram(&meta, n);
                if at > from {
                    let (before, rest) = bufs.split_at_mut(at);
                    rest[0][..its.len].copy_from_slice(&before[from][start..start + its.len]);
                }
                metas[at] = its;
            }
        }
        total.min(room)
    }
}

/// Returns how many datagrams a buffer holds; one of no bytes counts.
fn datagrams(meta: &RecvMeta) -> usize {
    meta.len.div_ceil(meta.stride.max(1)).max(1)
}

/// Returns where the `n`-th datagram of a buffer starts, and what is known of it.
fn datagram(meta: &RecvMeta, n: usize) -> (usize, RecvMeta) {
    let mut its = *meta;
    let start = n * meta.stride;
    its.len = (meta.len - start).min(meta.stride);
    its.stride = its.len;
    (start, its)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: usize = 64;

    /// Receives datagrams, given as the buffers that they came in with the length of each datagram in there, into so
    /// many buffers. Returns them as they are handed over.
    fn received(came: &[(&[u8], usize)], room: usize) -> Vec<Vec<u8>> {
        let mut storage = vec![[0; SIZE]; room];
        let mut metas = vec![RecvMeta::default(); room];
        for ((buf, meta), (bytes, stride)) in storage.iter_mut().zip(&mut metas).zip(came) {
            buf[..bytes.len()].copy_from_slice(bytes);
            (meta.len, meta.stride) = (bytes.len(), *stride);
        }
        let mut bufs: Vec<_> = storage.iter_mut().map(|buf| IoSliceMut::new(buf)).collect();
        let mut joined = Joined::default();
        let mut all = Vec::new();
        let mut count = joined.part(&mut bufs, &mut metas, came.len());
        while count > 0 {
            for (buf, meta) in bufs.iter().zip(&metas).take(count) {
                assert_eq!(meta.len, meta.stride, "a buffer has one datagram");
                all.push(buf[..meta.len].to_vec());
            }
            count = joined.take(&mut bufs, &mut metas);
        }
        all
    }

    #[test]
    fn each_datagram_gets_a_buffer_in_the_order_of_the_receive() {
        let came: [(&[u8], usize); 3] = [(b"aabbc", 2), (b"dd", 2), (b"eeeffff", 4)];
        let expected: [&[u8]; 6] = [b"aa", b"bb", b"c", b"dd", b"eeef", b"fff"];
        for room in 3..8 {
            assert_eq!(received(&came, room), expected, "{room} buffers");
        }
    }

    #[test]
    fn datagrams_that_came_alone_stay_where_they_are() {
        let came: [(&[u8], usize); 2] = [(b"aa", 2), (b"b", 1)];
        assert_eq!(received(&came, 2), [b"aa".to_vec(), b"b".to_vec()]);
    }
}
