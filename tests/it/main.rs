//! The tests of the workspace in one program. `conformance`, `peers`, `accept` and `attacks` are programs of their
//! own: `tests/README.md` says why.

mod bursts;
mod given_sockets;
mod hostile;
mod lists;
mod proxies;
mod structure;
