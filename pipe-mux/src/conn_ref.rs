use std::sync::Arc;

use crate::conn_inner::ConnInner;

/// A reference that the handles and streams of a connection share: dropping the last one closes it.
pub(crate) struct ConnRef(pub(crate) Arc<ConnInner>);

impl Drop for ConnRef {
    fn drop(&mut self) {
        self.0.close(0, "");
    }
}
