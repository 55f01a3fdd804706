use std::sync::Arc;

use crate::conn_inner::ConnInner;

/// What the handles and streams of a connection hold together: with the last of them it closes.
pub(crate) struct ConnRef(pub(crate) Arc<ConnInner>);

impl Drop for ConnRef {
    fn drop(&mut self) {
        self.0.close(0, "");
    }
}
