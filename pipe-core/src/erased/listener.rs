use std::fmt;

use async_trait::async_trait;

use crate::{Addr, BoxConn, Listener, Result};

/// Any [`Listener`], chosen at run time.
pub struct BoxListener(Box<dyn DynListener>);

#[async_trait]
trait DynListener: Send + Sync {
    async fn accept(&self) -> Result<BoxConn>;
    fn local_addr(&self) -> Addr;
    fn close(&self);
}

#[async_trait]
impl<L: Listener> DynListener for L {
    async fn accept(&self) -> Result<BoxConn> {
        Listener::accept(self).await.map(BoxConn::new)
    }

    fn local_addr(&self) -> Addr {
        Listener::local_addr(self)
    }

    fn close(&self) {
        Listener::close(self);
    }
}

impl BoxListener {
    /// Erases the type of a listener.
    pub fn new(listener: impl Listener) -> Self {
        super::already(listener).unwrap_or_else(|listener| Self(Box::new(listener)))
    }
}

impl Listener for BoxListener {
    type Conn = BoxConn;

    async fn accept(&self) -> Result<BoxConn> {
        self.0.accept().await
    }

    fn local_addr(&self) -> Addr {
        self.0.local_addr()
    }

    fn close(&self) {
        self.0.close();
    }
}

impl fmt::Debug for BoxListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoxListener")
            .field("local_addr", &self.0.local_addr())
            .finish()
    }
}
