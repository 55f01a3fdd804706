use crate::CloseReason;
use crate::sync::{Notify, OnceLock};

/// Holds why something is over: the first reason stays, and any number of tasks can wait for it.
#[derive(Debug, Default)]
pub(super) struct CloseCell {
    reason: OnceLock<CloseReason>,
    set: Notify,
}

impl CloseCell {
    /// Creates a cell without a reason.
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Sets the reason, unless there is one. Returns whether this one counts.
    pub(super) fn set(&self, reason: CloseReason) -> bool {
        let first = self.reason.set(reason).is_ok();
        if first {
            self.set.notify_waiters();
        }
        first
    }

    /// Returns the reason, if there is one yet.
    #[inline]
    pub(super) fn get(&self) -> Option<&CloseReason> {
        self.reason.get()
    }

    /// Waits for the reason.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop.
    pub(super) async fn wait(&self) -> &CloseReason {
        loop {
            let set = self.set.notified();
            if let Some(reason) = self.reason.get() {
                return reason;
            }
            set.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::future::join_all;

    use super::*;

    #[tokio::test]
    async fn the_first_reason_stays_and_reaches_every_waiter() {
        let cell = Arc::new(CloseCell::new());
        let waiters: Vec<_> = (0..50)
            .map(|_| {
                let cell = cell.clone();
                tokio::spawn(async move { cell.wait().await.code() })
            })
            .collect();
        tokio::task::yield_now().await;
        assert!(cell.get().is_none());
        assert!(cell.set(CloseReason::local(1, "first")));
        assert!(!cell.set(CloseReason::remote(2, "second")));
        for code in join_all(waiters).await {
            assert_eq!(code.unwrap(), Some(1));
        }
        assert_eq!(cell.wait().await.code(), Some(1));
    }
}
