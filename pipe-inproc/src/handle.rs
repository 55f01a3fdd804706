use std::sync::Arc;

use crate::conn_core::ConnCore;
use crate::link::Link;
use crate::side::Side;

/// A reference that the handles and streams of one side share: dropping the last one closes the
/// side.
pub(crate) struct Handle {
    pub(crate) conn: Arc<ConnCore>,
    pub(crate) side: Side,
    pub(crate) link: Link,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.conn.close(self.side, 0, "");
    }
}
