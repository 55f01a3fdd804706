//! Connections for streams that exist already: a socket, a channel for each stream.

mod conn;
mod conn_core;
mod control;
mod stream;
mod stream_io;
#[cfg(test)]
mod tests;

pub use conn::BoundConn;
pub use conn_core::{Binding, ConnCore, DriverGuard, NextId};
pub use stream::{BoundRecvStream, BoundSendStream, BoundStream};
pub use stream_io::{IoState, StreamCore, StreamIo};
