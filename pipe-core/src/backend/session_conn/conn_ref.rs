use std::fmt;
use std::sync::Arc;

use super::conn::SessionConn;

/// A reference that the handles and streams of a connection share: dropping the last one closes it.
///
/// It lies apart from its count, which each stream changes: 128 bytes are two lines of a cache.
#[repr(align(128))]
pub struct ConnRef<C: SessionConn>(Arc<C>);

impl<C: SessionConn> ConnRef<C> {
    /// Creates the first reference to a connection.
    pub fn new(conn: Arc<C>) -> Arc<Self> {
        Arc::new(Self(conn))
    }

    /// Returns the connection.
    pub fn conn(&self) -> &Arc<C> {
        &self.0
    }
}

impl<C: SessionConn> Drop for ConnRef<C> {
    fn drop(&mut self) {
        self.0.close(0, "");
    }
}

impl<C: SessionConn> fmt::Debug for ConnRef<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ConnRef").field(&**self.0).finish()
    }
}
