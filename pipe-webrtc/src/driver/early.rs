use pipe_core::Result;

use crate::engine::{Channel, ChannelEvent};
use crate::error::protocol;

/// Maximum length of streams' messages before the hello, in bytes and the cost of messages.
const MAX_EARLY: usize = 1024 * 1024;
const EVENT_COST: usize = 256;

/// The events of the peer's channels before its hello.
#[derive(Default)]
pub(super) struct Early {
    pub(super) events: Vec<(Channel, ChannelEvent)>,
    cost: usize,
}

impl Early {
    /// Keeps an event of a channel, unless there are too many.
    pub(super) fn push(&mut self, channel: Channel, event: ChannelEvent) -> Result<()> {
        let bytes = match &event {
            ChannelEvent::Text(bytes) | ChannelEvent::Bytes(bytes) => bytes.len(),
            ChannelEvent::Open | ChannelEvent::Closed | ChannelEvent::Gone => 0,
        };
        self.cost += bytes + EVENT_COST;
        if self.cost > MAX_EARLY {
            return Err(protocol(format_args!(
                "messages of streams for {MAX_EARLY} bytes before its hello"
            )));
        }
        self.events.push((channel, event));
        Ok(())
    }
}
