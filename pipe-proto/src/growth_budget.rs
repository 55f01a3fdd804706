use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

/// How long a budget counts as short after a stream found too little of it.
pub(crate) const SHORT_FOR: Duration = Duration::from_secs(1);

/// What the windows of a process grow by together, unless they have another budget.
const OF_PROCESS: u64 = 256 << 20;

/// The bytes that the windows of any number of connections grow by together.
///
/// Clones stand for the same budget. While one stream finds too little of it, each is held to an equal share, as far as
/// it makes use of that: what others have beyond their shares comes back as they are read.
///
/// Two budgets are equal if they are the same one.
#[derive(Clone)]
pub struct GrowthBudget(Arc<Shared>);

struct Shared {
    bytes: u64,
    lent: AtomicU64,
    /// Streams that have grown or wanted to.
    growers: AtomicU32,
    /// When it was made, and until when it is short, in milliseconds since then.
    made: Instant,
    short_until: AtomicU64,
}

impl GrowthBudget {
    /// Creates a budget of so many bytes.
    pub fn new(bytes: u64) -> Self {
        Self(Arc::new(Shared {
            bytes,
            lent: AtomicU64::new(0),
            growers: AtomicU32::new(0),
            made: Instant::now(),
            short_until: AtomicU64::new(0),
        }))
    }

    /// Returns the budget of the process, 256 MiB, which everything has that was given no other.
    pub fn of_process() -> Self {
        static BUDGET: LazyLock<GrowthBudget> = LazyLock::new(|| GrowthBudget::new(OF_PROCESS));
        BUDGET.clone()
    }

    /// Returns its size in bytes.
    pub fn bytes(&self) -> u64 {
        self.0.bytes
    }

    /// Returns by how many bytes windows have grown out of it.
    pub fn lent(&self) -> u64 {
        self.0.lent.load(Ordering::Relaxed)
    }

    /// Takes up to `want` bytes. It is short from now on if there are fewer.
    pub(crate) fn take(&self, want: u64, now: Instant) -> u64 {
        let mut taken = 0;
        let take = |lent| {
            taken = want.min(self.0.bytes - lent);
            Some(lent + taken)
        };
        // The closure always gives a value.
        let _ = self
            .0
            .lent
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        if taken < want {
            self.set_short(now);
        }
        taken
    }

    pub(crate) fn give(&self, bytes: u64) {
        self.0.lent.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(crate) fn add_grower(&self) {
        self.0.growers.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn remove_growers(&self, count: u32) {
        self.0.growers.fetch_sub(count, Ordering::Relaxed);
    }

    /// Notes that a stream lacks what another has.
    pub(crate) fn set_short(&self, now: Instant) {
        let until = self.millis(now + SHORT_FOR);
        self.0.short_until.fetch_max(until, Ordering::Relaxed);
    }

    /// Returns the share of a stream while one stream lacks what another has.
    pub(crate) fn share(&self, now: Instant) -> Option<u64> {
        let growers = self.0.growers.load(Ordering::Relaxed);
        let is_short = self.millis(now) < self.0.short_until.load(Ordering::Relaxed);
        (growers > 1 && is_short).then(|| self.0.bytes / u64::from(growers))
    }

    fn millis(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.0.made);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

impl Default for GrowthBudget {
    /// Returns the budget [of the process](Self::of_process).
    fn default() -> Self {
        Self::of_process()
    }
}

impl PartialEq for GrowthBudget {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for GrowthBudget {}

impl fmt::Debug for GrowthBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrowthBudget")
            .field("bytes", &self.bytes())
            .field("lent", &self.lent())
            .finish()
    }
}
