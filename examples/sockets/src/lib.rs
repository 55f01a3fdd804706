//! A transport over plain TCP sockets, `sockets://host:port`: each stream is a socket of its own, beside one
//! control socket a connection. The book's chapter about binding a session builds it, piece by piece.

mod acceptor;
mod conn;
mod conn_inner;
mod driver;
mod stream;
mod stream_ref;
mod transport;

pub use conn::SocketsConn;
pub use stream::{SocketsRecvStream, SocketsSendStream, SocketsStream};
pub use transport::{SocketsListener, SocketsTransport};
