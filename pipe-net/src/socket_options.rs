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
    /// Number of bytes that the kernel holds of what it cannot send yet (`TCP_NOTSENT_LOWAT`), from which on writes wait. A
    /// message that is written later waits for these on the path, whichever stream it is of. 16 KiB by default; `None`
    /// leaves it to the system, which by its own default holds as much as its send buffer. Nothing but on Linux
    /// and Android.
    pub unsent: Option<u32>,
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self {
            nodelay: true,
            keepalive: None,
            send_buffer: None,
            recv_buffer: None,
            unsent: Some(16 * 1024),
        }
    }
}

impl SocketOptions {
    /// Sets a socket up.
    ///
    /// # Errors
    ///
    /// That of the operating system.
    pub fn apply(&self, socket: &TcpStream) -> io::Result<()> {
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
        #[cfg(any(target_os = "android", target_os = "linux"))]
        if let Some(bytes) = self.unsent {
            socket.set_tcp_notsent_lowat(bytes)?;
        }
        Ok(())
    }
}
