//! The cases, one file a group.
//!
//! Each is an async function over any transport, named after the behaviour that it shows, and fails
//! by panicking. It holds for every transport that keeps the contract: what one side does reaches the
//! other soon, not at once; a write may succeed a few times before it fails.

mod backpressure;
mod bounds;
mod cancellation;
mod closing;
mod concurrency;
mod data;
mod half_close;
mod leaks;
mod lifecycle;
mod limits;
mod listeners;
mod liveness;
mod reset;
mod waiting;

use pipe_core::Transport;

use crate::case::Case;

/// Returns all cases, by their numbers.
pub(crate) fn all<T: Transport>() -> Vec<Case<T>> {
    let groups = [
        ("Lifecycle", lifecycle::cases()),
        ("Data", data::cases()),
        ("Half-close", half_close::cases()),
        ("Reset and drop", reset::cases()),
        ("Backpressure", backpressure::cases()),
        ("Limits", limits::cases()),
        ("Concurrency", concurrency::cases()),
        ("Cancellation", cancellation::cases()),
        ("Close and errors", closing::cases()),
        ("Liveness", liveness::cases()),
        ("Leaks", leaks::cases()),
        ("Waiting", waiting::cases()),
        ("Bounds and accounts", bounds::cases()),
        ("Listeners", listeners::cases()),
    ];
    let mut all = Vec::new();
    for (group, cases) in groups {
        all.extend(cases.into_iter().map(|case| Case { group, ..case }));
    }
    all.sort_by_key(|case| case.number);
    all
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use pipe_core::BoxTransport;

    use super::*;

    #[test]
    fn every_number_is_there_once() {
        let numbers: Vec<u16> = all::<BoxTransport>().iter().map(|c| c.number).collect();
        // From 102 to 114 are the cases at wire level, which each transport has for itself.
        assert_eq!(numbers, (1..=101).chain(115..=140).collect::<Vec<_>>());
    }

    /// The numbers in the last column of the tables.
    fn promised() -> Vec<u16> {
        let rows = include_str!("../../PROMISES.md").lines();
        let cells = rows.filter_map(|line| line.strip_suffix(" |")?.rsplit_once("| "));
        let cells = cells.map(|(_, cell)| cell).filter(|cell| *cell != "Cases");
        let numbers = cells.flat_map(|cell| cell.split(", "));
        numbers
            .map(|text| match text.parse() {
                Ok(number) => number,
                Err(e) => panic!("{text:?} is not the number of a case: {e}"),
            })
            .collect()
    }

    #[test]
    fn every_promise_names_cases_that_exist_and_every_case_keeps_a_promise() {
        let promised = BTreeSet::from_iter(promised());
        let there = BTreeSet::from_iter(all::<BoxTransport>().iter().map(|case| case.number));
        let missing: Vec<_> = promised.difference(&there).collect();
        assert!(missing.is_empty(), "there are no such cases: {missing:?}");
        let unnamed: Vec<_> = there.difference(&promised).collect();
        assert!(unnamed.is_empty(), "no promise names {unnamed:?}");
    }
}
