//! A transport over plain TCP sockets, `sockets://host:port`: each stream is a socket of its own, beside one
//! control socket a connection. The book's chapter about binding a session explains it, piece by piece.

mod acceptor;
mod conn;
mod driver;
mod sockets;
mod transport;

pub use sockets::{Socket, Sockets, SocketsConn};
pub use transport::SocketsTransport;
