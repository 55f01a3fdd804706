//! The tests of this crate over its public items. `memory.rs` is a program of its own: it counts the heap.

mod another_make;
mod hazards;
mod slow;
mod windows;
