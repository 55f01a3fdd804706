//! The resources of a process: memory, tasks, file descriptors.

use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::sleep;

use crate::time::within;
use crate::waits::Named;

#[cfg(feature = "count-heap")]
#[global_allocator]
static ALLOCATOR: &stats_alloc::StatsAlloc<std::alloc::System> = &stats_alloc::INSTRUMENTED_SYSTEM;

/// The bytes that the process has allocated and not freed; `None` without the feature `count-heap`.
pub(crate) fn heap_in_use() -> Option<usize> {
    #[cfg(feature = "count-heap")]
    {
        let stats = ALLOCATOR.stats();
        Some(stats.bytes_allocated.wrapping_sub(stats.bytes_deallocated))
    }
    #[cfg(not(feature = "count-heap"))]
    {
        None
    }
}

/// The tasks of this runtime that have not ended, the case's own among them.
pub(crate) fn alive_tasks() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

/// How often the workers of this runtime have gone to sleep for lack of something to do, ever.
pub(crate) fn wake_ups() -> u64 {
    let metrics = Handle::current().metrics();
    let workers = 0..metrics.num_workers();
    workers
        .map(|worker| metrics.worker_park_count(worker))
        .sum()
}

/// The file descriptors that the process has open; `None` where the system has no `/proc/self/fd`.
pub(crate) fn open_fds() -> Option<usize> {
    // One of the entries is the folder that is being read.
    let entries = std::fs::read_dir("/proc/self/fd").ok()?.count();
    Some(entries - 1)
}

/// The time that the threads of the process have spent on a processor; `None` where the system does not
/// tell it by `/proc/self/task`. Threads that have ended do not count.
pub(crate) fn processor_time() -> Option<Duration> {
    let mut spent = 0;
    for thread in std::fs::read_dir("/proc/self/task").ok()? {
        let path = thread.ok()?.path().join("schedstat");
        // A thread may end meanwhile.
        let text = std::fs::read_to_string(path).unwrap_or_default();
        spent += text
            .split(' ')
            .next()
            .and_then(|nanos| nanos.parse::<u64>().ok())
            .unwrap_or(0);
    }
    (spent > 0).then(|| Duration::from_nanos(spent))
}

/// How long what is over may take to be gone.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the process and the runtime held at one moment.
#[derive(Debug)]
pub(crate) struct Held {
    tasks: usize,
    fds: Option<usize>,
    heap: Option<usize>,
}

impl Held {
    fn now() -> Self {
        Self {
            tasks: alive_tasks(),
            fds: open_fds(),
            heap: heap_in_use(),
        }
    }

    /// Returns what is held once nothing comes and goes any more.
    pub(crate) async fn settled() -> Self {
        settled(|| (alive_tasks(), open_fds())).await;
        Self::now()
    }

    /// Waits until no more is held than at that moment, but for so many bytes of memory. Panics if
    /// that takes long.
    pub(crate) async fn expect_back(&self, most_bytes: usize) {
        if let Some(growth) = self.growth(most_bytes).await {
            panic!("{growth}");
        }
    }

    /// As [`expect_back`](Self::expect_back), but tells in words what has become more.
    pub(crate) async fn growth(&self, most_bytes: usize) -> Option<String> {
        let mut now = Self::now();
        let watch = async {
            while !now.is_within(self, most_bytes) {
                sleep(Duration::from_millis(10)).await;
                now = Self::now();
            }
        };
        let back = within(PATIENCE, watch).await;
        back.is_none()
            .then(|| format!("after {PATIENCE:?}, {self:?} is still {now:?}"))
    }

    fn is_within(&self, before: &Self, most_bytes: usize) -> bool {
        self.tasks <= before.tasks
            && self.fds <= before.fds
            && self.heap <= before.heap.map(|heap| heap.saturating_add(most_bytes))
    }
}

/// Returns what is measured, once it has stayed the same for a while.
pub(crate) async fn settled<R: PartialEq>(measure: impl Fn() -> R) -> R {
    let settled = async {
        loop {
            let before = measure();
            sleep(Duration::from_millis(200)).await;
            if measure() == before {
                return before;
            }
        }
    };
    settled.named("a measure that stays the same").await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(feature = "count-heap")]
    fn the_heap_in_use_grows_with_an_allocation() {
        const LARGE: usize = 256 << 20;
        let before = heap_in_use().unwrap();
        let block: Vec<u8> = Vec::with_capacity(LARGE);
        let during = heap_in_use().unwrap();
        drop(block);
        assert!(during > before + LARGE / 2);
        assert!(heap_in_use().unwrap() < during - LARGE / 2);
    }

    #[tokio::test]
    async fn a_task_counts_until_it_ends() {
        let before = alive_tasks();
        let task = tokio::spawn(std::future::pending::<()>());
        assert_eq!(alive_tasks(), before + 1);
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        assert_eq!(alive_tasks(), before);
    }
}
