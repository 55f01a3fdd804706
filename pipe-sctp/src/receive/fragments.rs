//! Joins fragments to messages. Fragments are stored as runs of consecutive numbers, so that one more
//! costs no walk over those that are there.

use super::cost::{OVERHEAD, RUN};
use crate::{
    chunk::data::{DataHeader, flag},
    event::Violation,
};
use bytes::{Bytes, BytesMut};
use std::collections::{BTreeMap, VecDeque};

/// The violation of a peer whose message exceeds [`Config::max_message_size`](crate::Config::max_message_size).
pub(super) const TOO_LARGE: Violation = Violation::protocol("a message exceeds the largest size");

/// The message that a fragment is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Whose {
    pub(super) stream: u16,
    pub(super) unordered: bool,
    pub(super) mid: u32,
}

/// Consecutive fragments of one message.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) whose: Whose,
    /// That of the first fragment.
    pub(super) ppid: u32,
    parts: VecDeque<Bytes>,
    len: usize,
    begins: bool,
    ends: bool,
}

impl Run {
    /// Returns what the run counts against the receive buffer.
    pub(super) fn stored(&self) -> usize {
        self.len + self.parts.len() * OVERHEAD + RUN
    }

    /// Returns the content: the one copy of a message that had several fragments.
    pub(super) fn join(mut self) -> Bytes {
        if self.parts.len() == 1 {
            return self.parts.pop_front().unwrap_or_default();
        }
        let mut payload = BytesMut::with_capacity(self.len);
        for part in &self.parts {
            payload.extend_from_slice(part);
        }
        payload.freeze()
    }

    /// Appends the run that follows.
    fn append(&mut self, mut next: Self) {
        self.len += next.len;
        self.ends = next.ends;
        if self.parts.len() >= next.parts.len() {
            self.parts.append(&mut next.parts);
        } else {
            while let Some(part) = self.parts.pop_back() {
                next.parts.push_front(part);
            }
            self.parts = next.parts;
        }
    }
}

/// Runs of fragments by the number of their first: the TSN, or the FSN within a message.
#[derive(Debug, Default)]
pub(super) struct Fragments {
    runs: BTreeMap<u64, Run>,
}

impl Fragments {
    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Adds a fragment, and what is stored more by it to `used`. Returns the message if it is complete, which is still
    /// counted.
    pub(super) fn insert(
        &mut self,
        number: u64,
        header: &DataHeader,
        whose: Whose,
        payload: Bytes,
        max_len: usize,
        used: &mut usize,
    ) -> Result<Option<Run>, Violation> {
        const CONFLICT: Violation = Violation::protocol("fragments of a message do not match");
        let begins = header.flags & flag::BEGIN != 0;
        let ends = header.flags & flag::END != 0;
        let len = payload.len();
        let mut run = Run {
            whose,
            ppid: header.ppid,
            // Most runs that are begun out of order stay short.
            parts: VecDeque::with_capacity(1),
            len,
            begins,
            ends,
        };
        run.parts.push_back(payload);
        *used += run.stored();
        if let Some(next) = self.runs.get(&(number + 1)) {
            // A message that was given up may end without its last fragment, but none begins without
            // its first.
            if ends && !next.begins {
                return Err(CONFLICT);
            }
            if !ends && !next.begins {
                if next.whose != whose {
                    return Err(CONFLICT);
                }
                if let Some(next) = self.runs.remove(&(number + 1)) {
                    run.append(next);
                    *used -= RUN;
                }
            }
        }
        let mut first = number;
        if let Some((start, previous)) = self.runs.range_mut(..number).next_back()
            && start + previous.parts.len() as u64 == number
        {
            if previous.ends && !begins {
                return Err(CONFLICT);
            }
            if !previous.ends && !begins {
                if previous.whose != whose {
                    return Err(CONFLICT);
                }
                first = *start;
                previous.append(run);
                *used -= RUN;
                if previous.len > max_len {
                    return Err(TOO_LARGE);
                }
                if previous.begins && previous.ends {
                    return Ok(self.runs.remove(&first));
                }
                return Ok(None);
            }
        }
        if run.len > max_len {
            return Err(TOO_LARGE);
        }
        if run.begins && run.ends {
            return Ok(Some(run));
        }
        self.runs.insert(first, run);
        Ok(None)
    }

    /// Drops runs that end at or before `number`. Returns what they counted.
    pub(super) fn drop_to(&mut self, number: u64) -> usize {
        let mut freed = 0;
        while let Some(entry) = self.runs.first_entry() {
            if entry.key() + entry.get().parts.len() as u64 > number + 1 {
                break;
            }
            freed += entry.remove().stored();
        }
        freed
    }

    /// Returns what all runs count.
    pub(super) fn stored(&self) -> usize {
        self.runs.values().map(Run::stored).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WHOSE: Whose = Whose {
        stream: 1,
        unordered: false,
        mid: 2,
    };

    fn header(flags: u8) -> DataHeader {
        DataHeader {
            flags,
            tsn: 0,
            stream: 1,
            mid: 2,
            ppid: 3,
            fsn: 0,
        }
    }

    fn insert(fragments: &mut Fragments, number: u64, flags: u8) -> Result<Option<Run>, Violation> {
        insert_counted(fragments, number, flags, &mut 0)
    }

    fn insert_counted(
        fragments: &mut Fragments,
        number: u64,
        flags: u8,
        used: &mut usize,
    ) -> Result<Option<Run>, Violation> {
        let payload = Bytes::from(vec![number as u8]);
        // What was joined is counted no more.
        *used += 2 * RUN;
        let result = fragments.insert(number, &header(flags), WHOSE, payload, 100, used);
        *used -= 2 * RUN;
        result
    }

    proptest! {
        #[test]
        fn a_message_is_joined_in_any_order(
            order in Just((0u64..40).collect::<Vec<_>>()).prop_shuffle(),
        ) {
            let mut fragments = Fragments::default();
            let mut complete = None;
            let mut used = 0;
            for (index, number) in order.iter().enumerate() {
                let flags = match number { 0 => flag::BEGIN, 39 => flag::END, _ => 0 };
                let run = insert_counted(&mut fragments, *number, flags, &mut used).expect("matches");
                prop_assert_eq!(run.is_some(), index == 39);
                prop_assert_eq!(used, run.as_ref().map_or_else(|| fragments.stored(), Run::stored));
                complete = run;
            }
            let run = complete.expect("complete");
            prop_assert_eq!(run.stored(), 40 * (1 + OVERHEAD) + RUN);
            prop_assert_eq!(&run.join()[..], &(0u8..40).collect::<Vec<_>>()[..]);
            prop_assert!(fragments.is_empty());
        }
    }

    #[test]
    fn neighbours_that_do_not_match_are_refused() {
        let mut fragments = Fragments::default();
        insert(&mut fragments, 5, flag::END).expect("stored");
        assert!(
            insert(&mut fragments, 6, 0).is_err(),
            "no message begins without its first"
        );
        assert!(insert(&mut fragments, 4, flag::END).is_err());
        insert(&mut fragments, 8, 0).expect("stored");
        let other = Whose { mid: 9, ..WHOSE };
        let payload = Bytes::from_static(b"x");
        assert!(
            fragments
                .insert(9, &header(0), other, payload, 100, &mut 0)
                .is_err()
        );
    }

    #[test]
    fn a_message_given_up_before_its_end_is_no_conflict() {
        let mut fragments = Fragments::default();
        insert(&mut fragments, 5, flag::BEGIN).expect("stored");
        insert(&mut fragments, 6, flag::BEGIN).expect("stored");
        assert_eq!(fragments.drop_to(5), 1 + OVERHEAD + RUN);
        let run = insert(&mut fragments, 7, flag::END)
            .expect("matches")
            .expect("complete");
        assert_eq!(&run.join()[..], [6, 7]);
    }

    #[test]
    fn a_message_too_large_is_refused() {
        let mut fragments = Fragments::default();
        insert(&mut fragments, 0, flag::BEGIN).expect("stored");
        let payload = Bytes::from(vec![0; 100]);
        assert!(
            fragments
                .insert(1, &header(0), WHOSE, payload, 100, &mut 1000)
                .is_err()
        );
    }
}
