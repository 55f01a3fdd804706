use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use crate::{Addr, BoxConn, BoxListener, Result, Transport};

/// Any [`Transport`], chosen at run time. Clones share it.
#[derive(Clone)]
pub struct BoxTransport(Arc<dyn DynTransport>);

#[async_trait]
trait DynTransport: Send + Sync {
    fn schemes(&self) -> &[&'static str];
    async fn dial(&self, addr: &Addr) -> Result<BoxConn>;
    async fn listen(&self, addr: &Addr) -> Result<BoxListener>;
}

#[async_trait]
impl<T: Transport> DynTransport for T {
    fn schemes(&self) -> &[&'static str] {
        Transport::schemes(self)
    }

    async fn dial(&self, addr: &Addr) -> Result<BoxConn> {
        Transport::dial(self, addr).await.map(BoxConn::new)
    }

    async fn listen(&self, addr: &Addr) -> Result<BoxListener> {
        Transport::listen(self, addr).await.map(BoxListener::new)
    }
}

impl BoxTransport {
    /// Erases the type of a transport.
    pub fn new(transport: impl Transport) -> Self {
        super::already(transport).unwrap_or_else(|transport| Self(Arc::new(transport)))
    }
}

impl Transport for BoxTransport {
    type Conn = BoxConn;
    type Listener = BoxListener;

    fn schemes(&self) -> &[&'static str] {
        self.0.schemes()
    }

    async fn dial(&self, addr: &Addr) -> Result<BoxConn> {
        self.0.dial(addr).await
    }

    async fn listen(&self, addr: &Addr) -> Result<BoxListener> {
        self.0.listen(addr).await
    }
}

impl fmt::Debug for BoxTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoxTransport")
            .field("schemes", &self.0.schemes())
            .finish()
    }
}
