//! The WebSocket transport of pipewerks: `ws://host:port/path` in the clear, and `wss://host:port/path` under TLS,
//! for pages in a browser and for networks that let only HTTP out.
//!
//! The multiplexer ([`pipe_mux`]) runs over binary messages (RFC 6455), whose borders mean nothing: a message has as
//! many bytes as there were to send. Both ends name the subprotocol `pipe.1`. With `?wire=raw` the messages carry
//! plain yamux, without a subprotocol or with the one in `?subprotocol=…`.
//!
//! # Behind a web server
//!
//! [`WsTransport::listen_behind`] makes a listener without a socket, and a [`WsService`] that hands it the WebSockets of
//! a web server. The feature `tower` makes the service one of tower, which a router of axum takes as it is.

mod addr;
mod carrier;
mod decoder;
mod dialing;
mod door;
mod fed;
mod frame;
mod gate;
mod halves;
mod head;
mod key;
mod mask_keys;
mod refusal;
mod request;
mod sender;
mod service;
mod serving;
#[cfg(feature = "tower")]
mod tower;
mod transport;

pub use carrier::WsCarrier;
#[cfg(fuzzing)]
pub use decoder::decode_frames;
pub use pipe_mux::{MuxConn, MuxListener, MuxStream, Wire};
#[cfg(unix)]
pub use pipe_net::{GivenKind, GivenSocket, listen_fds};
pub use pipe_net::{
    HostPort, HttpRequest, HttpVerdict, NoProxy, Proxy, ProxyProtocol, SocketOptions, TcpDialer,
};
pub use pipe_tls::{CertSha256, Identity, Roots, TlsOptions};
pub use service::{WsAnswer, WsService, WsUpgrade};
pub use transport::WsTransport;
