//! Connections and streams over a session, for any carrier of their bytes.

mod conn;
mod conn_core;
mod control;
mod events;
mod stream;
mod stream_core;
mod stream_io;

pub use conn::BoundConn;
pub use conn_core::{Binding, ConnCore, DriverGuard};
pub use stream::{BoundRecvStream, BoundSendStream, BoundStream};
pub use stream_core::StreamCore;
pub use stream_io::StreamIo;
