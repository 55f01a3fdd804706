//! A transport over named pipes (FIFOs), `fifo:///path`: the one that the book's chapter about writing a
//! transport builds, piece by piece.
//!
//! It is for Linux. Other systems have FIFOs too, but do not lock them.
#![cfg(target_os = "linux")]

mod address;
mod call;
mod files;
mod listener;
mod stream;
mod transport;

pub use call::Call;
pub use listener::FifoListener;
pub use stream::FifoStream;
pub use transport::FifoTransport;
