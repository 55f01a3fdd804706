use std::collections::VecDeque;

use crate::sync::{Mutex, Notify};

/// Queues connections or streams until they are accepted.
///
/// It does not bound itself: each user limits what it pushes (connections by
/// [`Config::accept_backlog`](crate::Config::accept_backlog), streams by
/// [`StreamSlots`](crate::backend::StreamSlots)).
#[derive(Debug)]
pub struct Backlog<T> {
    state: Mutex<State<T>>,
    news: Notify,
}

#[derive(Debug)]
struct State<T> {
    items: VecDeque<T>,
    closed: bool,
}

impl<T> Default for Backlog<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Backlog<T> {
    /// Creates an empty, open queue.
    pub fn new() -> Self {
        Self {
            state: Mutex::new(State {
                items: VecDeque::new(),
                closed: false,
            }),
            news: Notify::new(),
        }
    }

    /// Adds an item at the end.
    ///
    /// # Errors
    ///
    /// Gives the item back once the queue is closed.
    pub fn push(&self, item: T) -> Result<(), T> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(item);
        }
        state.items.push_back(item);
        drop(state);
        self.news.notify_one();
        Ok(())
    }

    /// Waits for the next item, in the order of [`push`](Self::push). `None` once the queue is
    /// closed.
    ///
    /// Any number of tasks may wait; each item goes to one.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no item: another waiting task, or the next call, gets it.
    pub async fn pop(&self) -> Option<T> {
        loop {
            let news = self.news.notified();
            {
                let mut state = self.state.lock();
                if let Some(item) = state.items.pop_front() {
                    // One wake-up may have stood for several items.
                    if !state.items.is_empty() {
                        self.news.notify_one();
                    }
                    return Some(item);
                }
                if state.closed {
                    return None;
                }
            }
            news.await;
        }
    }

    /// Closes the queue, wakes all waiting tasks, and returns the items left in it. Later calls
    /// return none.
    pub fn close(&self) -> VecDeque<T> {
        let mut state = self.state.lock();
        state.closed = true;
        let left = std::mem::take(&mut state.items);
        drop(state);
        self.news.notify_waiters();
        left
    }

    /// Returns the number of queued items.
    pub fn len(&self) -> usize {
        self.state.lock().items.len()
    }

    /// Returns whether no item is queued.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::FutureExt;
    use futures::future::join_all;

    use super::*;

    #[test]
    fn items_come_in_order() {
        let backlog = Backlog::new();
        for i in 0..5 {
            backlog.push(i).unwrap();
        }
        assert_eq!(backlog.len(), 5);
        for i in 0..5 {
            assert_eq!(backlog.pop().now_or_never(), Some(Some(i)));
        }
        assert!(backlog.is_empty());
        assert_eq!(backlog.pop().now_or_never(), None);
    }

    #[tokio::test]
    async fn each_item_goes_to_one_of_many() {
        let backlog = Arc::new(Backlog::new());
        let takers: Vec<_> = (0..8)
            .map(|_| {
                let backlog = backlog.clone();
                tokio::spawn(async move {
                    let mut got = Vec::new();
                    while let Some(i) = backlog.pop().await {
                        got.push(i);
                        tokio::task::yield_now().await;
                    }
                    got
                })
            })
            .collect();
        for i in 0..1000 {
            backlog.push(i).unwrap();
            if i % 7 == 0 {
                tokio::task::yield_now().await;
            }
        }
        while !backlog.is_empty() {
            tokio::task::yield_now().await;
        }
        assert!(backlog.close().is_empty());
        let mut all: Vec<i32> = join_all(takers)
            .await
            .into_iter()
            .flat_map(Result::unwrap)
            .collect();
        all.sort_unstable();
        assert_eq!(all, (0..1000).collect::<Vec<_>>());
    }

    #[test]
    fn a_wake_up_passes_on_when_its_receiver_is_dropped() {
        let backlog = Backlog::new();
        let mut first = Box::pin(backlog.pop());
        let mut second = Box::pin(backlog.pop());
        assert!(first.as_mut().now_or_never().is_none());
        assert!(second.as_mut().now_or_never().is_none());
        backlog.push(1).unwrap();
        drop(first);
        assert_eq!(second.now_or_never(), Some(Some(1)));
    }

    #[test]
    fn two_items_wake_two_who_were_about_to_wait() {
        let backlog = Backlog::new();
        backlog.push(1).unwrap();
        backlog.push(2).unwrap();
        assert_eq!(backlog.pop().now_or_never(), Some(Some(1)));
        assert_eq!(backlog.pop().now_or_never(), Some(Some(2)));
        let (mut first, mut second) = (Box::pin(backlog.pop()), Box::pin(backlog.pop()));
        assert!(first.as_mut().now_or_never().is_none());
        assert!(second.as_mut().now_or_never().is_none());
        backlog.push(3).unwrap();
        backlog.push(4).unwrap();
        assert_eq!(second.now_or_never(), Some(Some(3)));
        assert_eq!(first.now_or_never(), Some(Some(4)));
    }

    #[test]
    fn closing_ends_the_waiting_and_gives_back_the_rest() {
        let backlog = Backlog::new();
        backlog.push(1).unwrap();
        assert_eq!(backlog.close(), [1]);
        assert_eq!(backlog.pop().now_or_never(), Some(None));
        assert_eq!(backlog.push(2), Err(2));
        assert!(backlog.close().is_empty());
    }
}
