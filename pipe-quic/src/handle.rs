use std::sync::Arc;

use crate::conn_inner::ConnInner;

/// A reference that the handles and streams of a connection share: dropping the last one closes it.
/// It lies apart from its count, which each stream changes: 128 bytes are two lines of a cache.
#[repr(align(128))]
pub(crate) struct Handle(pub(crate) Arc<ConnInner>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.close(0, "");
    }
}
