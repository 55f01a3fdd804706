use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pipe_core::{Error, ErrorKind, Result};

use super::inbox::Inbox;
use super::shared_port::PortSockets;
use super::socket::PortSocket;
use super::table::{Id, Proof};

/// The place of a connection at the sockets of a port: what they pass on to it. It leaves them when this is
/// dropped.
#[derive(Debug)]
pub(in crate::engine::own) struct Membership {
    id: Id,
    port: PortSockets,
    inbox: Arc<Inbox>,
}

impl Membership {
    /// Joins the sockets. Nothing comes before [`set_ufrags`](Self::set_ufrags) and
    /// [`note_sent`](Self::note_sent).
    pub(in crate::engine::own) fn new(port: PortSockets) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let inbox = Arc::<Inbox>::default();
        for (number, socket) in port.sockets.iter().enumerate() {
            socket.table().lock().join(id, inbox.clone(), number);
        }
        Self { id, port, inbox }
    }

    pub(in crate::engine::own) fn inbox(&self) -> &Arc<Inbox> {
        &self.inbox
    }

    /// Lets the requests with these user fragments of this side through, and no others any more.
    ///
    /// # Errors
    ///
    /// [`Failed`](ErrorKind::Failed) if another connection has one of them, which are 48 random bits.
    pub(in crate::engine::own) fn set_ufrags(&self, ufrags: &[&str]) -> Result<()> {
        for socket in &self.port.sockets {
            if !socket.table().lock().set_ufrags(self.id, ufrags) {
                let why = "another connection of the port has drawn the same user fragment";
                return Err(Error::new(ErrorKind::Failed, why));
            }
        }
        Ok(())
    }

    /// Notes that the peer was proved to be at an address, as this socket sees it.
    pub(in crate::engine::own) fn claim(&self, socket: usize, addr: SocketAddr, proof: Proof) {
        if let Some(socket) = self.socket(socket) {
            socket.table().lock().claim(self.id, addr, proof);
        }
    }

    /// Notes a datagram that is sent from a socket: the response to a request of STUN is let through.
    pub(in crate::engine::own) fn note_sent(&self, socket: usize, to: SocketAddr, datagram: &[u8]) {
        // Others are not of STUN (RFC 7983, section 7).
        if matches!(datagram.first(), Some(0..=3))
            && let Some(socket) = self.socket(socket)
        {
            socket.table().lock().note_sent(self.id, to, datagram);
        }
    }

    fn socket(&self, number: usize) -> Option<&Arc<PortSocket>> {
        self.port.sockets.get(number)
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        for socket in &self.port.sockets {
            socket.table().lock().leave(self.id);
        }
        self.inbox.close();
    }
}
