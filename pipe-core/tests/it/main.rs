//! The tests of this crate over its public items.

mod wire;
