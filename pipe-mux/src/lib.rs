//! The generic transport of pipewerks: any ordered, reliable byte stream becomes a connection.
//!
//! [`Mux::client`] and [`Mux::server`] take a socket, a TLS session, a pair of pipes, and give a
//! [`Conn`](pipe_core::Conn) that keeps the whole contract. Streams run over the
//! [yamux](https://github.com/hashicorp/yamux/blob/master/spec.md) multiplexer, and one of them carries
//! the control protocol `pipe/1` ([`pipe_core::backend::proto`]), which says what yamux cannot. Payload bytes stay
//! as they are: nothing is added to them, and nothing is copied twice.
//!
//! With [`Wire::Raw`] it speaks plain yamux to a peer that is not pipewerks; see there for what that
//! peer cannot do.

mod builder;
mod conn;
mod conn_inner;
mod conn_ref;
mod control;
mod deferred;
mod driver;
mod incoming;
mod listener;
mod opening;
mod opens;
mod shared_socket;
mod stream;
mod stream_inner;
mod turns;
mod wire;
mod yamux;

pub use builder::{Mux, MuxBuilder};
pub use conn::MuxConn;
pub use listener::{Acceptor, MuxListener};
pub use shared_socket::{FirstByte, SharedSocket, Socket};
pub use stream::{MuxRecvStream, MuxSendStream, MuxStream};
pub use wire::Wire;
