//! Work on many things, on a few at once.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::task::JoinSet;

use crate::failure::Failure;

/// Works on all items, on at most `at_once` of them at a time. Returns those that went well, in
/// order, and what went wrong with the others.
///
/// # Cancel safety
///
/// Dropping the future aborts the work.
pub(crate) async fn for_each<T, F>(
    items: Vec<T>,
    at_once: usize,
    work: impl Fn(T) -> F + Send + Sync + 'static,
) -> (Vec<T>, Vec<Failure>)
where
    T: Clone + Send + Sync + 'static,
    F: Future<Output = Result<(), Failure>> + Send,
{
    let shared = Arc::new((items, AtomicUsize::new(0), work));
    let mut workers = JoinSet::new();
    for _ in 0..at_once.min(shared.0.len()) {
        let shared = shared.clone();
        workers.spawn(async move {
            let (items, next, work) = &*shared;
            let mut done = Vec::new();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(item) = items.get(index) else {
                    return done;
                };
                done.push((index, item.clone(), work(item.clone()).await));
            }
        });
    }
    let mut done = workers.join_all().await.concat();
    done.sort_by_key(|(index, ..)| *index);

    let mut well = Vec::new();
    let mut failures = Vec::new();
    for (_, item, result) in done {
        match result {
            Ok(()) => well.push(item),
            Err(failure) => failures.push(failure),
        }
    }
    (well, failures)
}
