use pipe_core::backend::{AcceptQueue, Place};
use pipe_core::{Addr, Config};

use crate::conn::InprocConn;

/// The queue in which dialers put connections for a listener.
pub(crate) struct Desk {
    pub(crate) config: Config,
    pub(crate) addr: Addr,
    pub(crate) waiting: AcceptQueue<InprocConn>,
}

impl Desk {
    /// Creates the desk of a listener of this address and configuration.
    pub(crate) fn new(addr: Addr, config: Config) -> Self {
        Self {
            waiting: AcceptQueue::new(addr.clone(), config.accept_backlog),
            config,
            addr,
        }
    }

    /// Waits for room in the backlog. `None` once the listener is closed.
    pub(crate) async fn place(&self) -> Option<Place> {
        self.waiting.reserve().await
    }

    /// Hands a connection in. Returns whether the listener took it.
    pub(crate) fn hand_in(&self, conn: InprocConn, place: Place) -> bool {
        self.waiting.push_into(place, conn).is_ok()
    }
}
