//! The tests of the workspace in one program. `conformance`, `peers`, `accept` and `attacks` are programs of their
//! own: `tests/README.md` says why.

mod hostile;
mod structure;
