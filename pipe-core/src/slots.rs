use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Counts the live streams that one side has opened, and makes opens wait at the limit.
///
/// First come, first served. The queue of waiting opens is bounded by the tasks that wait.
#[derive(Debug, Clone)]
pub struct StreamSlots {
    free: Arc<Semaphore>,
    limit: u32,
}

/// The place of one stream; dropping it lets a waiting open through.
#[derive(Debug)]
pub struct StreamSlot {
    _permit: OwnedSemaphorePermit,
}

impl StreamSlots {
    /// So many slots, all free.
    pub fn new(limit: u32) -> Self {
        Self {
            free: Arc::new(Semaphore::new(limit as usize)),
            limit,
        }
    }

    /// Takes a slot, and waits for one if none is free. `None` once the slots are closed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaks no slot and gives up its place in the queue.
    pub async fn acquire(&self) -> Option<StreamSlot> {
        if let Some(slot) = self.try_acquire() {
            return Some(slot);
        }
        let permit = self.free.clone().acquire_owned().await.ok()?;
        Some(StreamSlot { _permit: permit })
    }

    /// Takes a slot if one is free and nobody waits.
    pub fn try_acquire(&self) -> Option<StreamSlot> {
        let permit = self.free.clone().try_acquire_owned().ok()?;
        Some(StreamSlot { _permit: permit })
    }

    /// Ends all waiting and later calls of [`acquire`](Self::acquire) with `None`. Slots in use stay
    /// valid.
    pub fn close(&self) {
        self.free.close();
    }

    /// How many slots are in use.
    pub fn in_use(&self) -> u32 {
        let free = u32::try_from(self.free.available_permits()).unwrap_or(u32::MAX);
        self.limit.saturating_sub(free)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn opens_wait_at_the_limit_and_go_on_when_a_slot_is_free() {
        let slots = StreamSlots::new(2);
        let first = slots.acquire().now_or_never().flatten().unwrap();
        let _second = slots.try_acquire().unwrap();
        let mut third = Box::pin(slots.acquire());
        assert!(third.as_mut().now_or_never().is_none());
        assert_eq!(slots.in_use(), 2);
        drop(first);
        assert!(third.now_or_never().flatten().is_some());
    }

    #[test]
    fn a_cancelled_open_leaks_no_slot() {
        let slots = StreamSlots::new(1);
        let held = slots.try_acquire().unwrap();
        for _ in 0..10 {
            assert!(slots.acquire().now_or_never().is_none());
        }
        drop(held);
        assert_eq!(slots.in_use(), 0);
        assert!(slots.try_acquire().is_some());
    }

    #[test]
    fn closing_ends_the_waiting() {
        let slots = StreamSlots::new(1);
        let held = slots.try_acquire().unwrap();
        let mut waiting = Box::pin(slots.acquire());
        assert!(waiting.as_mut().now_or_never().is_none());
        slots.close();
        assert!(waiting.now_or_never().unwrap().is_none());
        assert!(slots.acquire().now_or_never().unwrap().is_none());
        drop(held);
    }
}
