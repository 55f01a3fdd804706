use std::sync::Arc;

#[cfg(feature = "webrtc")]
use super::order::Order;
use crate::engine::{Channel, ChannelEvent};
use crate::shared::Shared;

/// A channel whose events are taken.
pub(super) struct Watched {
    pub(super) channel: Channel,
    /// Whether the channel carries streams.
    pub(super) carries: bool,
    pub(super) shared: Arc<Shared>,
    /// Where the engine reports a close before the messages that were sent before it.
    #[cfg(feature = "webrtc")]
    pub(super) order: Option<Order>,
}

impl Watched {
    /// Waits for the next event. That of a close comes after all messages that were sent before it.
    pub(super) async fn next(&mut self) -> ChannelEvent {
        if self.carries && self.shared.wire.is_raw() {
            // Messages of a plain peer are held back in the engine only.
            self.shared.until_room(self.channel.key()).await;
        }
        #[cfg(feature = "webrtc")]
        if let Some(order) = &mut self.order
            && self.carries
        {
            return order.next(&self.channel, &self.shared).await;
        }
        self.channel.next().await
    }
}
