use pipe_core::backend::StreamSlot;
use tokio::sync::oneshot;

use crate::engine::ChannelInfo;
use crate::stream_core::StreamRef;

/// An open that waits for a channel.
pub(crate) struct Open {
    pub(super) slot: StreamSlot,
    /// Parameters of a plain channel.
    pub(crate) info: ChannelInfo,
    pub(super) done: oneshot::Sender<StreamRef>,
}
