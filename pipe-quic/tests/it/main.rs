//! The tests of this crate over its public items, beside the conformance suite.

mod common;
mod draining;
mod early;
mod hostile;
mod proxy;
mod quic;
mod relay;
mod runtime;
mod sockets;
mod tls;
mod web;
