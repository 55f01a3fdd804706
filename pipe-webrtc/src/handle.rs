use std::sync::Arc;

use crate::shared::Shared;

/// A reference that the handles and streams of a connection share: dropping the last one closes it.
pub(crate) struct Handle(pub(crate) Arc<Shared>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.close(0, "");
    }
}
