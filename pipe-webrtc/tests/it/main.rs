//! The tests of this crate over its public items, beside the conformance suite.

mod alerts;
mod altered;
mod candidates;
mod common;
mod connection;
mod dial;
mod ends;
mod endurance;
mod events;
mod foreign;
mod hazards;
mod hostile;
mod http;
mod negotiation;
mod port;
mod port_attacks;
mod windows;
