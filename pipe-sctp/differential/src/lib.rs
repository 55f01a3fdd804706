//! Other stacks behind the simulator's trait, and paths that several flows share.

#[path = "../../tests/sim/mod.rs"]
pub mod sim;

pub mod dcsctp;
pub mod pion;
pub mod quic;
pub mod shared;
