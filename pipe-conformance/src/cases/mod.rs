//! The cases, one file a group.
//!
//! Each is an async function over an erased transport, named after the behaviour that it shows, and fails
//! by panicking. The few that also run through a transport's own types ([`static_run`]) are generic. A case
//! holds for every transport that keeps the contract: what one side does reaches the
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

use pipe_core::{BoxTransport, Transport};

use crate::case::{Case, CaseFn};
use crate::mode::Mode;

/// Returns the cases that run in this mode, in the order of the matrix.
pub(crate) fn of(mode: Mode) -> Vec<Case> {
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
    let cases = groups.into_iter().flat_map(|(group, cases)| {
        let cases = cases.into_iter();
        cases.map(move |case| Case { group, ..case })
    });
    let runs = |case: &Case| match mode {
        Mode::Static => static_run::<BoxTransport>(case.name).is_some(),
        Mode::Erased => true,
    };
    cases.filter(runs).collect()
}

macro_rules! static_cases {
    ($($group:ident: $($name:ident)+;)+) => {
        /// Returns the function of a case for a transport's own types, if it runs through them.
        ///
        /// These few, one of each kind of call and of drop, are compiled for every transport; all the others
        /// once. The erased types forward each call, but they hide what comes before its first poll, and the
        /// clones of a handle.
        pub(crate) fn static_run<T: Transport>(name: &str) -> Option<CaseFn<T>> {
            $($(
                if name == stringify!($name) {
                    return Some(|env| Box::pin($group::$name(env)));
                }
            )+)+
            None
        }

        #[cfg(test)]
        const STATIC: &[&str] = &[$($(stringify!($name)),+),+];
    };
}

static_cases! {
    lifecycle:
        a_dial_connects_both_sides
        dropping_a_listener_closes_it;
    data:
        a_counter_goes_to_and_fro
        a_vectored_write_is_the_sum_of_its_parts;
    half_close:
        a_drop_after_the_shutdown_loses_nothing
        the_halves_end_by_themselves;
    reset:
        a_drop_is_a_reset
        the_largest_code_arrives;
    cancellation:
        a_timeout_that_has_passed_moves_no_byte
        a_dropped_accept_loses_no_stream;
    closing:
        a_close_tells_its_code_and_reason
        the_last_handle_closes_after_the_last_stream
        a_drain_lets_streams_complete;
    liveness:
        pings_measure_a_round_trip;
    bounds:
        statistics_are_exact;
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn names(mode: Mode) -> Vec<&'static str> {
        of(mode).iter().map(|case| case.name).collect()
    }

    #[test]
    fn every_name_is_there_once() {
        let all = names(Mode::Erased);
        let distinct = BTreeSet::from_iter(&all);
        assert_eq!(distinct.len(), all.len(), "two cases have one name");
    }

    #[test]
    fn every_static_case_is_a_case() {
        let there = BTreeSet::from_iter(names(Mode::Static));
        assert_eq!(there, BTreeSet::from_iter(STATIC.iter().copied()));
        assert!((10..=15).contains(&there.len()), "{} of them", there.len());
    }

    /// The names in the last column of the tables.
    fn promised() -> BTreeSet<&'static str> {
        let rows = include_str!("../../PROMISES.md").lines();
        let cells = rows.filter_map(|line| line.strip_suffix(" |")?.rsplit_once("| "));
        let cells = cells.map(|(_, cell)| cell).filter(|cell| *cell != "Cases");
        let names = cells.flat_map(|cell| cell.split(", "));
        names.map(|name| name.trim_matches('`')).collect()
    }

    #[test]
    fn every_promise_names_cases_that_exist_and_every_case_keeps_a_promise() {
        let promised = promised();
        let there = BTreeSet::from_iter(names(Mode::Erased));
        let missing: Vec<_> = promised.difference(&there).collect();
        assert!(missing.is_empty(), "there are no such cases: {missing:?}");
        let unnamed: Vec<_> = there.difference(&promised).collect();
        assert!(unnamed.is_empty(), "no promise names {unnamed:?}");
    }
}
