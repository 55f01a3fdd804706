use std::sync::Arc;

use crate::conn_core::ConnCore;
use crate::link::Link;
use crate::side::Side;

/// What the handles and streams of one side hold together: with the last of them the side closes.
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
