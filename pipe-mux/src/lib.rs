//! The generic transport of pipewerks: any ordered, reliable byte stream becomes a connection.
//!
//! [`Mux::client`] and [`Mux::server`] take a socket, a TLS session, a pair of pipes, and give a
//! [`Conn`](pipe_core::Conn) that keeps the whole contract. Streams run over the
//! [yamux](https://github.com/hashicorp/yamux/blob/master/spec.md) multiplexer, and one of them carries
//! the control protocol `pipe/1` ([`pipe_core::backend::proto`]), which says what yamux cannot. Payload bytes stay
//! as they are: nothing is added to them, and nothing is copied twice.
//!
//! # Plain yamux
//!
//! With [`Wire::Raw`] it speaks plain yamux to another implementation. Events without a message in
//! that protocol do not arrive:
//!
//! - a reset or stop carries no code (0 is reported), and ends both directions of the stream, once
//!   this side is done with both;
//! - after this side's own shutdown, a stop is not sent: bytes that still come are discarded;
//! - a close carries no code and no reason: the peer's streams are reset by this side's, and the
//!   peer's own is reported with code 0, or as a failure if it ends the byte stream without a
//!   GoAway;
//! - [`drain`](pipe_core::Conn::drain) does not keep the peer from opening streams.
//!
//! After a GoAway of the peer no more streams can be opened; those that are open go on, and the connection
//! closes with the last one.

mod builder;
mod conn;
mod conn_inner;
mod control;
mod driver;
mod incoming;
mod listener;
mod opening;
mod opens;
mod stream;
mod stream_inner;
mod sync;
mod turns;
mod yamux;

pub use builder::{Mux, MuxBuilder};
pub use conn::MuxConn;
pub use listener::{Acceptor, MuxListener};
pub use pipe_core::Wire;
pub use stream::{MuxRecvStream, MuxSendStream, MuxStream};
