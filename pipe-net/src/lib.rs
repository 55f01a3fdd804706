//! What the transports of pipewerks over the network share, whatever they speak.
//!
//! - [`HostPort`] reads the host and the port of an address, and [`addr_of`] writes the address of a socket.
//! - [`resolve`] finds the addresses of a host, and [`race`] tries them as RFC 8305 (Happy Eyeballs) has it;
//!   [`bind`] binds the first one that can be.
//! - [`SharedSocket`] is a socket that a connection runs over while the application can look at it.
//! - [`connect_error`] and [`listen_error`] say alike what fails alike.
//!
//! An application needs nothing of this. It changes more often than the traits in [`pipe_core`].

mod error;
mod host_port;
mod race;
mod resolve;
mod shared_socket;

pub use error::{connect_error, listen_error};
pub use host_port::{HostPort, addr_of};
pub use race::race;
pub use resolve::{bind, resolve};
pub use shared_socket::{FirstByte, SharedSocket, Socket, first_byte};
