//! The TCP transports of pipewerks: `tcp://host:port`.

mod host_port;
mod race;
mod socket;
mod tcp;

pub use pipe_mux::{MuxConn, MuxListener, MuxStream, Wire};
pub use socket::SocketOptions;
pub use tcp::TcpTransport;
