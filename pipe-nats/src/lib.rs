//! The NATS transport of pipewerks: `nats://host:port/subject`.
//!
//! Both sides of a connection are clients of a broker, a [NATS](https://nats.io) server or a cluster of them. Listeners share
//! a subject as a queue group, dialers find one of them by it, and neither needs to know where the other is. It is made for the
//! signalling of WebRTC, as `webrtc+nats://host:port/subject`, and carries any connection: the multiplexer
//! ([`pipe_mux`]) runs over a stream of bytes in messages, which are numbered, confirmed and sent again where they are lost.

mod addr;
mod broker;
mod carrier;
mod dialing;
mod door;
mod greeting;
mod link;
mod segment;
mod source;
mod subject;
mod taken;
mod transport;

pub use pipe_mux::{MuxConn, MuxListener, MuxStream};
pub use pipe_tls::{Identity, Roots, TlsOptions};
pub use transport::NatsTransport;
