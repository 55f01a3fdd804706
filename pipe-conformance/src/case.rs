use std::fmt;

use futures::future::BoxFuture;
use pipe_core::{Config, Transport};

use crate::cases;
use crate::env::{Env, Role};
use crate::fixture::Capability;

/// One case of the suite, for one type of transport.
pub(crate) struct Case<T> {
    /// Its number in the list of cases.
    pub(crate) number: u16,
    /// The behaviour that it shows, in snake case.
    pub(crate) name: &'static str,
    /// The part of the contract that it belongs to.
    pub(crate) group: &'static str,
    /// What the transport must be able to do, or the case is skipped.
    pub(crate) needs: &'static [Capability],
    /// The roles that it runs in.
    pub(crate) roles: &'static [Role],
    /// Whether it measures the process, and so runs in one of its own.
    pub(crate) isolated: bool,
    /// How many times the fixture's limit it may take.
    pub(crate) weight: u32,
    /// What it changes in the fixture's configuration.
    pub(crate) config: fn(Config) -> Config,
    /// The case itself; it fails by panicking.
    pub(crate) run: fn(Env<T>) -> BoxFuture<'static, ()>,
}

/// A [`Case`] by its number and the async function of its name.
macro_rules! case {
    ($number:literal, $run:ident) => {
        $crate::case::Case::new($number, stringify!($run), |env| Box::pin($run(env)))
    };
}
pub(crate) use case;

impl<T> Case<T> {
    /// A case that runs in both roles within the fixture's limit and configuration, and needs nothing
    /// special.
    pub(crate) fn new(
        number: u16,
        name: &'static str,
        run: fn(Env<T>) -> BoxFuture<'static, ()>,
    ) -> Self {
        Self {
            number,
            name,
            group: "",
            needs: &[],
            roles: &[Role::DialerOpens, Role::ListenerOpens],
            isolated: false,
            weight: 1,
            config: |config| config,
            run,
        }
    }

    /// Skips the case for transports that lack one of these.
    pub(crate) fn needs(mut self, needs: &'static [Capability]) -> Self {
        self.needs = needs;
        self
    }

    /// Runs the case once, because no side opens streams in it, or both do.
    pub(crate) fn once(mut self) -> Self {
        self.roles = &[Role::DialerOpens];
        self
    }

    /// Runs the case in a process of its own, because it measures the process.
    pub(crate) fn isolated(mut self) -> Self {
        self.isolated = true;
        self
    }

    /// Gives the case so many times the fixture's limit.
    pub(crate) fn weight(mut self, weight: u32) -> Self {
        self.weight = weight;
        self
    }

    /// Changes the configuration for the case.
    pub(crate) fn config(mut self, config: fn(Config) -> Config) -> Self {
        self.config = config;
        self
    }
}

impl<T> fmt::Debug for Case<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case")
            .field("number", &self.number)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// All cases, by their numbers.
pub(crate) fn all<T: Transport>() -> Vec<Case<T>> {
    let groups = [
        ("Lifecycle", cases::lifecycle::cases()),
        ("Data", cases::data::cases()),
        ("Half-close", cases::half_close::cases()),
        ("Reset and drop", cases::reset::cases()),
        ("Backpressure", cases::backpressure::cases()),
        ("Limits", cases::limits::cases()),
        ("Concurrency", cases::concurrency::cases()),
        ("Cancellation", cases::cancellation::cases()),
        ("Close and errors", cases::closing::cases()),
        ("Liveness", cases::liveness::cases()),
        ("Leaks", cases::leaks::cases()),
        ("Waiting", cases::waiting::cases()),
        ("Bounds and accounts", cases::bounds::cases()),
        ("Listeners", cases::listeners::cases()),
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
        let rows = include_str!("../PROMISES.md").lines();
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
