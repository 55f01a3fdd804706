//! Which handshakes are under way, and which one makes room for a newcomer.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use tokio::time::Instant;

use super::incoming::Source;

/// Minimum time that a handshake is kept after its peer may have completed the connection.
pub(super) const PROMISED: Duration = Duration::from_secs(1);

/// Maximum time between the place of a handshake and its handle.
const JUST_NOW: Duration = Duration::from_millis(1);

/// The handshakes under way. No step looks at all of them.
#[derive(Debug)]
pub(super) struct Handshakes<T> {
    entries: HashMap<u64, Entry<T>>,
    sources: HashMap<Source, Ages>,
    /// The sources by how many handshakes they have; of equals, the one whose first is older comes last.
    ranks: BTreeMap<(usize, Reverse<u64>), Source>,
    next_age: u64,
}

#[derive(Debug)]
struct Entry<T> {
    source: Source,
    age: u64,
    stage: Stage,
    handle: Option<T>,
}

/// The progress of a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Bytes of the peer may not have been inspected.
    Fresh,
    /// Its peer has sent nothing.
    Silent,
    /// Its peer has got it on, at this time.
    Heard(Instant),
    /// Its peer may take the connection as made, since this time.
    Promised(Instant),
}

/// The handshakes of a source, each by when it began or got on last.
#[derive(Debug, Default)]
struct Ages {
    fresh: BTreeMap<u64, u64>,
    silent: BTreeMap<u64, u64>,
    heard: BTreeMap<u64, u64>,
    promised: BTreeMap<u64, u64>,
}

/// The outcome of an attempt to end a handshake.
#[derive(Debug, PartialEq)]
pub(super) enum Displaced<T> {
    /// Removed this one.
    One(T),
    /// Ends none before this time, or before one has been inspected, has begun or is over.
    Wait(Option<Instant>),
}

impl Ages {
    fn count(&self) -> usize {
        self.lists().iter().map(|list| list.len()).sum()
    }

    /// Returns the lists, beginning with those that make room first.
    fn lists(&self) -> [&BTreeMap<u64, u64>; 4] {
        [&self.silent, &self.fresh, &self.heard, &self.promised]
    }

    fn rank(&self) -> Option<(usize, Reverse<u64>)> {
        let first = self.lists().iter().find_map(|list| list.first_key_value());
        first.map(|(age, _)| (self.count(), Reverse(*age)))
    }

    fn of(&mut self, stage: Stage) -> &mut BTreeMap<u64, u64> {
        match stage {
            Stage::Fresh => &mut self.fresh,
            Stage::Silent => &mut self.silent,
            Stage::Heard(_) => &mut self.heard,
            Stage::Promised(_) => &mut self.promised,
        }
    }
}

impl<T> Handshakes<T> {
    pub(super) fn new() -> Self {
        Self {
            entries: HashMap::new(),
            sources: HashMap::new(),
            ranks: BTreeMap::new(),
            next_age: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns whether a handshake has this number.
    pub(super) fn has(&self, id: u64) -> bool {
        self.entries.contains_key(&id)
    }

    /// Adds one by its number.
    pub(super) fn insert(&mut self, id: u64, source: Source) {
        let age = self.next_age();
        self.change(source, |ages| {
            ages.fresh.insert(age, id);
        });
        let entry = Entry {
            source,
            age,
            stage: Stage::Fresh,
            handle: None,
        };
        self.entries.insert(id, entry);
    }

    /// Sets the handle that ends a handshake, unless it is over.
    pub(super) fn set_handle(&mut self, id: u64, handle: T) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.handle = Some(handle);
        }
    }

    /// Notes that the first bytes of a handshake were inspected.
    pub(super) fn looked(&mut self, id: u64) {
        if let Some(entry) = self.entries.get(&id)
            && entry.stage == Stage::Fresh
        {
            let age = entry.age;
            self.advance(id, age, Stage::Silent);
        }
    }

    /// Notes that the peer has got a handshake on.
    pub(super) fn heard(&mut self, id: u64, now: Instant) {
        let age = self.next_age();
        self.advance(id, age, Stage::Heard(now));
    }

    /// Notes that the peer may take the connection as made.
    pub(super) fn promised(&mut self, id: u64, now: Instant) {
        let age = self.next_age();
        self.advance(id, age, Stage::Promised(now));
    }

    fn advance(&mut self, id: u64, age: u64, stage: Stage) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        let (source, before) = (entry.source, (entry.stage, entry.age));
        (entry.stage, entry.age) = (stage, age);
        self.change(source, |ages| {
            ages.of(before.0).remove(&before.1);
            ages.of(stage).insert(age, id);
        });
    }

    /// Removes one that is over.
    pub(super) fn remove(&mut self, id: u64) -> Option<(Source, Option<T>)> {
        let entry = self.entries.remove(&id)?;
        self.change(entry.source, |ages| {
            ages.of(entry.stage).remove(&entry.age);
        });
        Some((entry.source, entry.handle))
    }

    /// Returns the source of one.
    pub(super) fn source(&self, id: u64) -> Option<Source> {
        self.entries.get(&id).map(|entry| entry.source)
    }

    /// Counts one among those of another source, unless it is over.
    pub(super) fn set_source(&mut self, id: u64, source: Source) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        let before = std::mem::replace(&mut entry.source, source);
        let (age, stage) = (entry.age, entry.stage);
        self.change(before, |ages| {
            ages.of(stage).remove(&age);
        });
        self.change(source, |ages| {
            ages.of(stage).insert(age, id);
        });
    }

    /// Returns the number of handshakes of a source.
    pub(super) fn count(&self, source: Source) -> usize {
        self.sources.get(&source).map_or(0, Ages::count)
    }

    /// Removes the handshake that makes room for a newcomer: of the source that has the most under way,
    /// the one that has not got on for longest, those first whose peer has sent nothing. Those that were
    /// not looked at, have got on within `grace` or were promised within [`PROMISED`], stay until they had
    /// their chance.
    pub(super) fn displace(&mut self, now: Instant, grace: Duration) -> Displaced<T> {
        let ages = self.ranks.last_key_value();
        let Some(ages) = ages.and_then(|(_, source)| self.sources.get(source)) else {
            return Displaced::Wait(None);
        };
        if ages.silent.is_empty() && !ages.fresh.is_empty() {
            return Displaced::Wait(None);
        }
        let mut until = None;
        let firsts = [&ages.silent, &ages.heard, &ages.promised];
        let mut firsts = firsts.iter().filter_map(|list| list.first_key_value());
        let found = firsts.find_map(|(_, id)| {
            let entry = self.entries.get(id)?;
            let stays = match entry.stage {
                Stage::Heard(at) => at + grace,
                Stage::Promised(at) => at + grace.max(PROMISED),
                // One without a handle is just being started.
                _ if entry.handle.is_none() => now + JUST_NOW,
                _ => now,
            };
            if now < stays {
                until = Some(until.map_or(stays, |until: Instant| until.min(stays)));
                return None;
            }
            Some(*id)
        });
        match found.and_then(|id| self.remove(id)) {
            Some((_, Some(handle))) => Displaced::One(handle),
            _ => Displaced::Wait(until),
        }
    }

    fn next_age(&mut self) -> u64 {
        self.next_age += 1;
        self.next_age
    }

    fn change(&mut self, source: Source, change: impl FnOnce(&mut Ages)) {
        let ages = self.sources.entry(source).or_default();
        if let Some(rank) = ages.rank() {
            self.ranks.remove(&rank);
        }
        change(ages);
        match ages.rank() {
            Some(rank) => drop(self.ranks.insert(rank, source)),
            None => drop(self.sources.remove(&source)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_millis(5);

    /// Begins a handshake whose peer is silent.
    fn begin(handshakes: &mut Handshakes<&'static str>, source: u32, name: &'static str) -> u64 {
        let id = handshakes.next_age;
        handshakes.insert(id, Source::V4(source));
        handshakes.set_handle(id, name);
        handshakes.looked(id);
        id
    }

    fn displace(handshakes: &mut Handshakes<&'static str>, now: Instant) -> Option<&'static str> {
        match handshakes.displace(now, GRACE) {
            Displaced::One(handle) => Some(handle),
            Displaced::Wait(None) => None,
            Displaced::Wait(Some(_)) => panic!("it waits"),
        }
    }

    #[test]
    fn one_whose_source_is_learned_counts_among_those_of_that_source() {
        let mut handshakes = Handshakes::new();
        let now = Instant::now();
        let first = begin(&mut handshakes, 9, "first");
        let second = begin(&mut handshakes, 9, "second");
        let third = begin(&mut handshakes, 9, "third");
        handshakes.set_source(first, Source::V4(1));
        handshakes.set_source(second, Source::V4(2));
        handshakes.set_source(third, Source::V4(2));
        let counts = [1, 2, 9].map(|source| handshakes.count(Source::V4(source)));
        assert_eq!(counts, [1, 2, 0]);
        assert_eq!(handshakes.source(third), Some(Source::V4(2)));
        assert_eq!(displace(&mut handshakes, now), Some("second"));
        // One that is over is none of any source.
        handshakes.set_source(second, Source::V4(3));
        assert_eq!(handshakes.count(Source::V4(3)), 0);
        assert_eq!(displace(&mut handshakes, now), Some("first"));
        assert_eq!(displace(&mut handshakes, now), Some("third"));
        assert_eq!(handshakes.len(), 0);
    }

    #[test]
    fn the_oldest_of_the_busiest_source_makes_room() {
        let mut handshakes = Handshakes::new();
        let now = Instant::now();
        begin(&mut handshakes, 9, "alone");
        begin(&mut handshakes, 1, "first");
        begin(&mut handshakes, 1, "second");
        begin(&mut handshakes, 1, "third");
        begin(&mut handshakes, 2, "one of two");
        begin(&mut handshakes, 2, "two of two");
        assert_eq!(displace(&mut handshakes, now), Some("first"));
        // Two sources have two each.
        assert_eq!(displace(&mut handshakes, now), Some("second"));
        assert_eq!(displace(&mut handshakes, now), Some("one of two"));
        assert_eq!(displace(&mut handshakes, now), Some("alone"));
        assert_eq!(displace(&mut handshakes, now), Some("third"));
        assert_eq!(displace(&mut handshakes, now), Some("two of two"));
        assert_eq!(displace(&mut handshakes, now), None);
        assert!(handshakes.sources.is_empty() && handshakes.ranks.is_empty());
    }

    #[test]
    fn a_peer_that_was_heard_stays_longer_than_silent_ones() {
        let mut handshakes = Handshakes::new();
        let now = Instant::now();
        let honest = begin(&mut handshakes, 1, "honest");
        let other = begin(&mut handshakes, 1, "other");
        begin(&mut handshakes, 1, "silent");
        handshakes.heard(honest, now);
        handshakes.heard(other, now);
        // It got on once more.
        handshakes.heard(honest, now);
        begin(&mut handshakes, 1, "later");
        assert_eq!(displace(&mut handshakes, now), Some("silent"));
        assert_eq!(displace(&mut handshakes, now), Some("later"));
        // Both had their time.
        let wait = Displaced::Wait(Some(now + GRACE));
        assert_eq!(handshakes.displace(now, GRACE), wait);
        assert_eq!(displace(&mut handshakes, now + GRACE), Some("other"));
        assert_eq!(displace(&mut handshakes, now + GRACE), Some("honest"));
    }

    #[test]
    fn a_newcomer_stays_until_it_was_looked_at() {
        let mut handshakes = Handshakes::new();
        let now = Instant::now();
        let fresh = 7;
        handshakes.insert(fresh, Source::V4(1));
        handshakes.set_handle(fresh, "fresh");
        assert_eq!(displace(&mut handshakes, now), None);
        handshakes.looked(fresh);
        assert_eq!(displace(&mut handshakes, now), Some("fresh"));
    }

    #[test]
    fn one_that_is_just_being_started_stays() {
        let mut handshakes: Handshakes<&'static str> = Handshakes::new();
        let now = Instant::now();
        handshakes.insert(1, Source::V4(1));
        handshakes.looked(1);
        let wait = Displaced::Wait(Some(now + JUST_NOW));
        assert_eq!(handshakes.displace(now, GRACE), wait);
        assert!(handshakes.has(1));
        handshakes.set_handle(1, "started");
        assert_eq!(displace(&mut handshakes, now), Some("started"));
    }

    #[test]
    fn what_was_promised_is_kept_for_longer() {
        let mut handshakes = Handshakes::new();
        let now = Instant::now();
        let promised = begin(&mut handshakes, 1, "promised");
        handshakes.promised(promised, now);
        let heard = begin(&mut handshakes, 1, "heard");
        handshakes.heard(heard, now);
        let wait = Displaced::Wait(Some(now + GRACE));
        assert_eq!(handshakes.displace(now, GRACE), wait);
        assert_eq!(displace(&mut handshakes, now + GRACE), Some("heard"));
        let wait = Displaced::Wait(Some(now + PROMISED));
        assert_eq!(handshakes.displace(now + GRACE, GRACE), wait);
        assert_eq!(displace(&mut handshakes, now + PROMISED), Some("promised"));
    }

    #[test]
    fn what_is_over_is_forgotten() {
        let mut handshakes = Handshakes::new();
        let now = Instant::now();
        let over = begin(&mut handshakes, 1, "over");
        let removed = Some((Source::V4(1), Some("over")));
        assert_eq!(handshakes.remove(over), removed);
        handshakes.heard(over, now);
        handshakes.looked(over);
        handshakes.set_handle(over, "late");
        assert_eq!(handshakes.remove(over), None);
        assert_eq!(handshakes.len(), 0);
        assert_eq!(displace(&mut handshakes, now), None);
        assert!(handshakes.sources.is_empty() && handshakes.ranks.is_empty());
    }
}
