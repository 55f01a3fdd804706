use std::collections::VecDeque;
use std::sync::Arc;

use pipe_core::backend::StreamSlot;
use tokio::sync::oneshot;

use crate::stream_core::StreamCore;

/// The streams of this side that are being opened.
#[derive(Default)]
pub(crate) struct Opens {
    /// Opens that wait for the peer's answer to those before them; bounded by the slots.
    pub(crate) waiting: VecDeque<Open>,
    /// Streams that were opened and not shown to the peer yet, in their order; bounded by the slots.
    pub(crate) unshown: VecDeque<Arc<StreamCore>>,
    /// The driver knows of them and will show them soon.
    pub(crate) soon: bool,
}

/// A stream that is to be opened.
pub(crate) struct Open {
    pub(crate) slot: StreamSlot,
    pub(crate) done: oneshot::Sender<Arc<StreamCore>>,
}

impl Opens {
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}
