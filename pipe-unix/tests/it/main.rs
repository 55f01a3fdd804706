//! The tests of this crate over its public items.
#![cfg(unix)]

mod common;
mod dials;
mod files;
// Elsewhere than on Linux a listener whose queue in the system is full refuses.
#[cfg(target_os = "linux")]
mod full_queue;
mod peers;
