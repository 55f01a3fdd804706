//! The Unix socket transport of pipewerks: `unix:///path`.
//!
//! It exists on Unix alone; elsewhere this crate is empty.
#![cfg(unix)]

mod connect;
mod listening;
mod path_lock;
mod place;
mod unix;

pub use pipe_mux::{MuxConn, MuxListener, MuxStream, Wire};
pub use pipe_net::{GivenKind, GivenSocket, listen_fds};
pub use unix::UnixTransport;
