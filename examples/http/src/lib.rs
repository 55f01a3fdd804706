//! HTTP over any transport: each connection of HTTP is a stream.
//!
//! Two small adapters, made to be copied into a program that needs them:
//!
//! - [`Incoming`] stands where a server has its `TcpListener`: in [`axum::serve()`], and in tonic's
//!   `serve_with_incoming`;
//! - [`Connector`] stands where a client has its connector of TCP: in the client of `hyper-util`, and in
//!   tonic's `connect_with_connector`.
//!
//! HTTP/1.1 takes as many streams as there are requests at once. HTTP/2 puts all of them into one, and with
//! that under one window; over this, HTTP/1.1 is the better choice, since a stream is cheap and waits for
//! no other.

mod connector;
mod incoming;
mod io;

pub use connector::Connector;
pub use incoming::{Incoming, Peer};
pub use io::HttpStream;
