mod dial_list;
mod list_listener;
#[cfg(test)]
mod tests;
mod winners;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use self::dial_list::{about, dial_list};
use self::list_listener::ListListener;
use self::winners::Winners;
use crate::{Addr, BoxConn, BoxListener, BoxTransport, Error, ErrorKind, Result, Transport};

/// Transports by the schemes of their addresses; itself a [`Transport`] that passes each address on
/// to the one that serves it.
///
/// # Lists of addresses
///
/// An [address that is a list](Addr#lists) is dialed as RFC 8305 (Happy Eyeballs, section 5) has it: its addresses are tried
/// in their order, each 250 ms after the one before, or at once when one has failed, and the first that connects is
/// taken. [`remote_addr`](crate::Conn::remote_addr) of the connection tells which. The other dials are dropped. One of them may
/// just have got through: then its listener accepts a connection that is closed at once, with code 0 and no reason.
///
/// Which address connected is remembered for ten minutes, for up to 256 lists; clones of the registry share it. That
/// address is tried first then, and the others join as above. An address without a transport, or one that its transport
/// refuses, fails at once. When all fail, the error names each address with its own error, and is of the kind of the
/// one that came furthest; [`AddrUnsupported`](ErrorKind::AddrUnsupported) if no address has a transport.
///
/// [`listen`](Transport::listen) on a list makes one listener of those on all its addresses, or none: the error names the
/// address that failed, and the others are free again. [`local_addr`](crate::Listener::local_addr) is the list of their
/// addresses. [`accept`](crate::Listener::accept) takes connections from them in turn, so that one that is
/// flooded does not starve the others. When one of them ends by itself, `accept` gives an error of kind
/// [`Failed`](ErrorKind::Failed) once, and the others go on; when the last one has, each `accept` gives its error.
///
/// ```
/// # use pipe_core::{Registry, Transport};
/// let registry = Registry::new();
/// assert!(registry.schemes().is_empty());
/// ```
#[derive(Clone, Default)]
pub struct Registry {
    by_scheme: BTreeMap<&'static str, BoxTransport>,
    schemes: Vec<&'static str>,
    winners: Arc<Winners>,
}

impl Registry {
    /// Creates an empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a transport for all its schemes. Where a scheme is taken, the new transport replaces the
    /// old one.
    #[must_use]
    pub fn with(mut self, transport: impl Transport) -> Self {
        let transport = BoxTransport::new(transport);
        for &scheme in transport.schemes() {
            self.by_scheme.insert(scheme, transport.clone());
        }
        self.schemes = self.by_scheme.keys().copied().collect();
        self
    }

    /// Returns the transport that serves this scheme.
    pub fn get(&self, scheme: &str) -> Option<&BoxTransport> {
        self.by_scheme.get(scheme)
    }

    fn transport(&self, addr: &Addr) -> Result<&BoxTransport> {
        let scheme = addr.scheme();
        self.get(scheme).ok_or_else(|| {
            let known = match self.schemes.as_slice() {
                [] => "no transport is registered".to_owned(),
                schemes => format!("the known schemes are {}", schemes.join(", ")),
            };
            Error::new(
                ErrorKind::AddrUnsupported,
                format!("no transport for {addr}: the scheme {scheme:?} is unknown; {known}"),
            )
        })
    }
}

impl Transport for Registry {
    type Conn = BoxConn;
    type Listener = BoxListener;

    fn schemes(&self) -> &[&'static str] {
        &self.schemes
    }

    async fn dial(&self, addr: &Addr) -> Result<BoxConn> {
        let list = addr.alternatives();
        if let [one] = list {
            return self.transport(one)?.dial(one).await;
        }
        let dial = async |at: usize| self.transport(&list[at])?.dial(&list[at]).await;
        dial_list(addr, &self.winners, dial).await
    }

    async fn listen(&self, addr: &Addr) -> Result<BoxListener> {
        let list = addr.alternatives();
        if let [one] = list {
            return self.transport(one)?.listen(one).await;
        }
        let mut listeners = Vec::new();
        for part in list {
            let listener = match self.transport(part) {
                Ok(transport) => transport.listen(part).await,
                Err(error) => Err(error),
            };
            listeners.push(listener.map_err(|error| {
                let why = format!("cannot listen on all of a list: {}", about(part, &error));
                Error::new(error.kind(), why)
            })?);
        }
        Ok(BoxListener::new(ListListener::new(listeners)?))
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("schemes", &self.schemes)
            .finish()
    }
}
