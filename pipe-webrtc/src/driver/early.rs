use pipe_core::Result;

use crate::engine::{Channel, ChannelEvent};
use crate::error::protocol;

/// How much of streams may come before the hello, in bytes and the cost of messages.
const MAX_EARLY: usize = 1024 * 1024;
const EVENT_COST: usize = 256;

/// What has happened on channels of the peer before its hello.
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
