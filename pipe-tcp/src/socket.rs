use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// The options of the sockets of a transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SocketOptions {
    /// Send small segments at once (`TCP_NODELAY`). On by default: the multiplexer batches small
    /// frames by itself.
    pub nodelay: bool,
    /// Time of silence after which the kernel probes the peer (`SO_KEEPALIVE`). None by default:
    /// the connection sends pings by itself.
    pub keepalive: Option<Duration>,
    /// The size of the kernel's send buffer, in bytes. The system's choice by default.
    pub send_buffer: Option<usize>,
    /// The size of the kernel's receive buffer, in bytes. The system's choice by default.
    pub recv_buffer: Option<usize>,
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self {
            nodelay: true,
            keepalive: None,
            send_buffer: None,
            recv_buffer: None,
        }
    }
}

impl SocketOptions {
    pub(crate) fn apply(&self, socket: &TcpStream) -> io::Result<()> {
        socket.set_nodelay(self.nodelay)?;
        let socket = SockRef::from(socket);
        if let Some(time) = self.keepalive {
            socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(time))?;
        }
        if let Some(size) = self.send_buffer {
            socket.set_send_buffer_size(size)?;
        }
        if let Some(size) = self.recv_buffer {
            socket.set_recv_buffer_size(size)?;
        }
        Ok(())
    }
}
