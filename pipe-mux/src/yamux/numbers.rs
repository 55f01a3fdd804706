use std::collections::BTreeSet;

use pipe_core::Result;

use super::frame::broken;

/// Maximum number of skipped stream numbers that the peer may still use.
const MAX_LATE: usize = 256;

/// The numbers of the streams of a peer that need not open them in order: none is used twice.
#[derive(Debug, Default)]
pub(crate) struct LateNumbers {
    /// The highest number so far.
    highest: u32,
    /// Numbers below it that the peer skipped.
    late: BTreeSet<u32>,
}

impl LateNumbers {
    /// Notes the number of a stream that the peer opens.
    pub(crate) fn take(&mut self, id: u32) -> Result<()> {
        if id > self.highest {
            let skipped = (self.highest + 1..id)
                .rev()
                .filter(|late| late % 2 == id % 2);
            self.late.extend(skipped.take(MAX_LATE));
            // The latest of them are the most likely to be under way.
            while self.late.len() > MAX_LATE {
                self.late.pop_first();
            }
            self.highest = id;
            return Ok(());
        }
        if self.late.remove(&id) {
            return Ok(());
        }
        Err(broken(&format!(
            "stream {id} was opened after stream {}: numbers rise",
            self.highest
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_may_come_late_and_never_twice() {
        let mut numbers = LateNumbers::default();
        numbers.take(9).unwrap();
        numbers.take(5).unwrap();
        assert!(numbers.take(5).is_err() && numbers.take(9).is_err());
        numbers.take(100_001).unwrap();
        assert_eq!(numbers.late.len(), MAX_LATE);
        numbers.take(99_999).unwrap();
        assert!(numbers.take(7).is_err());
    }
}
