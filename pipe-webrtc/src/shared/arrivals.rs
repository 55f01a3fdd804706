use std::collections::{BTreeMap, BTreeSet};

use pipe_core::Result;
use pipe_core::backend::Backlog;

use crate::error::protocol;
use crate::stream_core::StreamRef;

/// The order of the streams that the peer opens: their channels have none.
#[derive(Default)]
pub(super) struct Arrivals {
    /// The number after the highest one of a stream of the peer.
    next_number: u64,
    /// Numbers below it that have not come yet.
    missing: BTreeSet<u64>,
    /// Streams that came before others which were opened before them; bounded by the streams.
    held: BTreeMap<u64, StreamRef>,
    /// The number of the next stream to be accepted.
    next_accept: u64,
}

impl Arrivals {
    /// Notes the number of a stream of the peer. No number comes twice, and none skips more than streams can
    /// be under way; nor does one come after so many others that it counts as lost.
    pub(super) fn use_number(&mut self, number: u64, max_streams: u64) -> Result<()> {
        if number < self.next_number {
            if !self.missing.remove(&number) {
                return Err(protocol(format_args!("a second stream of number {number}")));
            }
            return Ok(());
        }
        let skipped = number - self.next_number;
        if skipped > 2 * max_streams {
            return Err(protocol(format_args!(
                "a stream of number {number}, ahead of {skipped} others"
            )));
        }
        self.missing.extend(self.next_number..number);
        while self.missing.len() as u64 > 2 * max_streams {
            // Its channel was lost while it was opened.
            self.missing.pop_first();
        }
        self.next_number = number + 1;
        Ok(())
    }

    /// Returns the next number of a plain channel, which come in their order.
    pub(super) fn take_number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number - 1
    }

    pub(super) fn hold(&mut self, number: u64, stream: StreamRef) {
        self.held.insert(number, stream);
    }

    /// Passes streams of the peer on in the order in which they were opened, as far as those before
    /// them have come, or all of them.
    pub(super) fn deliver(&mut self, backlog: &Backlog<StreamRef>, all: bool) {
        while let Some(first) = self.held.first_entry() {
            let number = *first.key();
            if number > self.next_accept && !all {
                return;
            }
            self.next_accept = self.next_accept.max(number.saturating_add(1));
            // A queue that is closed belongs to a connection that is ending.
            let _ = backlog.push(first.remove());
        }
    }

    /// Returns whether streams wait for those that were opened before them.
    pub(super) fn holds_streams(&self) -> bool {
        !self.held.is_empty()
    }

    /// Takes out the streams that wait.
    pub(super) fn take_held(&mut self) -> BTreeMap<u64, StreamRef> {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_channels_that_were_lost_are_forgotten_in_time() {
        const LIMIT: u64 = 4;
        let mut arrivals = Arrivals::default();
        // Every second one is lost.
        for number in (0..1000).step_by(2) {
            arrivals.use_number(number, LIMIT).unwrap();
            assert!(arrivals.missing.len() as u64 <= 2 * LIMIT);
        }
        arrivals.use_number(997, LIMIT).unwrap();
        for used in [997, 998, 1] {
            assert!(arrivals.use_number(used, LIMIT).is_err(), "{used}");
        }
        assert!(arrivals.use_number(998 + 2 * LIMIT + 2, LIMIT).is_err());
    }
}
