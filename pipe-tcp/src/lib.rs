//! The TCP transports of pipewerks: `tcp://host:port` in the clear, and `tls://host:port`.

mod door;
mod setup;
mod tcp;
mod tcp_addr;
#[cfg(feature = "tls")]
pub mod tls;
#[cfg(feature = "tls")]
mod tls_addr;
#[cfg(feature = "tls")]
mod tls_transport;

pub use pipe_mux::{MuxConn, MuxListener, MuxStream, Wire};
#[cfg(unix)]
pub use pipe_net::{GivenKind, GivenSocket, listen_fds};
pub use pipe_net::{HostPort, NoProxy, Proxy, ProxyProtocol, SocketOptions, TcpDialer};
pub use tcp::TcpTransport;
#[cfg(feature = "tls")]
pub use tls_transport::TlsTransport;
