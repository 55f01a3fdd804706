use std::collections::BTreeMap;
use std::fmt;

use crate::{Addr, BoxConn, BoxListener, BoxTransport, Error, ErrorKind, Result, Transport};

/// Transports by the schemes of their addresses; itself a [`Transport`] that passes each address on
/// to the one that serves it.
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
        self.transport(addr)?.dial(addr).await
    }

    async fn listen(&self, addr: &Addr) -> Result<BoxListener> {
        self.transport(addr)?.listen(addr).await
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("schemes", &self.schemes)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn an_unknown_scheme_is_named_together_with_the_known_ones() {
        let addr = Addr::parse("gopher://example.org:70").unwrap();
        let error = Registry::new()
            .dial(&addr)
            .now_or_never()
            .unwrap()
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrUnsupported);
        assert_eq!(
            error.to_string(),
            "no transport for gopher://example.org:70: the scheme \"gopher\" is unknown; \
             no transport is registered"
        );
        let listen = Registry::new().listen(&addr).now_or_never().unwrap();
        assert_eq!(listen.unwrap_err().kind(), ErrorKind::AddrUnsupported);
    }
}
