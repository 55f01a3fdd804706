//! The tests of this crate over its public items.

mod common;
mod link;
mod misuse;
