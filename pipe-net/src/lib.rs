//! What the transports of pipewerks over the network share, whatever they speak.
//!
//! - [`HostPort`] reads the host and the port of an address, and [`addr_of`] writes the address of a socket.
//! - [`resolve`] finds the addresses of a host, and [`race`] tries them as RFC 8305 (Happy Eyeballs) has it;
//!   [`bind`] binds the first one that can be.
//! - [`Reception`] finds out who the peers of a listener are, with the [`ProxyProtocol`] where that is asked for, and
//!   [`given_listener`] takes over a socket that listens already.
//! - `listen_fds`, on Unix, takes the sockets that this process was started with.
//! - [`SharedSocket`] is a socket that a connection runs over while the application can look at it.
//! - [`TcpDialer`] connects a TCP socket: directly, through a [`Proxy`], or by a function of the application.
//!   [`SocketOptions`] sets one up, and [`farewell`] ends one so that its peer can read why.
//! - `tls`, behind the feature of this name, makes the handshakes of TLS.
//! - [`HttpTarget`] is what an address over HTTP asks for, [`HttpRequest`] what a listener is asked with, and [`Origins`]
//!   are the pages that may.
//! - [`connect_error`] and [`listen_error`] say alike what fails alike.
//!
//! An application needs nothing of this but what the transports export. The rest changes more often than the traits in [`pipe_core`].

mod dialer;
mod error;
mod farewell;
mod given_listener;
mod host_port;
mod http;
mod http_connect;
#[cfg(unix)]
mod listen_fds;
mod login;
mod network;
mod no_proxy;
mod proxy;
mod proxy_env;
mod proxy_protocol;
mod race;
mod reception;
mod refusal;
mod resolve;
mod shared_socket;
mod socket_options;
mod socks5;
mod take_head;
#[cfg(feature = "tls")]
pub mod tls;

pub use dialer::{Dialed, TcpDialer};
pub use error::{connect_error, listen_error};
pub use farewell::farewell;
pub use given_listener::given_listener;
pub use host_port::{HostPort, addr_of};
pub use http::{HttpHeaders, HttpRequest, HttpTarget, HttpVerdict, Origins, kind_of_status};
#[cfg(unix)]
pub use listen_fds::{GivenKind, GivenSocket, listen_fds};
pub use no_proxy::NoProxy;
pub use proxy::Proxy;
pub use proxy_protocol::ProxyProtocol;
#[cfg(fuzzing)]
pub use proxy_protocol::parse_header;
pub use race::race;
pub use reception::Reception;
pub use resolve::{bind, resolve};
pub use shared_socket::{FirstByte, SharedSocket, Socket, first_byte};
pub use socket_options::SocketOptions;
