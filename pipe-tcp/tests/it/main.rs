//! The tests of this crate over its public items.
#![cfg(feature = "tls")]

mod addresses;
mod common;
mod sockets;
mod tls;
