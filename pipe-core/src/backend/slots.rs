use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Counts the live streams that one side has opened, and makes opens wait at the limit.
///
/// First come, first served. The queue of waiting opens is bounded by the tasks that wait.
#[derive(Debug, Clone)]
pub struct StreamSlots {
    free: Arc<Semaphore>,
}

/// The place of one stream; dropping it lets a waiting open through.
#[derive(Debug)]
pub struct StreamSlot {
    _permit: OwnedSemaphorePermit,
}

impl StreamSlots {
    /// Creates a pool of `limit` free slots.
    pub fn new(limit: u32) -> Self {
        Self {
            free: Arc::new(Semaphore::new(limit as usize)),
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

    /// Takes a slot if one is free and no open waits.
    pub fn try_acquire(&self) -> Option<StreamSlot> {
        let permit = self.free.clone().try_acquire_owned().ok()?;
        Some(StreamSlot { _permit: permit })
    }

    /// Ends all waiting and later calls of [`acquire`](Self::acquire) with `None`. Slots in use stay
    /// valid.
    pub fn close(&self) {
        self.free.close();
    }

    /// Lowers the number of slots to `limit`, once, before any is taken: the peer allows no more.
    pub fn shrink(&self, limit: u32) {
        self.free
            .forget_permits(self.free.available_permits().saturating_sub(limit as usize));
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
        assert!(slots.try_acquire().is_some());
    }

    #[test]
    fn fewer_slots_than_planned() {
        let slots = StreamSlots::new(8);
        slots.shrink(2);
        slots.shrink(100);
        let held = [slots.try_acquire(), slots.try_acquire()];
        assert!(held.iter().all(Option::is_some));
        assert!(slots.try_acquire().is_none());
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
