use std::time::{Duration, Instant};

use crate::growth_budget::{GrowthBudget, SHORT_FOR};
use crate::usage::Usage;

/// The time between two measurements of the round trip while windows are in use.
const MEASURE_EVERY: Duration = Duration::from_secs(1);

/// The rate of one stream, in bytes a second, that its window is grown for at most: where the round trip is next to
/// nothing, more only makes queues longer, which others wait in.
const MAX_RATE: u128 = 1 << 29;

/// Nanoseconds of a second.
const NANOS: u128 = 1_000_000_000;

/// The receive windows of the streams of a connection, which grow with its path.
///
/// A stream starts with the window that every one has. While its application reads all that comes, it has twice what is
/// used in a round trip, and twice that again while the sender speeds up, so that the window never holds the sender's
/// own start up. What windows grow by comes out of one budget. While the budget is short, each stream is held to an equal share of it, and to what it makes use of: its
/// growth is taken back as credit that is withheld.
///
/// They grow out of a budget of the connection, and out of a [shared](Self::with_shared) one.
///
/// A [`Session`](crate::Session) has its own. By itself it is for a transport without one.
#[derive(Debug)]
pub struct Windows {
    /// The window that every stream has, in bytes.
    size: u32,
    /// The most bytes that one window grows by.
    max_growth: u32,
    /// The bytes that all windows grow by at most, and have grown by.
    budget: u64,
    lent: u64,
    /// What they share with the windows of other connections.
    shared: Option<GrowthBudget>,
    /// Streams that have grown or wanted to.
    growers: u32,
    /// When a stream last wanted more than there was.
    short_at: Option<Instant>,
    /// The round trip of the path, without the queues that its own bytes make.
    round_trip: Option<Duration>,
    /// When its last measurement was asked for.
    measured_at: Option<Instant>,
}

/// What the window of a stream has grown by, and how it is used.
#[derive(Debug, Default)]
pub struct Growth {
    /// Bytes beyond the window that every stream has.
    bytes: u32,
    /// It counts among the growers.
    is_grower: bool,
    /// The path needs no larger window.
    is_ample: bool,
    /// The application has read all that came, since the last sample of its use.
    is_drained: bool,
    /// What was read lately, once that is looked at.
    usage: Option<Box<Usage>>,
}

/// The growth of a window that the peer knows of: what it was granted beyond the bytes that were read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GrantedGrowth(u32);

impl GrantedGrowth {
    /// Returns by how many bytes.
    pub fn bytes(self) -> u32 {
        self.0
    }

    /// Returns how many bytes to grant to the peer after its window has grown by `grown` bytes in all and `read` bytes
    /// were read: more than these to grow the window, fewer to shrink it.
    pub fn grant(&mut self, grown: u32, read: u32) -> u32 {
        let more = grown.saturating_sub(self.0);
        let withheld = self.0.saturating_sub(grown).min(read);
        self.0 = self.0 + more - withheld;
        (read - withheld).saturating_add(more)
    }
}

impl Windows {
    /// Creates the windows of a connection: each of `size` bytes at first and `max` at most, and all larger than that
    /// by `budget` bytes at most.
    pub fn new(size: u32, max: u32, budget: u64) -> Self {
        Self {
            size,
            max_growth: max.saturating_sub(size),
            budget,
            lent: 0,
            shared: None,
            growers: 0,
            short_at: None,
            round_trip: None,
            measured_at: None,
        }
    }

    /// Has them grow out of this budget as well, which others share.
    #[must_use]
    pub fn with_shared(mut self, budget: GrowthBudget) -> Self {
        self.shared = Some(budget);
        self
    }

    /// Returns whether windows grow at all.
    pub fn may_grow(&self) -> bool {
        self.max_growth > 0 && self.budget > 0
    }

    /// Returns by how many bytes all windows have grown.
    pub fn growth(&self) -> u64 {
        self.lent
    }

    /// Takes in a measured round trip. One that is longer than before may contain the time that bytes of this connection
    /// waited in queues, which a larger window would only lengthen: it counts little by little.
    pub fn on_round_trip(&mut self, measured: Duration) {
        let limit = self.round_trip.map_or(measured, |last| last + last / 8);
        self.round_trip = Some(measured.min(limit));
    }

    /// Sets the round trip, where it is known to contain no queues.
    pub fn set_round_trip(&mut self, known: Duration) {
        self.round_trip = Some(known);
    }

    /// Returns whether the round trip is to be measured now that a window is in use, and takes it that it is.
    pub(crate) fn take_measurement(&mut self, now: Instant) -> bool {
        let is_due = self
            .measured_at
            .is_none_or(|at| now.saturating_duration_since(at) >= MEASURE_EVERY);
        if is_due {
            self.measured_at = Some(now);
        }
        is_due
    }

    /// Grows the window of a stream if the path needs it, and shrinks it if others need the budget. `read` bytes of the
    /// stream were read in all, of which `due` are about to be returned to the peer: it shrinks by no more.
    pub fn tune(&mut self, growth: &mut Growth, read: u64, due: u32, now: Instant) {
        let usage = growth.usage.get_or_insert_default();
        let size = u64::from(self.size) + u64::from(growth.bytes);
        let used = self
            .round_trip
            .and_then(|round_trip| Some((round_trip, usage.used(read, now, round_trip, size)?)));
        let is_drained = growth.is_drained;
        if usage.note(read, now, self.round_trip) {
            growth.is_drained = false;
        }
        let Some((round_trip, used)) = used else {
            return;
        };
        // A third and more of all that it ever read, or half as much again as in the round trip before, and no burst.
        let is_young = read <= 3 * used.last;
        let speeds_up = |before| 2 * used.last >= 3 * before && used.last <= 3 * before;
        let useful = used.last.saturating_mul(2);
        let wanted = if is_young || used.before.is_some_and(speeds_up) {
            useful.saturating_mul(2)
        } else {
            useful
        };
        growth.is_ample = u128::from(size) * NANOS >= MAX_RATE * round_trip.as_nanos();
        if is_drained && !growth.is_ample {
            self.grow(growth, wanted.saturating_sub(size), now);
        }
        self.shrink(growth, useful.saturating_sub(self.size.into()), due, now);
    }

    fn grow(&mut self, growth: &mut Growth, bytes: u64, now: Instant) {
        let want = bytes.min(u64::from(self.max_growth - growth.bytes));
        if want == 0 {
            return;
        }
        if !std::mem::replace(&mut growth.is_grower, true) {
            self.growers += 1;
            if let Some(shared) = &self.shared {
                shared.add_grower();
            }
        }
        let room_of = |share: u64| share.saturating_sub(growth.bytes.into());
        let mut more = want.min(self.budget - self.lent);
        if let Some(share) = self.share(now) {
            more = more.min(room_of(share));
        }
        if more < want {
            self.short_at = Some(now);
        }
        if let Some(shared) = &self.shared {
            let least = shared
                .share(now)
                .map_or(more, |share| more.min(room_of(share)));
            if least < more {
                shared.set_short(now);
            }
            more = shared.take(least, now);
        }
        self.lent += more;
        // Both are at most the growth of one stream.
        growth.bytes += more as u32;
    }

    /// Takes back what is beyond the stream's share, or is of no use to it, if a budget is short.
    fn shrink(&mut self, growth: &mut Growth, useful: u64, due: u32, now: Instant) {
        let of_shared = self.shared.as_ref().and_then(|shared| shared.share(now));
        let share = self.share(now).into_iter().chain(of_shared).min();
        let Some(share) = share.filter(|_| growth.bytes > 0) else {
            return;
        };
        let less = u64::from(growth.bytes)
            .saturating_sub(share.min(useful))
            .min(due.into());
        self.give_back(less);
        growth.bytes -= less as u32;
        if useful == 0 && growth.bytes == 0 {
            // It leaves its share to the others.
            self.release(growth);
        }
    }

    /// Takes back all growth of a stream that receives no more.
    pub fn release(&mut self, growth: &mut Growth) {
        self.give_back(std::mem::take(&mut growth.bytes).into());
        if std::mem::take(&mut growth.is_grower) {
            self.growers -= 1;
            if let Some(shared) = &self.shared {
                shared.remove_growers(1);
            }
        }
    }

    fn give_back(&mut self, bytes: u64) {
        self.lent -= bytes;
        if let Some(shared) = &self.shared {
            shared.give(bytes);
        }
    }

    /// Returns the share of a stream while one stream lacks what another has.
    fn share(&self, now: Instant) -> Option<u64> {
        let is_short = |at| now.saturating_duration_since(at) < SHORT_FOR;
        let shares = self.growers > 1 && self.short_at.is_some_and(is_short);
        shares.then(|| self.budget / u64::from(self.growers))
    }
}

impl Drop for Windows {
    fn drop(&mut self) {
        if let Some(shared) = &self.shared {
            shared.give(self.lent);
            shared.remove_growers(self.growers);
        }
    }
}

impl Growth {
    /// Returns by how many bytes the window has grown.
    pub fn bytes(&self) -> u32 {
        self.bytes
    }

    /// Returns from how many read bytes on they are to be returned, of a window of `size` bytes: a quarter of it, so that
    /// the sender has most of it in each round trip; half of it where the path needs no larger one, since that costs
    /// less.
    pub fn worth_returning(&self, size: u32) -> u32 {
        if self.is_ample { size / 2 } else { size / 4 }
    }

    /// Notes that the application has read all that came.
    pub fn on_drained(&mut self) {
        self.is_drained = true;
    }
}
