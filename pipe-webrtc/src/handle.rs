use std::sync::Arc;

use crate::shared::Shared;

/// What the handles and streams of a connection hold together: with the last of them it closes.
pub(crate) struct Handle(pub(crate) Arc<Shared>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.close(0, "");
    }
}
