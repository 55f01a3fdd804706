use std::sync::Arc;
use std::task::Context;

use futures::task::AtomicWaker;
use pipe_core::Error;
use quinn::ConnectionError;

use crate::handle::Handle;
use crate::shared::Shared;
use crate::stream_core::StreamCore;

/// The state that both halves hold.
#[derive(Clone)]
pub(super) struct End {
    pub(super) core: Arc<StreamCore>,
    pub(super) handle: Arc<Handle>,
}

impl End {
    pub(super) fn shared(&self) -> &Shared {
        &self.handle.0
    }

    /// Returns whether a disconnect has ended the streams of the connection since this one came.
    pub(super) fn is_disconnected(&self) -> bool {
        self.core.disconnects != self.shared().disconnects()
    }

    /// Wakes the task when the connection ends, or ends its streams. Returns whether that has happened.
    pub(super) fn watch(&self, half: &AtomicWaker, cx: &Context<'_>) -> bool {
        half.register(cx.waker());
        self.is_disconnected() || self.conn_ended()
    }

    pub(super) fn conn_ended(&self) -> bool {
        self.shared().status.reason().is_some()
    }

    pub(super) fn conn_error(&self) -> Option<Error> {
        self.shared().status.error()
    }

    /// Returns the error of a half whose connection was lost.
    pub(super) fn lost(&self, error: &ConnectionError) -> Error {
        self.shared().lost(error)
    }
}
