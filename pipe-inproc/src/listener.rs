use std::fmt;
use std::sync::Arc;

use pipe_core::{Addr, Config, Error, ErrorKind, Listener, Result};

use crate::conn::InprocConn;
use crate::desk::Desk;
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

impl InprocListener {
    /// Claims the name.
    pub(crate) fn bind(
        addr: Addr,
        name: String,
        namespace: Namespace,
        config: Config,
    ) -> Result<Self> {
        let desk = Arc::new(Desk::new(addr.clone(), config));
        if !namespace.claim(&name, &desk) {
            let why = format!("there is a listener on {addr} already");
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
        self.desk.waiting.accept().await
    }

    fn local_addr(&self) -> Addr {
        self.addr.clone()
    }

    fn close(&self) {
        self.namespace.free(&self.name, &self.desk);
        self.desk.waiting.close();
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
