//! The cases, one file a group.
//!
//! Each is an async function over any transport, named after the behaviour that it shows, and fails
//! by panicking. It holds for every transport that keeps the contract: what one side does reaches the
//! other soon, not at once; a write may succeed a few times before it fails.

pub(crate) mod backpressure;
pub(crate) mod bounds;
pub(crate) mod cancellation;
pub(crate) mod closing;
pub(crate) mod concurrency;
pub(crate) mod data;
pub(crate) mod half_close;
pub(crate) mod leaks;
pub(crate) mod lifecycle;
pub(crate) mod limits;
pub(crate) mod listeners;
pub(crate) mod liveness;
pub(crate) mod reset;
pub(crate) mod waiting;
