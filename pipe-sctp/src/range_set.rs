//! A set of numbers as ranges: TSNs beyond the cumulative one.

use std::collections::BTreeMap;

/// Disjoint, non-adjacent ranges of `u64`, both ends included.
#[derive(Clone, Debug, Default)]
pub(crate) struct RangeSet {
    ranges: BTreeMap<u64, u64>,
}

impl RangeSet {
    pub(crate) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Returns the number of ranges.
    pub(crate) fn len(&self) -> usize {
        self.ranges.len()
    }

    pub(crate) fn clear(&mut self) {
        self.ranges.clear();
    }

    pub(crate) fn contains(&self, number: u64) -> bool {
        self.ranges
            .range(..=number)
            .next_back()
            .is_some_and(|(_, end)| *end >= number)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.ranges.iter().map(|(start, end)| (*start, *end))
    }

    /// Adds one number. Returns `false` if it was there.
    pub(crate) fn insert(&mut self, number: u64) -> bool {
        let mut start = number;
        let mut end = number;
        if let Some((s, e)) = self.ranges.range_mut(..=number).next_back() {
            if *e >= number {
                return false;
            }
            if *e + 1 == number {
                start = *s;
            }
        }
        if let Some(e) = self.ranges.remove(&(number + 1)) {
            end = e;
        }
        self.ranges.insert(start, end);
        true
    }

    /// Adds `start..=end` and calls `each` with every part of it that was not in the set.
    pub(crate) fn insert_range(&mut self, start: u64, end: u64, mut each: impl FnMut(u64, u64)) {
        let mut merged = (start, end);
        let mut from = start;
        if let Some((s, e)) = self
            .ranges
            .range(..=start)
            .next_back()
            .map(|(s, e)| (*s, *e))
        {
            if e >= end {
                return;
            }
            if e + 1 >= start {
                merged.0 = s;
                from = from.max(e + 1);
            }
        }
        while let Some((s, e)) = self
            .ranges
            .range(from..=end + 1)
            .next()
            .map(|(s, e)| (*s, *e))
        {
            if s > from {
                each(from, s - 1);
            }
            from = e + 1;
            merged.1 = merged.1.max(e);
            self.ranges.remove(&s);
            if from > end {
                break;
            }
        }
        if from <= end {
            each(from, end);
        }
        self.ranges.insert(merged.0, merged.1);
    }

    /// Removes all numbers up to `limit`, and takes the range that then starts at `limit + 1`.
    /// Returns the end of that range, or `limit`.
    pub(crate) fn advance(&mut self, limit: u64) -> u64 {
        while let Some(entry) = self.ranges.first_entry() {
            if *entry.key() > limit + 1 {
                break;
            }
            let end = entry.remove();
            if end > limit {
                return end;
            }
        }
        limit
    }

    /// Removes all numbers up to `limit`.
    pub(crate) fn remove_to(&mut self, limit: u64) {
        while let Some(entry) = self.ranges.first_entry() {
            if *entry.key() > limit {
                break;
            }
            let end = entry.remove();
            if end > limit {
                self.ranges.insert(limit + 1, end);
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn behaves_as_a_set(ops in proptest::collection::vec((0u8..4, 1u64..60, 0u64..20), 1..80)) {
            let mut set = RangeSet::default();
            let mut model = BTreeSet::new();
            for (op, start, len) in ops {
                match op {
                    0 => prop_assert_eq!(set.insert(start), model.insert(start)),
                    1 => {
                        let mut added = Vec::new();
                        set.insert_range(start, start + len, |s, e| added.extend(s..=e));
                        let expected: Vec<u64> =
                            (start..=start + len).filter(|n| model.insert(*n)).collect();
                        prop_assert_eq!(added, expected);
                    }
                    2 => {
                        set.remove_to(start);
                        model.retain(|n| *n > start);
                    }
                    _ => {
                        let mut expected = start;
                        while model.contains(&(expected + 1)) {
                            expected += 1;
                        }
                        model.retain(|n| *n > expected);
                        prop_assert_eq!(set.advance(start), expected);
                    }
                }
                let numbers: Vec<u64> = set.iter().flat_map(|(s, e)| s..=e).collect();
                prop_assert_eq!(&numbers, &model.iter().copied().collect::<Vec<_>>());
                let ranges: Vec<_> = set.iter().collect();
                prop_assert!(ranges.windows(2).all(|w| w[0].1 + 1 < w[1].0));
                for n in 0..100 {
                    prop_assert_eq!(set.contains(n), model.contains(&n));
                }
            }
        }
    }
}
