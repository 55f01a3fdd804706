use std::fmt;
use std::sync::Arc;

use pipe_core::{Addr, Backlog, Config, Error, ErrorKind, Listener, Result};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::conn::InprocConn;
use crate::namespace::Namespace;

/// Accepts the connections that are dialed to one name.
///
/// A dial is complete once its connection waits here; when
/// [`Config::accept_backlog`](pipe_core::Config::accept_backlog) of them wait, further dials wait for
/// room.
pub struct InprocListener {
    desk: Arc<Desk>,
    addr: Addr,
    name: String,
    namespace: Namespace,
}

/// Where dialers hand connections in.
pub(crate) struct Desk {
    pub(crate) config: Config,
    pub(crate) addr: Addr,
    waiting: Backlog<Waiting>,
    places: Arc<Semaphore>,
}

struct Waiting {
    conn: InprocConn,
    /// Held until the connection is accepted.
    _place: OwnedSemaphorePermit,
}

impl Desk {
    /// Waits for room in the backlog. `None` once the listener is closed.
    pub(crate) async fn place(&self) -> Option<OwnedSemaphorePermit> {
        self.places.clone().acquire_owned().await.ok()
    }

    /// Hands a connection in. Returns whether the listener took it.
    pub(crate) fn hand_in(&self, conn: InprocConn, place: OwnedSemaphorePermit) -> bool {
        self.waiting
            .push(Waiting {
                conn,
                _place: place,
            })
            .is_ok()
    }
}

impl InprocListener {
    /// Claims the name.
    pub(crate) fn bind(
        addr: Addr,
        name: String,
        namespace: Namespace,
        config: Config,
    ) -> Result<Self> {
        let places = Arc::new(Semaphore::new(config.accept_backlog as usize));
        let desk = Desk {
            config,
            addr: addr.clone(),
            waiting: Backlog::new(),
            places,
        };
        let desk = Arc::new(desk);
        if !namespace.claim(&name, &desk) {
            let why = format!("somebody listens on {addr} already");
            return Err(Error::new(ErrorKind::AddrInUse, why));
        }
        Ok(Self {
            desk,
            addr,
            name,
            namespace,
        })
    }
}

impl Listener for InprocListener {
    type Conn = InprocConn;

    async fn accept(&self) -> Result<InprocConn> {
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
        self.namespace.free(&self.name, &self.desk);
        self.desk.places.close();
        drop(self.desk.waiting.close());
    }
}

impl Drop for InprocListener {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for InprocListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InprocListener")
            .field("addr", &self.addr)
            .finish_non_exhaustive()
    }
}
