use std::fmt;
use std::sync::Arc;

use pipe_core::backend::HandshakeQueue;
use pipe_core::{Addr, Listener, Result};

use crate::conn::QuicConn;
use crate::desk::Desk;
use crate::dial_endpoints::DialEndpoints;
use crate::door::Door;
use crate::reception::Reception;
use crate::settings::Settings;

/// Accepts connections over QUIC.
///
/// Handshakes run side by side and bounded, see [`HandshakeQueue`]. When half of
/// [`Config::max_handshakes`](pipe_core::Config::max_handshakes) are under way, or that many have failed of
/// late, a client has to prove its address before its handshake starts (RFC 9000, section 8.1.2), so that
/// no peer can fill them from addresses that are not its own.
///
/// # The address after a close
///
/// A connection of QUIC goes on over the UDP socket that it came by. While connections of a closed
/// listener live, new dials to its address are refused, this process can listen there again (the new
/// listener takes the socket over), and another process cannot. With the last of them the address is
/// free for all.
pub struct QuicListener {
    queue: HandshakeQueue<QuicConn>,
    door: Arc<Door>,
    desk: Arc<Desk>,
    /// Those of the transport that it is of.
    settings: Settings,
}

impl QuicListener {
    pub(crate) fn new(desk: Arc<Desk>, door: Arc<Door>, settings: &Settings) -> Self {
        let addr = desk.local_addr(door.addr());
        let of_addr = desk.clone();
        let (config, admission) = (&settings.config, settings.admission.clone());
        let reception = Reception {
            desk,
            door: door.clone(),
        };
        Self {
            queue: HandshakeQueue::spawn(Arc::new(reception), addr, config, admission),
            desk: of_addr,
            door,
            settings: Settings {
                // It dials through its own socket.
                endpoints: DialEndpoints::default(),
                ..settings.clone()
            },
        }
    }

    /// Returns quinn's endpoint under the listener.
    #[cfg(feature = "native")]
    pub fn endpoint(&self) -> &quinn::Endpoint {
        &self.door.endpoint
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn door(&self) -> &Arc<Door> {
        &self.door
    }
}

impl Listener for QuicListener {
    type Conn = QuicConn;

    async fn accept(&self) -> Result<QuicConn> {
        self.queue.accept().await
    }

    fn local_addr(&self) -> Addr {
        self.desk.local_addr(self.door.addr())
    }

    fn close(&self) {
        self.queue.close();
    }
}

impl fmt::Debug for QuicListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QuicListener")
            .field("addr", &self.local_addr())
            .finish_non_exhaustive()
    }
}
