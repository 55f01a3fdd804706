//! A transport where each stream is a TCP socket, `sockets://host:port`; a chapter of the book explains it.

mod acceptor;
mod conn;
mod driver;
mod sockets;
mod transport;

pub use sockets::{Socket, Sockets, SocketsConn};
pub use transport::SocketsTransport;
