//! One incoming stream: the order of its messages, and fragments of I-DATA chunks.

use super::{
    cost::{OVERHEAD, PARTIAL},
    fragments::Fragments,
};
use crate::{
    event::{Message, Violation},
    tsn,
};
use std::collections::BTreeMap;

/// The number of a stream's first message: above what 16 or 32 bits reach back to.
const FIRST: u64 = 1 << 32;

/// One incoming stream.
#[derive(Debug)]
pub(super) struct InStream {
    /// Number of the ordered message that is delivered next.
    next: u64,
    /// Ordered messages that wait for an earlier one.
    ready: BTreeMap<u64, Message>,
    /// Fragments of ordered and unordered messages by MID.
    ordered: BTreeMap<u32, Fragments>,
    unordered: BTreeMap<u32, Fragments>,
}

impl Default for InStream {
    fn default() -> Self {
        Self {
            next: FIRST,
            ready: BTreeMap::new(),
            ordered: BTreeMap::new(),
            unordered: BTreeMap::new(),
        }
    }
}

impl InStream {
    /// Returns the full number of an ordered message.
    fn number(&self, mid: u32, interleaved: bool) -> u64 {
        if interleaved {
            tsn::expand32(self.next, mid)
        } else {
            tsn::expand16(self.next, mid as u16)
        }
    }

    /// Returns whether an ordered message was delivered or skipped.
    pub(super) fn is_past(&self, mid: u32, interleaved: bool) -> bool {
        self.number(mid, interleaved) < self.next
    }

    /// Returns an ordered message if it is the next, or keeps it until it is.
    pub(super) fn arrange(
        &mut self,
        mid: u32,
        interleaved: bool,
        message: Message,
    ) -> Result<Option<Message>, Violation> {
        let number = self.number(mid, interleaved);
        if number == self.next {
            self.next += 1;
            return Ok(Some(message));
        }
        if self.ready.insert(number, message).is_some() {
            return Err(Violation::protocol(
                "two messages of a stream have one number",
            ));
        }
        Ok(None)
    }

    /// Takes the next message if it is there.
    pub(super) fn take_ready(&mut self) -> Option<Message> {
        let entry = self.ready.first_entry()?;
        if *entry.key() != self.next {
            return None;
        }
        self.next += 1;
        Some(entry.remove())
    }

    /// Skips ordered messages up to `mid`. Returns those of them that are complete.
    pub(super) fn skip(&mut self, mid: u32, interleaved: bool) -> Vec<Message> {
        let number = self.number(mid, interleaved);
        let mut complete = Vec::new();
        if number < self.next {
            return complete;
        }
        while let Some(entry) = self.ready.first_entry() {
            if *entry.key() > number {
                break;
            }
            complete.push(entry.remove());
        }
        self.next = number + 1;
        complete
    }

    fn map(&mut self, unordered: bool) -> &mut BTreeMap<u32, Fragments> {
        if unordered {
            &mut self.unordered
        } else {
            &mut self.ordered
        }
    }

    /// Returns the fragments of a message.
    pub(super) fn fragments(&mut self, unordered: bool, mid: u32) -> &mut Fragments {
        self.map(unordered).entry(mid).or_default()
    }

    pub(super) fn remove_fragments(&mut self, unordered: bool, mid: u32) {
        self.map(unordered).remove(&mid);
    }

    /// Drops fragments of messages up to `mid`. Returns what they counted.
    pub(super) fn drop_fragments(&mut self, unordered: bool, mid: u32) -> usize {
        let mut freed = 0;
        self.map(unordered).retain(|other, fragments| {
            let keep = mid.wrapping_sub(*other) > u32::MAX / 2;
            if !keep {
                freed += fragments.stored() + PARTIAL;
            }
            keep
        });
        freed
    }

    /// Returns what everything in it counts.
    pub(super) fn stored(&self) -> usize {
        let ready: usize = self
            .ready
            .values()
            .map(|message| message.payload.len() + OVERHEAD)
            .sum();
        let fragments = self.ordered.values().chain(self.unordered.values());
        ready
            + fragments
                .map(|partial| partial.stored() + PARTIAL)
                .sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn message(byte: u8) -> Message {
        let payload = Bytes::from(vec![byte]);
        Message {
            stream: 1,
            ppid: 2,
            payload,
            unordered: false,
        }
    }

    #[test]
    fn messages_wait_for_earlier_ones_across_the_wrap() {
        let mut stream = InStream {
            next: FIRST + 0xffff,
            ..InStream::default()
        };
        assert_eq!(stream.arrange(0, false, message(0)), Ok(None));
        assert!(stream.arrange(0, false, message(0)).is_err());
        assert_eq!(stream.stored(), 1 + OVERHEAD);
        assert_eq!(
            stream.arrange(0xffff, false, message(1)),
            Ok(Some(message(1)))
        );
        assert_eq!(stream.take_ready(), Some(message(0)));
        assert_eq!(stream.take_ready(), None);
        assert!(stream.is_past(0, false) && !stream.is_past(1, false));
    }

    #[test]
    fn a_skip_delivers_what_is_complete() {
        let mut stream = InStream::default();
        for mid in [1, 2, 4] {
            assert_eq!(stream.arrange(mid, true, message(mid as u8)), Ok(None));
        }
        assert_eq!(stream.skip(2, true), [message(1), message(2)]);
        assert_eq!(stream.take_ready(), None);
        assert_eq!(stream.skip(3, true), []);
        assert_eq!(stream.take_ready(), Some(message(4)));
        assert_eq!(stream.skip(0, true), []);
        assert!(!stream.is_past(5, true));
    }
}
