use std::fmt;
use std::sync::Arc;

use pipe_core::{Addr, Error, ErrorKind, Listener, Result};

use crate::conn::QuicConn;
use crate::desk::{Desk, Waiting};
use crate::door::Door;
use crate::transport::QuicTransport;

/// Accepts connections over QUIC.
///
/// At most [`Config::max_handshakes`](pipe_core::Config::max_handshakes) handshakes run at once, each
/// within [`Config::handshake_timeout`](pipe_core::Config::handshake_timeout); when half of them are
/// under way, a client has to prove its address before it is listened to (RFC 9000, section 8.1.2), so
/// that nobody can fill them from addresses that are not theirs. Up to
/// [`Config::accept_backlog`](pipe_core::Config::accept_backlog) connections wait to be accepted;
/// beyond that, peers wait in their dial.
///
/// # The address after a close
///
/// A connection of QUIC goes on over the UDP socket that it came by. While connections of a closed
/// listener live, new dials to its address are refused, this process can listen there again (the new
/// listener takes the socket over), and another process cannot. With the last of them the address is
/// free for all.
pub struct QuicListener {
    desk: Arc<Desk>,
    door: Arc<Door>,
    transport: QuicTransport,
    addr: Addr,
}

impl QuicListener {
    pub(crate) fn new(desk: Arc<Desk>, door: Arc<Door>, transport: QuicTransport) -> Self {
        Self {
            addr: desk.local_addr(door.addr()),
            desk,
            door,
            transport,
        }
    }

    /// A transport with the same settings whose dials go out through this listener's UDP socket: its
    /// port is their source, as some firewalls and ways through address translation need it.
    ///
    /// They end with [`Closed`](ErrorKind::Closed) once the listener is closed. Only addresses of the
    /// socket's family can be reached.
    pub fn transport(&self) -> QuicTransport {
        self.transport.clone().through(&self.door)
    }

    /// quinn's endpoint under the listener.
    pub fn endpoint(&self) -> &quinn::Endpoint {
        &self.door.endpoint
    }
}

impl Listener for QuicListener {
    type Conn = QuicConn;

    async fn accept(&self) -> Result<QuicConn> {
        match self.desk.waiting.pop().await {
            Some(Waiting { conn, .. }) => Ok(conn),
            None => {
                let why = format!("the listener on {} is closed", self.addr);
                Err(Error::new(ErrorKind::Closed, why))
            }
        }
    }

    fn local_addr(&self) -> Addr {
        self.addr.clone()
    }

    fn close(&self) {
        self.desk.close();
        self.door.leave(&self.desk);
    }
}

impl Drop for QuicListener {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for QuicListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QuicListener")
            .field("addr", &self.addr)
            .finish_non_exhaustive()
    }
}
