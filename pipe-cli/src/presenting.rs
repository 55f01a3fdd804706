use std::sync::Arc;
use std::time::Duration;

use pipewerks::{Addr, BoxConn, BoxListener, BoxTransport, Registry, Result, Transport};

use crate::address::Address;

/// Returns the transports of a registry, which show the tokens of an address to its peers. Waiting for the answer takes
/// so long at most.
pub(crate) fn presenting(registry: &Registry, addr: &Address, limit: Duration) -> Registry {
    let addr = Arc::new(addr.clone());
    // A clone remembers with the others which address of a list connected.
    let mut presenting = registry.clone();
    for scheme in registry.schemes() {
        if let Some(transport) = registry.get(scheme) {
            presenting = presenting.with(Presenting {
                transport: transport.clone(),
                scheme: [scheme],
                addr: addr.clone(),
                limit,
            });
        }
    }
    presenting
}

/// A transport whose dials show the token of their address.
struct Presenting {
    transport: BoxTransport,
    scheme: [&'static str; 1],
    addr: Arc<Address>,
    limit: Duration,
}

impl Transport for Presenting {
    type Conn = BoxConn;
    type Listener = BoxListener;

    fn schemes(&self) -> &[&'static str] {
        &self.scheme
    }

    async fn dial(&self, addr: &Addr) -> Result<BoxConn> {
        let conn = self.transport.dial(addr).await?;
        if let Some(token) = self.addr.token_for(addr) {
            token.present(&conn, self.limit).await?;
        }
        Ok(conn)
    }

    async fn listen(&self, addr: &Addr) -> Result<BoxListener> {
        self.transport.listen(addr).await
    }
}
